"""Networks out of published files: SAM 2 and 2.1, MedSAM-2 (Zhu), MedSAM2 (bowang-lab), and what is trained from them.

The names of the tensors are translated to those of transformers' layers (`_sam2_names`), the network's sizes are read
off the tensors, and then every tensor must have its place and every place its tensor. What cannot be read off is the
side of the image that a network was trained to see; the registry knows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_medsam2.backend._checkpoint_file import read_tensors
from napari_medsam2.backend._sam2_names import is_transformers, rename
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["load_network", "network_of", "read_config", "translate"]

_POINTS = "prompt_encoder.point_embed"
_SHARED, _TWIN = "prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding"


class _Encoder(NamedTuple):
    """What of a Hiera encoder cannot be read off its tensors: attention heads, global blocks, windows."""

    heads: int
    globals: tuple[int, ...]
    windows: tuple[int, int, int, int]
    name: str


_ENCODERS = {
    (1, 2, 7, 2): _Encoder(1, (5, 7, 9), (8, 4, 14, 7), "tiny"),
    (1, 2, 11, 2): _Encoder(1, (7, 10, 13), (8, 4, 14, 7), "small"),
    (2, 3, 16, 3): _Encoder(2, (12, 16, 20), (8, 4, 14, 7), "base-plus"),
    (2, 6, 36, 4): _Encoder(2, (23, 33, 43), (8, 4, 16, 8), "large"),
}
"""By blocks a stage; from Meta's configuration files (``sam2/configs``, Apache-2.0)."""


def network_of(state: Mapping[str, Tensor]) -> str:
    """Tell whose network a state dict is of: ``"sam2"``, ``"edgetam"``, or something that cannot be used.

    Raises
    ------
    InputError
        Naming what it is, where that can be told.
    """
    names = set(state)
    if any(n.startswith("spatial_perceiver.") for n in names):
        return "edgetam"
    if "image_encoder.trunk.pos_embed_window" in names or "vision_encoder.backbone.pos_embed_window" in names:
        return "sam2"
    if any(n.startswith(("image_encoder.trunk.blocks.", "image_encoder.neck.")) for n in names):
        raise InputError(
            "these are weights of EfficientTAM or another network with a plain ViT as its image encoder, which is not "
            "supported; 'napari-medsam2 models' lists those that are"
        )
    if any(n.startswith(("image_encoder.blocks.", "mask_decoder.iou_token")) for n in names):
        raise InputError("these are weights of the first Segment Anything, which has no memory; SAM 2 is needed")
    first = min(names)
    raise InputError(f"these are not the weights of a network that can be used (tensor {first!r}); SAM 2 is needed")


def translate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give a SAM 2 network's tensors transformers' names.

    Parameters
    ----------
    state : mapping of str to Tensor
        In Meta's names, or in transformers' already.

    Returns
    -------
    tuple
        The tensors; and the original name of each, for messages.

    Raises
    ------
    InputError
        If there are tensors that have no place in SAM 2.
    """
    import torch

    if is_transformers(state):
        out = dict(state)
        origin = {k: k for k in out}
    else:
        origin, unknown = {}, []
        for name in state:
            new = rename(name)
            if new is None:
                unknown.append(name)
            else:
                origin[new] = name
        if unknown:
            raise InputError(
                f"{len(unknown)} of {len(state)} tensors have no place in SAM 2, such as {sorted(unknown)[0]!r}"
            )
        out = {new: state[name] for new, name in origin.items()}
        points = [f"{_POINTS}.{i}" for i in range(4)]
        if all(p in out for p in points):
            out[f"{_POINTS}.weight"] = torch.cat([out.pop(p) for p in points])
            origin[f"{_POINTS}.weight"] = "sam_prompt_encoder.point_embeddings"
    for name, twin in ((_SHARED, _TWIN), (_TWIN, _SHARED)):
        if name not in out and twin in out:
            out[name], origin[name] = out[twin], origin[twin]
    return out, origin


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        raise InputError(f"the tensor {name!r} is missing; get the file again")
    return tuple(state[name].shape)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({n.removeprefix(prefix).split(".")[0] for n in state if n.startswith(prefix)})


def _hiera(state: Mapping[str, Tensor]) -> Any:
    """The configuration of SAM 2's image encoder."""
    from transformers import Sam2HieraDetConfig

    trunk = "vision_encoder.backbone."
    widths: list[int] = []
    depths: list[int] = []
    for block in range(_count(state, f"{trunk}blocks.")):
        (width,) = _shape(state, f"{trunk}blocks.{block}.layer_norm2.weight")
        if not widths or width != widths[-1]:
            widths.append(width)
            depths.append(0)
        depths[-1] += 1
    encoder = _ENCODERS.get(tuple(depths))  # type: ignore[arg-type]
    if encoder is None:
        raise InputError(f"its image encoder has {depths} blocks a stage, which none of SAM 2's has")
    return Sam2HieraDetConfig(
        hidden_size=widths[0],
        num_attention_heads=encoder.heads,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[encoder.heads * 2**i for i in range(4)],
        blocks_per_stage=depths,
        global_attention_blocks=list(encoder.globals),
        window_size_per_stage=list(encoder.windows),
        window_positional_embedding_background_size=list(_shape(state, f"{trunk}pos_embed")[2:]),
    )


def _nothing() -> Any:
    """A small image encoder, for networks that have another one put in its place."""
    from transformers import Sam2HieraDetConfig

    return Sam2HieraDetConfig(
        hidden_size=8, embed_dim_per_stage=[8, 16, 32, 64], blocks_per_stage=[1, 1, 1, 1], global_attention_blocks=[]
    )


def read_config(state: Mapping[str, Tensor], side: int = 1024, maps: Sequence[int] | None = None) -> Any:
    """Read a SAM 2 network's sizes off its tensors.

    Parameters
    ----------
    state : mapping of str to Tensor
        In transformers' names.
    side : int
        Of the image that it sees, in pixels.
    maps : sequence of int, optional
        Channels of the image encoder's maps, finest first, where it is not SAM 2's; the configuration then says
        nothing of it.

    Returns
    -------
    Sam2VideoConfig
        With the settings of SAM 2.1, or of SAM 2 where the tensors that 2.1 brought are not there.

    Raises
    ------
    InputError
        If tensors that tell the sizes are missing, or the image encoder is none of SAM 2's.
    """
    from transformers import (
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    from napari_medsam2.backend._sam2_model import sized

    def shape(name: str) -> tuple[int, ...]:
        return _shape(state, name)

    width = shape("mask_decoder.iou_token.weight")[1]
    decoder = "mask_decoder.transformer.layers."
    backbone = _hiera(state) if maps is None else _nothing()
    widths = backbone.embed_dim_per_stage if maps is None else maps
    config = Sam2VideoConfig(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=list(widths)[::-1],
            fpn_hidden_size=shape("vision_encoder.neck.convs.0.weight")[0],
        ),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=shape(f"{_POINTS}.weight")[1]),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=shape(f"{decoder}0.mlp.proj_in.weight")[0],
            attention_downsample_rate=max(1, width // shape(f"{decoder}0.cross_attn_token_to_image.q_proj.weight")[0]),
            iou_head_hidden_dim=shape("mask_decoder.iou_prediction_head.proj_in.weight")[0],
            num_multimask_outputs=shape("mask_decoder.mask_tokens.weight")[0] - 1,
        ),
        image_size=side,
        num_maskmem=shape("memory_temporal_positional_encoding")[0],
        memory_attention_hidden_size=shape("memory_attention.layer_norm.weight")[0],
        memory_attention_num_layers=_count(state, "memory_attention.layers."),
        memory_attention_feed_forward_hidden_size=shape("memory_attention.layers.0.linear1.weight")[0],
        memory_encoder_hidden_size=shape("memory_encoder.feature_projection.weight")[0],
        memory_encoder_output_channels=shape("memory_encoder.projection.weight")[0],
        mask_downsampler_embed_dim=shape("memory_encoder.mask_downsampler.final_conv.weight")[0],
        memory_fuser_num_layers=_count(state, "memory_encoder.memory_fuser.layers."),
        memory_fuser_embed_dim=shape("memory_encoder.memory_fuser.layers.0.scale")[0],
        memory_fuser_intermediate_dim=shape("memory_encoder.memory_fuser.layers.0.pointwise_conv1.weight")[0],
        enable_occlusion_spatial_embedding="occlusion_spatial_embedding_parameter" in state,
        enable_temporal_pos_encoding_for_object_pointers="temporal_positional_encoding_projection_layer.weight"
        in state,
    )
    return sized(config)


def load_network(
    path: str | Path, side: int | None = None, network: str | None = None, variant: str | None = None
) -> tuple[str, Any]:
    """Load a network from one file of weights.

    Parameters
    ----------
    path : str or Path
        PyTorch (a state dict, bare or within a trainer's dictionary) or safetensors; in its authors' or, for SAM 2,
        transformers' names.
    side : int, optional
        Of the image that it was trained to see, 1024 by default.
    network : str, optional
        What it should be: ``"sam2"`` or ``"edgetam"``.
    variant : str, optional
        Which image encoder it should have: ``"tiny"``, ``"small"``, ``"base-plus"`` or ``"large"``, or ``"edge"``.

    Returns
    -------
    tuple
        The network's name, and the `Sam2VideoModel` on the CPU, in float32, for evaluation.

    Raises
    ------
    InputError
        If the file is missing, damaged, could run code, or is not of a network that can be used; naming what does not
        fit.
    """
    from napari_medsam2.backend._sam2_model import filled

    path = Path(path)
    state = read_tensors(path)
    try:
        found = network_of(state)
        if network is not None and network != found:
            raise InputError(f"it is a network of the kind {found!r}, not {network!r}; is it the right file?")
        if found == "edgetam":
            from napari_medsam2.backend.edgetam import build_edgetam

            return found, build_edgetam(state, side or 1024, str(path))
        tensors, origin = translate(state)
        config = read_config(tensors, side or 1024)
        size = _ENCODERS[tuple(config.vision_config.backbone_config.blocks_per_stage)].name
        if variant is not None and variant != size:
            raise InputError(f"its image encoder is of the size {size!r}, not {variant!r}; is it the right file?")
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    return found, filled(config, tensors, str(path), origin)

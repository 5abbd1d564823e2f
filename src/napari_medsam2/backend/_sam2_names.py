"""Meta's names of SAM 2's tensors, and transformers' names of the same; EdgeTAM's memory and decoder share them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = ["is_transformers", "rename"]

_THREE = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}
"""A perceptron of three layers; one of two has ``proj_in`` and ``proj_out`` only."""
_TWO = {"0": "proj_in", "1": "proj_out"}
_MASK_EMBED = {"0": "conv1", "1": "layer_norm1", "3": "conv2", "4": "layer_norm2", "6": "conv3"}
_UPSCALE = {"0": "upscale_conv1", "1": "upscale_layer_norm", "3": "upscale_conv2"}
_FUSER = {
    "dwconv": "depthwise_conv",
    "norm": "layer_norm",
    "pwconv1": "pointwise_conv1",
    "pwconv2": "pointwise_conv2",
    "gamma": "scale",
}
_WHOLE = {
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_obj_ptr": "no_object_pointer",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
    "image_encoder.trunk.pos_embed": "vision_encoder.backbone.pos_embed",
    "image_encoder.trunk.pos_embed_window": "vision_encoder.backbone.pos_embed_window",
    "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
        "prompt_encoder.shared_embedding.positional_embedding"
    ),
}
_END = r"\.(weight|bias)"
_ATTENTION = r"((?:self_attn|cross_attn_\w+|final_attn_\w+)\.)([qkv]|out)_proj"


def _attention(match: re.Match[str]) -> str:
    return f"{match[1]}{'o' if match[2] == 'out' else match[2]}_proj"


def rename(name: str) -> str | None:
    """Translate one of Meta's names; None for one that is not known.

    The four ``point_embeddings`` keep their numbers; `conversion` stacks them.
    """
    if name in _WHOLE:
        return _WHOLE[name]
    for prefix, translate in _PARTS.items():
        if name.startswith(prefix):
            return translate(name.removeprefix(prefix))
    return None


def _trunk(rest: str) -> str | None:
    if match := re.fullmatch(r"patch_embed\.proj" + _END, rest):
        return f"vision_encoder.backbone.patch_embed.projection.{match[1]}"
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)" + _END, rest)
    if match is None:
        return None
    part = match[2]
    if norm := re.fullmatch(r"norm([12])", part):
        part = f"layer_norm{norm[1]}"
    elif layer := re.fullmatch(r"mlp\.layers\.([01])", part):
        part = f"mlp.{_TWO[layer[1]]}"
    elif part not in ("attn.qkv", "attn.proj", "proj"):
        return None
    return f"vision_encoder.backbone.blocks.{match[1]}.{part}.{match[3]}"


def _neck(rest: str) -> str | None:
    match = re.fullmatch(r"(\d+)\.conv" + _END, rest)
    return None if match is None else f"vision_encoder.neck.convs.{match[1]}.{match[2]}"


def _prompts(rest: str) -> str | None:
    if rest in ("no_mask_embed.weight", "not_a_point_embed.weight"):
        return f"prompt_encoder.{rest}"
    if match := re.fullmatch(r"point_embeddings\.(\d+)\.weight", rest):
        return f"prompt_encoder.point_embed.{match[1]}"
    match = re.fullmatch(r"mask_downscaling\.(\d+)" + _END, rest)
    if match is None or match[1] not in _MASK_EMBED:
        return None
    return f"prompt_encoder.mask_embed.{_MASK_EMBED[match[1]]}.{match[2]}"


def _decoder(rest: str) -> str | None:
    if re.fullmatch(r"(conv_s[01]\.(weight|bias)|(iou|mask|obj_score)_tokens?\.weight)", rest):
        return f"mask_decoder.{rest}"
    if match := re.fullmatch(r"output_upscaling\.(\d)" + _END, rest):
        return f"mask_decoder.{_UPSCALE[match[1]]}.{match[2]}" if match[1] in _UPSCALE else None
    heads = r"(iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d+)\.layers\.([012])"
    if match := re.fullmatch(heads + _END, rest):
        return f"mask_decoder.{match[1]}.{_THREE[match[2]]}.{match[3]}"
    match = re.fullmatch(r"transformer\.(.+)" + _END, rest)
    if match is None:
        return None
    part = match[1]
    if part == "norm_final_attn":
        part = "layer_norm_final_attn"
    elif norm := re.fullmatch(r"(layers\.\d+\.)norm([1-4])", part):
        part = f"{norm[1]}layer_norm{norm[2]}"
    elif layer := re.fullmatch(r"(layers\.\d+\.mlp\.)layers\.([01])", part):
        part = f"{layer[1]}{_TWO[layer[2]]}"
    elif re.fullmatch(r"(layers\.\d+\.)?" + _ATTENTION, part):
        part = re.sub(_ATTENTION, _attention, part)
    else:
        return None
    return f"mask_decoder.transformer.{part}.{match[2]}"


def _attending(rest: str) -> str | None:
    match = re.fullmatch(r"(.+)" + _END, rest)
    if match is None:
        return None
    part = match[1]
    if part == "norm":
        part = "layer_norm"
    elif norm := re.fullmatch(r"(layers\.\d+\.)norm([123])", part):
        part = f"{norm[1]}layer_norm{norm[2]}"
    elif re.fullmatch(r"layers\.\d+\." + _ATTENTION, part):
        part = re.sub(_ATTENTION, _attention, part)
    elif not re.fullmatch(r"layers\.\d+\.linear[12]", part):
        return None
    return f"memory_attention.{part}.{match[2]}"


def _remembering(rest: str) -> str | None:
    if match := re.fullmatch(r"(pix_feat_proj|out_proj)" + _END, rest):
        part = "feature_projection" if match[1] == "pix_feat_proj" else "projection"
        return f"memory_encoder.{part}.{match[2]}"
    if match := re.fullmatch(r"fuser\.layers\.(\d+)\.(\w+)(\.weight|\.bias|)", rest):
        part = _FUSER.get(match[2], "")
        if not part or (part == "scale") == bool(match[3]):
            return None
        return f"memory_encoder.memory_fuser.layers.{match[1]}.{part}{match[3]}"
    # Convolution, norm, activation, four times over; then a last convolution.
    match = re.fullmatch(r"mask_downsampler\.encoder\.(\d+)" + _END, rest)
    if match is None:
        return None
    at, kind = divmod(int(match[1]), 3)
    if (at, kind) == (4, 0):
        part = "final_conv"
    elif at < 4 and kind < 2:
        part = f"layers.{at}.{('conv', 'layer_norm')[kind]}"
    else:
        return None
    return f"memory_encoder.mask_downsampler.{part}.{match[2]}"


def _pointers(rest: str) -> str | None:
    match = re.fullmatch(r"layers\.([012])" + _END, rest)
    return None if match is None else f"object_pointer_proj.{_THREE[match[1]]}.{match[2]}"


def _same(new: str) -> Callable[[str], str | None]:
    return lambda rest: f"{new}.{rest}" if rest in ("weight", "bias") else None


_PARTS = {
    "image_encoder.trunk.": _trunk,
    "image_encoder.neck.convs.": _neck,
    "sam_prompt_encoder.": _prompts,
    "sam_mask_decoder.": _decoder,
    "memory_attention.": _attending,
    "memory_encoder.": _remembering,
    "obj_ptr_proj.": _pointers,
    "obj_ptr_tpos_proj.": _same("temporal_positional_encoding_projection_layer"),
    "mask_downsample.": _same("mask_downsample"),
}


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are transformers' already."""
    return any(name.startswith("vision_encoder.") for name in state)

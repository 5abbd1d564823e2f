"""EdgeTAM behind the backend protocol: SAM 2 with a light image encoder and short memories.

Zhou et al., "EdgeTAM: On-Device Track Anything Model", arXiv 2501.07256. The image encoder is a convolutional network
(`_repvit`), and a perceiver (transformers' layers) makes of each memory map 256 tokens of the whole and a coarse map of
16 × 16, so that reading memories costs a fraction. All the rest is the first SAM 2's.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch
from transformers import EdgeTamVideoConfig
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoPerceiverResampler

from napari_medsam2.backend._repvit import RepVit, fold
from napari_medsam2.backend._sam2_bank import MemoryLayout, axial_rotation
from napari_medsam2.backend._sam2_model import MemoryCodes, filled
from napari_medsam2.backend.conversion import read_config, translate
from napari_medsam2.backend.sam2 import Sam2Backend
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EdgeTamBackend", "build_edgetam"]

_BODY, _PERCEIVER = "image_encoder.trunk.body.", "spatial_perceiver."
_MLP = {"0": "layer_norm", "1": "up_proj", "3": "down_proj"}


class EdgeTamBackend(Sam2Backend):
    """An EdgeTAM network.

    Parameters
    ----------
    model : Sam2VideoModel
        As `build_edgetam` makes it.
    device, name
        As for `Sam2Backend`.
    """

    def _codes(self, cells: int) -> MemoryCodes:
        perceiver = self.model.spatial_perceiver
        plain, grid = perceiver.num_latents_1d, _root(perceiver.num_latents_2d)
        if cells % grid:
            raise InputError(f"EdgeTAM's input must be a multiple of {16 * grid} pixels wide, not {self.views.side}")
        width = perceiver.hidden_size
        shape = torch.Size((1, width, grid, grid))
        coarse = perceiver.positional_encoding(shape, self.device, torch.float32)[0].flatten(1).T
        position = torch.cat([coarse.new_zeros(plain, width), coarse])
        attention = self.model.memory_attention.layers[0].cross_attn_image
        rotation = axial_rotation(grid, attention.head_dim, self.device)
        return MemoryCodes(position, MemoryLayout(plain, *rotation))

    def _shorten(self, maps: Tensor) -> Tensor:
        # The library's perceiver, as the authors' own, takes one map at a time.
        return torch.cat([self.model.spatial_perceiver(m[None], self._map_position)[0] for m in maps])


def _root(number: int) -> int:
    return math.isqrt(number)


def build_edgetam(state: dict[str, Tensor], side: int, where: str) -> Any:
    """Build EdgeTAM from the tensors of its published file, ``edgetam.pt``.

    Parameters
    ----------
    state : dict of str to Tensor
        In its authors' names.
    side : int
        Of its input in pixels.
    where : str
        The file, for messages.

    Returns
    -------
    Sam2VideoModel
        With EdgeTAM's image encoder in place of its own, and with a ``spatial_perceiver``.

    Raises
    ------
    InputError
        If tensors are missing, left over, or of another size.
    """
    body = {k.removeprefix(_BODY): v for k, v in state.items() if k.startswith(_BODY)}
    encoder, used = fold(body)
    surplus = sorted(body.keys() - used)
    if surplus:
        raise InputError(f"{len(surplus)} tensors of the image encoder have no place, such as {surplus[0]!r}")
    perceiver, config = _perceiver(
        {k.removeprefix(_PERCEIVER): v for k, v in state.items() if k.startswith(_PERCEIVER)}
    )
    rest = {k: v for k, v in state.items() if not k.startswith((_BODY, _PERCEIVER))}
    tensors, origin = translate(rest)
    network = RepVit(encoder)

    def replace(model: Any) -> None:
        model.vision_encoder.backbone = network
        model.spatial_perceiver = EdgeTamVideoPerceiverResampler(config)

    tensors |= {f"vision_encoder.backbone.{k}": v for k, v in encoder.items()}
    tensors |= {f"spatial_perceiver.{k}": v for k, v in perceiver.items()}
    return filled(read_config(tensors, side, network.widths), tensors, where, origin, replace)


def _perceiver(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
    """Give the perceiver's tensors transformers' names, and read its sizes off them."""
    whole = {"latents": "latents_1d", "latents_2d": "latents_2d", "norm.weight": "layer_norm.weight"}
    whole["norm.bias"] = "layer_norm.bias"
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in whole:
            out[whole[name]] = tensor
            continue
        match = re.fullmatch(r"layers\.(\d+)\.(self_)?(attn|ff)\.(\w+)\.?(weight|bias)", name)
        if match is None:
            raise InputError(f"the perceiver's tensor {name!r} is not known")
        layer, own, kind, part, what = f"layers.{match[1]}.", match[2] or "", match[3], match[4], match[5]
        if kind == "ff" and part in _MLP:
            out[f"{layer}{own}mlp.{_MLP[part]}.{what}"] = tensor
        elif part in ("norm_x", "norm_latents", "norm"):
            norm = {"norm_x": "layer_norm_input", "norm_latents": "layer_norm_latents", "norm": "layer_norm_self"}[part]
            out[f"{layer}{norm}.{what}"] = tensor
        elif part == "to_kv":
            attention = f"{layer}{own or 'cross_'}attention."
            out[f"{attention}k_proj.{what}"], out[f"{attention}v_proj.{what}"] = tensor.chunk(2)
        elif part in ("to_q", "to_out"):
            out[f"{layer}{own or 'cross_'}attention.{part[3]}_proj.{what}"] = tensor
        else:
            raise InputError(f"the perceiver's tensor {name!r} is not known")
    needed = ("latents_1d", "latents_2d", "layers.0.mlp.up_proj.weight", "layers.0.cross_attention.q_proj.weight")
    missing = [n for n in needed if n not in out]
    if missing:
        raise InputError(f"the perceiver's {missing[0]!r} is missing; get the file again")
    config = EdgeTamVideoConfig(
        perceiver_resampler_num_latents=out["latents_1d"].shape[0],
        perceiver_resampler_num_latents_2d=out["latents_2d"].shape[0],
        perceiver_resampler_hidden_size=out["latents_1d"].shape[1],
        perceiver_resampler_mlp_intermediate_size=out["layers.0.mlp.up_proj.weight"].shape[0],
        perceiver_resampler_attention_head_dim=out["layers.0.cross_attention.q_proj.weight"].shape[0],
        perceiver_resampler_num_layers=len({n.split(".")[1] for n in out if n.startswith("layers.")}),
    )
    config._attn_implementation = "sdpa"
    return out, config

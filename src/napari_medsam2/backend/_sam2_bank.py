"""How SAM 2 reads a memory bank: tokens of features and object pointers, their codes, and weighted attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.backend.protocol import Attended

MEMORY_WIDTH = 64
"""Channels of a memory: transformers builds its memory attention for these only."""

__all__ = [
    "MEMORY_WIDTH",
    "Content",
    "MemoryLayout",
    "Pointer",
    "Reading",
    "attend_weighted",
    "axial_rotation",
    "plan_reading",
    "tokens",
]


class Pointer(NamedTuple):
    """An object pointer ``(C,)`` and the slice that it was made on."""

    at: int
    token: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What a memory holds for SAM 2, beside its ``feature``: the memory encoder's map of unit length, row by row.

    Parameters
    ----------
    scale : Tensor
        ``()``, the map's length before. The map itself is not held twice: it is what a memory is large by.
    pointers : tuple of Pointer
        Its own, then those of the slices before it on the same walk, newest first: SAM 2 reads the pointers of more
        slices (15) than it reads features of (6). A prompted slice has only its own.
    dtype : torch.dtype
        What the map was rounded to.
    """

    scale: Tensor
    pointers: tuple[Pointer, ...]
    dtype: torch.dtype = torch.float32

    def map_of(self, feature: Tensor) -> Tensor:
        """The map ``(h·w, 64)`` float32, exactly as it was rounded."""
        return (feature.view(-1, MEMORY_WIDTH) * self.scale).to(self.dtype).float()


class Reading(NamedTuple):
    """What one object reads.

    Parameters
    ----------
    features : tuple of Tensor
        M maps ``(h·w, 64)``.
    codes : tuple of int
        Of each map: which temporal code it gets.
    pointers : tuple
        P pairs of a distance in slices and a pointer ``(C,)``.
    weights : tuple of float
        The relative weight of each map, then of each pointer.
    trail : tuple of Pointer
        What the memory of the slice that reads will carry on.
    """

    features: tuple[Tensor, ...]
    codes: tuple[int, ...]
    pointers: tuple[tuple[int, Tensor], ...]
    weights: tuple[float, ...]
    trail: tuple[Pointer, ...]

    @property
    def structure(self) -> tuple[int, int, bool]:
        """Objects with the same one can be read in one batch."""
        return len(self.features), len(self.pointers), len(set(self.weights)) > 1


def plan_reading(
    bank: Sequence[Attended], index: int | None, recent: int, reach: int, run: range | None = None
) -> Reading:
    """Choose an object's tokens.

    Parameters
    ----------
    bank : sequence of Attended
        At least one. Members with an offset are read as in SAM 2: prompted slices with the code of conditioning frames,
        the ``recent`` last others with the code of their recency. Members without one all get the conditioning
        frames' code, the one that SAM 2 gives to any number of slices whatever their order.
    index : int, optional
        The slice that reads; if not given it is presumed from the members' offsets.
    recent : int
        How many unprompted slices' features are read; ``num_maskmem − 1``.
    reach : int
        From how many slices before pointers are read; ``max_object_pointers_in_encoder − 1``.
    run : range, optional
        The slices that are neighbours, in the order of the walk: distances are counted in its steps.

    Returns
    -------
    Reading
        Pointers are read where the distance of their slice is known: SAM 2 dates them by it.
    """
    stride = 1 if run is None else abs(run.step)
    read = [a for a in bank if a.offset is None or a.offset <= recent]
    features = tuple(a.memory.content.map_of(a.memory.feature) for a in read)
    # Code −1 is the conditioning frames', code k − 1 is that of the slice k before.
    codes = tuple((a.offset or 0) - 1 for a in read)
    weights = tuple(a.weight for a in read)
    if any(a.offset is None for a in bank):
        dated = () if index is None else tuple((abs(index - p.at) // stride, p.token) for p in (_own(a) for a in bank))
        return Reading(features, codes, dated, weights * (2 if dated else 1), ())
    walk = _whereabouts(bank, index)
    if walk is None:
        return Reading(features, codes, (), weights, ())
    # Between prompted slices their memories do not tell which way a walk goes; the run does.
    here, step = (walk[0], walk[1] if run is None else run.step)
    prompted = {_own(a).at: _own(a) for a in bank if not a.offset}
    loose = {p.at: p for a in bank if a.offset for p in a.memory.content.pointers if p.at not in prompted}
    # Only what lies behind is read: SAM 2 was trained on pointers from the past.
    seen = [((here - p.at) // step, p) for p in prompted.values() if (here - p.at) // step >= 0]
    behind = sorted(((here - at) // step, at) for at in loose)
    trail = tuple(loose[at] for distance, at in behind if 1 <= distance <= reach)
    pairs = seen + [((here - p.at) // step, p) for p in trail]
    pointers = tuple((distance, p.token) for distance, p in pairs)
    return Reading(features, codes, pointers, weights + (1.0,) * len(pointers), trail)


def _own(member: Attended) -> Pointer:
    pointer: Pointer = member.memory.content.pointers[0]
    return pointer


def _whereabouts(bank: Sequence[Attended], index: int | None) -> tuple[int, int] | None:
    """Tell the slice that reads, and whether its walk goes up (1) or down (−1); None where that cannot be known."""
    loose = [a.memory.index for a in sorted((a for a in bank if a.offset), key=lambda a: a.offset or 0)]
    prompted = [a.memory.index for a in bank if not a.offset]
    if index is not None:
        origin = loose[0] if loose else min(prompted, key=lambda i: abs(i - index))
        return index, 1 if index >= origin else -1
    if not loose:
        return (prompted[0] + 1, 1) if len(prompted) == 1 else None
    before = loose[1] if len(loose) > 1 else min(prompted, key=lambda i: abs(i - loose[0]), default=loose[0] - 1)
    step = 1 if loose[0] > before else -1
    nearest = min(a.offset for a in bank if a.offset)
    return loose[0] + step * nearest, step


def tokens(
    readings: Sequence[Reading], model: Any, position: Tensor, reach: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Lay out what G objects of one structure read.

    Parameters
    ----------
    readings : sequence of Reading
        Of the same structure.
    model : Sam2VideoModel
        For its codes.
    position : Tensor
        ``(h·w, 64)``, the spatial code of a memory.
    reach : int
        As in `plan_reading`; distances are divided by it.

    Returns
    -------
    tuple of Tensor
        Tokens ``(G, L, 64)``, their codes ``(G, L, 64)``, and the logarithm of their weights ``(G, L)`` or None where
        all are equal; L is h·w tokens a map, then C / 64 a pointer.
    """
    temporal = model.memory_temporal_positional_encoding[:, 0, 0]
    maps = torch.stack([torch.stack(r.features) for r in readings]).to(position.dtype)
    group, members, cells, width = maps.shape
    codes = torch.stack([temporal[list(r.codes)] for r in readings]).unsqueeze(2) + position
    found, placed = [maps.flatten(1, 2)], [codes.flatten(1, 2)]
    count, splits = len(readings[0].pointers), 1
    if count:
        pointers = torch.stack([torch.stack([token for _, token in r.pointers]) for r in readings])
        splits = pointers.shape[-1] // width
        found.append(pointers.reshape(group, count * splits, width))
        placed.append(_pointer_codes(readings, model, position, reach, pointers.shape[-1]).repeat_interleave(splits, 1))
    bias = None
    if readings[0].structure[2]:
        # A weight is a number of copies: the softmax over w copies of a key is the same as log w added to its score.
        weights = torch.tensor([r.weights for r in readings], device=position.device, dtype=position.dtype)
        copies = torch.tensor([cells] * members + [splits] * count, device=position.device)
        bias = weights.clamp(min=1e-6).log().repeat_interleave(copies, 1)
    return torch.cat(found, 1), torch.cat(placed, 1), bias


def _pointer_codes(readings: Sequence[Reading], model: Any, position: Tensor, reach: int, channels: int) -> Tensor:
    """``(G, P, 64)``: how far each pointer's slice is."""
    count = len(readings[0].pointers)
    if not model.config.enable_temporal_pos_encoding_for_object_pointers:
        return position.new_zeros(len(readings), count, position.shape[1])
    distances = [[distance / max(reach, 1) for distance, _ in r.pointers] for r in readings]
    sine: Tensor = get_1d_sine_pe(torch.tensor(distances, device=position.device, dtype=torch.float32), channels)  # type: ignore[no-untyped-call]
    codes: Tensor = model.temporal_positional_encoding_projection_layer(sine.to(position.dtype))
    return codes


class MemoryLayout(NamedTuple):
    """How the keys of one memory's tokens are turned by their places.

    Parameters
    ----------
    plain : int
        How many tokens at its beginning have no place.
    cos, sin : Tensor
        ``(L, D)`` float32, of the L tokens after them.
    """

    plain: int
    cos: Tensor
    sin: Tensor


def axial_rotation(side: int, width: int, device: torch.device, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(side², width)`` of SAM 2's rotary codes: half the channels for x, half for y."""
    rates = 1.0 / theta ** (torch.arange(0, width, 4, device=device)[: width // 4].float() / width)
    y, x = torch.meshgrid(torch.arange(side, device=device), torch.arange(side, device=device), indexing="ij")
    angles = torch.cat([x.reshape(-1, 1) * rates, y.reshape(-1, 1) * rates], 1).repeat_interleave(2, 1)
    return angles.cos(), angles.sin()


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of channels of ``(..., L, D)``."""
    across = torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2)
    return x * cos + across * sin


def attend_weighted(
    attention: Any,
    features: Tensor,
    memory: Tensor,
    codes: Tensor,
    bias: Tensor | None,
    members: int,
    layout: MemoryLayout,
) -> Tensor:
    """SAM 2's memory attention, with a bias on each memory token, which the library's own forward does not offer.

    Parameters
    ----------
    attention : Sam2VideoMemoryAttention
        Whose layers are run.
    features : Tensor
        ``(G, h·w, C)``, the slice's features with their spatial code added.
    memory, codes : Tensor
        ``(G, L, 64)``, tokens and their codes: the members' one after the other, then pointers, which have no place.
    bias : Tensor or None
        ``(G, L)``, added to each token's attention scores.
    members : int
        How many memories there are.
    layout : MemoryLayout
        Of each.

    Returns
    -------
    Tensor
        ``(G, h·w, C)``.
    """
    # Early transformers 5 holds the angles in the module.
    rotary = attention.rotary_emb
    rotation = rotary(features, attention.position_ids) if hasattr(attention, "position_ids") else rotary()
    # The library's layers have a second batch axis.
    out, keys, values = features.unsqueeze(1), (memory + codes).unsqueeze(1), memory.unsqueeze(1)
    for layer in attention.layers:
        own = layer.layer_norm1(out)
        out = out + layer.self_attn(query=own, key=own, value=own, position_embeddings=rotation)[0]
        query = layer.layer_norm2(out)
        out = out + _cross(layer.cross_attn_image, query, keys, values, rotation, bias, members, layout)
        out = out + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(out))))
    done: Tensor = attention.layer_norm(out).squeeze(1)
    return done


def _cross(
    attention: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rotation: tuple[Tensor, Tensor],
    bias: Tensor | None,
    members: int,
    layout: MemoryLayout,
) -> Tensor:
    group, _, cells, _ = query.shape
    heads = (group, -1, attention.num_attention_heads, attention.head_dim)
    q, k, v = (
        project(x).view(*heads).transpose(1, 2)
        for project, x in ((attention.q_proj, query), (attention.k_proj, key), (attention.v_proj, value))
    )
    length = layout.plain + len(layout.cos)
    placed = k[:, :, : members * length].unflatten(2, (members, length))
    turned = _turned(placed[..., layout.plain :, :], layout.cos.to(k.dtype), layout.sin.to(k.dtype))
    placed = torch.cat([placed[..., : layout.plain, :], turned], -2).flatten(2, 3)
    k = torch.cat([placed, k[:, :, members * length :]], 2)
    q = _turned(q, *(r.to(q.dtype) for r in rotation))
    mask = None if bias is None else bias[:, None, None, :].to(q.dtype)
    read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1 / math.sqrt(attention.head_dim))
    out: Tensor = attention.o_proj(read.transpose(1, 2).reshape(group, 1, cells, -1))
    return out

"""SAM 2.1 in its published sizes with random weights, made without its authors' code; and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from benchmarks._machine import finish, median_seconds
from napari_medsam2.backend.conversion import _ENCODERS
from napari_medsam2.backend.protocol import NO_POINTS, Attended, ViewPrompt
from napari_medsam2.geometry import View

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend, Decoded, Embedding, Memory

__all__ = ["MEMORIES", "SIZES", "Costs", "build", "carry", "configure", "costs"]

MEMORIES = 7
"""How many SAM 2 reads at most."""
SIZES = {"tiny": (96, 7), "small": (96, 7), "base-plus": (112, 14), "large": (144, 7)}
"""Of each image encoder the first stage's width and the side of its windows' positional background."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Medians in seconds; memory of the device in GB, None where it cannot be told.

    Parameters
    ----------
    encode, click, slice : float
        The encoder; a click on a view that is encoded; a propagated slice: encoder, reading `MEMORIES`, decoding,
        remembering.
    finite : bool
        Whether all numbers were.
    peak : float or None
        The most that tensors took at a time, weights included.
    """

    encode: float
    click: float
    slice: float
    finite: bool
    peak: float | None


def build(size: str, side: int = 1024, seed: int = 0) -> Any:
    """Make a ``Sam2VideoModel`` of a published size on the CPU, with weights from a seed."""
    from napari_medsam2.backend._sam2_model import random_model

    return random_model(configure(size, side), seed)


def configure(size: str, side: int = 1024) -> Any:
    """Give the configuration of SAM 2.1 in a published size.

    Parameters
    ----------
    size : str
        One of `SIZES`.
    side : int
        Of its input in pixels.

    Returns
    -------
    Sam2VideoConfig
        For transformers.
    """
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    from napari_medsam2.backend._sam2_model import sized

    depths, encoder = next((depths, e) for depths, e in _ENCODERS.items() if e.name == size)
    width, background = SIZES[size]
    widths = [width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=encoder.heads,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[encoder.heads * 2**stage for stage in range(4)],
        blocks_per_stage=list(depths),
        global_attention_blocks=list(encoder.globals),
        window_size_per_stage=list(encoder.windows),
        window_positional_embedding_background_size=[background, background],
    )
    # All else is SAM 2.1's by default.
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    return sized(Sam2VideoConfig(vision_config=vision, image_size=side))


def carry(backend: Backend, embedding: Embedding, first: Memory, count: int) -> Decoded:
    """Carry an object on to a slice: read ``count`` memories, the first one repeated, decode, remember."""
    bank = [Attended(replace(first, index=i), 1.0, count - 1 - i if i else 0) for i in range(count)]
    views = [first.view]
    context = backend.attend(embedding, [bank], views, True, count, range(count + 1))
    told = backend.decode(embedding, [ViewPrompt(*NO_POINTS)], context)
    backend.remember(embedding, told, views, [count], prompted=False)
    return told


def costs(backend: Backend, repeat: int) -> Costs:
    """Measure a SAM 2 network where it is, after a first time of everything."""
    from tests.sam2.cases import CLICK

    side, device = backend.views.side, backend.device
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    embedding = backend.encode(image)
    decoded = backend.decode(embedding, [CLICK])
    (first,) = backend.remember(embedding, decoded, [View(0, 0, side, side, side)], [0], prompted=True)
    told = carry(backend, embedding, first, MEMORIES)
    finish(device)
    encode = median_seconds(repeat, device, lambda _: backend.encode(image))
    click = median_seconds(repeat, device, lambda _: backend.decode(embedding, [CLICK]))
    carried = median_seconds(repeat, device, lambda _: carry(backend, backend.encode(image), first, MEMORIES))
    finite = bool(decoded.logits.isfinite().all() and told.logits.isfinite().all())
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return Costs(encode, click, carried, finite, peak)

"""SAM 2's image features, shared between the objects that look at the same view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_medsam2.backend.protocol import Embedding

__all__ = ["Sam2Embedding", "ViewFeatures", "own_embedding"]


class ViewFeatures(NamedTuple):
    """One view's features: ``(C / 8, S / 4, S / 4)``, ``(C / 4, S / 8, S / 8)`` and ``(C, S / 16, S / 16)``."""

    fine: Tensor
    middle: Tensor
    coarse: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sam2Embedding:
    """Feature maps at strides 4, 8 and 16 of a batch of views; entries that repeat are held once."""

    entries: tuple[ViewFeatures, ...]

    def __len__(self) -> int:
        """Count the views."""
        return len(self.entries)

    @property
    def nbytes(self) -> int:
        """Bytes that the features take."""
        return sum(t.numel() * t.element_size() for entry in {id(e): e for e in self.entries}.values() for t in entry)

    @property
    def descriptor(self) -> Tensor:
        """``(B, C·h·w)`` float32, unit length: the coarsest features, flattened."""
        return F.normalize(_stack([e.coarse for e in self.entries]).flatten(1).float(), dim=1)

    def take(self, indices: Sequence[int]) -> Sam2Embedding:
        """Select (and repeat) entries along the batch axis; nothing is copied."""
        return Sam2Embedding(tuple(self.entries[i] for i in indices))

    def maps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fine, middle and coarse maps, each ``(B, C', H', W')``."""
        fine, middle, coarse = (_stack(list(maps)) for maps in zip(*self.entries, strict=True))
        return fine, middle, coarse


def _stack(maps: Sequence[Tensor]) -> Tensor:
    if all(m is maps[0] for m in maps):
        return maps[0].expand(len(maps), *maps[0].shape)
    return torch.stack(list(maps))


def own_embedding(embedding: Embedding) -> Sam2Embedding:
    """Refuse another backend's embedding."""
    if not isinstance(embedding, Sam2Embedding):
        raise TypeError(f"an embedding of another backend: {type(embedding).__name__}")
    return embedding

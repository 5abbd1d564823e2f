"""What the parts of an image are called, by what the image is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_medsam2.session_base import Kind

__all__ = ["counted", "noun"]


def noun(kind: Kind) -> str:
    """Return ``"image"`` for a collection, ``"slice"`` for a stack."""
    return "image" if kind == "collection" else "slice"


def counted(count: int, word: str) -> str:
    """Return such as ``"1 slice"`` or ``"1,200 slices"``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"

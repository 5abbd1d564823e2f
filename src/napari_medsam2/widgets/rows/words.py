"""What the parts of an image are called, by what the image is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.session_base import Kind

__all__ = ["counted", "noun", "short_path", "trust"]


def noun(kind: Kind) -> str:
    """Return ``"image"`` for a collection, ``"slice"`` for a stack."""
    return "image" if kind == "collection" else "slice"


def counted(count: int, word: str) -> str:
    """Return such as ``"1 slice"`` or ``"1,200 slices"``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def trust(result: ObjectResult, drift: float | None = None) -> str:
    """Say how far a mask can be trusted, in a few words.

    Parameters
    ----------
    result : ObjectResult
        The mask. One that was painted or imported is 1.00 sure by definition, which says nothing to a person.
    drift : float, optional
        How unlike its neighbours it is, in [0, 1], as `napari_medsam2.review.ReviewItem` has it.
    """
    if result.source != "mask":
        return f"confidence {result.confidence:.2f}"
    return "as it was drawn" if drift is None else f"{100 * (1 - drift):.0f} % like its neighbours"


def short_path(path: Path) -> str:
    """Write a path as a person knows it: what lies at home begins with ``~``."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)

"""How well a mask agrees with a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["dice", "iou"]


def dice(mask: ArrayLike, reference: ArrayLike) -> float:
    """Sørensen–Dice coefficient ``2 |A ∩ B| / (|A| + |B|)`` of two masks of any, equal shape.

    Parameters
    ----------
    mask, reference : array-like
        Bool, or numbers of which everything but 0 is inside.

    Returns
    -------
    float
        In [0, 1]; 1 where both are empty, since they agree.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    overlap, total = _overlap(mask, reference)
    return 2 * overlap / total if total else 1.0


def iou(mask: ArrayLike, reference: ArrayLike) -> float:
    """Intersection over union ``|A ∩ B| / |A ∪ B|`` of two masks, with the same arguments and edge case as `dice`."""
    overlap, total = _overlap(mask, reference)
    return overlap / (total - overlap) if total else 1.0


def _overlap(mask: ArrayLike, reference: ArrayLike) -> tuple[int, int]:
    """Count ``|A ∩ B|`` and ``|A| + |B|``."""
    first, second = np.asarray(mask) != 0, np.asarray(reference) != 0
    if first.shape != second.shape:
        raise InputError(f"masks of shapes {first.shape} and {second.shape} cannot be compared; give equal shapes")
    return int(np.count_nonzero(first & second)), int(np.count_nonzero(first)) + int(np.count_nonzero(second))

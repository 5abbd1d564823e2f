"""What a person would draw for an object, worked out from its reference mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.geometry import mask_box

if TYPE_CHECKING:
    from napari_medsam2.geometry import Box

__all__ = ["innermost", "tight_box"]


def tight_box(mask: np.ndarray) -> Box:
    """Return the edges of the tight box around a mask ``(H, W)``.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    box = mask_box(mask)
    if box is None:
        raise InputError("an empty mask has no box; give one with at least one pixel")
    return box


def innermost(mask: np.ndarray) -> tuple[int, int]:
    """Return the pixel ``(y, x)`` of a mask ``(H, W)`` that is farthest from its outside: where a person would click.

    The picture's edge counts as outside. Among equals, the one nearest to their own middle is taken.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    from scipy import ndimage

    box = tight_box(mask)
    y0, x0, y1, x1 = (round(v + 0.5) for v in box)
    depth = ndimage.distance_transform_edt(np.pad(mask[y0:y1, x0:x1], 1))[1:-1, 1:-1]
    # Distances are square roots of whole numbers: those that are equal differ by less than this.
    deepest = np.argwhere(depth >= depth.max() - 1e-9)
    nearest = np.square(deepest - deepest.mean(0)).sum(1).argmin()
    y, x = deepest[nearest].tolist()
    return y + y0, x + x0

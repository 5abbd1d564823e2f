"""What a person would draw for an object, worked out from its reference mask."""

from __future__ import annotations

import numpy as np

from napari_medsam2.geometry import tight_box

__all__ = ["innermost"]


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

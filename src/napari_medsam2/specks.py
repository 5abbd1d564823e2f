"""Specks: crumbs beside a mask, and pinholes in it, that are the network's noise and no part of an object."""

from __future__ import annotations

import numpy as np

__all__ = ["without_specks"]

_PIXELS, _MOST = 4, 0.1
"""A piece or a hole of fewer pixels is never meant, unless it is more than this share of the mask."""


def without_specks(logits: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
    """Flip the sign of the logits of specks.

    Parameters
    ----------
    logits : ndarray
        ``(h, w)`` float; the mask is where they are above zero. It is of one thing, which may have several pieces.
    points : ndarray, optional
        ``(P, 2)`` ``(y, x)`` clicks in the same pixels: what is clicked is meant, be it a piece or a hole.

    Returns
    -------
    ndarray
        ``logits`` itself where there are no specks.
    """
    from scipy import ndimage

    inside = logits > 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return logits
    # One pixel around the mask, so that what is outside of it is one region.
    y0, x0 = int(rows[0]), int(columns[0])
    piece = np.pad(inside[y0 : rows[-1] + 1, x0 : columns[-1] + 1], 1)
    area = np.count_nonzero(piece)
    least = min(_PIXELS, _MOST * area)
    spots = np.zeros((0, 2), int) if points is None else np.rint(points).astype(int) - (y0 - 1, x0 - 1)
    within = spots[((spots >= 0) & (spots < piece.shape)).all(1)]
    wrong = np.zeros(piece.shape, bool)
    # Pieces touch at corners too, holes do not: so both cannot run through each other.
    for region, touching in ((piece, np.ones((3, 3))), (~piece, None)):
        numbers, count = ndimage.label(region, touching)
        if count < 2:
            continue
        small = np.bincount(numbers.ravel(), minlength=count + 1) < least
        small[0] = small[numbers[0, 0]] = False
        small[numbers[within[:, 0], within[:, 1]]] = False
        wrong |= small[numbers] & region
    if not wrong.any():
        return logits
    out = logits.copy()
    place = out[y0 : rows[-1] + 1, x0 : columns[-1] + 1]
    np.negative(place, out=place, where=wrong[1:-1, 1:-1])
    return out

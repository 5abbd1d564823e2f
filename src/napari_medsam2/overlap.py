"""Which object has a pixel that several claim."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_medsam2.results import ObjectResult

__all__ = ["share_out"]

_RANK = {"propagated": 0, "prompt": 1, "mask": 2}
_SMALLER = 0.2
"""Of its holder's area; a thing of like size that lies in another is more likely the same thing found twice."""
_INSIDE = 0.7
"""Share of a mask that lies in its holder."""


def share_out(
    results: Sequence[ObjectResult],
    shape: tuple[int, int],
    piece: Callable[[int], tuple[tuple[slice, slice], np.ndarray]],
) -> np.ndarray:
    """Give every pixel of a slice to one object.

    What a person drew lies over what was prompted on this slice, and that over what was carried here. Of prompted
    masks, which a person has seen and whose leaks are faint, the one with the higher logit has the pixel; of carried
    ones the one that is more confident as a whole, since a walk that went astray is as sure of its pixels as one that
    did not. But an object that is much smaller than another and lies in it, such as a vessel in an organ, comes above
    it: it would be hidden otherwise. What was measured of these rules is in docs/model.md.

    Parameters
    ----------
    results : sequence of ObjectResult
        Of one slice.
    shape : tuple of int
        ``(H, W)`` of what is drawn: the slice, or a finer grid of a part of it.
    piece : callable
        Takes a place in ``results``; gives rows and columns of that drawing, and the mask logits there, above 0 inside.

    Returns
    -------
    ndarray
        ``(H, W)`` int32: the place in ``results`` from 1 on, 0 where no object is. Of equals the more confident one has
        the pixel, of those the one that comes first.
    """
    out, best = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    areas = [one.area for one in results]
    filled = [place for place, area in enumerate(areas) if area]
    pieces = {place: piece(place) for place in filled}

    def layer(place: int) -> tuple[int, float]:
        one = results[place]
        return _RANK[one.source], one.confidence if one.source == "propagated" else 0.0

    for _, group in groupby(sorted(filled, key=layer), key=layer):
        members = sorted(group, key=lambda k: (-results[k].confidence, k))
        for place in members:
            best[pieces[place][0]] = 0
        for place in members:
            window, logits = pieces[place]
            wins = logits > best[window]
            out[window][wins], best[window][wins] = place + 1, logits[wins]
    sizes = np.array([areas[place] for place in filled])
    corners = np.array([_corners(results[place]) for place in filled]).reshape(-1, 2, 2)
    for at in sorted(range(len(filled)), key=lambda k: (-sizes[k], k)):
        place, area = filled[at], areas[filled[at]]
        # No more of it lies in another than the boxes around both share. Only where that is enough are pixels counted,
        # since of thousands of nuclei hardly any two meet.
        sides = np.minimum(corners[:, 1], corners[at, 1]) - np.maximum(corners[:, 0], corners[at, 0])
        room = np.maximum(sides, 0).prod(1)
        likely = np.flatnonzero((area <= _SMALLER * sizes) & (room >= _INSIDE * area)).tolist()
        holders = [
            filled[other] + 1 for other in likely if results[place].shares(results[filled[other]]) >= _INSIDE * area
        ]
        if holders:
            window, logits = pieces[place]
            out[window][(logits > 0) & np.isin(out[window], holders)] = place + 1
    return out


def _corners(one: ObjectResult) -> tuple[tuple[int, int], tuple[int, int]]:
    return (one.top, one.left), (one.top + one.logits.shape[0], one.left + one.logits.shape[1])

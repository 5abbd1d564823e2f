"""Outlines of masks along the edges of their pixels, and masks from outlines; both exact.

Corners are in edge coordinates: pixel ``i`` covers ``[i, i + 1)``, as in COCO and ImageJ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["crops", "fill_window", "is_hole", "outlines", "polygons"]


def crops(labels: np.ndarray) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Give each object of a slice in a window of its own.

    Parameters
    ----------
    labels : ndarray
        ``(H, W)`` unsigned; 0 is background.

    Yields
    ------
    tuple
        Label, first row, first column, and the mask ``(h, w)`` bool of its tight box, in order of labels.
    """
    from scipy.ndimage import find_objects

    values, places = np.unique(labels, return_inverse=True)
    # SciPy's list is as long as the largest number: labels can be in the billions, their places are not.
    dense = places.reshape(labels.shape) + (0 if len(values) and values[0] == 0 else 1)
    names = values[values > 0]
    for number, (label, box) in enumerate(zip(names.tolist(), find_objects(dense), strict=True), start=1):
        yield label, box[0].start, box[1].start, dense[box] == number


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Trace the borders of a mask.

    Parameters
    ----------
    mask : ndarray
        ``(H, W)`` bool.

    Returns
    -------
    list of ndarray
        Closed polygons ``(N, 2)`` int64 of ``(y, x)`` corners, without the first repeated at the end: those around the
        mask clockwise (on a screen, where y points down), those around holes the other way. Pixels that touch at
        a corner only have outlines of their own.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    width = mask.shape[1] + 1
    starts, ends, ways = [], [], []
    # The object lies to the right of each edge: it is walked rightwards on top, down on the right, and so on.
    sides = (
        (0, inside & ~padded[:-2, 1:-1], (0, 0), (0, 1)),
        (1, inside & ~padded[1:-1, 2:], (0, 1), (1, 1)),
        (2, inside & ~padded[2:, 1:-1], (1, 1), (1, 0)),
        (3, inside & ~padded[1:-1, :-2], (1, 0), (0, 0)),
    )
    for way, edge, first, last in sides:
        rows, columns = np.nonzero(edge)
        starts.append((rows + first[0]) * width + columns + first[1])
        ends.append((rows + last[0]) * width + columns + last[1])
        ways.append(np.full(len(rows), way))
    start, end, way_of = np.concatenate(starts), np.concatenate(ends), np.concatenate(ways)
    if not len(start):
        return []
    order = np.argsort(start * 4 + way_of)
    start, end, way_of = start[order], end[order], way_of[order]
    keys = start * 4 + way_of
    following = np.full(len(keys), -1)
    # Where two edges leave a corner, the right turn stays with the pixel that is being walked around.
    for turn in (3, 0, 1):
        wanted = end * 4 + (way_of + turn) % 4
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        following = np.where(keys[at] == wanted, at, following)
    return [
        np.stack(np.divmod(start[edges][way_of[edges] != way_of[np.roll(edges, 1)]], width), 1)
        for edges in _cycles(following.tolist())
    ]


def _cycles(following: list[int]) -> Iterator[np.ndarray]:
    seen = bytearray(len(following))
    for first in range(len(following)):
        if seen[first]:
            continue
        cycle, here = [], first
        while not seen[here]:
            seen[here] = 1
            cycle.append(here)
            here = following[here]
        yield np.array(cycle)


def is_hole(outline: np.ndarray) -> bool:
    """Whether an outline from `outlines` goes around a hole."""
    y, x = outline[:, 0], outline[:, 1]
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) < 0


def polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Cover a mask with polygons that have no holes and do not overlap, for formats that know of no holes.

    Returns
    -------
    list of ndarray
        As of `outlines`. A piece with a hole is cut through the hole, from top to bottom.
    """
    from scipy.ndimage import find_objects, label

    out: list[np.ndarray] = []
    pieces, _ = label(mask)
    for number, box in enumerate(find_objects(pieces), start=1):
        piece = pieces[box] == number
        traced = outlines(piece)
        offset = np.array([box[0].start, box[1].start])
        hole = next((outline for outline in traced if is_hole(outline)), None)
        if hole is None:
            out += [outline + offset for outline in traced]
            continue
        cut = int(hole[:, 1].min() + hole[:, 1].max()) // 2
        for first, last in ((0, cut), (cut, piece.shape[1])):
            out += [outline + offset + (0, first) for outline in polygons(piece[:, first:last])]
    return out


def fill_window(paths: Iterable[np.ndarray], shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draw closed polygons: a pixel belongs to them if its centre lies inside of an odd number.

    Parameters
    ----------
    paths : iterable of ndarray
        Each ``(N, 2)`` of ``(y, x)`` corners, in edge coordinates; parts beyond the slice are cut off.
    shape : tuple of int
        ``(H, W)`` of the slice.

    Returns
    -------
    tuple
        Rows and columns of the slice that their box covers, and the mask ``(h, w)`` bool there: a thousand nuclei of
        a large slice need a thousand small masks.
    """
    corners = [np.asarray(path, np.float64).reshape(-1, 2) for path in paths]
    every = np.concatenate([np.zeros((0, 2)), *corners])
    every = every[np.isfinite(every).all(1)]
    if not len(every):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    top, left = np.clip(np.floor(every.min(0)), 0, shape).astype(np.int64).tolist()
    bottom, right = np.clip(np.ceil(every.max(0)), 0, shape).astype(np.int64).tolist()
    height, width = bottom - top, right - left
    flips = np.zeros((height, width + 1), np.int64)
    for a in corners:
        b = np.roll(a, -1, 0)
        low, high = np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 0], b[:, 0])
        # Rows whose centre lies in [low, high).
        first = np.clip(np.ceil(low - 0.5), top, bottom).astype(np.int64)
        last = np.clip(np.ceil(high - 0.5), top, bottom).astype(np.int64)
        counts = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(a)), counts)
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        share = (row + 0.5 - a[edge, 0]) / (b[edge, 0] - a[edge, 0])
        crossing = a[edge, 1] + share * (b[edge, 1] - a[edge, 1])
        column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
        np.add.at(flips, (row - top, column - left), 1)
    mask = np.cumsum(flips, 1)[:, :width] % 2 == 1
    return (slice(top, bottom), slice(left, right)), np.asarray(mask)

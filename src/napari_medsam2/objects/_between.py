"""Masks between two annotated slices, from signed distances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.objects._changes import Changes
from napari_medsam2.objects._masks import Box, bounds, mask_in, step
from napari_medsam2.results import ObjectResult, Results

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari_medsam2.objects._changes import ResultsLike
    from napari_medsam2.stack import ImageStack

__all__ = ["between", "interpolate"]


def interpolate(
    results: ResultsLike, stack: ImageStack, label: int, first: int, last: int, kept: Collection[int] = ()
) -> Changes:
    """Fill the slices between two slices of an object with shapes that lead from one to the other.

    Parameters
    ----------
    results : Results
        What is known.
    stack : ImageStack
        The images.
    label, first, last : int
        The object, and two slices of one run on which it has a mask.
    kept : collection of int
        Slices that stay as they are, such as those that a person accepted, without the object as well.

    Returns
    -------
    Changes
        Masks of the slices between, as `between` gives them; those that a person painted or prompted are left as they
        are. Their confidence falls from the ends to the middle, the more so the less alike the ends are: it is
        1 − 2 s (1 − IoU) with the distance ``s`` to the nearer end (0 to ½) and the IoU of the ends with one centre.

    Raises
    ------
    InputError
        If the object has no mask on either slice, or there is no slice between them.
    """
    first, last = min(first, last), max(first, last)
    run = next((run for run in stack.runs() if first in run and last in run), None)
    if run is None:
        raise InputError(f"slices {first} and {last} are not neighbours in one stack; choose two of one time point")
    inner = run[run.index(first) + 1 : run.index(last)]
    if not len(inner):
        raise InputError(f"there is no slice between {first} and {last}; choose two that are farther apart")
    for index in (first, last):
        result = results.get(label, index)
        if result is None or not result.area:
            raise InputError(f"object {label} has no mask on slice {index}; paint it there first")
    shape = stack.slice_shape(first)
    box = _roomy(results, label, first, last)
    ends = mask_in(results, label, first, box), mask_in(results, label, last, box)
    likeness = _likeness(*ends)
    _, high, wide = step(stack)
    changed = Results()
    for number, index in enumerate(inner, start=1):
        known = results.get(label, index)
        if index in kept or (known is not None and known.source != "propagated"):
            continue
        share = number / (len(inner) + 1)
        distance = between(*ends, share, (high, wide))
        confidence = 1 - 2 * min(share, 1 - share) * (1 - likeness)
        placed = _cropped(distance / min(high, wide), box, shape)
        changed.put(ObjectResult.from_logits(label, index, shape, placed, confidence, 1.0, "propagated", None))
    return Changes(changed)


def _roomy(results: ResultsLike, label: int, first: int, last: int) -> Box:
    """Return a box around both ends with room for each to be moved to the other; it may reach beyond the slice."""
    boxes = [bounds(results, label, [index]) for index in (first, last)]
    y, x, height, width = bounds(results, label, [first, last])
    margin = max(height - min(box[2] for box in boxes), width - min(box[3] for box in boxes)) + 2
    return y - margin, x - margin, height + 2 * margin, width + 2 * margin


def _cropped(values: np.ndarray, box: Box, shape: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Return the part of a box that lies on the slice, with its first row and column."""
    y0, x0 = max(box[0], 0), max(box[1], 0)
    y1, x1 = min(box[0] + box[2], shape[0]), min(box[1] + box[3], shape[1])
    return y0, x0, values[y0 - box[0] : y1 - box[0], x0 - box[1] : x1 - box[1]]


def between(a: np.ndarray, b: np.ndarray, share: float, spacing: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """Give the shape between two masks (shape-based interpolation: Raya and Udupa, 1990), moved along with its centre.

    Parameters
    ----------
    a, b : ndarray
        ``(h, w)`` bool, both with pixels.
    share : float
        Where: 0 gives ``a``, 1 gives ``b``.
    spacing : sequence of float
        Distance of pixels along y and x.

    Returns
    -------
    ndarray
        ``(h, w)`` float32: signed distance to the outline in the unit of the spacing, positive inside.
    """
    from scipy.ndimage import shift

    way = _center(b) - _center(a)
    near, far = _signed(a, spacing), _signed(b, spacing)
    moved = shift(near, way * share, order=1, mode="nearest"), shift(far, way * (share - 1), order=1, mode="nearest")
    return np.asarray((1 - share) * moved[0] + share * moved[1], np.float32)


def _center(mask: np.ndarray) -> np.ndarray:
    return np.asarray(np.argwhere(mask).mean(0))


def _signed(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    # Background all around, so that a mask that fills its window has an outline.
    padded = np.pad(mask, 1)
    inside = distance_transform_edt(padded, sampling=spacing)
    outside = distance_transform_edt(~padded, sampling=spacing)
    # The outline runs halfway between the pixels.
    half = 0.5 * min(spacing)
    signed: np.ndarray = np.where(padded, inside - half, half - outside)[1:-1, 1:-1]
    return signed


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two masks with their centres on each other."""
    offset = np.rint(_center(b) - _center(a)).astype(int)
    pixels = {tuple(p) for p in (np.argwhere(a) + offset).tolist()}
    others = {tuple(p) for p in np.argwhere(b).tolist()}
    return len(pixels & others) / len(pixels | others)

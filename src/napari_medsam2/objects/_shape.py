"""Holes filled, outlines smoothed, crumbs removed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.objects._changes import Changes, in_window, require
from napari_medsam2.objects._components import components, label_slice, sizes
from napari_medsam2.objects._masks import bounds, check_dimensions, mask_in, spans, step, windows
from napari_medsam2.results import Results

if TYPE_CHECKING:
    from napari_medsam2.objects._changes import ResultsLike
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.stack import ImageStack

__all__ = ["fill_holes", "remove_small", "smooth"]

Dimensions = Literal[2, 3]


def fill_holes(results: ResultsLike, stack: ImageStack, label: int, dimensions: Dimensions = 2) -> Changes:
    """Fill the holes of an object.

    Parameters
    ----------
    results : Results
        What is known.
    stack : ImageStack
        The images.
    label : int
        The object.
    dimensions : int
        2: what is enclosed on a slice. 3: what is enclosed in the volume, so that a tube stays open.

    Returns
    -------
    Changes
        New masks on the slices that had holes.

    Raises
    ------
    InputError
        If the object has no mask.
    """
    from scipy.ndimage import binary_fill_holes

    check_dimensions(dimensions)
    changed = Results()
    if dimensions == 2:
        for index in require(results, label):
            result = results.get(label, index)
            if result is not None:
                mask = result.logits > 0
                filled = binary_fill_holes(mask)
                _keep(changed, result, filled, result.top, result.left, mask)
        return Changes(changed)
    for run in spans(stack, require(results, label)):
        top, left, height, width = bounds(results, label, run)
        # With a rim, so that all of the outside is one piece.
        box = (top - 1, left - 1, height + 2, width + 2)
        found, count = components((box[0], box[1], ~mask_in(results, label, index, box)) for index in run)
        outside = np.zeros(count, bool)
        for number, (index, own) in enumerate(zip(run, found, strict=True)):
            # The background is open where it meets the rim, or the first or last slice of the object.
            numbers, _ = label_slice(~mask_in(results, label, index, box))
            seen = np.unique(numbers) if number in (0, len(run) - 1) else np.unique([numbers[0, 0]])
            outside[own[seen[seen > 0] - 1]] = True
        for index, own in zip(run, found, strict=True):
            mask = mask_in(results, label, index, box)
            inside = np.concatenate([[False], ~outside[own]])[label_slice(~mask)[0]]
            if inside.any():
                known = _nearest(results, label, index, run)
                changed.put(in_window(label, index, mask | inside, box[0], box[1], stack.slice_shape(index), known))
    return Changes(changed)


def remove_small(
    results: ResultsLike, stack: ImageStack, label: int, smallest: int, dimensions: Dimensions = 2
) -> Changes:
    """Remove the pieces of an object that are smaller than a number of pixels or voxels.

    Parameters
    ----------
    results, stack, label
        As for `fill_holes`.
    smallest : int
        Pieces of so many pixels (2) or voxels (3) stay.
    dimensions : int
        Whether pieces are those of each slice (2) or of the volume (3).

    Returns
    -------
    Changes
        New masks where a piece was removed; a slice whose last piece is gone has an empty one.

    Raises
    ------
    InputError
        If the object has no mask, or nothing would be left of it.
    """
    check_dimensions(dimensions)
    if smallest < 1:
        raise InputError(f"the smallest piece that stays must have 1 pixel or more, not {smallest}")
    changed, left_over = Results(), False
    for run in spans(stack, require(results, label)):
        for part in [run] if dimensions == 3 else [run[place : place + 1] for place in range(len(run))]:
            found, count = components(windows(results, label, part))
            total = sizes(windows(results, label, part), found, count)
            left_over = left_over or bool((total >= smallest).any())
            for index, own in zip(part, found, strict=True):
                result = results.get(label, index)
                if result is None or not len(own) or (total[own] >= smallest).all():
                    continue
                mask = result.logits > 0
                numbers, _ = label_slice(mask)
                kept = np.concatenate([[False], total[own] >= smallest])[numbers]
                changed.put(in_window(label, index, kept, result.top, result.left, result.shape, result))
    if not left_over:
        raise InputError(f"no piece of object {label} has {smallest} pixels; choose a smaller number")
    return Changes(changed)


def smooth(results: ResultsLike, stack: ImageStack, label: int, radius: float, dimensions: Dimensions = 2) -> Changes:
    """Smooth an object's outline: a Gaussian of its mask, cut at one half, which keeps straight borders in place.

    Parameters
    ----------
    results, stack, label
        As for `fill_holes`.
    radius : float
        The Gaussian's standard deviation in the unit of the image's spacing (pixels where it is unknown); details
        smaller than it go. The spacing of each axis is respected.
    dimensions : int
        2: each slice on its own. 3: across slices too.

    Returns
    -------
    Changes
        New masks where they differ.

    Raises
    ------
    InputError
        If the object has no mask or nothing would be left of it, or the radius is not positive.
    """
    check_dimensions(dimensions)
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(f"the radius must be a positive number, not {radius}")
    deep, high, wide = (radius / size for size in step(stack))
    reach = math.ceil(3 * deep) if dimensions == 3 else 0
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deep) ** 2)
    weights /= weights.sum()
    margin = (math.ceil(3 * high) + 1, math.ceil(3 * wide) + 1)
    changed, left_over = Results(), False
    filled = require(results, label)
    for run in stack.runs():
        for span in spans(stack, [index for index in filled if index in run]):
            height, width = stack.slice_shape(run[0])
            y, x, h, w = bounds(results, label, span)
            y0, x0 = max(y - margin[0], 0), max(x - margin[1], 0)
            box = (y0, x0, min(y + h + margin[0], height) - y0, min(x + w + margin[1], width) - x0)
            blurred: dict[int, np.ndarray] = {}
            for index in span:
                if dimensions == 2 and index not in filled:
                    continue
                place = run.index(index)
                total = np.zeros(box[2:], np.float32)
                for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
                    # Beyond the ends of the stack it goes on as it ends, as it does beyond the edges of a slice.
                    other = min(max(place + offset, 0), len(run) - 1)
                    if other not in blurred:
                        blurred[other] = _blur(mask_in(results, label, run[other], box), high, wide)
                    total += weight * blurred[other]
                blurred = {other: blur for other, blur in blurred.items() if other > place - reach}
                mask = total > 0.5
                left_over = left_over or bool(mask.any())
                if not np.array_equal(mask, mask_in(results, label, index, box)):
                    known = _nearest(results, label, index, span)
                    changed.put(in_window(label, index, mask, y0, x0, (height, width), known))
    if not left_over:
        raise InputError(f"smoothing by {radius:g} would leave nothing of object {label}; choose a smaller radius")
    return Changes(changed)


def _blur(mask: np.ndarray, high: float, wide: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    out: np.ndarray = gaussian_filter(mask.astype(np.float32), (high, wide), mode="nearest", truncate=3.0)
    return out


def _keep(changed: Results, result: ObjectResult, mask: np.ndarray, top: int, left: int, before: np.ndarray) -> None:
    if not np.array_equal(mask, before):
        changed.put(in_window(result.label, result.index, mask, top, left, result.shape, result))


def _nearest(results: ResultsLike, label: int, index: int, run: range) -> ObjectResult | None:
    """Return what is known of the object on a slice, or else on the nearest that has some of it."""
    for other in sorted(run, key=lambda place: abs(place - index)):
        known = results.get(label, other)
        if known is not None and known.area:
            return known
    return None

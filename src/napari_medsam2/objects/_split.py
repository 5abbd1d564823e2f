"""Objects merged, and taken apart."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_medsam2._numbers import free_labels
from napari_medsam2.errors import InputError
from napari_medsam2.objects._changes import Changes, in_window, relabel, require, seen
from napari_medsam2.objects._components import components, label_slice, sizes
from napari_medsam2.objects._masks import check_dimensions, spans, step, windows
from napari_medsam2.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from napari_medsam2.objects._changes import ResultsLike
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.stack import ImageStack

__all__ = ["instances", "merge", "split_components", "split_touching"]

_LARGEST_VOLUME = 2**27
"""Voxels of the box of one piece that a watershed takes in memory, at some 20 bytes each."""


def merge(results: ResultsLike, labels: Sequence[int], into: int | None = None) -> Changes:
    """Merge objects into one.

    Parameters
    ----------
    results : Results
        What is known.
    labels : sequence of int
        Two objects or more.
    into : int, optional
        The one that stays, by default the first; the others are removed.

    Returns
    -------
    Changes
        On every slice that one of the others has a result on, the union of the masks. It is as sure as the least sure
        of the masks in it.

    Raises
    ------
    InputError
        If there are fewer than two, or ``into`` is not among them.
    """
    chosen = list(dict.fromkeys(labels))
    target = chosen[0] if into is None and chosen else into
    if len(chosen) < 2 or target not in chosen:
        raise InputError("merging needs two objects or more, and the one that stays among them")
    others = tuple(label for label in chosen if label != target)
    changed, sources = Results(), {}
    for index in sorted({index for label in others for index in results.indices(label)}):
        known = [one for label in chosen if (one := results.get(label, index)) is not None]
        there = [one for one in known if one.area]
        # Of several absent ones the first says all.
        changed.put(_union(there, target) if there else relabel(known[0], target))
        sources[target, index] = tuple(one.label for one in known)
    return Changes(changed, removed=others, sources=sources)


def _union(parts: Sequence[ObjectResult], label: int) -> ObjectResult:
    if len(parts) == 1:
        return relabel(parts[0], label)
    top, left = min(p.top for p in parts), min(p.left for p in parts)
    bottom = max(p.top + p.logits.shape[0] for p in parts)
    right = max(p.left + p.logits.shape[1] for p in parts)
    logits = np.max([seen(p, top, left, (bottom - top, right - left)) for p in parts], axis=0)
    least = min(parts, key=lambda p: p.confidence)
    return replace(least, label=label, top=top, left=left, logits=logits)


def split_components(
    results: ResultsLike,
    stack: ImageStack,
    label: int,
    dimensions: Literal[2, 3] = 3,
    smallest: int = 1,
    taken: Collection[int] = (),
    name: str | None = None,
) -> Changes:
    """Make objects of the pieces of an object that do not touch.

    Parameters
    ----------
    results : Results
        What is known.
    stack : ImageStack
        The images.
    label : int
        The object. Its largest piece keeps the label.
    dimensions : int
        2: the pieces of each slice are objects of their own. 3: pieces are followed through the slices of a volume (a
        time point; `track` links them through time). Pixels that touch at a corner only do not touch.
    smallest : int
        Pieces with fewer pixels (2) or voxels (3) stay with the largest.
    taken : collection of int
        Labels that new objects must not have besides those in ``results``.
    name : str, optional
        What the new objects are called, with a number behind; after their label by default.

    Returns
    -------
    Changes
        The new objects, numbered upwards by free labels in order of their first slice.

    Raises
    ------
    InputError
        If the object has no mask, or is in one piece.
    """
    check_dimensions(dimensions)
    parts: list[range] = []
    for run in spans(stack, require(results, label)):
        parts += [run] if dimensions == 3 else [run[place : place + 1] for place in range(len(run))]
    found: list[tuple[range, list[NDArray[np.int64]]]] = []
    totals: list[NDArray[np.int64]] = []
    base = 0
    for part in parts:
        own, count = components(windows(results, label, part))
        totals.append(sizes(windows(results, label, part), own, count))
        found.append((part, [numbers + base for numbers in own]))
        base += count
    total = np.concatenate(totals)
    large = total >= smallest
    large[total.argmax()] = False
    new = np.full(len(total), label, np.int64)
    new[large] = _free(results, label, taken, int(large.sum()))
    if not large.any():
        raise InputError(f"object {label} is in one piece; to cut pieces that touch, use the watershed")
    changed = Results()
    for part, own in found:
        for index, numbers in zip(part, own, strict=True):
            result = results.get(label, index)
            if result is not None and len(numbers):
                pieces, _ = label_slice(result.logits > 0)
                _put_pieces(changed, result, np.concatenate([[0], new[numbers]])[pieces])
    names = _names(new[large].tolist(), name)
    return Changes(changed, _left(results, changed, label), names=names, sources=_pieces_of(changed, label))


def _free(results: ResultsLike, label: int, taken: Collection[int], count: int) -> list[int]:
    known = {label for _, label, *_ in results.summary()} | {label, *taken}
    return sorted(islice(free_labels(known), count))


def _put_pieces(changed: Results, result: ObjectResult, pieces: np.ndarray) -> None:
    """Put a result for every label in ``pieces``, which lies where the logits lie."""
    for label in np.unique(pieces[pieces > 0]).tolist():
        changed.put(in_window(label, result.index, pieces == label, result.top, result.left, result.shape, result))


def _left(results: ResultsLike, changed: Results, label: int) -> tuple[tuple[int, int], ...]:
    """Return the slices on which all of an object went to others."""
    here = set(changed.indices(label))
    touched = set(changed.indices())
    return tuple((label, index) for index in results.indices(label) if index in touched and index not in here)


def _pieces_of(changed: Results, label: int) -> dict[tuple[int, int], tuple[int, ...]]:
    return {(one, index): (label,) for index, one, *_ in changed.summary()}


def _names(labels: Sequence[int], name: str | None) -> dict[int, str]:
    if name is None:
        return {label: f"object {label}" for label in labels}
    return {label: f"{name} {number}" for number, label in enumerate(labels, start=2)}


def split_touching(
    results: ResultsLike,
    stack: ImageStack,
    label: int,
    dimensions: Literal[2, 3] = 3,
    depth: float | None = None,
    taken: Collection[int] = (),
    name: str | None = None,
) -> Changes:
    """Cut an object, such as a semantic mask of many cells, into instances at its necks; see `instances`.

    Parameters
    ----------
    results, stack, label, taken, name
        As for `split_components`.
    dimensions : int
        Whether each slice (2) or each volume (3) is cut.
    depth : float, optional
        As for `instances`.

    Returns
    -------
    Changes
        The instances; the largest keeps the label.

    Raises
    ------
    InputError
        If the object has no mask or is in one piece without a neck, or a piece is too large to be cut in memory.
    """
    check_dimensions(dimensions)
    spacing = step(stack)
    parts: list[range] = []
    for run in spans(stack, require(results, label)):
        parts += [run] if dimensions == 3 else [run[place : place + 1] for place in range(len(run))]
    # First numbered from 1 on in results of their own, then by size: which one is largest is known at the end.
    numbered, counts = Results(), [0]
    for part in parts:
        own, count = components(windows(results, label, part))
        for piece in range(count):
            _cut(results, stack, label, part, own, piece, spacing, depth, numbered, counts)
    if len(counts) <= 2:
        raise InputError(f"object {label} has no neck to be cut at; give a smaller depth, or split it by hand")
    largest = int(np.argmax(counts))
    free = iter(_free(results, label, taken, len(counts) - 2))
    new = {number: label if number == largest else next(free) for number in range(1, len(counts))}
    changed = Results()
    for index in numbered.indices():
        for one in numbered.on(index):
            changed.put(relabel(one, new[one.label]))
    names = _names([n for n in new.values() if n != label], name)
    return Changes(changed, _left(results, changed, label), names=names, sources=_pieces_of(changed, label))


def _cut(
    results: ResultsLike, stack: ImageStack, label: int, part: range, own: Sequence[NDArray[np.int64]], piece: int,
    spacing: tuple[float, float, float], depth: float | None, numbered: Results, counts: list[int],
) -> None:  # fmt: skip
    """Cut one connected piece, and put its instances into ``numbered``."""
    slices: dict[int, tuple[int, int, np.ndarray]] = {}
    for index, numbers, window in zip(part, own, windows(results, label, part), strict=True):
        if window is not None and (numbers == piece).any():
            chosen = np.concatenate([[False], numbers == piece])[label_slice(window[2])[0]]
            slices[index] = (window[0], window[1], chosen)
    top, left = min(w[0] for w in slices.values()), min(w[1] for w in slices.values())
    height = max(w[0] + w[2].shape[0] for w in slices.values()) - top
    width = max(w[1] + w[2].shape[1] for w in slices.values()) - left
    if len(slices) * height * width > _LARGEST_VOLUME:
        raise InputError(
            f"a piece of object {label} spans {len(slices)} × {height} × {width} voxels, too many to be cut at once; "
            f"cut it slice by slice (2 dimensions)"
        )
    volume = np.zeros((len(slices), height, width), bool)
    for layer, (y, x, mask) in zip(volume, slices.values(), strict=True):
        layer[y - top : y - top + mask.shape[0], x - left : x - left + mask.shape[1]] = mask
    flat = len(slices) == 1
    cut = instances(volume[0] if flat else volume, spacing[1:] if flat else spacing, depth).reshape(volume.shape)
    first = len(counts) - 1
    counts += np.bincount(cut.ravel())[1:].tolist()
    for index, layer in zip(slices, cut, strict=True):
        result = results.get(label, index)
        for number in np.unique(layer[layer > 0]).tolist():
            shape = stack.slice_shape(index)
            numbered.put(in_window(first + number, index, layer == number, top, left, shape, result))


def instances(mask: np.ndarray, spacing: Sequence[float], depth: float | None = None) -> np.ndarray:
    """Cut a mask at its necks: a watershed of the distance to the background.

    Seeds are the maxima of the distance that rise above the highest pass to a higher one by ``depth``, so neither a
    number of instances nor their size has to be known.

    Parameters
    ----------
    mask : ndarray
        ``(h, w)`` or ``(d, h, w)`` bool.
    spacing : sequence of float
        Distance of pixels along each axis.
    depth : float, optional
        How much wider (in radius, in the unit of the spacing) than the neck both parts are. By default a tenth of the
        mask's largest radius, and three quarters of the largest distance of pixels at least.

    Returns
    -------
    ndarray
        int32, of the mask's shape: 0 outside, instances from 1.

    Raises
    ------
    InputError
        If the depth is not positive.
    """
    from scipy.ndimage import distance_transform_edt, label
    from skimage import morphology, segmentation

    if depth is not None and not (math.isfinite(depth) and depth > 0):
        raise InputError(f"the depth of a neck must be a positive number, not {depth}")
    # Without types of their own.
    maxima: Callable[..., np.ndarray] = morphology.h_maxima
    watershed: Callable[..., np.ndarray] = segmentation.watershed
    # What lies beyond the window counts as background.
    distance = distance_transform_edt(np.pad(mask, 1), sampling=spacing).astype(np.float32)
    rise = max(0.1 * float(distance.max()), 0.75 * max(spacing)) if depth is None else depth
    everywhere = np.ones((3,) * mask.ndim)
    seeds, count = label(maxima(distance, rise, footprint=everywhere), everywhere)
    if not count:
        seeds, _ = label(distance == distance.max(), everywhere)
        seeds[seeds > 1] = 1
    cut = watershed(-distance, seeds, mask=np.pad(mask, 1), connectivity=1)
    return np.ascontiguousarray(cut[(slice(1, -1),) * mask.ndim], np.int32)

"""Objects that were numbered at each time point on its own, linked through time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_medsam2._numbers import free_labels
from napari_medsam2.errors import InputError
from napari_medsam2.objects._changes import Changes, relabel
from napari_medsam2.reading.axes import leading
from napari_medsam2.results import Results

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from napari_medsam2.objects._changes import ResultsLike
    from napari_medsam2.stack import ImageStack

__all__ = ["link", "track"]

Overlap = tuple["dict[int, int]", "dict[int, int]", "dict[tuple[int, int], int]"]


class _Tail(NamedTuple):
    """The end of a track."""

    time: int
    label: int


def link(
    before: Mapping[int, int], after: Mapping[int, int], shared: Mapping[tuple[int, int], int], threshold: float
) -> dict[int, int]:
    """Pair the objects of two time points so that the sum of their IoUs is largest.

    Parameters
    ----------
    before, after : mapping
        Pixels of each object, by label.
    shared : mapping
        Pixels that two objects have in common, by their labels.
    threshold : float
        Pairs with a smaller IoU are none.

    Returns
    -------
    dict
        Label before, by label after.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = sorted({a for a, _ in shared}), sorted({b for _, b in shared})
    if not rows:
        return {}
    scores = np.zeros((len(rows), len(columns)))
    for (a, b), pixels in shared.items():
        iou = pixels / (before[a] + after[b] - pixels)
        scores[rows.index(a), columns.index(b)] = iou if iou >= threshold else 0.0
    chosen = linear_sum_assignment(scores, maximize=True)
    return {columns[j]: rows[i] for i, j in zip(*chosen, strict=True) if scores[i, j] > 0}


def track(
    results: ResultsLike,
    stack: ImageStack,
    labels: Collection[int] | None = None,
    threshold: float = 0.25,
    gap: int = 0,
    taken: Collection[int] = (),
) -> Changes:
    """Give objects that overlap from one time point to the next one label.

    An object that divides goes on in the half that overlaps more; the other half begins a track of its own.

    Parameters
    ----------
    results : Results
        Objects that were segmented or split at each time point; the same label at two times may or may not be the same
        thing.
    stack : ImageStack
        With a time axis.
    labels : collection of int, optional
        The objects to link; all by default.
    threshold : float
        Least intersection over union, above 0.
    gap : int
        For how many time points an object may be away.
    taken : collection of int
        Labels that new tracks must not have besides those in ``results``.

    Returns
    -------
    Changes
        Results under the labels of their tracks. A track has the label of its first object, unless another track has it
        already. Labels that no track has are removed.

    Raises
    ------
    InputError
        If there is no time axis, or the threshold or the gap makes no sense.
    """
    letters = leading(stack.axes)
    if "T" not in letters:
        raise InputError(
            f"{stack.name} has no time axis (axes {stack.axes}), so there is nothing to track; open it as T"
        )
    if not 0 < threshold <= 1 or gap < 0:
        raise InputError(
            f"the least overlap must lie above 0 and up to 1, and the gap be 0 or more: {threshold}, {gap}"
        )
    times: dict[int, list[int]] = defaultdict(list)
    for index in range(len(stack)):
        times[stack.unravel(index)[letters.index("T")]].append(index)
    known = {label for _, label, *_ in results.summary()}
    chosen = known if labels is None else known & set(labels)
    tracks: dict[tuple[int, int], int] = {}
    tails: dict[int, _Tail] = {}
    names: dict[int, str] = {}
    used = known - chosen
    free = free_labels(known.union(taken))
    for time in sorted(times):
        unlinked = _present(results, times[time], chosen)
        for back in range(1, gap + 2):
            open_tails = {tail.label: name for name, tail in tails.items() if tail.time == time - back}
            if not open_tails or not unlinked:
                continue
            areas = _overlap(results, times[time - back], times[time], set(open_tails), unlinked)
            for after, before in link(*areas, threshold).items():
                tracks[time, after] = open_tails[before]
                tails[open_tails[before]] = _Tail(time, after)
                unlinked.discard(after)
        for label in sorted(unlinked):
            name = label
            if name in used:
                name = next(free)
                names[name] = f"object {name}"
            used.add(name)
            tracks[time, label] = name
            tails[name] = _Tail(time, label)
    return _renamed(results, times, tracks, chosen, names)


def _renamed(
    results: ResultsLike,
    times: Mapping[int, Sequence[int]],
    tracks: Mapping[tuple[int, int], int],
    chosen: Collection[int],
    names: Mapping[int, str],
) -> Changes:
    changed, cleared = Results(), []
    sources: dict[tuple[int, int], tuple[int, ...]] = {}
    for time, indices in times.items():
        moved = {label: name for (at, label), name in tracks.items() if at == time and name != label}
        if not moved:
            continue
        arriving = set(moved.values())
        for index in indices:
            here = list(results.on(index))
            for one in here:
                if one.label in moved:
                    changed.put(relabel(one, moved[one.label]))
                    sources[moved[one.label], index] = (one.label,)
            arrived = {moved[one.label] for one in here if one.label in moved}
            cleared += [
                (one.label, index)
                for one in here
                if one.label not in arrived and (one.label in moved or one.label in arriving)
            ]
    kept = set(tracks.values())
    seen = {label for _, label in tracks}
    removed = tuple(sorted(label for label in chosen if label in seen and label not in kept))
    return Changes(changed, tuple(cleared), removed, names, sources=sources)


def _present(results: ResultsLike, indices: Sequence[int], chosen: Collection[int]) -> set[int]:
    return {one.label for index in indices for one in results.on(index) if one.label in chosen and one.area}


def _overlap(
    results: ResultsLike, first: Sequence[int], second: Sequence[int], before: Collection[int], after: Collection[int]
) -> Overlap:
    """Count pixels of objects at two times, and those that they share; slice by slice."""
    a_sizes: dict[int, int] = defaultdict(int)
    b_sizes: dict[int, int] = defaultdict(int)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for i, j in zip(first, second, strict=True):
        a_here = [one for one in results.on(i) if one.label in before and one.area]
        b_here = [one for one in results.on(j) if one.label in after and one.area]
        for one in a_here:
            a_sizes[one.label] += one.area
        for two in b_here:
            b_sizes[two.label] += two.area
            for one in a_here:
                y0, x0 = max(one.top, two.top), max(one.left, two.left)
                y1 = min(one.top + one.logits.shape[0], two.top + two.logits.shape[0])
                x1 = min(one.left + one.logits.shape[1], two.left + two.logits.shape[1])
                if y0 >= y1 or x0 >= x1:
                    continue
                a_part = one.logits[y0 - one.top : y1 - one.top, x0 - one.left : x1 - one.left] > 0
                b_part = two.logits[y0 - two.top : y1 - two.top, x0 - two.left : x1 - two.left] > 0
                pixels = int(np.count_nonzero(a_part & b_part))
                if pixels:
                    shared[one.label, two.label] += pixels
    return a_sizes, b_sizes, shared

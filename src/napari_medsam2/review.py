"""Review order: which masks a person should look at first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from napari_medsam2.results import ObjectResult, PackedResult, Results

__all__ = ["ReviewItem", "review_order"]

_DRIFT, _JUMP, _WANED = 0.1, 0.02, 0.1
"""What disagreement with the neighbours, the jump in area and having waned weigh beside the model's own doubt of 1.

Little, as over eight stacks doubt alone finds more; they tell equally doubtful masks apart, such as labels that were
made elsewhere, of which nothing is doubted. See ``docs/review.md``.
"""
_GAP = 0.25
"""What it weighs that an object is absent between two slices where it is there."""
_APART = 0.01
"""What it weighs that walks from two prompted slices disagree: it decides among equals.

Confidence has decided between their masks already; how far apart they were says no more, see ``docs/review.md``.
"""
_ABSENT = 0.5
"""What doubt weighs where the model says that the object is absent: it says so beyond its end, and is seldom wrong."""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A mask to look at.

    Parameters
    ----------
    label, index : int
        The object and the slice.
    risk : float
        How likely it is wrong, from 0; only its order means anything.
    confidence : float
        The result's: predicted IoU times the probability that the object is there; where it is absent, of that.
    object_score : float
        The probability that the object is in the slice.
    drift : float
        In [0, 1]: 1 − Dice with the masks of the neighbouring slices where the object is there, their mean; 1 for a
        mask whose neighbours are all empty, and for an object that is absent between two slices where it is there.
    jump : float
        How far its area is from the mean of those neighbours, as a factor: log2, without sign; at most 4.
    waned : float
        In [0, 1]: by how much the mask is smaller than the median of the object's; it may have ended before.
    disagreement : float or None
        In [0, 1], between two prompted slices: 1 − Dice of the masks that were carried there from either.
    mark : str or None
        ``"skipped"`` or ``"rejected"``, if a person said so.
    """

    label: int
    index: int
    risk: float
    confidence: float
    object_score: float
    drift: float
    jump: float
    waned: float = 0.0
    disagreement: float | None = None
    mark: str | None = None


def review_order(
    results: Results,
    marks: Mapping[tuple[int, int], str],
    prompted: Collection[tuple[int, int]],
    runs: Iterable[range],
    labels: Sequence[int] | None = None,
) -> list[ReviewItem]:
    """Order masks by their risk.

    Parameters
    ----------
    results : Results
        All masks.
    marks : mapping
        What a person said, by ``(label, index)``.
    prompted : collection
        ``(label, index)`` that a person prompted; they are not listed.
    runs : iterable of range
        Which slices are neighbours.
    labels : sequence of int, optional
        The objects; all by default.

    Returns
    -------
    list of ReviewItem
        By falling risk; behind them rejected ones that have no other mask yet, and skipped ones last.
    """
    runs = tuple(runs)
    by_label: dict[int, list[int]] = {}
    for index, label, *_ in results.summary():
        if labels is None or label in labels:
            by_label.setdefault(label, []).append(index)
    items: list[ReviewItem] = []
    for label, indices in by_label.items():
        for stretch in runs:
            own = [i for i in indices if i in stretch]
            items += _of_one(results, label, own, stretch, marks, prompted)
    for (label, index), mark in marks.items():
        if mark == "rejected" and results.packed(label, index) is None and (labels is None or label in labels):
            items.append(ReviewItem(label, index, math.inf, 0.0, 0.0, 1.0, 0.0, mark=mark))
    order = {None: 0, "rejected": 1, "skipped": 2}
    return sorted(items, key=lambda item: (order[item.mark], -item.risk, item.index, item.label))


def _of_one(
    results: Results,
    label: int,
    indices: Sequence[int],
    stretch: range,
    marks: Mapping[tuple[int, int], str],
    prompted: Collection[tuple[int, int]],
) -> Iterable[ReviewItem]:
    """The items of one object on neighbouring slices; at most three masks are unpacked at a time."""
    window: dict[int, ObjectResult | None] = {}

    def at(index: int) -> ObjectResult | None:
        if index not in window:
            packed: PackedResult | None = results.packed(label, index)
            window[index] = None if packed is None else packed.unpack()
        return window[index]

    areas = []
    for index in indices:
        areas.append(_area(at(index)))
        window.clear()
    areas = [area for area in areas if area]
    middle = float(np.median(areas)) if areas else 0.0
    for index in indices:
        place = stretch.index(index)
        around = [stretch[i] for i in (place - 1, place + 1) if 0 <= i < len(stretch)]
        for old in [i for i in window if i < index and i not in around]:
            del window[old]
        mark = marks.get((label, index))
        result = at(index)
        if result is None or mark == "accepted" or (label, index) in prompted:
            continue
        known = [one for one in map(at, around) if one is not None]
        near = [one for one in known if one.area]
        doubt, waned, jump = 1 - result.confidence, 0.0, 0.0
        if result.area:
            drift = float(np.mean([1 - _overlap(result, one) for one in near])) if near else float(bool(known))
            jump, waned = _jump(result, near), max(0.0, 1 - result.area / middle)
        else:
            # Beyond its end an object is rightly unlike its neighbour; a gap is not.
            drift, doubt = float(len(near) > 1), _ABSENT * doubt
        apart = result.disagreement
        unlike = (_DRIFT if result.area else _GAP) * drift
        risk = doubt + unlike + _JUMP * jump + _WANED * waned + _APART * (apart or 0.0)
        yield ReviewItem(label, index, risk, result.confidence, result.object_score, drift, jump, waned, apart, mark)


def _area(result: ObjectResult | None) -> int:
    return 0 if result is None else result.area


def _overlap(a: ObjectResult, b: ObjectResult) -> float:
    """The Dice of two masks in slice coordinates, not both empty."""
    return 2 * a.shares(b) / (a.area + b.area)


def _jump(result: ObjectResult, near: Sequence[ObjectResult]) -> float:
    if not near:
        return 0.0
    expected = float(np.mean([one.area for one in near]))
    # Pixels are added so that the few of an object's tip do not count as a leap.
    return min(abs(math.log2((result.area + 16) / (expected + 16))), 4.0)

"""Where the walks from two prompted slices meet: what lies between them is seen from either side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.results import ObjectResult, PackedResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Meeting", "disagree", "meet"]

_TRUST = 4
"""The power of a mask's confidence that weighs it: a walk that begins at an object's tip goes astray and knows it."""
_BEYOND = -6.0
"""The logit that is taken for a mask beyond its stored rim."""


def disagree(one: ObjectResult, other: ObjectResult) -> float:
    """1 − Dice of two masks of a slice: 0 where they are the same, or both empty."""
    total = one.area + other.area
    return 1 - 2 * int(np.count_nonzero(one.mask & other.mask)) / total if total else 0.0


def meet(one: ObjectResult, other: ObjectResult, share: float) -> ObjectResult:
    """Make one mask of what walks from two prompted slices found between them.

    Parameters
    ----------
    one, other : ObjectResult
        Of the same object and slice.
    share : float
        In (0, 1): how near the slice is to where ``one`` comes from; 1 beside it.

    Returns
    -------
    ObjectResult
        The mean of both logits, weighted by nearness and by confidence. An object that only one of them found is
        there, as it is before and behind.
    """
    apart = disagree(one, other)
    if not one.area or not other.area:
        return replace(one if one.area or (not other.area and share >= 0.5) else other, disagreement=apart)
    first, second = share * one.confidence**_TRUST, (1 - share) * other.confidence**_TRUST
    weight = first / (first + second) if first + second > 0 else share
    top, left = min(one.top, other.top), min(one.left, other.left)
    bottom = max(o.top + o.logits.shape[0] for o in (one, other))
    right = max(o.left + o.logits.shape[1] for o in (one, other))
    logits = np.zeros((bottom - top, right - left), np.float32)
    for result, part in ((one, weight), (other, 1 - weight)):
        piece = np.full(logits.shape, _BEYOND, np.float32)
        h, w = result.logits.shape
        piece[result.top - top : result.top - top + h, result.left - left : result.left - left + w] = result.logits / 8
        logits += part * piece
    lead = one if weight >= 0.5 else other
    score = weight * one.object_score + (1 - weight) * other.object_score
    found = ObjectResult.from_logits(
        one.label, one.index, one.shape, (top, left, logits), 1.0, max(score, 0.5), "propagated", lead.view
    )
    confidence = weight * one.confidence + (1 - weight) * other.confidence if found.area else 0.0
    return replace(found, confidence=confidence, read=lead.read, disagreement=apart)


class Meeting:
    """What walks found between prompted slices, until those from the other side get there.

    Parameters
    ----------
    previous : mapping
        ``(label, slice)`` to what was known before: the word of walks that are not done again, or that ended as
        nothing had changed.
    """

    def __init__(self, previous: Mapping[tuple[int, int], PackedResult]) -> None:
        self.seen: set[tuple[int, int]] = set()
        self._previous = previous
        self._found: dict[tuple[int, int], PackedResult] = {}
        self._ended: set[tuple[int, int]] = set()

    def note(self, result: ObjectResult) -> None:
        """Keep what the first walk found."""
        key = result.label, result.index
        self.seen.add(key)
        self._found[key] = PackedResult.of(result)

    def end(self, places: Iterable[tuple[int, int]]) -> None:
        """Keep where the first walk would have gone had the object not ended for it."""
        self._ended.update(places)

    def join(self, result: ObjectResult, share: float) -> ObjectResult:
        """Take a walk's mask together with that from the other side; ``share`` is how near its own is."""
        key = result.label, result.index
        self.seen.add(key)
        other = self._found.pop(key, None)
        if other is None and key in self._ended:
            return replace(result, disagreement=1.0 if result.area else 0.0)
        other = other or self._known(key)
        return result if other is None else meet(result, other.unpack(), share)

    def settle(self, label: int, index: int, share: float) -> ObjectResult | None:
        """What stands where a walk would have gone had anything changed; None where that stands already."""
        key = label, index
        self.seen.add(key)
        first, second = self._found.pop(key, None), self._known(key)
        return None if first is None or second is None else meet(second.unpack(), first.unpack(), share)

    def _known(self, key: tuple[int, int]) -> PackedResult | None:
        packed = self._previous.get(key)
        return packed if packed is not None and packed.bare.source == "propagated" else None

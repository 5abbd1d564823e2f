"""Who has a pixel that several objects claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medsam2._compose import changed_window
from napari_medsam2.overlap import share_out
from napari_medsam2.results import ObjectResult, Results

if TYPE_CHECKING:
    from napari_medsam2.results import Source

_SHAPE = (40, 60)


def _disc(y: float, x: float, radius: float) -> np.ndarray:
    """Logits that fall from the middle, 0 at the edge."""
    rows, columns = np.ogrid[: _SHAPE[0], : _SHAPE[1]]
    return np.asarray(radius - np.hypot(rows - y, columns - x))


def _put(results: Results, label: int, logits: np.ndarray, source: Source, confidence: float = 0.9) -> np.ndarray:
    results.put(ObjectResult.from_logits(label, 0, _SHAPE, (0, 0, logits), confidence, 1.0, source, None))
    return logits > 0


def _labels(results: Results) -> np.ndarray:
    return results.compose(0, _SHAPE, np.dtype(np.uint16))


def test_of_prompted_masks_the_higher_logit_has_the_pixel() -> None:
    results = Results()
    one, two = _disc(20, 20, 15), _disc(20, 38, 12)
    _put(results, 1, one, "prompt", 0.95)
    _put(results, 2, two, "prompt", 0.6)
    labels = _labels(results)
    # Logits are kept in eighths.
    certain = (np.abs(one - two) > 0.25) & (np.maximum(one, two) > 0)
    np.testing.assert_array_equal(labels[certain], np.where(one > two, 1, 2)[certain])
    assert not labels[np.maximum(one, two) < 0].any()


def test_of_carried_masks_the_more_confident_has_all_its_pixels() -> None:
    results = Results()
    one = _put(results, 1, 3 * _disc(20, 20, 15), "propagated", 0.6)
    two = _put(results, 2, _disc(20, 38, 12), "propagated", 0.8)
    labels = _labels(results)
    np.testing.assert_array_equal(labels == 2, two)
    np.testing.assert_array_equal(labels == 1, one & ~two)


def test_a_drawn_mask_lies_over_a_prompted_one_and_that_over_a_carried_one() -> None:
    results = Results()
    carried = _put(results, 1, 5 * _disc(20, 20, 12), "propagated", 0.99)
    prompted = _put(results, 2, 0.2 * _disc(20, 30, 12), "prompt", 0.3)
    labels = _labels(results)
    np.testing.assert_array_equal(labels == 2, prompted)
    np.testing.assert_array_equal(labels == 1, carried & ~prompted)
    drawn = np.zeros(_SHAPE, bool)
    drawn[14:26, 18:40] = True
    results.put(ObjectResult.from_mask(3, 0, drawn))
    np.testing.assert_array_equal(_labels(results) == 3, drawn)


@pytest.mark.parametrize("source", ["propagated", "prompt"])
def test_of_equals_the_more_confident_has_the_pixel_and_then_the_first(source: Source) -> None:
    results = Results()
    logits = np.full(_SHAPE, 4.0)
    for confidence, winner in ((0.8, 2), (0.5, 1), (0.6, 1)):
        _put(results, 1, logits, source, 0.6)
        _put(results, 2, logits, source, confidence)
        assert (_labels(results) == winner).all()


@pytest.mark.parametrize("outer", ["propagated", "prompt", "mask"])
def test_what_lies_in_a_much_larger_object_is_not_hidden(outer: Source) -> None:
    """A nucleolus in a nucleus in a cell, all claimed by the cell with the greatest certainty."""
    results = Results()
    cell = _disc(20, 30, 19) > 0
    if outer == "mask":
        results.put(ObjectResult.from_mask(1, 0, cell))
    else:
        _put(results, 1, 6 * _disc(20, 30, 19), outer, 0.99)
    nucleus = _put(results, 2, 0.3 * _disc(20, 30, 8), "propagated", 0.4)
    nucleolus = _put(results, 3, 0.3 * _disc(20, 30, 3), "propagated", 0.3)
    labels = _labels(results)
    np.testing.assert_array_equal(labels == 3, nucleolus)
    np.testing.assert_array_equal(labels == 2, nucleus & ~nucleolus)
    np.testing.assert_array_equal(labels == 1, cell & ~nucleus)


def test_what_is_as_large_or_mostly_elsewhere_is_not_lifted() -> None:
    results = Results()
    large = _put(results, 1, _disc(20, 24, 15), "propagated", 0.9)
    # The same thing found once more, a little smaller; and a small one that sticks out by half.
    _put(results, 2, _disc(20, 24, 11), "propagated", 0.5)
    small = _put(results, 3, _disc(20, 38.5, 5), "propagated", 0.5)
    labels = _labels(results)
    np.testing.assert_array_equal(labels == 1, large)
    np.testing.assert_array_equal(labels == 3, small & ~large)
    assert (small & large).sum() < 0.7 * small.sum()


def test_a_lifted_object_lies_over_its_holder_only() -> None:
    """What a person drew stays where something small in another object would spill over it."""
    results = Results()
    holder = _put(results, 1, _disc(20, 24, 18), "propagated", 0.9)
    small = _put(results, 2, _disc(20, 38, 5), "propagated", 0.5)
    assert (small & holder).sum() > 0.7 * small.sum()
    drawn = np.zeros(_SHAPE, bool)
    drawn[:, 41:] = True
    results.put(ObjectResult.from_mask(3, 0, drawn))
    labels = _labels(results)
    np.testing.assert_array_equal(labels == 3, drawn)
    np.testing.assert_array_equal(labels == 2, small & ~drawn)


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 2, st.integers(1, 20), st.sampled_from(["propagated", "prompt"]))))
def test_every_pixel_that_is_claimed_is_given_to_one_that_claims_it(discs: list[tuple[int, int, int, Source]]) -> None:
    results = Results()
    masks = {
        label: _put(results, label, _disc(y, x, radius), source, 1 / label)
        for label, (y, x, radius, source) in enumerate(discs, 1)
    }
    labels = _labels(results)
    np.testing.assert_array_equal(labels > 0, np.any([np.zeros(_SHAPE, bool), *masks.values()], axis=0))
    for label, mask in masks.items():
        assert mask[labels == label].all()


@pytest.mark.parametrize("seed", range(8))
def test_what_lies_in_what_is_found_as_by_asking_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    results = Results()
    for label in range(1, 26):
        y, x, radius = rng.uniform(0, 40), rng.uniform(0, 60), rng.choice([2, 3, 5, 9, 18, 25])
        _put(results, label, _disc(y, x, radius), rng.choice(["propagated", "prompt", "mask"]), float(rng.random()))
    results.put(ObjectResult.from_mask(30, 0, np.zeros(_SHAPE, bool)))
    here = list(results.on(0))

    logits = np.full((len(here), *_SHAPE), -1.0, np.float32)
    for own, one in zip(logits, here, strict=True):
        own[one.top : one.top + one.logits.shape[0], one.left : one.left + one.logits.shape[1]] = one.logits
    everywhere = slice(None), slice(None)
    labels = share_out(here, _SHAPE, lambda place: (everywhere, logits[place]))
    np.testing.assert_array_equal(labels, _by_pairs(here, logits))


def _by_pairs(results: list[ObjectResult], logits: np.ndarray) -> np.ndarray:
    """The rules pixel by pixel and pair by pair."""
    masks, rank = logits > 0, {"propagated": 0, "prompt": 1, "mask": 2}
    out = np.zeros(_SHAPE, int)

    def order(place: int, y: int, x: int) -> tuple[float, ...]:
        one = results[place]
        own = one.confidence if one.source == "propagated" else 0.0
        return rank[one.source], own, float(logits[place, y, x]), one.confidence, -place

    for y, x in np.argwhere(masks.any(0)).tolist():
        claims = [place for place, mask in enumerate(masks) if mask[y, x]]
        out[y, x] = max(claims, key=lambda place: order(place, y, x)) + 1
    for place in sorted(range(len(results)), key=lambda place: (-results[place].area, place)):
        area = results[place].area
        holders = [
            other + 1
            for other, mask in enumerate(masks)
            if area and area <= 0.2 * results[other].area and (mask & masks[place]).sum() >= 0.7 * area
        ]
        out[masks[place] & np.isin(out, holders)] = place + 1
    return out


def test_a_thousand_objects_apart_are_not_asked_for_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results()
    for label in range(1, 1025):
        mask = np.zeros((512, 512), bool)
        y, x = divmod(label - 1, 32)
        size = 10 if label % 2 else 3
        mask[y * 16 : y * 16 + size, x * 16 : x * 16 + size] = True
        results.put(ObjectResult.from_mask(label, 0, mask))
    speck = np.zeros((512, 512), bool)
    speck[2:4, 2:4] = True
    results.put(ObjectResult.from_mask(2000, 0, speck))
    asked = []
    original = ObjectResult.shares

    def watched(self: ObjectResult, other: ObjectResult) -> int:
        asked.append((self.label, other.label))
        return original(self, other)

    monkeypatch.setattr(ObjectResult, "shares", watched)
    labels = results.compose(0, (512, 512), np.dtype(np.uint16))
    np.testing.assert_array_equal(labels == 2000, speck)
    assert len(np.unique(labels)) == 1026
    assert asked == [(2000, 1)]


@st.composite
def _many(draw: st.DrawFn) -> tuple[list[ObjectResult], ObjectResult | None, int]:
    """Some objects, one that takes the place of one of them or comes to them, or None, and which."""
    number = draw(st.integers(0, 6))

    def one(label: int) -> ObjectResult:
        y, x, radius = draw(st.integers(0, 39)), draw(st.integers(0, 59)), draw(st.sampled_from([0.5, 3, 5, 9, 14, 25]))
        confidence, source = (
            draw(st.sampled_from([0.3, 0.6, 0.9])),
            draw(st.sampled_from(["prompt", "propagated", "mask"])),
        )
        logits = draw(st.sampled_from([0.3, 1.0, 4.0])) * _disc(y, x, radius)
        if source == "mask":
            return ObjectResult.from_mask(label, 0, logits > 0)
        return ObjectResult.from_logits(label, 0, _SHAPE, (0, 0, logits), confidence, 1.0, source, None)  # type: ignore[arg-type]

    which = draw(st.integers(1, number + 1))
    return [one(label) for label in range(1, number + 1)], draw(st.none() | st.builds(one, st.just(which))), which


@given(
    given_objects=_many(),
    corner=st.tuples(st.integers(0, 39), st.integers(0, 59)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 60)),
)
def test_a_window_is_drawn_as_it_is_in_the_whole(
    given_objects: tuple[list[ObjectResult], ObjectResult | None, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """And where an object changes, what is drawn anew is all that looks different."""
    objects, new, which = given_objects
    results = Results()
    for one in objects:
        results.put(one)
    before, held = _labels(results), results.held(0)
    # As it was done before there were windows: all objects, each on a canvas of the slice's size.
    listed = list(results.on(0))
    numbers = share_out(listed, _SHAPE, lambda place: _whole(listed[place]))
    np.testing.assert_array_equal(before, np.array([0, *(one.label for one in listed)])[numbers])
    window = slice(corner[0], min(corner[0] + size[0], 40)), slice(corner[1], min(corner[1] + size[1], 60))
    np.testing.assert_array_equal(results.compose(0, _SHAPE, np.dtype(np.uint16), window), before[window])

    results.discard(which, 0)
    if new is not None:
        results.put(new)
    part = changed_window(held, results.held(0))
    if part is not None:
        before[part] = results.compose(0, _SHAPE, np.dtype(np.uint16), part)
    np.testing.assert_array_equal(before, _labels(results))
    assert changed_window(held, held) is None


def _whole(one: ObjectResult) -> tuple[tuple[slice, slice], np.ndarray]:
    logits = np.zeros(_SHAPE, np.float32)
    logits[one.top : one.top + one.logits.shape[0], one.left : one.left + one.logits.shape[1]] = one.logits
    return (slice(0, _SHAPE[0]), slice(0, _SHAPE[1])), logits

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.dummy import DummyBackend, stack_of_squares

from napari_medsam2 import AnnotationSession, ImageStack, InputError, ObjectResult
from napari_medsam2.replay import replay

BOX = (2.5, 2.5, 10.5, 11.5)


def disc(radius: float, shift: int = 0) -> np.ndarray:
    y, x = np.ogrid[:40, :40]
    return np.asarray((y - 20) ** 2 + (x - 20 - shift) ** 2 <= radius**2)


def drawn(masks: list[np.ndarray], confidences: list[float] | None = None) -> AnnotationSession:
    """A session whose propagated masks are given."""
    stack = ImageStack(np.zeros((len(masks), 40, 40), np.uint8), "ZYX", window=(0, 255))
    session = AnnotationSession(stack, backend=DummyBackend())
    session.add_object()
    for index, mask in enumerate(masks):
        result = replace(ObjectResult.from_mask(1, index, mask), source="propagated", object_score=0.9)
        session.results.put(replace(result, confidence=0.9 if confidences is None else confidences[index]))
    return session


def test_little_confidence_comes_first() -> None:
    session = drawn([disc(10)] * 5, [0.9, 0.8, 0.3, 0.95, 0.7])
    assert [item.index for item in session.review()] == [2, 4, 1, 0, 3]
    item = session.review()[0]
    assert (item.label, item.confidence, item.object_score) == (1, 0.3, 0.9)


def test_a_mask_unlike_its_neighbours_comes_first_however_sure_the_model_is() -> None:
    masks = [disc(10) for _ in range(9)]
    masks[4] = disc(10, shift=12)
    session = drawn(masks)
    items = session.review()
    assert items[0].index == 4
    assert {items[1].index, items[2].index} == {3, 5}
    expected = 1 - 2 * (masks[4] & masks[3]).sum() / (masks[4].sum() + masks[3].sum())
    assert items[0].drift == pytest.approx(expected)
    masks[4] = disc(15)
    items = drawn(masks).review()
    assert items[0].index == 4
    assert items[0].jump == pytest.approx(np.log2((masks[4].sum() + 16) / (masks[3].sum() + 16)))
    masks[4] = np.zeros((40, 40), bool)
    items = drawn(masks).review()
    assert (items[0].index, items[0].drift) == (4, 1)


def test_doubt_comes_before_what_is_unlike_its_neighbours_and_decides_where_nothing_is_doubted() -> None:
    radii = [8, 9, 10, 10, 10, 10, 10, 9, 8]
    masks = [disc(r) for r in radii]
    masks[4] = disc(10, shift=12)
    doubted = drawn(masks, [0.9] * 7 + [0.7, 0.9])
    assert [item.index for item in doubted.review()][:2] == [7, 4]
    # As labels are that were made elsewhere: an object's tips are no errors, a mask that lies aside is one.
    assert next(iter(drawn(masks, [1.0] * 9).review())).index == 4


def test_where_a_mask_was_rejected_it_can_be_accepted_that_there_is_none() -> None:
    session = drawn([disc(10)] * 6)
    session.reject(1, 4)
    session.accept(1, 4)
    found = session.results.get(1, 4)
    assert found is not None
    assert not found.area
    assert session.marks == {(1, 4): "accepted"}
    assert 4 not in [item.index for item in session.review()]
    # The masks that these tests put there are of no step; this one is.
    assert 4 not in [difference.index for difference in replay(session)]
    session.undo()
    assert session.results.get(1, 4) is None
    assert session.marks == {(1, 4): "rejected"}
    with pytest.raises(InputError, match="has no mask on slice 4"):
        session.skip(1, 4)


def test_two_sides_that_disagree_come_before_two_that_agree() -> None:
    session = drawn([disc(10)] * 5)
    for index, apart in ((1, 0.1), (3, 0.6)):
        result = session.results.get(1, index)
        assert result is not None
        session.results.put(replace(result, disagreement=apart))
    items = session.review()
    assert [item.index for item in items[:2]] == [3, 1]
    assert [item.disagreement for item in items[:3]] == [0.6, 0.1, None]


def test_verdicts_order_the_review_and_are_undone() -> None:
    session = drawn([disc(10)] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    session.accept(1, 0)
    session.skip(1, 1)
    session.reject(1, 4)
    assert [item.index for item in session.review()] == [2, 3, 5, 4, 1]
    assert session.results.get(1, 4) is None
    assert session.marks == {(1, 0): "accepted", (1, 1): "skipped", (1, 4): "rejected"}
    assert [s.name for s in session.history[1:]] == ["accept slice 0", "skip slice 1", "reject slice 4"]
    session.undo()
    assert session.results.get(1, 4) is not None
    session.unmark(1, 0)
    assert session.review()[0].index == 0
    with pytest.raises(InputError, match="object 1 has no mask on slice 40"):
        session.accept(1, 40)
    with pytest.raises(InputError, match="object 3 has no mask"):
        session.reject(3, 0)


def test_prompted_masks_are_not_reviewed_and_labels_are_chosen() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object(), session.add_object()
    session.add_box(1, 4, BOX)
    session.add_box(2, 3, (12.5, 11.5, 21.5, 20.5))
    reached = {(o.label, r.index) for r in session.propagate() for o in r.objects}
    assert {(i.label, i.index) for i in session.review()} == reached
    assert {i.label for i in session.review(labels=[2])} == {2}
    risks = [item.risk for item in session.review()]
    assert risks == sorted(risks, reverse=True)


def test_pictures_of_a_collection_are_no_neighbours() -> None:
    stack = ImageStack(np.zeros((3, 40, 40), np.uint8), "NYX", window=(0, 255))
    session = AnnotationSession(stack, backend=DummyBackend())
    session.add_object()
    for index, mask in enumerate([disc(10), disc(5), disc(12)]):
        session.results.put(replace(ObjectResult.from_mask(1, index, mask), source="propagated", confidence=0.5))
    assert [item.drift for item in session.review()] == [0, 0, 0]


def test_accepted_masks_are_never_overwritten_and_lead_on() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 2, BOX)
    for _ in session.propagate():
        pass
    kept = session.results.get(1, 5)
    assert kept is not None
    session.accept(1, 5)
    session.add_points(1, 2, [(6, 6), (9, 9)], [1, 0])
    for walk in (session.propagate(), session.repropagate(), session.propagate(direction="forward")):
        assert 5 not in {r.index for r in walk}
        after = session.results.get(1, 5)
        assert after is not None
        np.testing.assert_array_equal(after.logits, kept.logits)
    # What is carried on from there is the accepted mask: nothing of the object is where it has none.
    plan = session.plan()
    assert set(plan.kept[1]) == {5}
    late = ObjectResult.from_mask(1, 5, np.ones((24, 24), bool))
    session.apply(type(next(iter(AnnotationSession.propagate(session))))(5, (late,)))
    np.testing.assert_array_equal(session.results.get(1, 5).mask, kept.mask)  # type: ignore[union-attr]
    session.add_box(1, 5, BOX)
    assert (1, 5) not in session.marks


def test_a_verdict_lasts_until_the_mask_changes() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 4, BOX)
    for _ in session.propagate():
        pass
    session.skip(1, 5)
    session.reject(1, 6)
    for _ in session.propagate():
        pass
    assert session.marks == {}
    assert session.results.get(1, 6) is not None

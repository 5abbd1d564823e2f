from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.dummy import DummyBackend

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def long_stack(count: int = 40) -> ImageStack:
    """One bright square on every slice, and beside it a second one that touches it from slice 20 to 25."""
    image = np.full((count, 24, 24), 20, np.uint8)
    image[:, 4:12, 4:12] = 200
    image[20:26, 4:12, 12:20] = 200
    return ImageStack(image, "ZYX", window=(0, 255))


def first_pass() -> AnnotationSession:
    session = AnnotationSession(long_stack(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 5, (3.5, 3.5, 11.5, 11.5))
    for _ in session.propagate():
        pass
    return session


def masks(session: AnnotationSession) -> Mapping[int, np.ndarray]:
    return {i: session.slice_labels(i) == 1 for i in session.results.indices()}


def correct(session: AnnotationSession, index: int = 22) -> None:
    square = np.zeros((24, 24), bool)
    square[4:12, 4:12] = True
    session.add_mask(1, index, square)


def test_a_correction_is_carried_on_only_as_far_as_masks_change() -> None:
    session, full = first_pass(), first_pass()
    for one in (session, full):
        correct(one)
    before = masks(session)
    reached = [r.index for r in session.repropagate()]
    everything = [r.index for r in full.propagate()]
    assert len(set(everything)) == 38
    assert len(everything) == 38 + 16, "what lies between the prompted slices is reached from either"
    assert 21 in reached
    assert 23 in reached
    assert len(reached) < 20
    for index in set(before) - set(reached) - {22}:
        np.testing.assert_array_equal(session.slice_labels(index) == 1, before[index])
    for index in range(40):
        a, b = session.slice_labels(index) == 1, full.slice_labels(index) == 1
        assert 2 * (a & b).sum() / max((a.sum() + b.sum()), 1) > 0.9
    # From the corrected slice on, until it settles, it is what a full pass gives.
    for index in (21, 23):
        np.testing.assert_array_equal(
            session.results.get(1, index).logits,  # type: ignore[union-attr]
            full.results.get(1, index).logits,  # type: ignore[union-attr]
        )


def test_a_walk_goes_on_while_masks_change() -> None:
    """It would have to settle for longer than the stack is: it goes all the way, also behind the first prompt."""
    session = first_pass()
    correct(session)
    assert len(list(session.repropagate(settle=100))) == 16 + 16 + 17 + 5


def test_a_tip_that_carries_nothing_takes_nothing_away() -> None:
    """The walk from a prompt of one pixel ends at once; what was there between the two prompts stays."""
    session = first_pass()
    before = masks(session)
    tip = np.zeros((24, 24), bool)
    tip[22, 22] = True
    session.add_mask(1, 15, tip)
    for _ in session.repropagate():
        pass
    after = masks(session)
    for index in range(6, 15):
        a, b = before[index], after[index]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9, index


def test_a_walk_that_ends_takes_nothing_from_one_that_is_not_done_again() -> None:
    """From slice 11 masks are carried back towards 1 again, from 1 they are not: 2 and 3 are the latter's."""
    image = np.full((24, 24, 24), 20, np.uint8)
    image[:, 4:12, 4:12] = 200
    image[4:7] = 20
    session = AnnotationSession(ImageStack(image, "ZYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    for index in (1, 11):
        session.add_box(1, index, (3.5, 3.5, 11.5, 11.5))
    for _ in session.propagate():
        pass
    before = masks(session)
    correct(session, 20)
    reached = {r.index for r in session.repropagate(settle=100)}
    assert 5 in reached
    assert not {2, 3} & reached
    for index in (2, 3):
        assert before[index].any()
        np.testing.assert_array_equal(session.slice_labels(index) == 1, before[index])


def test_a_neighbouring_prompt_is_carried_on_again_the_other_way_too() -> None:
    """Between two prompts beside each other there is no slice; the memory of the new one counts behind the old one."""
    session = first_pass()
    correct(session, 4)
    reached = {r.index for r in session.repropagate()}
    assert {3, 6, 7} <= reached


def test_where_nothing_was_changed_nothing_is_done() -> None:
    session = first_pass()
    assert list(session.repropagate()) == []
    session.repropagate().close()  # type: ignore[attr-defined]
    correct(session)
    assert list(session.repropagate())
    assert list(session.repropagate()) == []
    session.undo()
    assert list(session.repropagate())


def test_a_cancelled_one_is_still_to_be_done() -> None:
    session = first_pass()
    correct(session)
    walk = session.repropagate()
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert list(session.repropagate())


def test_what_was_prompted_meanwhile_is_still_to_be_done() -> None:
    session = first_pass()
    correct(session)
    walk = session.repropagate()
    next(walk)
    correct(session, 30)
    for _ in walk:
        pass
    assert 31 in [r.index for r in session.repropagate()]


def test_taking_a_correction_back_takes_back_what_came_of_it() -> None:
    session = first_pass()
    before = masks(session)
    wrong = np.zeros((24, 24), bool)
    wrong[4:8, 4:8] = True
    session.add_mask(1, 22, wrong)
    for _ in session.repropagate():
        pass
    assert (masks(session)[23] != before[23]).any()
    session.clear_prompts(1, 22)
    reached = [r.index for r in session.repropagate()]
    assert 22 in reached
    for index, mask in masks(session).items():
        np.testing.assert_array_equal(mask, before[index])


@pytest.mark.parametrize("limits", [{}, {"direction": "forward"}], ids=["both", "forward"])
def test_what_was_carried_on_within_a_range_is_carried_on_beyond_it(limits: dict[str, Any]) -> None:
    """That masks within the range stay as they are, being the correction's already, says nothing of those beyond."""
    image = np.full((40, 24, 24), 20, np.uint8)
    image[:, 2:10, 2:10] = image[:, 13:21, 13:21] = 200
    session = AnnotationSession(ImageStack(image, "ZYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 20, (1.5, 1.5, 9.5, 9.5))
    for _ in session.propagate():
        pass
    other = np.zeros((24, 24), bool)
    other[13:21, 13:21] = True
    session.add_mask(1, 24, other)
    full = session.frozen()
    for _ in full.propagate():
        pass
    for _ in session.propagate(start=18, stop=30, **limits):
        pass
    assert not session.slice_labels(30)[13:21, 13:21].any()
    assert (1, 24) in session.pending
    for _ in session.repropagate():
        pass
    assert session.slice_labels(30)[13:21, 13:21].any()
    assert not session.pending
    for index in range(40):
        np.testing.assert_array_equal(session.slice_labels(index), full.slice_labels(index))


def test_where_masks_end_with_the_range_nothing_is_left_to_be_carried_on() -> None:
    session = AnnotationSession(long_stack(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 5, (3.5, 3.5, 11.5, 11.5))
    for _ in session.propagate(start=2, stop=12):
        pass
    assert not session.pending
    assert list(session.repropagate()) == []


@pytest.mark.parametrize("again", [False, True], ids=["propagate", "repropagate"])
def test_with_the_only_prompt_of_a_time_point_goes_what_came_of_it(again: bool) -> None:
    image = np.stack([long_stack(6).raw(0)] * 12).reshape(2, 6, 24, 24)
    session = AnnotationSession(ImageStack(image, "TZYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    for index in (2, 8):
        session.add_box(1, index, (3.5, 3.5, 11.5, 11.5))
    for _ in session.propagate():
        pass
    before = masks(session)
    assert sorted(before) == list(range(12))
    session.accept(1, 11)
    session.clear_prompts(1, 8)
    for _ in session.repropagate() if again else session.propagate():
        pass
    assert session.results.indices(1) == [*range(6), 11], "what was accepted stays"
    assert not session.pending
    session.undo()
    assert session.results.indices(1) == [i for i in range(12) if i != 8]


def test_the_first_propagation_may_be_one_too() -> None:
    session = AnnotationSession(long_stack(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 5, (3.5, 3.5, 11.5, 11.5))
    other = first_pass()
    for _ in session.repropagate():
        pass
    assert session.results.indices() == other.results.indices()


def test_a_correction_is_one_step_and_pinned() -> None:
    session = first_pass()
    correct(session)
    assert session.plan().seeds[1][22].corrected
    before = masks(session)
    for _ in session.repropagate():
        pass
    assert session.undo() == "propagate corrections"
    for index, mask in masks(session).items():
        np.testing.assert_array_equal(mask, before[index])


def test_images_of_a_collection_are_all_computed_again() -> None:
    image = long_stack(6).raw(0)
    session = AnnotationSession(ImageStack(np.stack([image] * 6), "NYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    correct(session, 2)
    assert [r.index for r in session.repropagate()] == [0, 1, 3, 4, 5]
    assert list(session.repropagate()) == []


def test_numbers_that_make_no_sense_are_refused() -> None:
    session = first_pass()
    for bad in (0, 1.5, -1):
        with pytest.raises(InputError, match="agreement must be an IoU"):
            session.repropagate(agreement=bad)
    with pytest.raises(InputError, match="settle must be 1 slice"):
        session.repropagate(settle=0)
    with pytest.raises(InputError, match="no object 9"):
        session.repropagate([9])


def two_ways(count: int = 40) -> AnnotationSession:
    """Two bright squares on every slice; the left one was carried through all, and then the right one was painted."""
    image = np.full((count, 24, 24), 20, np.uint8)
    image[:, 2:10, 2:10] = image[:, 13:21, 13:21] = 200
    session = AnnotationSession(ImageStack(image, "ZYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 10, (1.5, 1.5, 9.5, 9.5))
    for _ in session.propagate():
        pass
    paint_right(session, 20)
    return session


def paint_right(session: AnnotationSession, index: int) -> None:
    other = np.zeros((24, 24), bool)
    other[13:21, 13:21] = True
    session.add_mask(1, index, other)


def stop_after(walk: Any, count: int) -> None:
    for _ in range(count):
        next(walk)
    walk.close()


@pytest.mark.parametrize("how", ["propagate", "repropagate", "reopened", "undone", "prompted", "rejected", "twice"])
def test_one_that_was_stopped_is_carried_on_to_its_end(how: str, tmp_path: Path) -> None:
    """What the stopped one left agrees with what is computed again, which says nothing of the masks behind it."""
    session = two_ways()
    if how == "propagate":
        stop_after(session.propagate(), 20)
    else:
        stop_after(session.repropagate(), 20)
    assert session.slice_labels(24)[13:21, 13:21].any()
    assert not session.slice_labels(39)[13:21, 13:21].any()
    if how == "undone":
        session.undo()
        assert not session.slice_labels(24)[13:21, 13:21].any()
        session.redo()
    elif how == "prompted":
        paint_right(session, 21)
    elif how == "rejected":
        session.reject(1, 21)
    elif how == "twice":
        stop_after(session.repropagate(), 10)
    elif how == "reopened":
        session.save_as(tmp_path / "s")
        stop_after(session.repropagate(), 10)
        # What lies on the disk when a program is killed.
        shutil.copytree(tmp_path / "s", tmp_path / "killed", ignore=shutil.ignore_patterns("*lock*"))
        session = AnnotationSession.open(tmp_path / "killed", backend=DummyBackend(), stack=session.stack)
    for _ in session.repropagate():
        pass
    full = session.frozen()
    for _ in full.propagate():
        pass
    for index in range(40):
        np.testing.assert_array_equal(session.slice_labels(index), full.slice_labels(index))
    assert not session.pending
    session.undo()
    assert not session.slice_labels(39)[13:21, 13:21].any()
    assert list(session.repropagate()), "what was taken back is still to be done"


def test_a_propagation_is_unfinished_until_it_is_carried_on_or_corrected() -> None:
    session = two_ways()
    for _ in session.repropagate():
        pass
    assert not session.unfinished(1)
    stop_after(session.propagate(), 20)
    assert session.unfinished(1)
    for _ in session.repropagate():
        pass
    assert not session.unfinished(1)
    stop_after(session.propagate(), 20)
    paint_right(session, 21)
    assert not session.unfinished(1), "a correction has more to say than that"


def test_a_correction_reaches_its_end_where_one_within_a_range_was_stopped() -> None:
    """The first slice of the range is its rim, too: that more is to be done there outlives the range's end."""
    session = two_ways()
    for _ in session.propagate(start=22, stop=30):
        pass
    assert {22, 29} <= {index for _, index in session.pending}
    stop_after(session.propagate(start=22, stop=35), 10)
    for _ in session.repropagate():
        pass
    assert session.slice_labels(39)[13:21, 13:21].any()
    assert not session.pending


def test_with_an_object_s_last_prompt_goes_what_was_carried_from_it() -> None:
    """Shift+G said that nothing was corrected, though all masks came of a prompt that was no longer there."""
    session = first_pass()
    other = session.add_object()
    session.add_box(other, 22, (3.5, 11.5, 11.5, 19.5))
    for _ in session.propagate([other]):
        pass
    theirs = session.results.indices(other)
    session.accept(1, 9)
    session.clear_prompts(1, 5)
    assert session.orphaned(1)
    assert list(session.repropagate()) == []
    assert session.results.indices(1) == [9], "what was accepted stays"
    assert session.results.indices(other) == theirs
    assert not session.pending
    assert not session.orphaned(1)
    assert list(session.repropagate()) == []
    assert session.undo() == "propagate corrections"
    assert len(session.results.indices(1)) > 30
    session.add_box(1, 5, (3.5, 3.5, 11.5, 11.5))
    assert list(session.repropagate())
    assert len(session.results.indices(1)) > 30


def test_it_goes_beside_a_correction_of_another_object() -> None:
    session = first_pass()
    other = session.add_object()
    session.add_box(other, 22, (3.5, 11.5, 11.5, 19.5))
    session.clear_prompts(1, 5)
    assert {r.objects[0].label for r in session.repropagate()} == {other}
    assert session.results.indices(1) == []
    assert not session.pending


def test_masks_that_came_of_no_prompt_stay_where_one_is_erased() -> None:
    """As those that were taken over and filled in between."""
    session = AnnotationSession(long_stack(), backend=DummyBackend())
    label = session.add_object()
    for index in (3, 4, 5, 6):
        mask = ObjectResult.from_mask(label, index, long_stack().raw(0) > 100)
        session.edit("filled in", [replace(mask, source="propagated")])
    session.paint(4, {label: np.zeros((24, 24), bool)})
    assert list(session.repropagate()) == []
    assert session.results.indices(label) == [3, 4, 5, 6]
    assert not session.orphaned(label)


def test_in_a_collection_it_goes_from_all_images() -> None:
    image = long_stack(6).raw(0)
    session = AnnotationSession(ImageStack(np.stack([image] * 6), "NYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    session.add_object()
    for label, index in ((1, 2), (2, 3)):
        session.add_box(label, index, (3.5, 3.5, 11.5, 11.5))
    for _ in session.propagate():
        pass
    session.clear_prompts(1, 2)
    session.add_points(2, 3, [(6, 6)], [1])
    assert {o.label for r in session.repropagate() for o in r.objects} == {2}
    assert session.results.indices(1) == []

"""What a program with a window needs: questions that are answered elsewhere, painting, and wishes for the bank."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.dummy import DummyBackend, squares
from tests.test_correction import first_pass, long_stack

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.prompts import SlicePrompt
from napari_medsam2.propagation import run

if TYPE_CHECKING:
    from pathlib import Path

BOX = (3.5, 3.5, 11.5, 11.5)


def square(top: int = 4, left: int = 4, side: int = 8) -> np.ndarray:
    out = np.zeros((24, 24), bool)
    out[top : top + side, left : left + side] = True
    return out


@pytest.fixture
def session() -> AnnotationSession:
    session = AnnotationSession(long_stack(), backend=DummyBackend())
    session.add_object()
    return session


def test_a_question_answered_in_a_thread_is_what_the_session_would_say(session: AnnotationSession) -> None:
    question = session.ask_box(1, 5, BOX)
    assert session.results.get(1, 5) is None
    assert not session.prompts
    answers = []
    thread = threading.Thread(target=lambda: answers.append(question.answer()))
    thread.start()
    thread.join()
    taken = session.take(answers[0])
    other = AnnotationSession(long_stack(), backend=DummyBackend())
    other.add_object()
    direct = other.add_box(1, 5, BOX)
    assert taken is not None
    np.testing.assert_array_equal(taken.mask, direct.mask)
    assert session.prompts[1, 5].box == BOX
    assert session.undo() == "box on slice 5"


def test_a_late_answer_changes_nothing(session: AnnotationSession) -> None:
    late = session.ask_points(1, 5, [(7, 7)], [1]).answer()
    session.add_box(1, 5, BOX)
    kept = session.slice_labels(5)
    assert session.take(late) is None
    np.testing.assert_array_equal(session.slice_labels(5), kept)
    assert session.prompts[1, 5].box == BOX
    gone = session.ask_box(1, 6, BOX).answer()
    session.remove_object(1)
    assert session.take(gone) is None


def test_an_answer_for_an_object_that_was_removed_is_not_the_next_ones(session: AnnotationSession) -> None:
    late = session.ask_box(1, 5, BOX).answer()
    session.remove_object(1)
    assert session.add_object("another") == 1
    assert session.take(late) is None
    assert not session.prompts
    session.undo()
    session.undo()
    assert session.take(late) is not None


def test_what_cannot_be_asked_is_said_before_the_model_is_asked(session: AnnotationSession) -> None:
    with pytest.raises(InputError, match="outside"):
        session.ask_points(1, 5, [(70, 7)], [1])
    with pytest.raises(InputError, match="first click"):
        session.ask_points(1, 5, [(7, 7)], [0])
    with pytest.raises(InputError, match="no prompt to ask for"):
        session.ask(1, 5, SlicePrompt())


def test_painting_is_one_step_for_all_objects(session: AnnotationSession) -> None:
    session.paint(5, {1: square(), 7: square(14, 14, 6)})
    assert set(session.objects) == {1, 7}
    labels = session.slice_labels(5)
    assert (labels == 1).sum() == 64
    assert (labels == 7).sum() == 36
    assert session.undo() == "paint on slice 5"
    assert set(session.objects) == {1}
    assert not session.slice_labels(5).any()


def test_what_was_erased_stays_away(session: AnnotationSession) -> None:
    session.add_box(1, 5, BOX)
    for _ in session.propagate():
        pass
    assert session.slice_labels(8).any()
    session.paint(8, {1: np.zeros((24, 24), bool)})
    assert not session.slice_labels(8).any()
    for _ in session.repropagate():
        pass
    assert not session.slice_labels(8).any()
    assert session.slice_labels(7).any()
    session.undo()
    session.undo()
    assert session.slice_labels(8).any()


def test_a_mask_that_does_not_fit_changes_nothing(session: AnnotationSession) -> None:
    with pytest.raises(InputError, match="does not fit"):
        session.paint(5, {1: square(), 2: np.ones((3, 3), bool)})
    with pytest.raises(InputError, match="slice 99"):
        session.paint(99, {1: square()})
    assert not session.prompts
    assert set(session.objects) == {1}


def test_a_propagation_in_a_thread_is_what_the_session_does(session: AnnotationSession) -> None:
    session.add_box(1, 5, BOX)
    begun = session.start()
    results, ends = [], []

    def work() -> None:
        walk = run(begun.plan)
        while True:
            try:
                results.append(next(walk))
            except StopIteration as stop:
                ends.append(stop.value)
                return

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for result in results:
        begun.apply(result)
    begun.finish(ends[0])
    other = first_pass()
    for index in range(40):
        np.testing.assert_array_equal(session.slice_labels(index), other.slice_labels(index))
    assert session.start_again() is None
    assert session.undo() == "propagate"
    assert begun.withdrawn()
    begun.apply(results[0])
    assert session.results.indices() == [5]


def test_each_result_says_what_the_bank_held(tmp_path: Path) -> None:
    session = AnnotationSession.create(tmp_path / "s", long_stack(), backend=DummyBackend(), embed=True)
    session.add_object()
    session.add_box(1, 5, BOX)
    for _ in session.propagate():
        pass
    first, later = session.results.get(1, 6), session.results.get(1, 12)
    assert first is not None
    assert later is not None
    assert [(one.index, one.reason) for one in first.read] == [(5, "prompt")]
    assert later.read[0].index == 5
    assert {one.reason for one in later.read[1:]} == {"admitted"}
    assert all(5 < one.index < 12 for one in later.read[1:])
    assert max(one.weight for one in later.read) == 1
    session.close()
    with AnnotationSession.open(tmp_path / "s", backend=DummyBackend()) as again:
        found = again.results.get(1, 12)
        assert found is not None
        assert [(a.index, a.reason) for a in found.read] == [(a.index, a.reason) for a in later.read]


def test_pinned_memories_stay_and_dropped_ones_never_enter(tmp_path: Path) -> None:
    session = AnnotationSession.create(tmp_path / "s", long_stack(), backend=DummyBackend(), embed=True)
    session.add_object()
    session.add_box(1, 5, BOX)
    for _ in session.propagate():
        pass
    kept = session.results.packed(1, 7)
    session.pin_memory(1, 7)
    session.drop_memory(1, 8)
    session.drop_memory(1, 5)
    for _ in session.propagate():
        pass
    assert session.results.packed(1, 7) is kept
    read = session.results.get(1, 30).read  # type: ignore[union-attr]
    assert (7, "pinned") in {(one.index, one.reason) for one in read}
    assert not {5, 8} & {one.index for one in read}
    session.close()
    with AnnotationSession.open(tmp_path / "s", backend=DummyBackend()) as again:
        assert dict(again.pins) == {(1, 7): "pinned", (1, 8): "dropped", (1, 5): "dropped"}
        again.release_memory(1, 8)
        assert (1, 8) not in again.pins
        assert again.undo() == "release memory of slice 8"
        assert again.pins[1, 8] == "dropped"


def test_the_only_memory_cannot_be_lost(session: AnnotationSession) -> None:
    session.add_box(1, 5, BOX)
    session.drop_memory(1, 5)
    assert len(list(session.propagate())) == 39


def test_the_only_memory_of_a_time_point_cannot_be_lost() -> None:
    film = np.stack([squares(4), squares(4)])
    session = AnnotationSession(ImageStack(film, "TZYX", window=(0, 255)), backend=DummyBackend())
    session.add_object()
    for index in (1, 5):
        session.add_mask(1, index, squares(4)[1] > 100)
    session.drop_memory(1, 1)
    assert sorted(result.index for result in session.propagate()) == [0, 2, 3, 4, 6, 7]
    reads = {index: {one.index for one in session.results.get(1, index).read} for index in (2, 6)}  # type: ignore[union-attr]
    assert 1 in reads[2]
    assert 5 in reads[6]


def test_a_wish_needs_a_mask(session: AnnotationSession) -> None:
    with pytest.raises(InputError, match="no mask on slice 3"):
        session.pin_memory(1, 3)
    with pytest.raises(InputError, match="no mask on slice 3"):
        session.drop_memory(1, 3)

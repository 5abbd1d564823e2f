from __future__ import annotations

from dataclasses import replace
from time import process_time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.dummy import DummyBackend, stack_of_squares
from tests.saving import annotate, content

from napari_medsam2 import AnnotationSession, ImageStack, InputError, ObjectResult
from napari_medsam2.objects import merge, split_components, split_touching, track
from napari_medsam2.prompts import SlicePrompt
from napari_medsam2.results import PackedResult
from napari_medsam2.state import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.objects import Changes
    from napari_medsam2.results import Results

BOX = (2.5, 2.5, 10.5, 11.5)


@pytest.fixture
def session() -> AnnotationSession:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object("one")
    return session


def bits(session: AnnotationSession) -> str:
    """Without the history, which undo and redo change."""
    copy = AnnotationSession(session.stack, backend=session.backend)
    copy._document.state = session._document.state
    return content(copy)


def test_everything_is_undone_to_nothing_and_redone_with_the_same_bits() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    empty = bits(session)
    for _ in annotate(session):
        pass
    while session.can_redo:
        session.redo()
    seen = [bits(session)]
    while session.can_undo:
        session.undo()
        seen.append(bits(session))
    assert len(seen) > 15
    assert seen[-1] == empty
    for expected in reversed(seen[:-1]):
        session.redo()
        assert bits(session) == expected
    assert not session.can_redo


def test_a_propagation_is_one_step(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    before = bits(session)
    reached = [r.index for r in session.propagate()]
    assert len(reached) > 5
    assert session.undo() == "propagate"
    assert bits(session) == before
    session.redo()
    assert set(reached) <= set(session.results.indices(1))


def test_a_cancelled_propagation_is_one_step(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    before = bits(session)
    walk = session.propagate()
    next(walk), next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert len(session.results) == 3
    session.undo()
    assert bits(session) == before


def test_undo_during_a_propagation_ends_it(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    before = bits(session)
    walk = session.propagate()
    next(walk), next(walk)
    session.undo()
    assert list(walk) == []
    assert bits(session) == before


def test_a_click_during_a_propagation_keeps_the_order(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    walk = session.propagate()
    next(walk), next(walk)
    session.rename_object(1, "new")
    for _ in walk:
        pass
    assert [s.name for s in session.history][-3:] == ["propagate", "rename object 1", "propagate"]
    session.undo(), session.undo()
    assert session.objects[1].name == "one"
    assert len(session.results) == 3


def test_a_new_command_ends_what_could_be_redone(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    session.undo()
    assert [s.undone for s in session.history] == [False, True]
    could = session.can_redo
    session.add_object("two")
    assert (could, session.can_redo) == (True, False)
    with pytest.raises(InputError, match="nothing to redo"):
        session.redo()
    session.undo(), session.undo()
    with pytest.raises(InputError, match="nothing to undo"):
        session.undo()


def test_the_history_keeps_to_its_budget_and_never_drops_the_last_step() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend(), history_bytes=12_000)
    session.add_object()
    for index in range(10):
        session.add_box(1, index, BOX)
    assert 1 < len(session.history) < 6
    assert session._document.history.nbytes <= 12_000
    tiny = AnnotationSession(stack_of_squares(), backend=DummyBackend(), history_bytes=1)
    tiny.add_object()
    tiny.add_box(1, 0, BOX)
    assert [s.name for s in tiny.history] == ["box on slice 0"]
    tiny.undo()
    assert len(tiny.results) == 0


def test_what_changes_nothing_is_no_step(session: AnnotationSession) -> None:
    session.rename_object(1, "one")
    session.clear_range(0, 5)
    assert len(session.history) == 1


def test_several_commands_make_one_step(session: AnnotationSession) -> None:
    with session.step("both"):
        session.add_box(1, 4, BOX)
        session.add_box(1, 7, BOX)
    assert [s.name for s in session.history] == ["new object 1", "both"]
    session.undo()
    assert not session.prompts


def test_prompts_are_replaced_moved_and_deleted(session: AnnotationSession) -> None:
    session.add_points(1, 4, [(6, 6), (9, 10)], [1, 0])
    old = session.results.get(1, 4)
    prompt = session.prompts[1, 4]
    moved = session.set_prompt(1, 4, replace(prompt, points=prompt.points[:1], labels=prompt.labels[:1]))
    fresh = AnnotationSession(session.stack, backend=session.backend)
    fresh.add_object()
    assert moved is not None and old is not None
    np.testing.assert_array_equal(fresh.add_points(1, 4, [(6, 6)], [1]).mask, moved.mask)
    assert (moved.mask != old.mask).any()
    assert session.set_prompt(1, 4, SlicePrompt()) is None
    assert not session.prompts
    session.undo()
    assert len(session.prompts[1, 4].points) == 1


def test_an_edit_is_one_step_and_keeps_seeds_true(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    for _ in session.propagate():
        pass
    before = bits(session)
    square = np.zeros((24, 24), bool)
    square[5:9, 5:9] = True
    other = ObjectResult.from_mask(2, 5, square)
    session.edit("split", [ObjectResult.from_mask(1, 4, square), other], [(1, 3)], [ObjectInfo(2, "two", "#00ff00")])
    assert session.prompts[1, 4].mask is not None
    np.testing.assert_array_equal(session.slice_labels(4) == 1, square)
    assert session.results.get(1, 3) is None
    assert session.plan([1]).seeds[1][4].result.area == 16
    assert session.undo() == "split"
    assert bits(session) == before
    session.redo()
    session.edit("merge", removed_objects=[2])
    assert set(session.objects) == {1}
    with pytest.raises(InputError, match="no object 7"):
        session.edit("wrong", [ObjectResult.from_mask(7, 4, square)])
    with pytest.raises(InputError, match="does not fit"):
        session.edit("wrong", [ObjectResult.from_mask(1, 4, square[:20])])
    assert len(session.history) == 5


def _carry_out(session: AnnotationSession, name: str, found: Changes) -> None:
    """As the dock does."""
    infos = [ObjectInfo(label, text) for label, text in found.names.items()]
    session.edit(name, found.packed(), found.cleared, infos, found.removed, sources=found.sources)


def _masks(session: AnnotationSession, index: int) -> dict[int, bytes]:
    return {one.label: one.mask.tobytes() for one in session.results.on(index) if one.area}


def test_what_a_person_painted_and_accepted_survives_a_merge(session: AnnotationSession) -> None:
    session.add_object("two")
    square = np.zeros((24, 24), bool)
    square[14:20, 14:19] = True
    session.add_box(1, 4, BOX)
    session.add_mask(2, 3, square)
    session.edit("carried", [_carried(1, 5, square.T[::-1]), _carried(2, 5, square), _carried(2, 6, square)])
    session.edit("carried", [_carried(1, 7, square.T[::-1]), _carried(2, 7, square)])
    session.accept(2, 5)
    session.accept(2, 6)
    session.accept(1, 7)
    session.accept(2, 7)
    session.pin_memory(2, 5)
    session.pin_memory(1, 4)
    session.drop_memory(1, 7)
    session.drop_memory(2, 7)
    session.drop_memory(2, 6)
    session.drop_memory(1, 5)
    _carry_out(session, "merge", merge(session.results, [1, 2]))
    assert dict(session.pins) == {(1, 4): "pinned", (1, 5): "pinned", (1, 6): "dropped", (1, 7): "dropped"}
    assert set(session.prompts) == {(1, 3), (1, 4)}
    np.testing.assert_array_equal(session.prompts[1, 3].mask, square)
    assert (1, 3) in session.pending
    # On slice 5 nobody said anything of the other half.
    assert dict(session.marks) == {(1, 6): "accepted", (1, 7): "accepted"}
    before = {index: _masks(session, index) for index in (3, 4, 6, 7)}
    for _ in session.propagate():
        pass
    assert {index: _masks(session, index) for index in (3, 4, 6, 7)} == before
    assert session.undo() == "propagate"
    session.undo()
    assert set(session.prompts) == {(1, 4), (2, 3)}


@pytest.mark.parametrize("split", [split_components, split_touching])
def test_what_a_person_painted_and_accepted_survives_a_split(
    session: AnnotationSession, split: Callable[[Results, ImageStack, int], Changes]
) -> None:
    if split is split_touching:
        pytest.importorskip("skimage")
    halves = np.zeros((24, 24), bool)
    halves[3:12, 3:12], halves[14:20, 14:20] = True, True
    session.add_mask(1, 4, halves)
    session.edit("carried", [_carried(1, index, halves) for index in (3, 5, 6)])
    session.accept(1, 6)
    session.pin_memory(1, 5)
    session.drop_memory(1, 3)
    _carry_out(session, "split", split(session.results, session.stack, 1))
    assert set(session.objects) == {1, 2}
    pins = {(label, index): wish for label in (1, 2) for index, wish in ((3, "dropped"), (5, "pinned"))}
    assert dict(session.pins) == pins
    assert set(session.prompts) == {(1, 4), (2, 4)} <= session.pending
    assert dict(session.marks) == {(1, 6): "accepted", (2, 6): "accepted"}
    before = {index: _masks(session, index) for index in (4, 6)}
    assert set(before[4]) == {1, 2}
    for _ in session.propagate():
        pass
    assert {index: _masks(session, index) for index in (4, 6)} == before


def test_what_a_person_painted_and_accepted_goes_along_when_tracks_are_linked() -> None:
    squares = {"a": np.zeros((24, 24), bool), "b": np.zeros((24, 24), bool)}
    squares["a"][3:9, 3:9], squares["b"][14:20, 14:20] = True, True
    session = AnnotationSession(ImageStack(np.zeros((3, 24, 24), np.uint8), "TYX"), backend=DummyBackend())
    for name in ("one", "two"):
        session.add_object(name)
    session.add_mask(1, 0, squares["a"])
    session.add_mask(2, 0, squares["b"])
    # Then the numbers change places: both painted at time 1, one of them accepted; one painted at time 2.
    session.add_mask(1, 1, squares["b"])
    session.add_mask(2, 1, squares["a"])
    session.accept(2, 1)
    session.add_mask(1, 2, squares["b"])
    session.edit("carried", [_carried(2, 2, squares["a"])])
    session.pin_memory(1, 1)
    _carry_out(session, "track", track(session.results, session.stack))
    for time in range(3):
        assert _masks(session, time) == {1: squares["a"].tobytes(), 2: squares["b"].tobytes()}
    assert set(session.prompts) == {(1, 0), (2, 0), (1, 1), (2, 1), (2, 2)}
    np.testing.assert_array_equal(session.prompts[1, 1].mask, squares["a"])
    np.testing.assert_array_equal(session.prompts[2, 1].mask, squares["b"])
    np.testing.assert_array_equal(session.prompts[2, 2].mask, squares["b"])
    assert dict(session.marks) == {(1, 1): "accepted"}
    assert dict(session.pins) == {(2, 1): "pinned"}
    found = session.results.get(1, 2)
    assert found is not None
    assert found.source == "propagated"
    session.undo()
    assert dict(session.marks) == {(2, 1): "accepted"}


def _carried(label: int, index: int, mask: np.ndarray) -> ObjectResult:
    return replace(ObjectResult.from_mask(label, index, mask), source="propagated", confidence=0.9)


def test_undo_tells_the_views(session: AnnotationSession) -> None:
    session.add_box(1, 4, BOX)
    slices: list[int] = []
    objects: list[int] = []
    session.events.slice_changed.connect(slices.append)
    session.events.objects_changed.connect(lambda: objects.append(1))
    session.undo()
    assert (slices, objects) == ([4], [])
    session.undo()
    assert (slices, objects) == ([4], [1])
    assert len(session.results) == 0


def test_a_second_propagation_leaves_nothing_of_the_first_beyond_its_end(session: AnnotationSession) -> None:
    """Object two ends at slice 7; a first pass that ran through to the end must not stay behind a shorter one."""
    session.add_box(1, 3, (12.5, 11.5, 21.5, 20.5))
    for _ in session.propagate(patience=None):
        pass
    assert session.results.indices() == list(range(10))
    square = np.zeros((24, 24), bool)
    square[1:3, 1:3] = True
    session._document.state.results.put(replace(ObjectResult.from_mask(1, 9, square), source="propagated"))
    for _ in session.propagate(patience=1):
        pass
    assert session.results.get(1, 9) is None


def test_a_thousand_objects_are_deleted_and_come_back_without_a_wait() -> None:
    labels, slices = range(1, 1002), range(20)
    session = AnnotationSession(ImageStack(np.zeros((20, 24, 24), np.uint8), "ZYX"), backend=DummyBackend())
    one = PackedResult.of(ObjectResult.from_mask(1, 0, np.ones((24, 24), bool)))
    masks = [PackedResult(replace(one.bare, label=n, index=i), one.data, one.size) for n in labels for i in slices]
    session.edit("import", masks, objects=[ObjectInfo(n, f"object {n}") for n in labels])
    began = process_time()
    session.edit("delete", removed_objects=labels[:-1])
    assert list(session.objects) == [1001]
    assert len(session.results) == 20
    session.undo()
    assert list(session.objects) == list(labels)
    session.clear_range(0, 20, labels[:-1])
    assert len(session.results) == 20
    session.undo()
    assert len(session.results) == len(masks)
    # A second of work; each label on its own took forty.
    assert process_time() - began < 4

"""What a person sees, what the keys do and what the session holds go together, whatever comes in between."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit
from tests.widgets import driving
from tests.widgets.docking import begin, docked, fast_model, hear, settle
from tests.widgets.driving import click, drag, key, wait_until

from napari_medsam2.propagation import run
from napari_medsam2.results import ObjectResult
from napari_medsam2.state import ObjectInfo
from napari_medsam2.widgets.object_model import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.widgets.dock import MedSam2Dock

TOPS = {1: (8, 8), 2: (8, 56), 3: (44, 56)}
SIDE = 20


def stack(slices: int = 10) -> np.ndarray:
    """Three bright squares, each with a grey of its own, on all slices."""
    out = np.random.default_rng(0).integers(15, 35, (slices, 72, 96)).astype(np.uint8)
    for label, (top, left) in TOPS.items():
        out[:, top : top + SIDE, left : left + SIDE] = 160 + 30 * label
    return out


def middle(label: int) -> tuple[float, float]:
    top, left = TOPS[label]
    return top + SIDE / 2, left + SIDE / 2


@pytest.fixture
def dock(
    make_napari_viewer: Callable[..., Any], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MedSam2Dock]:
    fast_model(monkeypatch, backend)
    with docked(make_napari_viewer(show=True), stack(), 4, (1000, 700), name="squares") as dock:
        yield dock


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return hear(monkeypatch)


def say(dock: MedSam2Dock, label: int, at: tuple[float, float] | None = None) -> None:
    """Click into a square, for the object that is selected."""
    annotation = dock.bench.annotation
    assert annotation is not None
    click(dock.bench.viewer, (dock.bench.viewer.dims.point[0], *(at or middle(label))))
    settle(annotation)


def mouse(dock: MedSam2Dock, kind: QEvent.Type, y: float, x: float) -> None:
    viewer = dock.bench.viewer
    driving._mouse(viewer, kind, (viewer.dims.point[0], y, x), (), "left", kind != QEvent.Type.MouseButtonRelease)
    QApplication.processEvents()
    driving._pause()


def begun_with_two(dock: MedSam2Dock) -> Any:
    annotation = begin(dock)
    say(dock, 1)
    key(dock.bench.viewer, "N")
    say(dock, 2)
    return annotation


# -- painting ----------------------------------------------------------------------------------------------------------


def test_masks_that_come_during_a_stroke_are_not_painted_away(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session, viewer = annotation.session, dock.bench.viewer
    viewer.dims.set_current_step(0, 6)
    key(viewer, "B")
    annotation.masks.layer.brush_size = 3
    assert not session.slice_labels(6).any()
    driving.hover(viewer, (6, 60, 10))
    mouse(dock, QEvent.Type.MouseButtonPress, 60, 10)
    mouse(dock, QEvent.Type.MouseMove, 60, 20)
    annotation.propagate()
    settle(annotation)
    carried = session.slice_labels(6)
    assert set(np.unique(carried)) == {0, 1, 2}
    mouse(dock, QEvent.Type.MouseMove, 60, 30)
    mouse(dock, QEvent.Type.MouseButtonRelease, 60, 30)
    settle(annotation)
    now = session.slice_labels(6)
    assert now[60, 20] == 2
    now[56:65] = 0
    np.testing.assert_array_equal(now, carried)
    assert (1, 6) not in session.marks
    np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[6]), session.slice_labels(6))


def test_the_next_stroke_goes_on_with_the_object_that_the_last_one_made(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    say(dock, 1)
    viewer = dock.bench.viewer
    key(viewer, "B")
    annotation.masks.layer.brush_size = 3
    annotation.masks.layer.selected_label = 9
    drag(viewer, [(4, 60, 10), (4, 60, 20)])
    assert annotation.label == 9
    drag(viewer, [(4, 60, 30), (4, 60, 40)])
    labels = annotation.session.slice_labels(4)
    assert labels[60, 15] == labels[60, 35] == 9
    assert annotation.session.prompts[1, 4].mask is None, "nothing was painted for the first object"


# -- taking back -------------------------------------------------------------------------------------------------------


def test_escape_brings_a_carried_mask_back_though_other_things_were_done_since(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session, viewer = annotation.session, dock.bench.viewer
    key(viewer, "G")
    settle(annotation)
    viewer.dims.set_current_step(0, 7)
    before = session.slice_labels(7)
    say(dock, 3)
    assert (session.slice_labels(7) != before).any()
    viewer.dims.set_current_step(0, 8)
    say(dock, 3)
    elsewhere = session.slice_labels(8)
    viewer.dims.set_current_step(0, 7)
    key(viewer, "Esc")
    np.testing.assert_array_equal(session.slice_labels(7), before)
    assert (2, 7) not in session.prompts
    np.testing.assert_array_equal(session.slice_labels(8), elsewhere)
    key(viewer, "Ctrl+Z")
    assert (2, 7) in session.prompts, "taking it back is one step"


def test_escape_goes_back_to_what_was_accepted(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session, viewer = annotation.session, dock.bench.viewer
    key(viewer, "Return")
    accepted = session.slice_labels(4)
    say(dock, 3)
    annotation.select(1)
    say(dock, 1, (middle(1)[0] + 4, middle(1)[1]))
    annotation.select(2)
    key(viewer, "Esc")
    np.testing.assert_array_equal(session.slice_labels(4) == 2, accepted == 2)
    assert session.marks[2, 4] == "accepted"
    assert len(session.prompts[2, 4].points) == 1
    assert len(session.prompts[1, 4].points) == 2


def test_escape_leaves_merged_masks_alone(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session = annotation.session
    annotation.operations.merge([1, 2])
    wait_until(lambda: 2 not in session.objects)
    merged = session.slice_labels(4)
    assert all(merged[tuple(map(int, middle(label)))] == 1 for label in (1, 2))
    key(dock.bench.viewer, "Esc")
    np.testing.assert_array_equal(session.slice_labels(4), merged)


def test_escape_brings_nothing_back_of_a_deleted_object_of_the_same_number(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    session, viewer = annotation.session, dock.bench.viewer
    say(dock, 1)
    key(viewer, "G")
    settle(annotation)
    viewer.dims.set_current_step(0, 6)
    say(dock, 1, (middle(1)[0] + 4, middle(1)[1]))
    annotation.operations.delete([1])
    key(viewer, "N")
    assert annotation.label == 1
    say(dock, 3)
    assert session.slice_labels(6).any()
    key(viewer, "Esc")
    assert not session.slice_labels(6).any()
    assert not session.results.indices(1)


# -- choices in the dock -----------------------------------------------------------------------------------------------


def test_the_propagation_key_goes_as_far_as_the_dock_says(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    dock.propagate.direction.setCurrentIndex(dock.propagate.direction.findData("forward"))
    dock.propagate.objects.setCurrentIndex(dock.propagate.objects.findData(True))
    dock.propagate.ranged.setChecked(True)
    dock.propagate.last.setValue(6)
    key(dock.bench.viewer, "G")
    settle(annotation)
    assert annotation.session.results.indices(1) == [4]
    assert annotation.session.results.indices(2) == [4, 5, 6]


@pytest.mark.parametrize("how", ["reject", "delete"])
def test_with_an_object_s_last_prompt_goes_what_was_carried_from_it(
    dock: MedSam2Dock, notes: list[str], how: str
) -> None:
    annotation = begun_with_two(dock)
    session, viewer = annotation.session, dock.bench.viewer
    key(viewer, "G")
    settle(annotation)
    theirs = session.results.indices(1)
    viewer.dims.set_current_step(0, 4)
    if how == "reject":
        key(viewer, "R")
        viewer.dims.set_current_step(0, 4)
    else:
        points = annotation.prompts.points
        points.selected_data = {len(points.data) - 1}
        points.remove_selected()
    settle(annotation)
    assert (2, 4) not in session.prompts
    wait_until(lambda: "No prompt of object 2 is left" in dock.next_step.text.text())
    said: list[str] = []
    annotation.events.said.connect(said.append)
    key(viewer, "Shift+G")
    settle(annotation)
    assert session.results.indices(2) == []
    assert session.results.indices(1) == theirs
    assert said == ["what came of prompts that were taken back is gone (9 masks); undo brings it back"]
    wait_until(lambda: "No prompt" not in dock.next_step.text.text())
    key(viewer, "Ctrl+Z")
    assert len(session.results.indices(2)) == 9
    assert not notes


def test_a_range_that_ends_before_it_begins_is_named_as_it_was_chosen(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begun_with_two(dock)
    dock.propagate.ranged.setChecked(True)
    dock.propagate.first.setValue(8)
    dock.propagate.last.setValue(3)
    key(dock.bench.viewer, "G")
    assert notes == ["Slices 8 to 3: the first comes after the last; exchange them"]
    assert not annotation.running.busy


@pytest.mark.parametrize("how", ["key", "button"])
def test_corrections_are_carried_through_waists_where_the_dock_says_so(
    dock: MedSam2Dock, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotation = begun_with_two(dock)
    asked: list[bool] = []
    start_again = annotation.session.start_again

    def noted(labels: Any = None, part: bool = True) -> Any:
        asked.append(part)
        return start_again(labels, part=part)

    monkeypatch.setattr(annotation.session, "start_again", noted)
    dock.propagate.part.setChecked(False)
    if how == "key":
        key(dock.bench.viewer, "Shift+G")
    else:
        dock.propagate.again.click()
    settle(annotation)
    assert asked == [False]


def test_the_first_key_begins_with_what_was_chosen(dock: MedSam2Dock) -> None:
    viewer = dock.bench.viewer
    viewer.add_image(np.zeros((3, 30, 30)), name="another")
    dock.image.layer.setCurrentIndex(dock.image.layer.findText("squares"))
    dock.image.axes.setCurrentIndex(dock.image.axes.findData("CYX"))
    dock.image.channel.setCurrentIndex(dock.image.channel.findData(7))
    dock.image.intensity.setCurrentIndex(1)
    dock.image.layer.setFocus()
    viewer.window._qt_viewer.canvas.native.setFocus()
    key(viewer, "P")
    annotation = dock.bench.annotation
    assert annotation is not None
    assert annotation.image.name == "squares"
    assert annotation.session.stack.axes == "CYX"
    assert len(annotation.session.stack) == 1
    assert annotation.session.stack.window == (0, 255)


def test_the_choices_hold_while_other_layers_come_and_go(dock: MedSam2Dock) -> None:
    viewer, section = dock.bench.viewer, dock.image
    section.axes.setCurrentIndex(section.axes.findData("CYX"))
    section.kind.setCurrentIndex(1)
    section.channel.setCurrentIndex(section.channel.findData(7))
    section.intensity.setCurrentIndex(1)
    said = section.about.text()
    atlas = viewer.add_labels(np.zeros((10, 96, 96), np.uint8), name="atlas")
    viewer.add_points(ndim=3)
    viewer.layers.remove(atlas)
    assert section.channel.currentText() == "Channel 7"
    assert section.about.text() == said
    section.start.click()
    annotation = dock.bench.annotation
    assert annotation is not None
    assert annotation.session.stack.axes == "CYX"
    assert annotation.session.kind == "collection"
    assert annotation.session.stack.window == (0, 255)


def test_another_image_has_choices_of_its_own(dock: MedSam2Dock) -> None:
    viewer, section = dock.bench.viewer, dock.image
    section.intensity.setCurrentIndex(1)
    other = viewer.add_image(np.zeros((3, 30, 30)), name="another")
    section.layer.setCurrentIndex(section.layer.findText("another"))
    assert section.axes.currentText() == "CYX"
    assert section.channel.currentText() == "All channels"
    assert section.intensity.currentText() == "Automatic"
    viewer.layers.remove(other)
    assert section.axes.currentText() == "ZYX"
    assert section.channel.currentText() == "Grey values"


def test_a_collection_in_which_little_is_found_asks_for_more(
    make_napari_viewer: Callable[..., Any], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast_model(monkeypatch, backend)
    pictures = stack(7)
    pictures[2:] = 20
    with docked(make_napari_viewer(show=True), pictures, 0, (1000, 700), name="squares") as dock:
        dock.image.kind.setCurrentIndex(1)
        annotation = begin(dock)
        assert annotation.session.kind == "collection"
        say(dock, 1)
        wait_until(lambda: "G carries it to all images" in dock.next_step.text.text())
        key(dock.bench.viewer, "G")
        settle(annotation)
        found = [annotation.session.slice_labels(index).any() for index in range(7)]
        assert found == [True, True, False, False, False, False, False]
        wait_until(lambda: "Most images came out empty. Mark more" in dock.next_step.text.text())
        # Whoever has looked at them and found that it is not there is not asked for more.
        for index in range(2, 6):
            annotation.session.accept(1, index)
        wait_until(lambda: "Most images" not in dock.next_step.text.text())


# -- the table of objects ----------------------------------------------------------------------------------------------


def many_objects(dock: MedSam2Dock, count: int) -> Any:
    """Annotate, and give each of some objects a mask of one pixel."""
    annotation = begin(dock)
    mask = np.zeros((72, 96), bool)
    results = []
    for label in range(1, count + 1):
        mask[:] = False
        mask[label // 96, label % 96] = True
        results.append(ObjectResult.from_mask(label, 4, mask))
    annotation.session.edit("import", results, objects=[ObjectInfo(i, f"a {i}") for i in range(1, count + 1)])
    dock.board.flush()
    return annotation


def choose(dock: MedSam2Dock, row: int, keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    """Click on a name in the table, and let everything follow."""
    view = dock.objects.table.view
    place = view.visualRect(view.model().index(row, Column.NAME)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, keys, place)
    dock.board.flush()


def test_what_is_taken_out_of_the_selection_stays_out_of_it(dock: MedSam2Dock) -> None:
    annotation = many_objects(dock, 5)
    table = dock.objects.table
    choose(dock, 0)
    choose(dock, 3, Qt.KeyboardModifier.ShiftModifier)
    assert sorted(table.selection) == [1, 2, 3, 4]
    choose(dock, 2, Qt.KeyboardModifier.ControlModifier)
    assert sorted(table.selection) == [1, 2, 4]
    choose(dock, 4, Qt.KeyboardModifier.ControlModifier)
    assert sorted(table.selection) == [1, 2, 4, 5]
    table.buttons["delete"].click()
    dock.board.flush()
    assert list(annotation.session.objects) == [3]
    assert list(table.selection) == [3]
    annotation.undo()
    annotation.select(2)
    assert list(table.selection) == [2], "one that was chosen elsewhere is the only one"
    annotation.select(3)
    assert list(table.selection) == [3]


def test_many_objects_are_hidden_and_deleted_at_once(dock: MedSam2Dock) -> None:
    annotation = many_objects(dock, 60)
    table, session, layer = dock.objects.table, annotation.session, annotation.masks.layer
    labels, before = list(session.objects), session.slice_labels(4)
    tables: list[None] = []
    layer.events.colormap.connect(lambda _: tables.append(None))
    table.view.selectAll()
    dock.board.flush()
    for alpha in (0, 1):
        QTest.keyClick(table.view, Qt.Key.Key_Space)
        dock.board.flush()
        assert {float(color[-1]) for color in layer.colormap.map(np.array(labels))} == {alpha}
    assert len(tables) == 2, "napari draws everything anew with each table of colours"
    told: list[None] = []
    session.events.objects_changed.connect(lambda: told.append(None))
    QTest.keyClick(table.view, Qt.Key.Key_Delete)
    assert not session.objects
    assert not session.slice_labels(4).any()
    assert len(told) == 1
    assert session.history[-1].name == "delete objects"
    annotation.undo()
    assert list(session.objects) == labels
    np.testing.assert_array_equal(session.slice_labels(4), before)
    annotation.redo()
    assert not session.objects


def test_holes_of_many_objects_are_filled_at_once(dock: MedSam2Dock) -> None:
    annotation = many_objects(dock, 30)
    session, places = annotation.session, [(y, x) for y in range(2, 62, 12) for x in range(2, 74, 12)]
    results = []
    for label, (y, x) in enumerate(places[:30], 1):
        ring = np.zeros((72, 96), bool)
        ring[y : y + 5, x : x + 5] = True
        ring[y + 2, x + 2] = False
        results += [ObjectResult.from_mask(label, index, ring) for index in (4, 5)]
    session.edit("rings", results)
    before = session.slice_labels(4)
    dock.board.flush()
    dock.objects.table.view.selectAll()
    dock.board.flush()
    told: list[int] = []
    session.events.slice_changed.connect(told.append)
    dock.objects.table.operation.emit(dock.objects.table.selection, "fill")
    wait_until(lambda: session.history[-1].name == "fill holes")
    assert told == [4, 5], "each slice is drawn once, and one step is written"
    for index in (4, 5):
        assert sorted({session.slice_labels(index)[y + 2, x + 2] for y, x in places[:30]}) == list(range(1, 31))
    annotation.undo()
    np.testing.assert_array_equal(session.slice_labels(4), before)


def test_shortcuts_hold_while_the_table_has_the_focus(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    say(dock, 1)
    # A search for what is typed would find these.
    for label, name in enumerate(("gland", "artery"), 2):
        annotation.session.add_object(name)
        annotation.select(label)
        say(dock, label)
    choose(dock, 0)
    view = dock.objects.table.view
    QTest.keyClick(view, Qt.Key.Key_G)
    settle(annotation)
    assert len(annotation.session.results.indices(1)) == 10
    assert annotation.label == 1
    QTest.keyClick(view, Qt.Key.Key_A)
    assert annotation.session.marks == {(1, 4): "accepted"}
    choose(dock, 0)
    view.keyboardSearch("a")
    assert annotation.label == 1
    QTest.keyClick(view, Qt.Key.Key_Down)
    assert annotation.label == 2
    dock.objects.table.edit_name(2)
    editor = view.findChild(QLineEdit)
    assert editor is not None
    QTest.keyClicks(editor, "bag")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    wait_until(lambda: annotation.session.objects[2].name == "bag")
    assert annotation.tools.tool == "prompt"


def test_an_object_that_is_nowhere_is_shown_nowhere(dock: MedSam2Dock) -> None:
    annotation = many_objects(dock, 1)
    empty = annotation.session.add_object()
    annotation.show(7)
    for label, index in ((empty, 7), (1, 4)):
        dock.objects.table.jumped.emit(label)
        assert annotation.label == label
        assert annotation.index == index


# -- layers ------------------------------------------------------------------------------------------------------------


def test_a_point_of_napari_s_own_tool_is_the_selected_object_s(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    annotation.select(1)
    points = annotation.prompts.points
    for after_selecting in (False, True):
        points.selected_data = {1} if after_selecting else set()
        points.add((4, middle(1)[0] + (5 if after_selecting else -5), middle(1)[1]))
        settle(annotation)
    assert len(annotation.session.prompts[1, 4].points) == 3
    assert len(annotation.session.prompts[2, 4].points) == 1


def test_a_view_of_all_slices_shows_what_is_propagated_and_undone(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    viewer = dock.bench.viewer
    viewer.dims.ndisplay = 3
    shown = annotation.masks.layer._slice.image

    def seen() -> set[int]:
        return {int(i) for i in np.nonzero(np.asarray(annotation.masks.layer._slice.image.raw).any((1, 2)))[0]}

    assert shown is not None
    assert seen() == {4}
    annotation.propagate()
    settle(annotation)
    wait_until(lambda: seen() == set(range(10)))
    annotation.undo()
    wait_until(lambda: seen() == {4})


def test_all_layers_can_be_deleted_at_once(dock: MedSam2Dock, notes: list[str]) -> None:
    begun_with_two(dock)
    viewer = dock.bench.viewer
    viewer.layers.select_all()
    viewer.layers.remove_selected()
    assert dock.bench.annotation is None
    wait_until(lambda: not viewer.layers)
    assert not [note for note in notes if "Traceback" in note]


def test_after_finishing_the_image_has_no_keys_left(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begun_with_two(dock)
    image = annotation.image
    assert image.keymap
    dock.image.start.click()
    wait_until(lambda: dock.bench.annotation is None)
    assert not image.keymap
    viewer = dock.bench.viewer
    dock.shut()
    viewer.layers.selection.active = image
    for name in ("H", "G", "F1"):
        key(viewer, name)
    assert not notes


@pytest.mark.parametrize("how", ["visible", "lock"])
def test_a_new_object_is_neither_hidden_nor_locked_because_its_number_was(dock: MedSam2Dock, how: str) -> None:
    annotation = begun_with_two(dock)
    if how == "visible":
        annotation.visible((2,), False)
    else:
        annotation.lock(2, True)
    annotation.session.remove_object(2)
    assert annotation.new_object("another") == 2
    assert not annotation.masks.hidden(2)
    assert 2 not in annotation.masks.locked
    say(dock, 2)
    color = annotation.masks.layer.colormap.map(2)
    assert color[-1] > 0


# -- what is computed in threads ---------------------------------------------------------------------------------------


def test_an_operation_does_not_write_over_what_was_propagated_meanwhile(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begun_with_two(dock)
    session = annotation.session
    begun = session.start([2])
    steps = list(run(begun.plan))
    begun.apply(steps[0])
    annotation.operations.mend([2], "fill")
    # It is computed from what is known now; the walk, one command, goes on before it is done.
    begun.apply(steps[1])
    arrived = session.results.packed(2, steps[1].index)
    done: list[None] = []
    dock.bench.worker.submit(lambda: None, done.append, lane="io")
    wait_until(lambda: bool(done))
    assert session.results.packed(2, steps[1].index) is arrived
    assert any("something else was changed meanwhile" in note for note in notes)


def test_missing_slices_are_not_filled_in_where_a_person_said_it_is_not_there(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session = annotation.session
    mask = session.results.get(2, 4).mask
    nothing = ObjectResult.from_logits(2, 6, mask.shape, (0, 0, np.full((1, 1), -9.0)), 0.9, 0.05, "propagated", None)
    session.edit("walk", [nothing, ObjectResult.from_mask(2, 8, mask)])
    session.accept(2, 6)
    annotation.operations.mend([2], "interpolate")
    wait_until(lambda: session.results.packed(2, 5) is not None)
    assert [i for i in range(10) if session.results.get(2, i) is not None and session.results.get(2, i).area] == [
        4, 5, 7, 8,
    ]  # fmt: skip
    assert session.marks[2, 6] == "accepted"


def test_slices_that_are_only_passed_are_not_encoded(
    dock: MedSam2Dock, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with_two(dock)
    viewer, encode = dock.bench.viewer, backend.encode
    held, asked = threading.Event(), []

    def slow(images: Any) -> Any:
        asked.append(len(images))
        held.wait(20)
        return encode(images)

    monkeypatch.setattr(backend, "encode", slow)
    viewer.dims.set_current_step(0, 0)
    wait_until(lambda: bool(asked))
    for index in (1, 2, 3, 5, 6, 7, 8, 9):
        viewer.dims.set_current_step(0, index)
    held.set()
    done: list[None] = []
    dock.bench.worker.submit(lambda: None, done.append)
    wait_until(lambda: bool(done), 30)
    assert len(asked) == 2, "the one that was under way, and the one that is looked at"


# -- napari's own tools ------------------------------------------------------------------------------------------------


def test_enter_and_escape_end_a_polygon_of_napari_s(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session, viewer, layer = annotation.session, dock.bench.viewer, annotation.masks.layer
    said, before = dict(session.prompts), session.slice_labels(4).copy()
    corners = [(40, 8), (40, 30), (60, 30), (60, 8)]
    viewer.layers.selection.active = layer
    layer.mode = "polygon"
    for end in ("Esc", "Return"):
        for corner in corners:
            click(viewer, (4, *corner))
        key(viewer, end)
        assert layer._overlays["polygon"].points == []
        assert session.slice_labels(4)[50, 20] == (2 if end == "Return" else before[50, 20])
        assert not session.marks
        if end == "Esc":
            assert dict(session.prompts) == said
    # Nothing is being drawn: the keys are what they were.
    key(viewer, "Return")
    assert session.marks == {(2, 4): "accepted"}


def test_escape_ends_an_encircling_stroke_of_napari_s(dock: MedSam2Dock) -> None:
    annotation = begun_with_two(dock)
    session, viewer, layer = annotation.session, dock.bench.viewer, annotation.masks.layer
    if "brush_stroke" not in layer._overlays:
        pytest.skip("this napari has none")
    said, before = dict(session.prompts), session.slice_labels(4).copy()
    key(viewer, "B")
    click(viewer, (4, 40, 20), button="right")
    for place in ((45, 30), (55, 30), (58, 12)):
        driving.hover(viewer, (4, *place))
    assert layer._overlays["brush_stroke"].active
    key(viewer, "Return")
    assert not session.marks
    key(viewer, "Esc")
    assert not layer._overlays["brush_stroke"].active
    assert dict(session.prompts) == said
    np.testing.assert_array_equal(np.asarray(layer.data[4]), before)
    key(viewer, "Esc")
    assert (2, 4) not in session.prompts


@pytest.mark.parametrize("end", ["Return", "Esc"])
def test_enter_and_escape_end_a_polygon_among_the_boxes(dock: MedSam2Dock, end: str) -> None:
    annotation = begun_with_two(dock)
    session, viewer, boxes = annotation.session, dock.bench.viewer, annotation.prompts.boxes
    viewer.layers.selection.active = boxes
    boxes.mode = "add_polygon"
    for corner in ((42, 54), (42, 78), (66, 78), (66, 54)):
        click(viewer, (4, *corner))
    key(viewer, end)
    settle(annotation)
    assert not boxes._is_creating
    assert not session.marks
    assert session.prompts[2, 4].box == pytest.approx((42, 54, 66, 78), abs=1)
    assert len(session.prompts[2, 4].points) == 1


@pytest.mark.parametrize("kind", ["labels", "points", "shapes"])
def test_who_does_what_the_dock_says_changes_no_layer_of_somebody_else(dock: MedSam2Dock, kind: str) -> None:
    annotation, viewer = begin(dock), dock.bench.viewer
    theirs = (
        viewer.add_labels(np.zeros((10, 72, 96), int)) if kind == "labels" else getattr(viewer, f"add_{kind}")(ndim=3)
    )
    wait_until(lambda: "another layer" in dock.next_step.text.text())
    # P is napari's key for painting, adding points and drawing polygons there.
    assert "Press P " not in dock.next_step.text.text()
    assert "button Prompt" in dock.next_step.text.text()
    dock.prompt.tools["prompt"].click()
    click(viewer, (4, *middle(1)))
    settle(annotation)
    assert (annotation.label, 4) in annotation.session.prompts
    assert not np.any(np.asarray(theirs.data)) and len(theirs.data) == (10 if kind == "labels" else 0)


def test_a_slide_is_opened_with_a_word_about_its_size(
    dock: MedSam2Dock, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(dock)
    assert notes == []
    dock.image.start.click()
    wait_until(lambda: dock.bench.annotation is None)
    monkeypatch.setattr("napari_medsam2.widgets.workbench._SLIDE", 6000)
    begin(dock)
    (note,) = notes
    assert "72 × 96 pixels" in note
    assert "stands still" in note

"""The dock as a person uses it: real mouse and keys on a real viewer, the embedded model behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QApplication
from tests.widgets import driving
from tests.widgets.docking import docked, fast_model, hear, settle
from tests.widgets.driving import click, drag, hover, key, wait_until

from napari_medsam2.widgets.object_model import Column
from napari_medsam2.widgets.panels import ReviewPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

SCALE = (2.0, 0.5, 0.5)
TOP = {1: (20, 20), 2: (20, 60)}
SIDE = 16


def image(slices: int = 12, side: int = 96) -> np.ndarray:
    """Two bright squares on every slice but the last two."""
    out = np.random.default_rng(0).integers(15, 35, (slices, side, side)).astype(np.uint8)
    for top, left in TOP.values():
        out[: slices - 2, top : top + SIDE, left : left + SIDE] = 200
    return out


@pytest.fixture
def dock(
    make_napari_viewer: Callable[..., Any], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MedSam2Dock]:
    # The model that all tests share, instead of one a test.
    fast_model(monkeypatch, backend)
    with docked(make_napari_viewer(show=True), image(), 5, (1200, 800), name="cells", scale=SCALE) as dock:
        yield dock


def world(dock: MedSam2Dock, y: float, x: float) -> tuple[float, ...]:
    return (dock.bench.viewer.dims.point[0], y * SCALE[1], x * SCALE[2])


def begin(dock: MedSam2Dock) -> Annotation:
    dock.image.start.click()
    assert dock.bench.annotation is not None
    wait_until(lambda: dock.bench.viewer.layers.selection.active is dock.bench.annotation.prompts.points)  # type: ignore[union-attr]
    return dock.bench.annotation


def is_square(mask: np.ndarray, label: int = 1) -> bool:
    top, left = TOP[label]
    expected = np.zeros(mask.shape, bool)
    expected[top : top + SIDE, left : left + SIDE] = True
    return bool(2 * (mask & expected).sum() / max(mask.sum() + expected.sum(), 1) > 0.9)


def test_annotating_adds_layers_that_lie_where_the_image_lies(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    names = [layer.name for layer in dock.bench.viewer.layers]
    assert names == ["cells", "cells masks", "cells boxes", "cells prompts"]
    for layer in annotation.own_layers():
        np.testing.assert_allclose(layer.scale, SCALE)
    assert annotation.masks.layer.data.shape == (12, 96, 96)
    assert dock.image.start.text() == "Finish"


def _press(dock: MedSam2Dock, kind: QEvent.Type, y: float, x: float) -> None:
    driving._mouse(dock.bench.viewer, kind, world(dock, y, x), (), "left", kind != QEvent.Type.MouseButtonRelease)
    QApplication.processEvents()


def _asked_of(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []
    decode = backend.decode

    def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(backend, "decode", counted)
    return asked


def _until_idle(dock: MedSam2Dock) -> None:
    """What was asked before an urgent job is answered when it is done."""
    done: list[None] = []
    dock.bench.worker.submit(lambda: None, done.append, urgent=True)
    wait_until(lambda: bool(done), 60)


def test_the_model_thinks_while_the_button_is_down(
    dock: MedSam2Dock, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _asked_of(backend, monkeypatch)
    annotation = begin(dock)
    hover(dock.bench.viewer, world(dock, 28, 28))
    _press(dock, QEvent.Type.MouseButtonPress, 28, 28)
    _until_idle(dock)
    assert asked
    assert not annotation.session.prompts, "nothing is said yet"
    assert not annotation.session.slice_labels(5).any()
    before = len(asked)
    _press(dock, QEvent.Type.MouseButtonRelease, 28, 28)
    settle(annotation)
    assert len(asked) == before, "the answer was there"
    assert is_square(annotation.session.slice_labels(5) == 1)
    np.testing.assert_allclose(annotation.session.prompts[1, 5].points, [[28, 28]], atol=0.1)


def test_a_press_that_becomes_a_box_says_nothing_but_the_box(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    drag(dock.bench.viewer, [world(dock, 18, 58), world(dock, 30, 70), world(dock, 37.5, 77.5)])
    settle(annotation)
    (said,) = annotation.session.prompts.values()
    assert said.box is not None
    assert len(said.points) == 0
    assert is_square(annotation.session.slice_labels(5) == 1, 2)
    annotation.undo()
    assert not annotation.session.prompts


def test_a_model_that_is_slow_is_not_asked_before_it_is_certain_what(
    dock: MedSam2Dock, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _asked_of(backend, monkeypatch)
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    annotation.prompting._pace.seconds = 2.0
    del asked[:]
    _press(dock, QEvent.Type.MouseButtonPress, 30, 30)
    _until_idle(dock)
    assert not asked
    _press(dock, QEvent.Type.MouseButtonRelease, 30, 30)
    settle(annotation)
    assert asked
    assert len(annotation.session.prompts[1, 5].points) == 2


def test_a_click_gives_the_mask_in_the_labels_layer(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    assert len(annotation.prompts.points.data) == 1, "the click is drawn before the model has answered"
    settle(annotation)
    assert is_square(annotation.session.slice_labels(5) == 1)
    np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[5]), annotation.session.slice_labels(5))
    np.testing.assert_allclose(annotation.prompts.points.data[0], (5, 28, 28), atol=0.6)
    prompt = annotation.session.prompts[1, 5]
    np.testing.assert_allclose(prompt.points[0], (28, 28), atol=0.6)
    assert prompt.labels.tolist() == [1]


def test_ctrl_click_and_the_negative_mode_say_what_does_not_belong(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    click(viewer, world(dock, 28, 70), modifiers=["Ctrl"])
    settle(annotation)
    key(viewer, "X")
    assert dock.prompt.negative.isChecked()
    click(viewer, world(dock, 60, 60))
    settle(annotation)
    assert annotation.session.prompts[1, 5].labels.tolist() == [1, 0, 0]
    key(viewer, "X")
    click(viewer, world(dock, 24, 24))
    settle(annotation)
    assert annotation.session.prompts[1, 5].labels.tolist() == [1, 0, 0, 1]


def test_a_drag_is_a_box_whichever_way_it_goes(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    drag(dock.bench.viewer, [world(dock, 37, 37), world(dock, 30, 25), world(dock, 18, 18)])
    settle(annotation)
    box = annotation.session.prompts[1, 5].box
    assert box is not None
    np.testing.assert_allclose(box, (18, 18, 37, 37), atol=0.8)
    assert len(annotation.prompts.boxes.data) == 1
    assert is_square(annotation.session.slice_labels(5) == 1)


@pytest.mark.parametrize("tool", ["P", "S", "L"])
def test_an_alt_drag_zooms_and_says_nothing(dock: MedSam2Dock, tool: str) -> None:
    annotation, viewer = begin(dock), dock.bench.viewer
    key(viewer, tool)
    zoom = viewer.scene.camera.zoom
    drag(viewer, [world(dock, 16, 16), world(dock, 30, 16), world(dock, 40, 44)], ("Alt",))
    click(viewer, world(dock, 28, 28), ("Alt",))
    settle(annotation)
    assert viewer.scene.camera.zoom > zoom
    assert not annotation.session.prompts
    assert not annotation.session.objects


def test_a_box_over_the_edge_ends_at_the_edge(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    drag(dock.bench.viewer, [world(dock, 60, 60), world(dock, 80, 80), world(dock, 140, 150)])
    settle(annotation)
    box = annotation.session.prompts[1, 5].box
    assert box is not None
    assert box[2:] == (95.5, 95.5)


def test_beside_the_image_there_is_one_sentence(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, -10, 28))
    settle(annotation)
    assert len(notes) == 1
    assert "outside the image" in notes[0]
    assert not annotation.session.prompts


def test_scribble_and_lasso(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    key(viewer, "S")
    assert dock.prompt.tools["scribble"].isChecked()
    drag(viewer, [world(dock, y, x) for y, x in ((24, 24), (26, 28), (30, 31), (33, 33))])
    settle(annotation)
    assert len(annotation.session.prompts[1, 5].points) > 2
    key(viewer, "N")
    key(viewer, "L")
    ring = [(18, 58), (18, 78), (38, 78), (38, 58), (18, 58)]
    drag(viewer, [world(dock, y, x) for y, x in ring])
    settle(annotation)
    mask = annotation.session.prompts[2, 5].mask
    assert mask is not None
    assert 320 <= mask.sum() <= 460
    assert len(annotation.prompts.boxes.data) == 0, "the line is gone"


def test_propagate_review_accept_and_go_on_with_keys(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    key(viewer, "G")
    settle(annotation)
    assert is_square(np.asarray(annotation.masks.layer.data[2]) == 1)
    assert is_square(np.asarray(annotation.masks.layer.data[8]) == 1)
    assert not np.asarray(annotation.masks.layer.data[11]).any()
    worst = annotation.session.review()
    key(viewer, "W")
    wait_until(lambda: annotation.index == worst[0].index)
    assert dock.next_step.said.whole().endswith(f"; {len(worst)} left")
    key(viewer, "A")
    wait_until(lambda: annotation.index == worst[1].index)
    assert annotation.session.marks[1, worst[0].index] == "accepted"
    key(viewer, "R")
    assert annotation.session.marks[1, worst[1].index] == "rejected"
    assert not np.asarray(annotation.masks.layer.data[worst[1].index]).any()

    # The review goes on; what was rejected comes again when all else is done, and can be accepted as empty.
    key(viewer, "W")
    for index in [item.index for item in worst[2:]]:
        wait_until(lambda: annotation.index == index)  # noqa: B023
        key(viewer, "A")
    wait_until(lambda: annotation.index == worst[1].index)
    wait_until(lambda: "A: it is not here" in dock.next_step.text.text())
    bar = next(panel for panel in dock._panels if isinstance(panel, ReviewPanel)).bar
    wait_until(lambda: bar.status.startswith("1 of"))
    assert bar.buttons["accept"].isEnabled()
    key(viewer, "W")
    wait_until(lambda: dock.next_step.said.whole() == "This is the last one to review")
    key(viewer, "A")
    assert annotation.session.marks[1, worst[1].index] == "accepted"
    assert annotation.session.review() == []
    wait_until(lambda: bar.status.startswith("All"))
    assert dock.next_step.said.whole() == "Nothing is left to review"


def test_escape_discards_what_was_prompted_since_the_last_accept(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    key(viewer, "G")
    settle(annotation)
    viewer.dims.set_current_step(0, 7)
    before = annotation.session.slice_labels(7)
    for y in (24, 30):
        click(viewer, world(dock, y, 66))
        settle(annotation)
    assert (annotation.session.slice_labels(7) != before).any()
    key(viewer, "Esc")
    np.testing.assert_array_equal(annotation.session.slice_labels(7), before)
    assert (1, 7) not in annotation.session.prompts
    assert len(annotation.prompts.points.data) == 1
    click(viewer, world(dock, 24, 66))
    settle(annotation)
    key(viewer, "Return")
    assert annotation.session.marks[1, 7] == "accepted"


def test_a_brush_stroke_is_one_step_and_undo_has_one_order(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    steps = len(annotation.session.history)
    key(viewer, "B")
    annotation.masks.layer.brush_size = 5
    drag(viewer, [world(dock, 70, x) for x in (20, 30, 40, 50)])
    settle(annotation)
    assert len(annotation.session.history) == steps + 1
    labels = annotation.session.slice_labels(5)
    assert labels[70, 25] == labels[28, 28] == 1
    np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[5]), labels)
    key(viewer, "E")
    drag(viewer, [world(dock, 70, x) for x in (20, 24)])
    settle(annotation)
    assert annotation.session.slice_labels(5)[70, 20] == 0
    key(viewer, "Ctrl+Z")
    assert annotation.session.slice_labels(5)[70, 20] == 1
    key(viewer, "Ctrl+Z")
    assert annotation.session.slice_labels(5)[70, 25] == 0
    assert np.asarray(annotation.masks.layer.data[5])[70, 25] == 0
    key(viewer, "Ctrl+Z")
    assert not annotation.session.prompts
    assert not len(annotation.prompts.points.data)
    for _ in range(3):
        key(viewer, "Ctrl+Shift+Z")
    assert annotation.session.slice_labels(5)[70, 20] == 0
    assert annotation.session.slice_labels(5)[70, 40] == 1


def test_points_are_moved_and_deleted_with_napari_s_own_tools(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    for y in (24, 32):
        click(viewer, world(dock, y, 28))
        settle(annotation)
    points = annotation.prompts.points
    points.mode = "select"
    drag(viewer, [world(dock, 32, 28), world(dock, 32, 40), world(dock, 32, 67)])
    settle(annotation)
    np.testing.assert_allclose(annotation.session.prompts[1, 5].points[1], (32, 67), atol=1.2)
    points.selected_data = {0}
    points.remove_selected()
    settle(annotation)
    assert len(annotation.session.prompts[1, 5].points) == 1
    assert is_square(annotation.session.slice_labels(5) == 1, 2)
    points.selected_data = {0}
    points.remove_selected()
    settle(annotation)
    assert not annotation.session.prompts
    assert not annotation.session.slice_labels(5).any()


def test_in_three_dimensions_prompts_are_refused_with_a_sentence(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    viewer.dims.order = (1, 0, 2)
    click(viewer, (5.0, 14.0, 14.0))
    viewer.dims.order = (0, 1, 2)
    assert len(notes) == 1
    assert "order" in notes[0]
    assert not annotation.session.prompts


def test_the_first_key_begins(dock: MedSam2Dock) -> None:
    key(dock.bench.viewer, "P")
    assert dock.bench.annotation is not None
    assert dock.bench.annotation.tools.tool == "prompt"


def test_without_an_image_there_is_one_sentence(dock: MedSam2Dock, notes: list[str]) -> None:
    dock.bench.viewer.layers.clear()
    key(dock.bench.viewer, "P")
    assert notes == ["There is no image to annotate; open one with File ▸ Open, or File ▸ Open Sample"]
    assert not dock.image.start.isEnabled()


@pytest.mark.parametrize("which", ["image", "masks"])
def test_a_deleted_layer_ends_the_work_without_a_trace(dock: MedSam2Dock, which: str) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    dock.propagate.go.click()
    viewer.layers.remove(annotation.image if which == "image" else annotation.masks.layer)
    assert dock.bench.annotation is None
    left = set() if which == "image" else {"cells"}
    wait_until(lambda: {layer.name for layer in viewer.layers} == left)


def test_prompt_layers_that_were_deleted_come_back(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    viewer.layers.remove(annotation.prompts.points)
    viewer.layers.remove(annotation.prompts.boxes)
    key(viewer, "P")
    assert len(annotation.prompts.points.data) == 1
    click(viewer, world(dock, 32, 30))
    settle(annotation)
    assert len(annotation.session.prompts[1, 5].points) == 2


def test_names_are_shown_as_they_are(dock: MedSam2Dock) -> None:
    dock.bench.viewer.layers["cells"].name = "CD4<b>"
    assert dock.image.layer.currentText() == "CD4<b>"
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    annotation.session.rename_object(1, "CD4<low>")
    dock.bench.viewer.dims.set_current_step(0, 7)
    wait_until(lambda: "CD4" in dock.next_step.text.text())
    document = QTextDocument()
    document.setHtml(dock.next_step.text.text())
    assert "CD4<low>" in document.toPlainText()
    document.setHtml(dock.next_step.text.toolTip())
    assert "CD4<low>" in document.toPlainText()
    annotation.say("no image<b>s</b>")
    assert dock.next_step.said.textFormat() == Qt.TextFormat.PlainText
    document.setHtml(dock.next_step.said.toolTip())
    assert document.toPlainText() == "No image<b>s</b>"
    cell = dock.objects.table._model.index(0, Column.NAME)
    wait_until(lambda: cell.data() == "CD4<low>")
    document.setHtml(cell.data(Qt.ItemDataRole.ToolTipRole))
    assert document.toPlainText() == "CD4<low> (label 1)"


def test_renamed_layers_work_on(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    for number, layer in enumerate(annotation.own_layers()):
        layer.name = f"something {number}"
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    assert is_square(annotation.session.slice_labels(5) == 1)


def test_a_locked_object_is_neither_prompted_nor_painted(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    before = annotation.session.slice_labels(5)
    annotation.lock(1, True)
    click(viewer, world(dock, 60, 60))
    assert "locked" in notes[0]
    annotation.masks.layer.selected_label = 9
    viewer.layers.selection.active = annotation.masks.layer
    annotation.masks.layer.mode = "paint"
    drag(viewer, [world(dock, 28, 28), world(dock, 28, 50)])
    settle(annotation)
    after = annotation.session.slice_labels(5)
    np.testing.assert_array_equal(after == 1, before == 1)
    assert (after == 9).any()


def test_napari_s_own_tools_do_not_prompt_a_locked_object(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    drag(viewer, [world(dock, 18, 18), world(dock, 38, 38)])
    settle(annotation)
    said, mask = annotation.session.prompts[1, 5], annotation.session.slice_labels(5)
    annotation.lock(1, True)
    points, boxes = annotation.prompts.points, annotation.prompts.boxes

    def unchanged() -> None:
        settle(annotation)
        assert notes == ["Object 1 is locked; unlock it in the objects table first"]
        notes.clear()
        now = annotation.session.prompts[1, 5]
        np.testing.assert_allclose(now.points, said.points)
        assert now.box == said.box
        assert len(annotation.session.prompts) == 1
        np.testing.assert_array_equal(annotation.session.slice_labels(5), mask)
        assert len(points.data) == len(boxes.data) == 1
        np.testing.assert_allclose(points.data, [annotation.frame.to_layer(5, *said.points[0])])
        np.testing.assert_allclose(boxes.data[0], annotation.prompts._rectangle(5, said.box))  # type: ignore[arg-type]

    def move_and_remove(layer: Any, *places: tuple[float, float]) -> None:
        layer.mode = "select"
        drag(viewer, [world(dock, *place) for place in places])
        unchanged()
        layer.selected_data = {0}
        layer.remove_selected()
        unchanged()

    points.mode = "add"
    click(viewer, world(dock, 60, 60))
    unchanged()
    move_and_remove(points, (28, 28), (28, 40), (28, 67))
    viewer.layers.selection.active = boxes
    boxes.mode = "add_rectangle"
    drag(viewer, [world(dock, 50, 50), world(dock, 55, 60), world(dock, 70, 80)])
    unchanged()
    move_and_remove(boxes, (24, 24), (30, 40), (50, 60))
    annotation.lock(1, False)
    boxes.mode = "add_rectangle"
    drag(viewer, [world(dock, 18, 58), world(dock, 30, 70), world(dock, 38, 78)])
    settle(annotation)
    assert notes == []
    assert annotation.session.prompts[1, 5].box == pytest.approx((18, 58, 38, 78), abs=1.5)
    assert len(boxes.data) == 1


def test_what_napari_s_own_tools_put_outside_the_stack_goes_again(dock: MedSam2Dock, notes: list[str]) -> None:
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    points, boxes = annotation.prompts.points, annotation.prompts.boxes
    points.add((12, 30, 30))
    boxes.add_rectangles(np.array([(-1, 4, 4), (-1, 4, 9), (-1, 9, 9), (-1, 9, 4)], float))
    boxes.add_paths(np.array([(5, 4, 4), (6, 9, 9)], float))
    settle(annotation)
    assert len(notes) == 3
    assert "outside" in notes[0]
    assert "box lies on one slice" in notes[1]
    assert (len(points.data), len(boxes.data)) == (1, 0)
    assert list(annotation.session.prompts) == [(1, 5)]
    points.add((6, 30, 30))
    settle(annotation)
    assert list(annotation.session.prompts) == [(1, 5), (1, 6)]


def test_finishing_leaves_the_image_alone(dock: MedSam2Dock) -> None:
    begin(dock)
    dock.image.start.click()
    assert [layer.name for layer in dock.bench.viewer.layers] == ["cells"]
    assert dock.bench.annotation is None
    assert dock.image.start.text() == "Annotate"


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said in notifications."""
    return hear(monkeypatch)

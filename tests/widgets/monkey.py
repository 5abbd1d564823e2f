"""A person without a plan: random things done to viewer and dock, and what must hold whatever they are."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QApplication
from tests.dummy import DummyBackend
from tests.widgets.driving import click, drag, key, wait_until

from napari_medsam2.memory import BankConfig
from napari_medsam2.session import AnnotationSession
from napari_medsam2.widgets.actions import ACTIONS, key_text
from napari_medsam2.widgets.dock import MedSam2Dock
from napari_medsam2.widgets.kept import last_session

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_medsam2.backend.protocol import Embedding
    from napari_medsam2.widgets.annotation import Annotation

__all__ = ["Monkey", "SlowDummy"]

_NAPARIS_OWN = ("for non-painted dimension",)
"""What napari 0.9 raises itself: painting where the sliders stand beyond a Labels layer."""
_NAPARIS_PLACES = ("first_nonzero_coordinate", "_set_drag_start")
"""Functions of napari 0.9 that raise: painting in 3-D on a Labels layer that has fewer axes than the viewer; drawing a
box where the slider stands between two pixels, on a layer that a closed dock left behind."""
_FEW = 2
"""What else may go wrong in napari without any of our code; it is printed, and more of it is looked into."""
_SHAPE = (6, 36, 44)
_MOST_LAYERS = 9


class SlowDummy(DummyBackend):
    """A network that takes its time, so that things happen while it works."""

    def encode(self, images: torch.Tensor) -> Any:
        time.sleep(0.002)
        return super().encode(images)

    def adopt(self, embedding: Embedding, masks: torch.Tensor) -> Any:
        time.sleep(0.001)
        return super().adopt(embedding, masks)


class Monkey:
    """Does things with a viewer; `act` does one of them and raises what must not happen.

    Parameters
    ----------
    viewer : napari.Viewer
        Shown.
    seed : int
        The same seed does the same.
    capture : callable
        A context manager that collects exceptions of Qt's slots.
    notes : list of str
        Where notifications are collected.
    """

    def __init__(self, viewer: Any, seed: int, capture: Callable[[], Any], notes: list[str]) -> None:
        self.viewer, self.rng = viewer, np.random.default_rng(seed)
        self.capture, self.notes = capture, notes
        self.done: list[str] = []
        self.checked = self.compared = 0
        self.foreign: list[str] = []
        self.add_image()
        self.docks = [self._new_dock()]
        self.weights = {name: weight for name, weight in _WEIGHTS.items() if hasattr(self, name)}
        assert len(self.weights) == len(_WEIGHTS)

    def act(self) -> None:
        names = list(self.weights)
        weights = np.array([self.weights[name] for name in names], float)
        name = str(self.rng.choice(names, p=weights / weights.sum()))
        self.done.append(name)
        with self.capture() as exceptions:
            try:
                getattr(self, name)()
            except Exception as raised:
                if not _is_naparis(raised):
                    raise
            if self.rng.random() < 0.5:
                QApplication.processEvents()
        for _, error, _ in exceptions:
            if not _is_naparis(error):
                self._judge(error)
        bad = [note for note in self.notes if note.split(":")[0].endswith(("Error", "Exception"))]
        assert not bad, "\n".join(bad)
        del self.notes[:]

    def end(self) -> None:
        for dock in self.docks:
            dock.shut()
        # What went wrong in napari last is kept by Python, with all that it was about: no viewer would go.
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            if hasattr(sys, name):
                delattr(sys, name)

    def _judge(self, error: BaseException) -> None:
        """What Qt called goes through our code, or is none of our business."""
        frames = traceback.extract_tb(error.__traceback__)
        if len(self.foreign) >= _FEW or any("napari_medsam2" in frame.filename for frame in frames):
            raise error
        self.foreign.append(f"action {len(self.done)}: {error!r} in {frames[-1].name} of {frames[-1].filename}")

    # -- shorthand -------------------------------------------------------------------------------------------------

    @property
    def dock(self) -> MedSam2Dock:
        return self.docks[0]

    @property
    def annotation(self) -> Annotation | None:
        return self.dock.bench.annotation

    def note(self, *what: Any) -> None:
        self.done[-1] += " " + " ".join(map(str, what))

    def pick(self, options: Any) -> Any:
        options = list(options)
        return options[int(self.rng.integers(len(options)))]

    def label(self) -> int | None:
        annotation = self.annotation
        return None if annotation is None or not annotation.session.objects else self.pick(annotation.session.objects)

    def spot(self) -> tuple[float, ...]:
        point = list(map(float, self.viewer.dims.point))
        for axis, size in zip(self.viewer.dims.displayed, self.rng.uniform(-2, 42, 3), strict=False):
            point[axis] = float(size)
        return tuple(point)

    def _new_dock(self) -> MedSam2Dock:
        dock = MedSam2Dock(self.viewer)
        self.viewer.window.add_dock_widget(dock, name=f"Medical SAM 2 ({len(self.done)})", area="right")
        return dock

    # -- what is done ----------------------------------------------------------------------------------------------

    def add_image(self) -> None:
        if len(self.viewer.layers) >= _MOST_LAYERS:
            return
        image = self.rng.integers(15, 40, _SHAPE).astype(np.uint8)
        image[:-1, 6:18, 8:20] = 210
        image[1:, 20:30, 24:38] = 180
        if self.rng.random() < 0.25 and self.done:
            image = np.stack([image, image[::-1]])
        self.viewer.add_image(image, name="cells", contrast_limits=(0, 255))

    def click(self) -> None:
        modifiers = ("Ctrl",) if self.rng.random() < 0.25 else ()
        at = self.spot()
        self.note(at, modifiers)
        click(self.viewer, at, modifiers)

    def drag(self) -> None:
        spots = [self.spot() for _ in range(int(self.rng.integers(2, 6)))]
        self.note(spots)
        drag(self.viewer, spots, ("Ctrl",) if self.rng.random() < 0.15 else ())

    def key(self) -> None:
        name = self.pick([name for name, action in ACTIONS.items() if action.key])
        self.note(name)
        key(self.viewer, key_text(name).replace("Enter", "Return"))

    def slider(self) -> None:
        axis = int(self.rng.integers(self.viewer.dims.ndim))
        at = int(self.rng.integers(-1, 7))
        self.note(axis, at)
        self.viewer.dims.set_point(axis, at)

    def remove_own_layer(self) -> None:
        if self.annotation is not None:
            layer = self.pick(self.annotation.own_layers())
            self.note(layer.name)
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def remove_layer(self) -> None:
        if self.viewer.layers:
            layer = self.pick(self.viewer.layers)
            self.note(layer.name)
            self.viewer.layers.remove(layer)

    def rename_layer(self) -> None:
        if self.viewer.layers:
            self.pick(self.viewer.layers).name = self.pick(["cells", "cells masks", "x", "Ω", "a" * 60])

    def duplicate_layer(self) -> None:
        from napari.layers._layer_actions import _duplicate_layer

        if self.viewer.layers and len(self.viewer.layers) < _MOST_LAYERS:
            layer = self.pick(self.viewer.layers)
            self.note(layer.name)
            self.viewer.layers.selection = {layer}
            _duplicate_layer(self.viewer.layers)

    def reorder(self) -> None:
        count = len(self.viewer.layers)
        if count:
            self.viewer.layers.move(int(self.rng.integers(count)), int(self.rng.integers(count)))

    def activate(self) -> None:
        if self.viewer.layers:
            layer = self.pick([*self.viewer.layers, None])
            self.note(layer)
            self.viewer.layers.selection.active = layer

    def hide_layer(self) -> None:
        if self.viewer.layers:
            layer = self.pick(self.viewer.layers)
            layer.visible = not layer.visible

    def mode(self) -> None:
        layer = self.viewer.layers.selection.active
        if layer is not None and hasattr(layer, "_modeclass"):
            # napari 0.9 divides by zero where an empty layer is transformed.
            mode = self.pick([str(mode) for mode in layer._modeclass if str(mode) != "transform"])
            self.note(layer.name, mode)
            with contextlib.suppress(ValueError):
                layer.mode = mode

    def brush(self) -> None:
        annotation = self.annotation
        if annotation is not None:
            layer = annotation.masks.layer
            what = int(self.rng.integers(5))
            self.note(what)
            if what == 0:
                layer.selected_label = int(self.rng.integers(0, 12))
            elif what == 1:
                layer.brush_size = int(self.rng.integers(1, 14))
            elif what == 2:
                layer.n_edit_dimensions = self.pick([2, layer.ndim])
            elif what == 3:
                layer.preserve_labels = not layer.preserve_labels
            else:
                layer.contiguous = not layer.contiguous

    def delete_points(self) -> None:
        annotation = self.annotation
        if annotation is not None and len(annotation.prompts.points.data):
            points = annotation.prompts.points
            points.selected_data = {int(self.rng.integers(len(points.data)))}
            points.remove_selected()

    def delete_boxes(self) -> None:
        annotation = self.annotation
        if annotation is not None and len(annotation.prompts.boxes.data):
            boxes = annotation.prompts.boxes
            boxes.selected_data = {int(self.rng.integers(len(boxes.data)))}
            boxes.remove_selected()

    def button(self) -> None:
        dock = self.dock
        buttons = [
            *dock.prompt.tools.values(), dock.prompt.negative, dock.prompt.accept, dock.prompt.discard,
            dock.prompt.undo, dock.prompt.redo, dock.propagate.go, dock.propagate.again, dock.propagate.stop,
            dock.prompt.hover,
        ]  # fmt: skip
        button = self.pick(buttons)
        self.note(button.text())
        button.click()

    def undo(self) -> None:
        for _ in range(int(self.rng.integers(1, 5))):
            self.dock.prompt.undo.click()

    def redo(self) -> None:
        for _ in range(int(self.rng.integers(1, 5))):
            self.dock.prompt.redo.click()

    def propagate(self) -> None:
        section = self.dock.propagate
        section.direction.setCurrentIndex(int(self.rng.integers(3)))
        section.objects.setCurrentIndex(int(self.rng.integers(2)))
        section.ranged.setChecked(bool(self.rng.random() < 0.3))
        section.first.setValue(int(self.rng.integers(6)))
        section.last.setValue(int(self.rng.integers(6)))
        section.part.setChecked(bool(self.rng.random() < 0.5))
        section.go.click()

    def table(self) -> None:
        label, table = self.label(), self.dock.objects.table
        if label is None or self.annotation is None:
            return
        what = int(self.rng.integers(12))
        self.note(what, label)
        others = tuple(self.annotation.session.objects)
        if what == 0:
            table.selected.emit(label)
        elif what == 1:
            table.renamed.emit(label, self.pick(["nucleus", "", "ß" * 50, "1"]))
        elif what == 2:
            table.recolored.emit(label, self.pick(["#ff0000", "#00ff7f", None]))
        elif what == 3:
            table.visibility.emit((label,), bool(self.rng.random() < 0.5))
        elif what == 4:
            table.locked.emit(label, bool(self.rng.random() < 0.4))
        elif what == 5:
            table.merge.emit(others[:3])
        elif what == 6:
            table.split.emit(label, self.pick(["touching", "pieces", "pieces-2d"]))
        elif what == 7:
            table.delete.emit((label,))
        elif what == 8:
            table.operation.emit((label,), self.pick(["fill", "smooth", "interpolate"]))
        elif what == 9:
            table.jumped.emit(label)
        elif what == 10:
            table.picking.emit(bool(self.rng.random() < 0.5))
        else:
            table.added.emit()

    def review(self) -> None:
        panels = self.panels()
        if "ReviewPanel" not in panels:
            return
        panel = panels["ReviewPanel"]
        bar, label = panel.bar, self.label()
        what = int(self.rng.integers(6))
        self.note(what)
        if what == 5:
            if label is not None:
                panel.strip.jumped.emit(label, int(self.rng.integers(6)))
        else:
            (bar.next_worst, bar.accepted, bar.rejected, bar.skipped, bar.back)[what].emit()

    def bank(self) -> None:
        panels = self.panels()
        if "BankPanel" not in panels:
            return
        view = panels["BankPanel"].view
        index, on = int(self.rng.integers(6)), bool(self.rng.random() < 0.6)
        what = int(self.rng.integers(4))
        self.note(what, index, on)
        if what == 0:
            view.pinned.emit(index, on)
        elif what == 1:
            view.dropped.emit(index, on)
        elif what == 2:
            view.jumped.emit(index)
        else:
            view.config_changed.emit(BankConfig(self.pick(["self-sorting", "released", "fifo"]), size=3))

    def panels(self) -> dict[str, Any]:
        return {type(panel).__name__: panel for panel in self.dock._panels}

    def close_panel(self) -> None:
        panels = self.panels()
        if panels:
            name = self.pick(panels)
            self.note(name)
            # As the cross in its title bar does.
            holder = panels[name].parentWidget()
            if holder is not None and hasattr(holder, "destroyOnClose"):
                holder.destroyOnClose()

    def start_or_finish(self) -> None:
        self.dock.image.start.click()

    def start(self) -> None:
        if self.annotation is None:
            images = self.dock.image.layer.count()
            if images:
                self.dock.image.layer.setCurrentIndex(int(self.rng.integers(images)))
                self.dock.image.kind.setCurrentIndex(int(self.rng.random() < 0.15))
            self.dock.image.start.click()

    def resume(self) -> None:
        entry = last_session()
        if self.annotation is None and entry is not None and len(self.viewer.layers) < _MOST_LAYERS:
            self.note(entry.name)
            self.dock.bench.open_folder(entry.folder)
            self.wait()

    def three(self) -> None:
        self.viewer.dims.ndisplay = 5 - self.viewer.dims.ndisplay

    def flat(self) -> None:
        self.viewer.dims.ndisplay = 2
        self.viewer.dims.order = tuple(range(self.viewer.dims.ndim))
        self.viewer.reset_view()

    def roll(self) -> None:
        self.viewer.dims.roll()

    def transpose(self) -> None:
        self.viewer.dims.transpose()

    def other_dock(self) -> None:
        if len(self.docks) == 1:
            self.docks.append(self._new_dock())
        elif self.rng.random() < 0.5:
            self.docks.reverse()
        else:
            dock = self.docks.pop()
            self.viewer.window.remove_dock_widget(dock)
            dock.close()
            dock.deleteLater()

    def model(self) -> None:
        self.dock.bench.attempt(lambda: self.dock.bench.use_model(self.pick(["compact", "other"])))

    def panels_of_help(self) -> None:
        self.dock.show_help()
        self.dock._help.hide()  # type: ignore[union-attr]

    def wait(self) -> None:
        annotation = self.annotation
        if annotation is not None:
            wait_until(lambda: not annotation.prompting.busy and not annotation.running.busy, 60)
        QApplication.processEvents()

    def breathe(self) -> None:
        end = time.monotonic() + float(self.rng.uniform(0, 0.02))
        while time.monotonic() < end:
            QApplication.processEvents()

    # -- what must hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold when nothing is under way."""
        for dock in self.docks:
            annotation = dock.bench.annotation
            if annotation is None:
                assert dock.image.start.text() == "Annotate"
                continue
            for _ in range(3):
                wait_until(lambda a=annotation: not a.prompting.busy and not a.running.busy, 60)  # type: ignore[misc]
                QApplication.processEvents()
            dock.board.flush()
            self._check(dock, annotation)
            self.checked += 1

    def _check(self, dock: MedSam2Dock, annotation: Annotation) -> None:
        session, layer = annotation.session, annotation.masks.layer
        assert layer in self.viewer.layers
        assert annotation.image in self.viewer.layers
        for index in range(len(session.stack)):
            shown = np.asarray(layer.data[annotation.frame.key(index)])
            # In every channel, if there are channels.
            wanted = np.broadcast_to(session.slice_labels(index), shown.shape)
            np.testing.assert_array_equal(shown, wanted)
        here = annotation.frame.index
        if annotation.frame.displayed() is None and here is not None and layer.visible and layer.loaded:
            # What napari draws, of which only the part that changes is handed to it.
            drawn = layer._slice.image
            height, width = session.stack.slice_shape(here)
            np.testing.assert_array_equal(drawn.raw[:height, :width], session.slice_labels(here))
            if not layer.contour:
                np.testing.assert_array_equal(drawn.view, layer.colormap._data_to_texture(drawn.raw))
        assert annotation.label in session.objects or (annotation.label == 0 and not session.objects)
        if annotation.label:
            assert layer.selected_label == annotation.label or layer.selected_label not in session.objects
        points = sum(len(prompt.points) for prompt in session.prompts.values())
        boxes = sum(prompt.box is not None for prompt in session.prompts.values())
        assert len(annotation.prompts.points.data) == points
        # The preview under the mouse is drawn there as well.
        assert len(annotation.prompts.boxes.data) - annotation.prompts._drawing == boxes
        assert dock.prompt.undo.isEnabled() == session.can_undo
        assert dock.prompt.redo.isEnabled() == session.can_redo
        assert dock.image.start.text() == "Finish"
        assert not dock.propagate.running.isVisibleTo(dock)
        rows = dock.board.ledger.object_rows(dock.board.color_of)  # type: ignore[union-attr]
        assert [row.label for row in rows] == list(session.objects)
        for row in rows:
            filled = [i for i in session.results.indices(row.label) if session.results.get(row.label, i).area]  # type: ignore[union-attr]
            assert row.slices == len(filled), (row, filled)

    def compare(self) -> None:
        """The folder holds what is in memory; all steps undone leave nothing; done again they leave the same."""
        self.check()
        annotation = self.annotation
        if annotation is None:
            return
        session = annotation.session
        wait_until(lambda: session.folder is not None or self.annotation is not annotation, 60)
        if session.folder is None:
            return
        with AnnotationSession.open(session.folder, backend=session.backend) as other:
            same(session, other)
        before = [session.slice_labels(index) for index in range(len(session.stack))]
        prompts, marks, steps = dict(session.prompts), dict(session.marks), len(session.history)
        count = sum(not step.undone for step in session.history)
        for _ in range(count):
            self.dock.prompt.undo.click()
        assert not session.can_undo
        assert not session.prompts
        assert not session.objects
        assert not session.marks
        assert not session.pins
        assert not any(session.slice_labels(index).any() for index in range(len(session.stack)))
        self.check()
        for _ in range(count):
            self.dock.prompt.redo.click()
        assert len(session.history) == steps
        for index, labels in enumerate(before):
            np.testing.assert_array_equal(session.slice_labels(index), labels)
        assert dict(session.prompts) == prompts
        assert dict(session.marks) == marks
        self.check()
        self.compared += 1


def _is_naparis(error: BaseException) -> bool:
    if any(text in str(error) for text in _NAPARIS_OWN):
        return True
    return any(frame.name in _NAPARIS_PLACES for frame in traceback.extract_tb(error.__traceback__))


def same(one: AnnotationSession, other: AnnotationSession) -> None:
    """Whether two sessions hold the same."""
    assert dict(one.objects) == dict(other.objects)
    assert dict(one.marks) == dict(other.marks)
    assert dict(one.pins) == dict(other.pins)
    assert one.prompts.keys() == other.prompts.keys()
    for place, prompt in one.prompts.items():
        found = other.prompts[place]
        np.testing.assert_array_equal(prompt.points, found.points)
        np.testing.assert_array_equal(prompt.labels, found.labels)
        assert prompt.box == found.box
        assert (prompt.mask is None) == (found.mask is None)
    for index in range(len(one.stack)):
        np.testing.assert_array_equal(one.slice_labels(index), other.slice_labels(index))
    assert [step.name for step in one.history] == [step.name for step in other.history]


_WEIGHTS = {
    "click": 12, "drag": 8, "key": 16, "slider": 6, "remove_own_layer": 0.7, "remove_layer": 0.5, "rename_layer": 1,
    "duplicate_layer": 0.7, "reorder": 1.5, "activate": 2.5, "hide_layer": 1, "mode": 2, "brush": 3, "delete_points": 1,
    "delete_boxes": 1, "button": 7, "undo": 2, "redo": 2, "propagate": 3, "table": 8, "review": 4, "bank": 3,
    "close_panel": 0.4, "start_or_finish": 0.7, "start": 5, "resume": 1.2, "three": 0.7, "flat": 4, "roll": 0.7,
    "transpose": 0.5, "other_dock": 0.7, "model": 0.6, "panels_of_help": 0.4, "wait": 3, "breathe": 4, "add_image": 1.5,
}  # fmt: skip

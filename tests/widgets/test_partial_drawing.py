"""Only what a step changes is drawn anew, and looks as if all were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QApplication
from tests.widgets.docking import settle
from tests.widgets.driving import click, drag, key
from tests.widgets.test_dock import begin, dock, notes, world

if TYPE_CHECKING:
    import pytest

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

__all__ = ["dock", "notes"]


class Drawn:
    """Counts what is drawn from when it is made on."""

    def __init__(self, annotation: Annotation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slices = self.canvases = 0
        self.windows: list[int] = []
        results = annotation.session.results
        compose = results.compose

        def counted(index: int, shape: Any, dtype: Any, window: Any = None) -> np.ndarray:
            out = compose(index, shape, dtype, window)
            if window is None:
                self.slices += 1
            else:
                self.windows.append(out.size)
            return out

        monkeypatch.setattr(results, "compose", counted)
        annotation.masks.layer.events.set_data.connect(self._canvas)

    def _canvas(self, _: Any = None) -> None:
        self.canvases += 1


def _picture(viewer: Any) -> np.ndarray:
    QApplication.processEvents()
    return np.asarray(viewer.window._qt_viewer.screenshot(flash=False))


def _same_as_drawn_whole(annotation: Annotation, viewer: Any) -> None:
    layer: Any = annotation.masks.layer
    index = annotation.index
    assert index is not None
    np.testing.assert_array_equal(layer._slice.image.raw, annotation.session.slice_labels(index))
    shown = _picture(viewer)
    layer.refresh()
    np.testing.assert_array_equal(_picture(viewer), shown)


def test_a_click_draws_what_it_changes(dock: MedSam2Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = dock.bench.viewer
    annotation = begin(dock)
    empty = _picture(viewer)
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    drawn = Drawn(annotation, monkeypatch)
    key(viewer, "N")
    click(viewer, world(dock, 28, 68))
    settle(annotation)
    assert (drawn.slices, drawn.canvases) == (0, 0), "nothing was drawn whole"
    # The square has 16 × 16 pixels, and its mask a rim.
    assert drawn.windows
    assert max(drawn.windows) < 30 * 30
    assert annotation.session.slice_labels(5)[28, 68] == 2
    assert not np.array_equal(_picture(viewer), empty)
    _same_as_drawn_whole(annotation, viewer)

    drawn.windows.clear()
    for step in (annotation.undo, annotation.undo, annotation.redo):
        step()
        settle(annotation)
        _same_as_drawn_whole(annotation, viewer)
    annotation.operations.delete([1])
    settle(annotation)
    _same_as_drawn_whole(annotation, viewer)
    assert drawn.windows


def test_what_of_a_stroke_is_not_taken_over_goes(dock: MedSam2Dock) -> None:
    """A stroke across a locked object changes the own one alone; no trace of it stays on the other."""
    viewer = dock.bench.viewer
    annotation = begin(dock)
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    key(viewer, "N")
    click(viewer, world(dock, 28, 68))
    settle(annotation)
    annotation.lock(1, True)
    before = annotation.session.slice_labels(5)
    layer: Any = annotation.masks.layer
    viewer.layers.selection.active = layer
    layer.mode, layer.brush_size, layer.selected_label = "paint", 5, 2
    drag(viewer, [world(dock, 28, 30), world(dock, 28, 45), world(dock, 28, 55)])
    settle(annotation)
    after = annotation.session.slice_labels(5)
    np.testing.assert_array_equal(after == 1, before == 1)
    assert (after == 2).sum() > (before == 2).sum() + 50
    _same_as_drawn_whole(annotation, viewer)


def test_hidden_contoured_and_rotated_layers_are_drawn_whole(
    dock: MedSam2Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = dock.bench.viewer
    annotation = begin(dock)
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    layer: Any = annotation.masks.layer
    layer.contour = 2
    drawn = Drawn(annotation, monkeypatch)
    key(viewer, "N")
    click(viewer, world(dock, 28, 68))
    settle(annotation)
    assert drawn.canvases
    _same_as_drawn_whole(annotation, viewer)
    layer.contour = 0
    layer.visible = False
    annotation.undo()
    settle(annotation)
    layer.visible = True
    _same_as_drawn_whole(annotation, viewer)


def test_a_slice_that_was_left_is_right_when_it_is_looked_at_again(dock: MedSam2Dock) -> None:
    viewer = dock.bench.viewer
    annotation = begin(dock)
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    viewer.dims.set_current_step(0, 8)
    annotation.undo()
    settle(annotation)
    viewer.dims.set_current_step(0, 5)
    _same_as_drawn_whole(annotation, viewer)
    assert not np.asarray(annotation.masks.layer.data[5]).any()

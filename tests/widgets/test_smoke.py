"""A person's whole way, from the sample to the reopened session, under the napari and the Qt that are asked for.

`make smoke` runs it under every pair that the other tests do not run under, and says in ``SMOKE_NAPARI`` and
``SMOKE_QT`` which versions it means to have; nothing here is replaced by a stand-in.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import pytest
import qtpy
from qtpy.QtWidgets import QApplication, QFileDialog
from tests.widgets.docking import hear, settle
from tests.widgets.driving import click, drag, key, wait_until

from napari_medsam2.session import AnnotationSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_medsam2.widgets.dock import MedSam2Dock

NAME, SAMPLE = "napari-medsam2", "nuclei-3d"
NUCLEUS = 12, 5, 18
"""A pixel within a nucleus of the sample, which the embedded model finds with one click."""
BESIDE = 12, 55, 4
"""A dark one, far from it."""


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any]) -> Iterator[Callable[[], tuple[Any, MedSam2Dock]]]:
    docks: list[MedSam2Dock] = []

    def open_napari() -> tuple[Any, MedSam2Dock]:
        """A window with the dock, as the menu *Plugins* opens it."""
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(1200, 760)
        _, dock = viewer.window.add_plugin_dock_widget(NAME, "Medical SAM 2")
        docks.append(dock)
        return viewer, dock

    yield open_napari
    for dock in docks:
        dock.shut()


def laid_out(viewer: Any) -> None:
    """Wait until the image stays where it is: panels have come, and take some of the canvas."""
    begun = time.monotonic()
    camera, canvas = viewer.scene.camera, viewer.window._qt_viewer.canvas.native
    last, since = (0.0, 0), begun
    while (now := time.monotonic()) - since < 0.5:
        assert now - begun < 30
        QApplication.processEvents()
        if (seen := (camera.zoom, canvas.height())) != last:
            last, since = seen, now
        time.sleep(0.01)


def test_the_versions_are_those_that_are_asked_for() -> None:
    if "SMOKE_NAPARI" not in os.environ:
        pytest.skip("`make smoke` says which versions it wants")
    binding = getattr(qtpy, "PYSIDE_VERSION", None) or getattr(qtpy, "PYQT_VERSION", None)
    wanted = os.environ["SMOKE_NAPARI"], os.environ["QT_API"], os.environ["SMOKE_QT"]
    assert (napari.__version__, qtpy.API_NAME.lower(), binding) == wanted


def test_from_the_sample_to_the_reopened_session(
    opened: Callable[[], tuple[Any, MedSam2Dock]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notes = hear(monkeypatch)
    viewer, dock = opened()
    image, reference = viewer.open_sample(NAME, SAMPLE)
    viewer.layers.selection.active = image
    index = NUCLEUS[0]
    viewer.dims.set_current_step(0, index)
    wait_until(lambda: dock.bench.backend.loaded, 120)
    assert dock.bench.model == "compact"
    dock.image.start.click()
    annotation = dock.bench.annotation
    assert annotation is not None

    def place(spot: tuple[int, int, int], right: int = 0) -> tuple[float, ...]:
        return tuple(annotation.frame.to_world(spot[0], spot[1], spot[2] + right))

    laid_out(viewer)
    click(viewer, place(NUCLEUS))
    settle(annotation)
    shown = annotation.masks.layer.data
    truth = np.asarray(reference.data) == reference.data[NUCLEUS]
    mask = np.asarray(shown[index]) == 1
    assert 2 * (mask & truth[index]).sum() > 0.7 * (mask.sum() + truth[index].sum())

    key(viewer, "G")
    settle(annotation, 240)
    assert len(annotation.session.results.indices(1)) > 10
    followed = np.asarray(shown) == 1
    assert 2 * (followed & truth).sum() > 0.5 * (followed.sum() + truth.sum())

    key(viewer, "B")
    annotation.masks.layer.brush_size = 3
    assert shown[BESIDE] == 0
    drag(viewer, [place(BESIDE), place(BESIDE, 3), place(BESIDE, 6)])
    painted = annotation.session.slice_labels(index)
    assert painted[BESIDE[1], BESIDE[2] + 3] == 1
    assert ((painted == 1) & ~mask).sum() > 6
    np.testing.assert_array_equal(shown[index], painted)
    key(viewer, "Ctrl+Z")
    np.testing.assert_array_equal(annotation.session.slice_labels(index) == 1, mask)
    np.testing.assert_array_equal(shown[index] == 1, mask)
    key(viewer, "Ctrl+Shift+Z")
    np.testing.assert_array_equal(annotation.session.slice_labels(index), painted)

    folder = tmp_path / "nucleus"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder), ""))
    wait_until(lambda: annotation.session.folder is not None, 60)
    dock.save.keep.click()
    wait_until(lambda: annotation.session.folder == folder, 60)
    labels = np.array([annotation.session.slice_labels(i) for i in range(len(shown))])
    dock.board.flush()
    assert dock.board.ledger is not None
    assert [row.slices for row in dock.board.ledger.object_rows(dock.board.color_of)] == [
        np.count_nonzero(labels.any((1, 2)))
    ]
    dock.image.start.click()
    wait_until(lambda: dock.bench.annotation is None, 60)
    assert {layer.name for layer in viewer.layers} == {image.name, reference.name}
    dock.shut()

    viewer, dock = opened()
    viewer.open(folder, plugin=NAME)
    wait_until(lambda: dock.bench.annotation is not None, 60)
    again = dock.bench.annotation
    assert again is not None
    settle(again)
    np.testing.assert_array_equal(np.asarray(again.masks.layer.data), labels)
    assert again.session.can_undo
    dock.image.start.click()
    wait_until(lambda: dock.bench.annotation is None, 60)
    with AnnotationSession.open(folder, backend=dock.bench.backend) as kept:
        assert [step.name for step in kept.history][-1].startswith("paint on slice")
    assert notes == []

"""The way from an image to masks in all slices, under whatever binding of Qt and version of napari is installed.

``QT_API=pyqt6 PYTEST_QT_API=pyqt6 python -m pytest tests/widgets/test_smoke.py`` runs it under another one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import qtpy
from tests.widgets.docking import Patch, begin, fast_model, hear, open_dock, settle
from tests.widgets.driving import click, drag, key, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from napari_medsam2.backend.protocol import Backend

PATCH = Patch((96, 112), 20, 40, 30, 36)


def test_from_a_click_to_a_labelled_stack(
    make_napari_viewer: Callable[..., Any], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.environ.get("QT_API"):
        assert os.environ["QT_API"].lower() == qtpy.API_NAME.lower()
    notes = hear(monkeypatch)
    fast_model(monkeypatch, backend)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    noise = np.random.default_rng(0).integers(0, 20, (7, *PATCH.mask.shape))
    viewer.add_image((PATCH.picture(int) + noise).astype(np.uint8), name="cells", scale=(2, 0.5, 0.5))
    viewer.dims.set_current_step(0, 3)
    dock = open_dock(viewer)
    annotation = begin(dock)
    y, x = PATCH.middle
    click(viewer, (6.0, y / 2, x / 2))
    settle(annotation)
    assert PATCH.overlap(annotation.session.slice_labels(3) == 1) > 0.8
    key(viewer, "G")
    settle(annotation)
    for index in range(7):
        assert PATCH.overlap(np.asarray(annotation.masks.layer.data[index]) == 1) > 0.8
    key(viewer, "B")
    annotation.masks.layer.brush_size = 5
    drag(viewer, [(6.0, 40.0, 5.0), (6.0, 40.0, 12.0)])
    assert annotation.session.slice_labels(3)[80, 16] == 1
    key(viewer, "Ctrl+Z")
    assert annotation.session.slice_labels(3)[80, 16] == 0
    key(viewer, "W")
    wait_until(lambda: annotation._queue is not None)
    wait_until(lambda: annotation.session.folder is not None)
    dock.board.flush()
    assert dock.objects.table.isVisible()
    dock._models()
    dock.show_help()
    assert dock._help is not None
    dock._help.hide()
    dock.image.start.click()
    assert [layer.name for layer in viewer.layers] == ["cells"]
    dock.shut()
    assert notes == []

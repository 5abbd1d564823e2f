"""`make run`, the photographer's hands, and what the window says first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.settings import get_settings
from PIL import Image
from qtpy.QtWidgets import QScrollArea
from tests.dummy import DummyBackend, stack_of_squares
from tests.screens.stage import HEIGHT, WIDTH, Stage
from tests.widgets.driving import wait_until

from napari_medsam2 import AnnotationSession
from napari_medsam2.errors import InputError
from napari_medsam2.widgets.kept import sessions_folder
from napari_medsam2.widgets.start import open_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.backend.protocol import Backend


@pytest.fixture
def napari_of_the_test(
    make_napari_viewer: Callable[..., Any], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medsam2.backend.load_backend", lambda *_, **__: backend)
    monkeypatch.setattr("napari.Viewer", lambda **arguments: make_napari_viewer(**arguments))


@pytest.mark.usefixtures("napari_of_the_test")
def test_a_fresh_window_has_the_sample_and_the_dock_and_nothing_needs_scrolling(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "nuclei-3d")
    assert [layer.name for layer in stage.viewer.layers] == ["nuclei-3d", "nuclei-3d reference"]
    assert stage.viewer.layers.selection.active.name == "nuclei-3d"
    assert stage.viewer.dims.current_step[0] == 15, "the middle, where there is something to see"
    assert "Press Annotate" in stage.dock.next_step.text.text()
    stage.press(stage.dock.image.start)
    area = stage.dock.findChild(QScrollArea, "medsam2-sections")
    assert isinstance(area, QScrollArea)
    # All sections are seen at 1366 × 768, once the panels have their place.
    wait_until(lambda: area.verticalScrollBar().maximum() == 0)
    for section in stage.dock.sections[1:]:
        assert section.minimumSizeHint().width() <= section.width(), f"{section.title()} is cut off"
    stage.click(5, 38)
    assert stage.annotation.session.slice_labels(15)[5, 38] == 1
    assert stage.clicks == 2
    wait_until(lambda: "G carries it through the stack" in stage.dock.next_step.text.text())
    assert "confidence" in stage.dock.next_step.said.whole()
    stage.shot("picture")
    taken = Image.open(tmp_path / "picture.png")
    assert taken.size == (stage.window.screen().geometry().width(), stage.window.screen().geometry().height())
    assert np.asarray(taken.convert("RGB"))[:HEIGHT, :WIDTH].std() > 10
    stage.close()


@pytest.mark.usefixtures("napari_of_the_test")
def test_nothing_needs_scrolling_where_the_last_session_is_offered() -> None:
    name = "a session with a name that is longer than any button"
    with AnnotationSession.create(
        sessions_folder() / name, stack_of_squares(), backend=DummyBackend(), embed=True
    ) as session:
        session.add_object("cell")
    stage = Stage(None, "nuclei-3d")
    resume = stage.dock.save.resume
    wait_until(resume.isVisible)
    area = stage.dock.findChild(QScrollArea, "medsam2-sections")
    assert isinstance(area, QScrollArea)
    wait_until(lambda: area.verticalScrollBar().maximum() == 0)
    assert resume.fontMetrics().horizontalAdvance(resume.text()) < resume.width(), "its text is cut off"
    assert name in resume.toolTip()
    stage.press(resume)
    wait_until(lambda: stage.dock.bench.annotation is not None, 60)
    # It makes room for what can be done with a session.
    assert not resume.isVisible()
    assert stage.dock.save.export.isVisible()
    stage.close()


@pytest.mark.parametrize("known", ["nothing", "a start", "too much", "a size"])
@pytest.mark.usefixtures("napari_of_the_test")
def test_the_window_fits_the_screen_on_every_start(known: str) -> None:
    """napari asks for more than a laptop has on its first start, and for too little after one that did not end well."""
    settings = get_settings().application
    settings.first_time = known == "nothing"
    settings.window_size = {"too much": (1900, 1000), "a size": (1150, 640)}.get(known)
    settings.window_position = (0, 0)
    viewer, dock = open_window()
    window = viewer.window._qt_window
    room = window.screen().availableGeometry()
    wait_until(lambda: window.width() <= room.width() and window.height() <= room.height())
    if known == "a size":
        assert (window.width(), window.height()) == (1150, 640), "a size that was chosen was not kept"
    elif window.isMaximized():
        assert room.width() < 1296 or room.height() < 880 or known == "too much"
    else:
        assert window.width() >= 1280
    dock.shut()


@pytest.mark.usefixtures("napari_of_the_test")
def test_a_file_takes_the_sample_s_place(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "mine.png")
    viewer, dock = open_window([tmp_path / "mine.png"])
    assert [layer.name for layer in viewer.layers] == ["mine"]
    assert dock.image.start.isEnabled()
    dock.shut()


def test_what_cannot_be_opened_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"there is no file nowhere\.tif"):
        open_window([Path("nowhere.tif")])
    with pytest.raises(InputError, match="there is no sample 'bones'; there are nuclei-3d"):
        open_window(sample_name="bones")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(InputError, match="there is no screen here"):
        open_window()


def test_the_command_ends_with_one_line_and_an_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_medsam2.widgets.start", "--sample", "bones"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no sample 'bones'")
    assert len(done.stderr.splitlines()) == 1

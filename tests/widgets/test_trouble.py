"""What goes wrong, and what a person does that nobody planned: one sentence each, and no work lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QComboBox
from tests.dummy import DummyBackend
from tests.widgets.docking import Patch, at_home, begin, fast_model, hear, open_dock, settle
from tests.widgets.driving import click, drag, key, wait_until
from tests.widgets.monkey import SlowDummy

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.widgets.kept import last_session, recent_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

PATCH = Patch((40, 48), 8, 10, 16, 20)
AT = PATCH.middle


def image(slices: int = 9) -> np.ndarray:
    return np.broadcast_to(PATCH.picture(), (slices, *PATCH.mask.shape)).copy()


class Desks:
    """Viewers with docks, which end with the test."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.docks: list[MedSam2Dock] = []

    def viewer(self) -> Any:
        viewer = self._make(show=True)
        viewer.window.resize(820, 560)
        return viewer

    def open(self, slices: int = 9) -> MedSam2Dock:
        viewer = self.viewer()
        viewer.add_image(image(slices), name="cells", contrast_limits=(0, 255))
        viewer.dims.set_point(0, 4)
        return self.dock(viewer)

    def dock(self, viewer: Any) -> MedSam2Dock:
        self.docks.append(open_dock(viewer))
        return self.docks[-1]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return hear(monkeypatch)


@pytest.fixture
def desks(make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desks]:
    fast_model(monkeypatch, SlowDummy(side=24))
    made = Desks(make_napari_viewer)
    yield made
    for dock in made.docks:
        dock.shut()


def kept(annotation: Annotation) -> Path:
    """Where the work is, once it is anywhere."""
    wait_until(lambda: annotation.session.folder is not None)
    assert annotation.session.folder is not None
    return annotation.session.folder


def prompt(dock: MedSam2Dock, y: float = AT[0], x: float = AT[1]) -> Annotation:
    annotation = dock.bench.annotation or begin(dock)
    click(dock.bench.viewer, (*dock.bench.viewer.dims.point[:-2], y, x))
    settle(annotation)
    return annotation


def reopened(folder: Path) -> AnnotationSession:
    return AnnotationSession.open(folder, backend=DummyBackend(side=24))


def test_a_device_that_is_refused_is_not_shown_as_chosen(desks: Desks, notes: list[str]) -> None:
    dock = desks.open()
    annotation = prompt(dock)
    dock._models()
    assert dock._dialog is not None
    box = dock._dialog.table.findChildren(QComboBox)[0]
    wait_until(lambda: box.count() > 0)
    dock._dialog.table.show_devices({"auto": "Choose by itself", "cpu": "CPU"}, "auto")
    key(dock.bench.viewer, "G")
    box.setCurrentIndex(1)
    assert len(notes) == 1
    assert box.currentData() == dock.bench.device == "auto"
    settle(annotation)
    box.setCurrentIndex(1)
    assert box.currentData() == dock.bench.device == "cpu"
    assert len(notes) == 1


def test_a_mistake_in_the_list_of_models_is_told_once_and_takes_no_model_away(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_CONFIG", str(tmp_path))
    (tmp_path / "models.toml").write_text('[[model]]\nname = "our livers"\npath = "liver.pt"\n')
    dock = desks.open()
    dock._models()
    assert dock._dialog is not None
    assert "sam2.1-hiera-tiny" in dock._dialog._entries
    dock._dialog.table.use.emit("compact")
    wait_until(lambda: dock.bench.backend.loaded)
    assert len(notes) == 1
    assert "model 1" in notes[0]
    (tmp_path / "models.toml").write_text('[[model]]\nname = "our-livers"\npath = "liver.pt"\n')
    dock._dialog.refresh()
    assert "our-livers" in dock._dialog._entries
    assert len(notes) == 1


# -- several viewers and docks -----------------------------------------------------------------------------------------


def test_two_viewers_do_not_know_each_other(desks: Desks, notes: list[str]) -> None:
    one, other = desks.open(), desks.open()
    first, second = prompt(one), begin(other)
    assert not second.session.prompts
    assert second.session.folder != first.session.folder or first.session.folder is None
    key(other.bench.viewer, "N")
    assert len(second.session.objects) == 1
    prompt(other)
    key(one.bench.viewer, "G")
    key(other.bench.viewer, "G")
    settle(first)
    settle(second)
    assert kept(first) != kept(second)
    for annotation in (first, second):
        assert len(annotation.session.results.indices(annotation.label)) == 9
    one.bench.finish()
    assert [layer.name for layer in one.bench.viewer.layers] == ["cells"]
    assert len(other.bench.viewer.layers) == 4
    assert notes == []


def test_two_docks_in_one_viewer_annotate_an_image_each(desks: Desks, notes: list[str]) -> None:
    one = desks.open()
    viewer = one.bench.viewer
    first = prompt(one)
    viewer.add_image(image(), name="more", contrast_limits=(0, 255))
    other = desks.dock(viewer)
    other.image.layer.setCurrentIndex(other.image.layer.findText("more"))
    second = begin(other)
    assert second.image.name == "more"
    prompt(other)
    assert (len(first.session.prompts), len(second.session.prompts)) == (1, 1)
    # The layer that is active says whose keys they are.
    for annotation in (first, second, first):
        viewer.layers.selection.active = annotation.prompts.points
        before = len(first.session.objects), len(second.session.objects)
        key(viewer, "N")
        after = len(first.session.objects), len(second.session.objects)
        assert after[annotation is second] == before[annotation is second] + 1
        assert after[annotation is first] == before[annotation is first]
        annotation.prompting.points(annotation.label, 1, [AT], [1])
        settle(annotation)
    other.shut()
    viewer.layers.selection.active = viewer.layers["cells"]
    key(viewer, "Ctrl+Z")
    assert len(first.session.history) > sum(not step.undone for step in first.session.history)
    assert notes == []


def test_the_cross_of_the_dock_ends_the_work_and_that_of_a_panel_only_the_panel(desks: Desks, notes: list[str]) -> None:
    dock = desks.open()
    viewer, annotation = dock.bench.viewer, prompt(dock)
    folder = kept(annotation)
    assert dock.reopen.isHidden()
    panel = dock._panels[1]
    panel.parentWidget().destroyOnClose()  # type: ignore[union-attr]
    wait_until(lambda: len(dock._panels) == 1)
    assert not dock.reopen.isHidden()
    key(viewer, "G")
    settle(annotation)
    dock.reopen.click()
    assert [type(one).__name__ for one in dock._panels] == ["ReviewPanel", "BankPanel"]
    assert dock.reopen.isHidden()
    dock.parentWidget().destroyOnClose()  # type: ignore[union-attr]
    wait_until(lambda: dock._shut)
    assert dock.bench.annotation is None
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert not any(thread.name.startswith("napari-medsam2") for thread in threading.enumerate())
    with reopened(folder) as session:
        assert not session.read_only
        assert len(session.results.indices(1)) == 9
    key(viewer, "P")
    assert [layer.name for layer in viewer.layers] == ["cells"], "its keys have gone with it"
    assert notes == []


# -- the viewer is closed ----------------------------------------------------------------------------------------------


def close(viewer: Any) -> float:
    """Close a viewer as its window's cross does, and say how long it took."""
    began = time.monotonic()
    viewer.close()
    QApplication.processEvents()
    return time.monotonic() - began


def gone() -> bool:
    QApplication.processEvents()
    return not any(thread.name.startswith("napari-medsam2") for thread in threading.enumerate())


def test_a_viewer_closed_during_a_propagation_keeps_what_is_done(desks: Desks, notes: list[str]) -> None:
    dock = desks.open(60)
    annotation = prompt(dock)
    folder = kept(annotation)
    dock.propagate.go.click()
    results = annotation.session.results
    wait_until(lambda: len(results.indices(1)) > 4)
    assert annotation.running.busy
    done = len(results.indices(1))
    assert close(dock.bench.viewer) < 10
    wait_until(gone)
    with reopened(folder) as session:
        assert not session.read_only
        assert done <= len(session.results.indices(1)) < 60
    assert notes == []


def test_a_viewer_closed_while_the_image_is_still_being_read_keeps_the_work(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, wait = ImageStack.fingerprint_steps, threading.Event()

    def slow(self: ImageStack, unread: list[int] | None = None) -> Any:
        for _ in range(2000):
            if wait.is_set():
                break
            time.sleep(0.005)
            yield 0
        return (yield from whole(self, unread))

    monkeypatch.setattr(ImageStack, "fingerprint_steps", slow)
    dock = desks.open()
    annotation = prompt(dock)
    assert annotation.session.folder is None
    wait.set()
    close(dock.bench.viewer)
    wait_until(gone)
    (entry,) = recent_sessions()
    with reopened(entry.folder) as session:
        assert set(session.prompts) == {(1, 4)}
        assert session.slice_labels(4).any()
    assert notes == []


def test_with_a_damaged_slice_the_work_on_the_others_is_kept(desks: Desks, notes: list[str]) -> None:
    """A stack that is read when it is shown, as of a folder of which one file is damaged."""
    dask: Any = pytest.importorskip("dask")
    da: Any = pytest.importorskip("dask.array")
    viewer, pixels = desks.viewer(), image()

    def read(number: int) -> Any:
        if number == 7:
            raise OSError("a bad sector")
        return pixels[number]

    planes = [da.from_delayed(dask.delayed(read)(n), pixels.shape[1:], pixels.dtype) for n in range(len(pixels))]
    lazy = da.stack(planes)
    viewer.add_image(lazy, name="cells", contrast_limits=(0, 255))
    viewer.dims.set_point(0, 4)
    annotation = prompt(desks.dock(viewer))
    folder = kept(annotation)
    wait_until(lambda: bool(notes))
    assert notes == [
        "1 slice of cells cannot be read, slice 7 first; the session is kept, but knows the image by the other slices, "
        "and the image is not copied into it"
    ]
    close(viewer)
    stack = ImageStack(lazy, "ZYX", window=(0, 255), name="cells")
    with AnnotationSession.open(folder, backend=DummyBackend(side=24), stack=stack) as session:
        assert session.slice_labels(4).any()


def test_a_viewer_closed_during_a_download_does_not_wait_for_it(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def endless(entry: Any, *, progress: Any, cancelled: Any) -> Any:
        begun.set()
        while not cancelled():
            progress(1, 100)
            time.sleep(0.01)
        raise RuntimeError("cancelled")

    monkeypatch.setattr("napari_medsam2.backend.download.fetch", endless)
    dock = desks.open()
    dock._models()
    assert dock._dialog is not None
    name = next(iter(dock._dialog._entries))
    dock._dialog.table.get.emit(name)
    wait_until(begun.is_set)
    # All else goes on meanwhile: it is prompted, kept and reviewed.
    annotation = prompt(dock)
    kept(annotation)
    key(dock.bench.viewer, "G")
    settle(annotation)
    key(dock.bench.viewer, "W")
    wait_until(lambda: annotation.reviewing.known)
    close(dock.bench.viewer)
    wait_until(gone)
    assert notes == []


# -- layers go ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["masks", "points", "boxes", "image"])
def test_layers_deleted_during_a_propagation(desks: Desks, notes: list[str], which: str) -> None:
    dock = desks.open(40)
    annotation = prompt(dock)
    folder = kept(annotation)
    dock.propagate.go.click()
    wait_until(lambda: len(annotation.session.results.indices(1)) > 3)
    layers = {
        "masks": annotation.masks.layer, "image": annotation.image, "points": annotation.prompts.points,
        "boxes": annotation.prompts.boxes,
    }  # fmt: skip
    dock.bench.viewer.layers.remove(layers[which])
    if which in ("masks", "image"):
        assert dock.bench.annotation is None
        with reopened(folder) as session:
            assert len(session.results.indices(1)) > 3
    else:
        settle(annotation)
        assert len(annotation.session.results.indices(1)) == 40
        key(dock.bench.viewer, "P")
        assert len(annotation.prompts.points.data) == 1
        key(dock.bench.viewer, "N")
        assert annotation.label == 2, "the layer that came back has the keys"
    assert notes == []


def test_an_image_removed_while_a_question_is_with_the_model(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = desks.open()
    annotation = prompt(dock)
    asked, go_on = threading.Event(), threading.Event()
    decode = DummyBackend.decode

    def slow(self: DummyBackend, *args: Any, **kwargs: Any) -> Any:
        asked.set()
        go_on.wait(10)
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(DummyBackend, "decode", slow)
    click(dock.bench.viewer, (4.0, AT[0] + 3, AT[1]))
    wait_until(asked.is_set)
    dock.bench.viewer.layers.remove(annotation.image)
    go_on.set()
    assert dock.bench.annotation is None
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.005)
    assert not dock.bench.viewer.layers
    assert notes == []


# -- the process is killed ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_after_a_kill_the_last_session_is_offered(desks: Desks, notes: list[str]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.widgets._gui_driver"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        **at_home(),
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "here\n"
    child.kill()
    child.wait()
    child.stdout.close()
    entry = last_session()
    assert entry is not None
    dock = desks.dock(desks.viewer())
    wait_until(lambda: not dock.save.resume.isHidden())
    dock.save.resume.click()
    wait_until(lambda: dock.bench.annotation is not None)
    annotation = dock.bench.annotation
    assert annotation is not None
    assert annotation.session.folder == entry.folder
    assert not annotation.session.read_only
    found = annotation.session.results.indices(1)
    assert 12 < len(found) < 400
    assert annotation.masks.layer.data.shape == (400, 40, 48)
    annotation.show(3)
    np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[3]), annotation.session.slice_labels(3))
    assert annotation.session.slice_labels(3).any()
    assert len(annotation.prompts.points.data) == 1
    # One step that takes it all back, as if it had been stopped.
    key(dock.bench.viewer, "Ctrl+Z")
    assert len(annotation.session.results.indices(1)) == 1
    assert not [note for note in notes if "Error" in note]


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_said_once_and_nothing_is_thrown_away(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("NAPARI_MEDSAM2_SESSIONS", str(blocked / "sessions"))
    dock = desks.open()
    annotation = begin(dock)
    wait_until(lambda: bool(notes))
    assert len(notes) == 1
    assert "make the session" in notes[0]
    prompt(dock)
    key(dock.bench.viewer, "G")
    settle(annotation)
    assert len(annotation.session.results.indices(1)) == 9
    assert len(notes) == 1
    # To finish would lose it.
    dock.image.start.click()
    wait_until(lambda: len(notes) == 2)
    assert "Save as" in notes[1]
    assert dock.bench.annotation is annotation
    assert len(dock.bench.viewer.layers) == 4
    dock.bench.save_as(tmp_path / "elsewhere")
    dock.image.start.click()
    wait_until(lambda: dock.bench.annotation is None)
    assert [layer.name for layer in dock.bench.viewer.layers] == ["cells"]
    with reopened(tmp_path / "elsewhere") as session:
        assert len(session.results.indices(1)) == 9
    assert len(notes) == 2


def test_a_full_disk_is_said_once_for_each_thing_that_is_done(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = desks.open(40)
    annotation = prompt(dock)
    folder = kept(annotation)
    before = annotation.session.slice_labels(4)
    full = threading.Event()
    write = os.write

    def fill(handle: int, data: Any) -> int:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr("napari_medsam2._journal.os.write", fill)
    dock.propagate.go.click()
    wait_until(lambda: len(annotation.session.results.indices(1)) > 4)
    full.set()
    settle(annotation)
    assert len(notes) == 1, notes
    assert "space" in notes[0].lower()
    done = len(annotation.session.results.indices(1))
    assert done < 40
    del notes[:]
    prompt(dock, AT[0] + 4)
    assert len(notes) == 1, notes
    assert len(annotation.prompts.points.data) == 1, "what was not taken is not drawn"
    np.testing.assert_array_equal(annotation.session.slice_labels(4), before)
    full.clear()
    del notes[:]
    prompt(dock, AT[0] + 4)
    assert len(annotation.session.prompts[1, 4].points) == 2
    assert notes == []
    with reopened(folder) as session:
        assert len(session.prompts[1, 4].points) == 2
        assert len(session.results.indices(1)) == done


_HOLD = (
    "import sys; from pathlib import Path; from napari_medsam2._lock import Lock; "
    "lock = Lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def test_a_session_that_another_program_has_open_is_shown_and_not_changed(desks: Desks, notes: list[str]) -> None:
    dock = desks.open()
    annotation = prompt(dock)
    folder = kept(annotation)
    dock.bench.finish()
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder / "session.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert last_session() is None, "it is not offered"
        dock.bench.open_folder(folder)
        wait_until(lambda: dock.bench.annotation is not None)
        again = dock.bench.annotation
        assert again is not None
        assert len(notes) == 1
        assert "read-only" in notes[0]
        assert str(other.pid) in notes[0]
        assert again.session.slice_labels(4).any()
        assert "read-only" in dock.save.where.whole()
        del notes[:]
        click(dock.bench.viewer, (4.0, *AT))
        settle(again)
        assert len(notes) == 1
        assert "read-only" in notes[0]
        del notes[:]
        key(dock.bench.viewer, "G")
        settle(again)
        assert len(notes) == 1
        dock.bench.finish()
        assert len(notes) == 1
    finally:
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()


def test_what_was_never_a_session_is_said_in_one_sentence(desks: Desks, notes: list[str], tmp_path: Path) -> None:
    dock = desks.open()
    dock.bench.open_folder(tmp_path)
    wait_until(lambda: bool(notes))
    assert len(notes) == 1
    assert "no session" in notes[0]
    assert dock.bench.annotation is None


def test_a_model_that_cannot_be_loaded_is_said_once(
    desks: Desks, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_medsam2.errors import InputError

    dock = desks.open()

    def broken(*_: Any, **__: Any) -> Any:
        raise InputError("the file of the model is damaged; download it again")

    monkeypatch.setattr("napari_medsam2.backend.load_backend", broken)
    dock.bench.use_model("other")
    wait_until(lambda: bool(notes))
    assert notes == ["The file of the model is damaged; download it again"]
    assert "damaged" in dock.model.about.whole()
    begin(dock)
    click(dock.bench.viewer, (4.0, *AT))
    wait_until(lambda: dock.bench.annotation is not None and not dock.bench.annotation.prompting.busy)
    assert all("damaged" in note for note in notes)


def test_layers_that_a_closed_dock_left_behind_have_no_keys_of_ours(desks: Desks, notes: list[str]) -> None:
    dock = desks.open()
    viewer, annotation = dock.bench.viewer, prompt(dock)
    bench, before = dock.bench, list(viewer.layers)
    dock.close()
    assert bench.closed
    assert list(viewer.layers) == before, "the window may be closing: layers stay"
    for layer in (annotation.masks.layer, annotation.prompts.points, annotation.prompts.boxes):
        viewer.layers.selection.active = layer
        for name in ("E", "P", "N", "G"):
            key(viewer, name)
    # Neither does whoever kept what a key did, such as the command palette.
    for call in bench.calls().values():
        call()
    assert bench.annotation is None
    assert list(viewer.layers) == before
    assert not [note for note in notes if "Error" in note]


def test_a_box_can_be_drawn_on_a_layer_that_was_hidden_while_the_view_was_3d(desks: Desks, notes: list[str]) -> None:
    """napari passes over a hidden Shapes layer there, and adding to it fails afterwards."""
    dock = desks.open()
    viewer, annotation = dock.bench.viewer, begin(dock)
    corners = [(4, 7, 9), (4, 16, 20), (4, 25, 31)]
    drag(viewer, corners)
    settle(annotation)
    viewer.dims.ndisplay = 3
    annotation.prompts.boxes.visible = False
    viewer.dims.ndisplay = 2
    key(viewer, "N")
    drag(viewer, corners)
    settle(annotation)
    assert not [note for note in notes if "Error" in note]
    assert [prompt.box is not None for prompt in annotation.session.prompts.values()] == [True, True]
    annotation.prompts.boxes.visible = True
    assert len(annotation.prompts.boxes.data) == 2

"""What was done comes to the disk without the window waiting for it, whenever a person is done."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
import tifffile
from tests.dummy import DummyBackend
from tests.widgets.docking import Patch, begin, fast_model, hear, open_dock
from tests.widgets.driving import wait_until

from napari_medsam2 import AnnotationSession
from napari_medsam2.widgets.kept import last_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

nib: Any = untyped
PATCH = Patch((40, 48), 8, 10, 16, 20)


class SlowDisk:
    """An image that takes as long to read, in any thread but the main one, as the test wants."""

    def __init__(self) -> None:
        self.pixels = np.broadcast_to(PATCH.picture(), (9, *PATCH.mask.shape)).copy()
        self.shape, self.dtype, self.ndim = self.pixels.shape, self.pixels.dtype, 3
        self.ready = threading.Event()
        self.main = threading.get_ident()
        self.read_by_main: list[Any] = []
        self.broken = False

    def __getitem__(self, key: Any) -> np.ndarray:
        if threading.get_ident() == self.main:
            self.read_by_main.append(key)
        else:
            assert self.ready.wait(60)
            if self.broken:
                raise OSError(5, "Input/output error")
        return np.asarray(self.pixels[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.pixels, dtype)


@pytest.fixture
def disk() -> Iterator[SlowDisk]:
    made = SlowDisk()
    yield made
    made.ready.set()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return hear(monkeypatch)


@pytest.fixture
def dock(
    make_napari_viewer: Callable[..., Any], disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MedSam2Dock]:
    fast_model(monkeypatch, side=24)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(820, 560)
    viewer.add_image(disk, name="cells", contrast_limits=(0, 255))
    made = open_dock(viewer)
    yield made
    disk.ready.set()
    made.shut()


def paint(dock: MedSam2Dock) -> Annotation:
    """Annotate, and paint a mask: it needs neither the model nor the image."""
    dock.image.start.click()
    annotation = dock.bench.annotation
    assert annotation is not None
    label = annotation.new_object("cell")
    annotation.prompting.paint({4: {label: PATCH.mask}})
    assert annotation.session.folder is None
    return annotation


def holds_the_mask(folder: Path) -> bool:
    with AnnotationSession.open(folder, backend=DummyBackend(side=24)) as session:
        return bool((session.slice_labels(4) == PATCH.mask).all())


def test_finishing_waits_for_the_image_and_the_window_does_not(
    dock: MedSam2Dock, disk: SlowDisk, notes: list[str]
) -> None:
    paint(dock)
    wait_until(lambda: "0 %" in dock.save.where.whole())
    del disk.read_by_main[:]
    dock.image.start.click()
    assert len(dock.bench.viewer.layers) == 4, "the work is not safe yet"
    assert dock.image.start.text() == "Finishing…"
    assert not dock.image.start.isEnabled()
    assert not dock.save.keep.isEnabled()
    disk.ready.set()
    wait_until(lambda: dock.bench.annotation is None)
    assert disk.read_by_main == []
    assert dock.image.start.text() == "Annotate"
    assert dock.image.start.isEnabled()
    assert [layer.name for layer in dock.bench.viewer.layers] == ["cells"]
    wait_until(dock.save.resume.isVisible)
    last = last_session()
    assert last is not None
    assert holds_the_mask(last.folder)
    assert notes == []


def test_masks_of_an_image_that_cannot_be_read_any_more_are_exported(
    dock: MedSam2Dock, disk: SlowDisk, notes: list[str], tmp_path: Path
) -> None:
    disk.broken = True
    disk.ready.set()
    annotation = paint(dock)
    wait_until(lambda: len(notes) == 1)
    dock.image.start.click()
    wait_until(lambda: len(notes) == 2)
    assert "cannot read slice 8" in notes[1].lower()
    # A session cannot be saved anywhere without the image's hash.
    assert "Export… for the masks" in notes[1]
    assert dock.bench.annotation is annotation
    dock.bench.export(tmp_path / "labels.tif", "tiff")
    wait_until((tmp_path / "labels.tif").exists)
    assert (tifffile.imread(tmp_path / "labels.tif")[4] == PATCH.mask).all()
    disk.broken = False
    dock.image.start.click()
    wait_until(lambda: dock.bench.annotation is None)
    wait_until(dock.save.resume.isVisible)
    last = last_session()
    assert last is not None
    assert holds_the_mask(last.folder)


@pytest.mark.parametrize("cancelled", [False, True])
def test_nifti_exported_before_the_file_was_looked_at_lies_where_it_lies(
    dock: MedSam2Dock, disk: SlowDisk, notes: list[str], tmp_path: Path, cancelled: bool
) -> None:
    affine = np.array([[0, -0.7, 0, 12.5], [0.8, 0, 0, -30], [0, 0, -2.5, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(disk.pixels.T, affine), tmp_path / "ct.nii")
    dock.bench.images()[0].metadata["path"] = str(tmp_path / "ct.nii")
    annotation = paint(dock)
    del disk.read_by_main[:]
    dock.bench.export(tmp_path / "labels.nii", "nifti")
    if cancelled:
        # What had begun to look at the file begins anew, behind the export.
        dock.bench.save_as(tmp_path / "mine")
    disk.ready.set()
    wait_until((tmp_path / "labels.nii").exists)
    np.testing.assert_array_equal(nib.load(tmp_path / "labels.nii").affine, nib.load(tmp_path / "ct.nii").affine)
    assert disk.read_by_main == []
    wait_until(lambda: annotation.session.folder is not None)
    # A session that is saved holds the image all the same.
    folder = annotation.session.folder
    assert folder is not None
    assert (folder / "image.npy").exists() == cancelled
    assert notes == []


def test_nothing_is_waited_for_where_nothing_was_done(dock: MedSam2Dock, disk: SlowDisk) -> None:
    dock.image.start.click()
    assert len(dock.bench.viewer.layers) == 4
    dock.image.start.click()
    assert len(dock.bench.viewer.layers) == 1
    disk.ready.set()
    dock.shut()
    assert last_session() is None


def test_saving_elsewhere_reads_the_image_in_a_thread_and_then_goes_on_there(
    dock: MedSam2Dock, disk: SlowDisk, notes: list[str], tmp_path: Path
) -> None:
    annotation = paint(dock)
    del disk.read_by_main[:]
    dock.bench.save_as(tmp_path / "mine")
    # A person goes on meanwhile.
    label = annotation.new_object("another")
    annotation.prompting.paint({5: {label: PATCH.mask}})
    dock.image.start.click()
    assert len(dock.bench.viewer.layers) == 4
    disk.ready.set()
    wait_until(lambda: dock.bench.annotation is None)
    assert disk.read_by_main == []
    assert holds_the_mask(tmp_path / "mine")
    with AnnotationSession.open(tmp_path / "mine", backend=DummyBackend(side=24)) as session:
        assert [info.name for info in session.objects.values()] == ["cell", "another"]
    assert notes == []


def test_a_folder_that_holds_something_is_left_alone(
    dock: MedSam2Dock, disk: SlowDisk, notes: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "image.npy").write_text("precious")
    annotation = paint(dock)
    disk.ready.set()
    dock.bench.save_as(tmp_path / "mine")
    wait_until(lambda: bool(notes))
    assert len(notes) == 1
    assert "not an empty folder" in notes[0]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["image.npy"]
    assert (tmp_path / "mine" / "image.npy").read_text() == "precious"
    # It is kept by itself as before.
    wait_until(lambda: annotation.session.folder is not None)
    assert annotation.session.folder is not None
    assert holds_the_mask_while_open(annotation)


def holds_the_mask_while_open(annotation: Annotation) -> bool:
    return bool((annotation.session.slice_labels(4) == PATCH.mask).all())


def test_work_is_saved_though_its_image_was_removed_meanwhile(
    dock: MedSam2Dock, disk: SlowDisk, notes: list[str]
) -> None:
    annotation = paint(dock)
    viewer = dock.bench.viewer
    said: list[str] = []
    dock.bench.events.said.connect(said.append)
    viewer.layers.remove(annotation.image)
    wait_until(lambda: not viewer.layers)
    # Another image is begun before the first one was read.
    viewer.add_image(np.zeros((3, 40, 48), np.uint8), name="next", contrast_limits=(0, 255))
    after = begin(dock)
    disk.ready.set()
    wait_until(lambda: any("was removed; what was done is saved" in one for one in said))
    folder = annotation.session.folder
    assert folder is not None
    assert holds_the_mask(folder)
    assert dock.bench.annotation is after
    assert notes == []


def test_closing_the_window_saves_what_is_on_its_way(dock: MedSam2Dock, disk: SlowDisk) -> None:
    annotation = paint(dock)
    dock.bench.viewer.layers.remove(annotation.image)
    threading.Timer(0.2, disk.ready.set).start()
    dock.shut()
    folder = annotation.session.folder
    assert folder is not None
    assert holds_the_mask(folder)

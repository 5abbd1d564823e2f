"""Masks that were made elsewhere: imported, corrected, carried on, exported."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from tests.dummy import DummyBackend
from tests.widgets.docking import settle
from tests.widgets.driving import click, drag, key, wait_until
from tests.widgets.test_dock import SIDE, TOP, begin, dock, image, is_square, notes, world

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.errors import InputError
from napari_medsam2.importing import LabelFile, as_changes
from napari_medsam2.widgets.takeover import begin as take
from napari_medsam2.widgets.takeover import candidates, numbered, take_over

if TYPE_CHECKING:
    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

__all__ = ["dock", "notes"]


def made_elsewhere(slices: int = 12, side: int = 96) -> np.ndarray:
    """Right but for slice 6, where object 1 is missing a half, and object 2 ends too early."""
    out = np.zeros((slices, side, side), np.uint16)
    for label, (top, left) in TOP.items():
        out[: slices - 2, top : top + SIDE, left : left + SIDE] = label
    out[6][out[6] == 1] = 0
    out[6, 20:28, 20:36] = 1
    out[8:][out[8:] == 2] = 0
    return out


def imported(annotation: Annotation, count: int) -> None:
    wait_until(lambda: len(annotation.session.objects) == count)


def test_a_labels_layer_is_imported_from_the_dock_to_be_reviewed_and_corrected(dock: MedSam2Dock) -> None:
    viewer: Any = dock.bench.viewer
    viewer.add_labels(made_elsewhere(), name="cellpose", visible=False)
    viewer.layers.selection.active = viewer.layers["cells"]
    annotation = begin(dock)
    wait_until(lambda: "Import… takes over cellpose" in dock.next_step.text.text())
    dock.objects.table.buttons["import"].click()
    dialog = dock.objects._dialog
    assert dialog is not None
    assert [dialog.source.itemText(i) for i in range(dialog.source.count())] == ["cellpose", "A file…"]
    dialog.take.click()
    imported(annotation, 2)
    np.testing.assert_array_equal(annotation.session.labels()[:], made_elsewhere())
    assert len(annotation.session.history) == 1, "one step, which one undo takes back"
    # The likeliest wrong one first: the only mask that is unlike its neighbours.
    key(viewer, "W")
    wait_until(lambda: (annotation.label, annotation.index) == (1, 6))
    # The model knows nothing of it: "confidence 1.00" of the likeliest wrong one would be nonsense.
    said = dock.next_step.said.whole()
    assert re.fullmatch(r"Object 1, slice 6: \d\d % like its neighbours; \d+ left", said), said
    drag(viewer, [world(dock, 19, 19), world(dock, 30, 25), world(dock, 36, 36)])
    settle(annotation)
    assert is_square(annotation.session.slice_labels(6) == 1)
    key(viewer, "Shift+G")
    settle(annotation)
    for index in range(10):
        assert is_square(annotation.session.slice_labels(index) == 1)
    assert annotation.session.slice_labels(3)[60, 60] == 0
    np.testing.assert_array_equal(annotation.session.slice_labels(3) == 2, made_elsewhere()[3] == 2)


def test_accepted_masks_stay_while_propagation_fills_what_is_missing(dock: MedSam2Dock) -> None:
    viewer: Any = dock.bench.viewer
    layer = viewer.add_labels(made_elsewhere(), name="cellpose")
    annotation = begin(dock)
    take(annotation, layer, "accepted")
    imported(annotation, 2)
    assert annotation.session.marks[2, 7] == "accepted"
    annotation.select(2)
    viewer.dims.set_current_step(0, 8)
    click(viewer, world(dock, 28, 68))
    settle(annotation)
    key(viewer, "G")
    settle(annotation)
    np.testing.assert_array_equal(annotation.session.labels()[:8], made_elsewhere()[:8])
    assert is_square(annotation.session.slice_labels(9) == 2, 2)
    key(viewer, "Ctrl+Z")
    key(viewer, "Ctrl+Z")
    key(viewer, "Ctrl+Z")
    assert not annotation.session.results.indices()


def test_the_shown_slice_s_masks_become_prompts(dock: MedSam2Dock) -> None:
    viewer: Any = dock.bench.viewer
    layer = viewer.add_labels(made_elsewhere())
    annotation = begin(dock)
    take(annotation, layer, "prompts")
    imported(annotation, 2)
    assert sorted(annotation.session.prompts) == [(1, 5), (2, 5)]
    key(viewer, "G")
    settle(annotation)
    assert is_square(annotation.session.slice_labels(8) == 2, 2)


def test_many_small_prompts_of_a_large_slice_take_little_memory(tmp_path: Path) -> None:
    drawn = np.zeros((2048, 2048), np.uint16)
    for number in range(300):
        top, left = 100 * (number // 20), 100 * (number % 20)
        drawn[top : top + 30, left : left + 30] = number + 1
    stack = ImageStack(np.zeros((1, 2048, 2048), np.uint8), "ZYX", window=(0, 255))
    changes = as_changes(LabelFile("nuclei", lambda _: drawn, 1, {}))
    session = AnnotationSession(stack, backend=DummyBackend())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        take_over(session, changes, "prompts", "import")
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(session.prompts) == 300
    # 4 MiB each, were they kept whole: 1.2 GB.
    assert after - before < 20e6
    assert most - before < 100e6
    session.save_as(tmp_path / "s")
    session.close()
    with AnnotationSession.open(tmp_path / "s", backend=DummyBackend(), stack=stack) as again:
        for label in (1, 300):
            mask = again.prompts[label, 0].mask
            assert mask is not None
            np.testing.assert_array_equal(mask, drawn == label)
        assert len(again.prompts) == 300
        again.undo()
        assert not again.prompts
        again.redo()
        np.testing.assert_array_equal(again.labels()[0], drawn)


def test_a_file_s_objects_get_free_numbers_beside_those_that_are_there(dock: MedSam2Dock, tmp_path: Path) -> None:
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    before = annotation.session.slice_labels(5) == 1
    labels = made_elsewhere()
    labels[labels == 1] = 0
    labels[labels == 2] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels, metadata={"axes": "ZYX"})
    take(annotation, tmp_path / "labels.tif", "review")
    imported(annotation, 2)
    np.testing.assert_array_equal(annotation.session.slice_labels(5) == 1, before)
    np.testing.assert_array_equal(annotation.session.slice_labels(5) == 2, labels[5] == 1)


def test_labels_of_another_shape_are_refused_with_a_sentence(dock: MedSam2Dock, notes: list[str]) -> None:
    viewer: Any = dock.bench.viewer
    layer = viewer.add_labels(np.ones((12, 90, 96), np.uint8), name="other")
    empty = viewer.add_labels(np.zeros((12, 96, 96), np.uint8), name="nothing")
    annotation = begin(dock)
    assert candidates(viewer, annotation) == [empty]
    with pytest.raises(InputError, match=r"other has shape \(12, 90, 96\), not the image's"):
        take(annotation, layer, "review")
    take(annotation, empty, "review")
    wait_until(lambda: bool(notes))
    assert notes == ["Nothing holds no object on these slices; choose others"]
    assert not annotation.session.history


def test_numbers_beyond_what_the_layer_holds_are_made_small() -> None:
    drawn = np.array([[0, 7], [2_000_000_000, 5]], np.uint32)
    labels = LabelFile("big", lambda _: drawn, 1, {})
    small, table = numbered(labels, {1, 2}, 65_535)
    assert table == {5: 3, 7: 4, 2_000_000_000: 5}
    np.testing.assert_array_equal(small.slice_labels(0), [[0, 4], [5, 3]])
    with pytest.raises(InputError, match="3 objects, more than there are numbers left"):
        numbered(labels, {1, 2}, 4)


def test_beside_a_mask_of_the_largest_number_objects_are_begun_painted_and_split(
    dock: MedSam2Dock, tmp_path: Path, notes: list[str]
) -> None:
    # As other programs write one thing, or all things, in white.
    labels = np.where(made_elsewhere() == 2, 65_535, 0).astype(np.uint16)
    labels[:, 70:80, 5:15] = 65_535
    tifffile.imwrite(tmp_path / "white.tif", labels, metadata={"axes": "ZYX"})
    annotation = begin(dock)
    take(annotation, tmp_path / "white.tif", "review")
    imported(annotation, 1)
    layer = annotation.masks.layer
    key(dock.bench.viewer, "N")
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    assert np.asarray(layer.data[5])[28, 28] == annotation.label == layer.selected_label
    assert np.asarray(layer.data[5])[75, 10] == 65_535
    annotation.operations.split(65_535, "pieces")
    wait_until(lambda: len(annotation.session.objects) == 3)
    shown = np.asarray(layer.data[5])
    assert set(np.unique(shown)) - {0} <= set(annotation.session.objects)
    np.testing.assert_array_equal(shown, annotation.session.slice_labels(5))
    assert shown.dtype == np.uint16
    assert not notes


def test_a_session_with_large_labels_opens_and_goes_on(dock: MedSam2Dock, tmp_path: Path, notes: list[str]) -> None:
    session = AnnotationSession(ImageStack(image(), "ZYX", name="cells"), backend=DummyBackend())
    large = {1: 70_000, 2: 2**31 - 1}
    for number, label in large.items():
        session.add_object(label=label, color="#ff0000" if number == 1 else "#0000ff")
        session.add_mask(label, 5, made_elsewhere()[5] == number)
    session.save_as(tmp_path / "large", embed=True)
    session.close()
    dock.bench.open_folder(tmp_path / "large")
    wait_until(lambda: dock.bench.annotation is not None)
    annotation = dock.bench.annotation
    assert annotation is not None
    settle(annotation)
    annotation.show(5)
    layer = annotation.masks.layer

    def seen(label: int) -> list[float]:
        drawn = layer.colormap.map(np.asarray(layer.data[5]))
        top, left = TOP[label]
        return [float(value) for value in drawn[top + 4, left + 4]]

    assert (seen(1), seen(2)) == ([1, 0, 0, 1], [0, 0, 1, 1])
    annotation.visible((70_000,), False)
    assert seen(1)[3] == 0
    annotation.select(2**31 - 1)
    annotation.new_object()
    assert annotation.label == layer.selected_label == 1
    assert notes == ["The session was made with the model dummy, not compact"]


def test_the_export_dialog_writes_what_is_annotated(
    dock: MedSam2Dock, tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    dock.save.export.click()
    dialog = dock.save._dialog
    assert dialog is not None
    # What lies at home is written as people write it, and goes there.
    assert dialog.path.text() == str(Path("~") / "cells labels.tif")
    dialog.path.setText(str(tmp_path / "nowhere" / "labels.tif"))
    dialog.go.click()
    assert "there is no folder" in notes[0].lower()
    dialog.path.setText(str(tmp_path / "labels.tif"))
    dialog.go.click()
    assert not dialog.isVisible()
    wait_until((tmp_path / "labels.tif").exists)
    wait_until(lambda: dock.next_step.said.whole() == "Exported labels.tif to ~")
    written = tifffile.imread(tmp_path / "labels.tif")
    np.testing.assert_array_equal(written[5], annotation.session.slice_labels(5))
    dock.save.export.click()
    dialog.go.click()
    wait_until((tmp_path / "cells labels.tif").exists)
    dock.save.export.click()
    dialog.path.setText(str(tmp_path / "labels.tif"))
    assert "will be replaced" in dialog.note.text()
    assert dialog.go.text() == "Replace"
    dialog.form.setCurrentIndex(dialog.form.findData("csv"))
    assert dialog.path.text().endswith("cells objects.csv")
    dialog.reject()


def test_an_export_never_replaces_the_file_of_the_image(dock: MedSam2Dock, tmp_path: Path, notes: list[str]) -> None:
    file = tmp_path / "cells.tif"
    tifffile.imwrite(file, np.zeros((4, 4), np.uint8))
    before = file.read_bytes()
    dock.bench.images()[0].metadata["path"] = str(file)
    begin(dock).new_object("cell")
    dock.bench.export(file, "tiff")
    wait_until(lambda: bool(notes))
    assert "is the image that is annotated" in notes[0]
    assert file.read_bytes() == before

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.export import picture_names, write_confidence, write_labels, write_picture, write_pictures
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.results import Source


def _session(backend: Backend, stack: ImageStack, label: int = 1, seed: int = 0) -> AnnotationSession:
    """A session whose first object has a random mask on every slice, and whose second on every third."""
    rng = np.random.default_rng(seed)
    session = AnnotationSession(stack, backend=backend)
    session.add_object(label=label)
    session.add_object(label=label + 1)
    for index in range(len(stack)):
        shape = stack.slice_shape(index)
        session.results.put(ObjectResult.from_mask(label, index, rng.random(shape) > 0.6))
        if index % 3 == 0:
            session.results.put(ObjectResult.from_mask(label + 1, index, rng.random(shape) > 0.7))
    return session


@pytest.mark.parametrize(
    ("shape", "axes", "written"),
    [
        ((5, 20, 24), "ZYX", "ZYX"),
        ((4, 20, 24), "TYX", "TYX"),
        ((2, 3, 20, 24), "TZYX", "TZYX"),
        ((20, 24), "YX", "YX"),
        ((4, 20, 24, 3), "ZYXC", "ZYX"),
        ((4, 20, 24), "NYX", "NYX"),
        ((2, 3, 20, 24), "NZYX", "NZYX"),
    ],
)
def test_labels_are_written_with_their_axes(
    tmp_path: Path, backend: Backend, shape: tuple[int, ...], axes: str, written: str
) -> None:
    session = _session(backend, ImageStack(np.zeros(shape, np.uint8), axes))
    write_labels(tmp_path / "labels.tif", session)
    expected = np.asarray(session.labels())
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        assert tif.series[0].axes == written.replace("N", tif.series[0].axes[0])
        assert tif.pages[0].dtype == np.uint16
        np.testing.assert_array_equal(tif.asarray(), expected)
    again = ImageStack.open(tmp_path / "labels.tif")
    assert again.axes == written
    np.testing.assert_array_equal(np.stack([again.raw(i) for i in range(len(again))]).reshape(expected.shape), expected)


def test_labels_keep_the_spacing(tmp_path: Path, backend: Backend) -> None:
    spacing = {"z": 2.5, "y": 0.4, "x": 0.3, "unit": "um"}
    session = _session(backend, ImageStack(np.zeros((3, 16, 16), np.uint8), "ZYX", spacing=spacing))
    write_labels(tmp_path / "labels.tif", session)
    assert ImageStack.open(tmp_path / "labels.tif").spacing == spacing
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        assert tif.ome_metadata is not None
        pixels = ElementTree.fromstring(tif.ome_metadata).find("{*}Image/{*}Pixels")  # noqa: S314
    assert pixels is not None
    assert (pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeXUnit")) == ("2.5", "µm")


def test_large_labels_have_32_bits(tmp_path: Path, backend: Backend) -> None:
    session = _session(backend, ImageStack(np.zeros((2, 16, 16), np.uint8), "ZYX"), label=70_000)
    write_labels(tmp_path / "labels.tif", session)
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.dtype == np.uint32
    assert set(np.unique(labels)) == {0, 70_000, 70_001}


def test_labels_are_drawn_and_written_slice_by_slice(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _session(backend, ImageStack(np.zeros((30, 64, 64), np.uint8), "ZYX"))
    sizes = []

    def draw(index: int) -> np.ndarray:
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        return np.random.default_rng(index).integers(0, 2**16, (64, 64), np.uint16)

    monkeypatch.setattr(session, "slice_labels", draw)
    write_labels(tmp_path / "labels.tif", session)
    assert len(sizes) == 30
    # Noise does not compress: what was drawn before is on the disk, but for the writer's buffers.
    assert sizes[-1] > 20 * 64 * 64 * 2


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session(backend, ImageStack(np.zeros((3, 16, 16), np.uint8), "ZYX"))
    write_labels(tmp_path / "labels.tif", session)
    before = (tmp_path / "labels.tif").read_bytes()

    def fail(index: int) -> np.ndarray:
        if index == 2:
            raise OSError(28, "No space left on device")
        return np.zeros((16, 16), np.uint16)

    monkeypatch.setattr(session, "slice_labels", fail)
    with pytest.raises(InputError, match="No space left"):
        write_labels(tmp_path / "labels.tif", session)
    assert (tmp_path / "labels.tif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_names_of_label_files() -> None:
    assert picture_names(["a.png", "b.tif", "c.JPG", "d.TIFF"]) == ["a.png", "b.tif", "c.png", "d.tif"]
    assert picture_names(["a.png", "b.bmp"], wide=True) == ["a.tif", "b.tif"]
    alike = picture_names(["a.png", "a.jpg", "A.tif", "b.v2.png", "x/c.png", "y/c.png"])
    assert alike == ["a.png.png", "a.jpg.png", "A.tif.tif", "b.v2.png", "x/c.png", "y/c.png"]
    assert len({name.casefold() for name in alike}) == len(alike)


def test_a_collection_of_different_sizes_is_a_folder_of_labels(tmp_path: Path, backend: Backend) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, shape in (("b2.png", (20, 30)), ("b10.png", (40, 16)), ("a.tif", (24, 24))):
        if name.endswith("png"):
            Image.fromarray(np.zeros(shape, np.uint8)).save(folder / name)
        else:
            tifffile.imwrite(folder / name, np.zeros(shape, np.uint16))
    session = _session(backend, ImageStack.open(folder))
    written = write_pictures(tmp_path / "labels", session)
    assert [path.name for path in written] == ["a.tif", "b2.png", "b10.png"]
    for index, path in enumerate(written):
        labels = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))
        np.testing.assert_array_equal(labels, session.slice_labels(index))
    with pytest.raises(InputError, match="cannot make the folder"):
        write_pictures(tmp_path / "no" / "such", session)


def test_labels_of_16_bits_survive_a_png(tmp_path: Path) -> None:
    labels = np.array([[0, 300], [65_535, 1]], np.uint16)
    write_picture(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), labels)
    with pytest.raises(InputError, match="do not fit the PNG"):
        write_picture(tmp_path / "b.png", labels.astype(np.uint32))
    with pytest.raises(InputError, match=r"ends in \.tif or \.png"):
        write_picture(tmp_path / "c.gif", labels)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _put(session: AnnotationSession, label: int, index: int, area: int, sure: float, source: Source) -> None:
    """Put a result: present where it has an area, else absent."""
    logits = np.full((1, area), 40, np.int8) if area else np.zeros((0, 0), np.int8)
    score = sure if area else 1 - sure
    shape = session.stack.slice_shape(index)
    session.results.put(ObjectResult(label, index, shape, label, 0, logits, sure, score, source))


def test_the_confidence_file_has_a_line_for_every_object_and_slice(tmp_path: Path, backend: Backend) -> None:
    session = AnnotationSession(ImageStack(np.zeros((8, 16, 16), np.uint8), "ZYX"), backend=backend)
    for name in ('left, "upper"', "right"):
        session.add_object(name=name)
    session.add_mask(1, 3, np.eye(16, dtype=bool))
    session.add_mask(2, 0, np.eye(16, dtype=bool)[::-1])
    _put(session, 1, 4, 5, 0.75, "propagated")
    _put(session, 1, 5, 0, 0.875, "propagated")
    _put(session, 1, 2, 0, 0.625, "propagated")
    _put(session, 2, 1, 3, 0.5, "propagated")
    write_confidence(tmp_path / "c.csv", session)
    rows = _rows(tmp_path / "c.csv")
    first = {int(r["index"]): r for r in rows if r["object"] == "1"}
    assert sorted(first) == list(range(8))
    assert [first[i]["source"] for i in range(8)] == [
        *["ended"] * 2,
        "propagated",
        "mask",
        *["propagated"] * 2,
        *["ended"] * 2,
    ]
    said = ["", "", "0.6250", "1.0000", "0.7500", "0.8750", "", ""]
    assert [first[i]["confidence"] for i in range(8)] == said, "nothing is said of slices that were not looked at"
    assert [i for i in range(8) if not first[i]["object_score"]] == [0, 1, 6, 7]
    assert [int(first[i]["area"]) for i in range(8)] == [0, 0, 0, 16, 5, 0, 0, 0]
    assert {r["name"] for r in first.values()} == {'left, "upper"'}
    second = [int(r["index"]) for r in rows if r["object"] == "2"]
    assert second == [0, 1], "where nothing was looked for nothing is said"


def test_an_end_in_one_time_point_is_none_in_another(tmp_path: Path, backend: Backend) -> None:
    session = AnnotationSession(ImageStack(np.zeros((3, 4, 16, 16), np.uint8), "TZYX"), backend=backend)
    session.add_mask(session.add_object(), 5, np.eye(16, dtype=bool))
    _put(session, 1, 6, 0, 0.75, "propagated")
    write_confidence(tmp_path / "c.csv", session)
    assert [int(r["index"]) for r in _rows(tmp_path / "c.csv")] == [5, 6, 7]


def test_the_area_is_that_in_the_labels(tmp_path: Path, backend: Backend) -> None:
    session = AnnotationSession(ImageStack(np.zeros((1, 16, 16), np.uint8), "ZYX"), backend=backend)
    wide, half = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    wide[:8], half[4:12] = True, True
    for mask in (wide, half):
        session.add_mask(session.add_object(), 0, mask)
    write_confidence(tmp_path / "c.csv", session)
    drawn: dict[Any, Any] = dict(zip(*np.unique(session.slice_labels(0), return_counts=True), strict=True))
    assert [int(r["area"]) for r in _rows(tmp_path / "c.csv")] == [drawn[1], drawn[2]]
    assert drawn[1] + drawn[2] == 12 * 16

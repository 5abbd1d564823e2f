from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.export import write_measurements
from napari_medsam2.results import ObjectResult
from napari_medsam2.widgets.rows import measure_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend

nib: Any = untyped
regionprops: Any = measure.regionprops
_SPACING = {"z": 2.5, "y": 0.4, "x": 0.3, "unit": "um"}


def _labels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), (1.5, 3, 3))
    return np.where(field > 0.02, 7, np.where(field < -0.02, 70_000, 0)).astype(np.uint32)


def _session(backend: Backend, stack: ImageStack, labels: np.ndarray) -> AnnotationSession:
    session = AnnotationSession(stack, backend=backend)
    for label in (7, 70_000):
        session.add_object(f"object, {label}", label)
        for index, layer in enumerate(labels):
            if (layer == label).any():
                session.results.put(ObjectResult.from_mask(label, index, layer == label))
    return session


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _check(row: dict[str, str], region: Any, measure_name: str, axes: str) -> None:
    number = {key: float(value) for key, value in row.items() if key not in ("name", "unit", "image", "time")}
    assert number[measure_name] == pytest.approx(region.area)
    for axis, value in zip(axes, region.centroid, strict=True):
        assert number[f"centroid_{axis}"] == pytest.approx(value)
    assert number["axis_major_length"] == pytest.approx(region.axis_major_length)
    minor = region.axis_minor_length
    assert number["axis_minor_length"] == pytest.approx(minor, rel=1e-6)
    assert number["elongation"] == pytest.approx(1 - minor / region.axis_major_length)
    for what in ("mean", "std", "min", "max"):
        assert number[f"intensity_{what}"] == pytest.approx(getattr(region, f"intensity_{what}"))


def test_volumes_are_measured_as_by_regionprops(tmp_path: Path, backend: Backend) -> None:
    labels = _labels((12, 40, 50))
    labels[5] = 0
    # Large values with little variance would lose digits if they were summed up plainly.
    image = np.random.default_rng(1).integers(60_000, 60_010, labels.shape, np.uint16)
    session = _session(backend, ImageStack(image, "ZYX", spacing=_SPACING), labels)
    write_measurements(tmp_path / "a.csv", session)
    rows = _rows(tmp_path / "a.csv")
    dense = np.where(labels == 7, 1, np.where(labels == 70_000, 2, 0))
    regions = regionprops(dense, image, spacing=(2.5, 0.4, 0.3))
    assert [row["object"] for row in rows] == ["7", "70000"]
    for row, region in zip(rows, regions, strict=True):
        _check(row, region, "volume", "zyx")
        assert row["name"] == f"object, {row['object']}"
        assert row["unit"] == "um"
        assert int(row["voxels"]) == region.num_pixels
        assert int(row["slices"]) == 11
        assert (int(row["first_slice"]), int(row["last_slice"])) == (0, 11)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_volumes_of_a_tilted_gantry_are_those_of_slanted_voxels(tmp_path: Path, backend: Backend, tilt: float) -> None:
    angle = np.deg2rad(tilt)
    # Slices lie askew above each other: rows run upwards a little.
    affine = np.array([[-0.5, 0, 0, 9], [0, 0.5 * np.cos(angle), 0, 8], [0, 0.5 * np.sin(angle), 5, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((50, 40, 6), np.int16), affine), tmp_path / "head.nii.gz")
    labels = _labels((6, 40, 50))
    session = _session(backend, ImageStack.open(tmp_path / "head.nii.gz"), labels)
    write_measurements(tmp_path / "a.csv", session)
    (first, _) = _rows(tmp_path / "a.csv")
    expected = (labels == 7).sum() * 0.5 * 0.5 * 5 * np.cos(angle)
    assert float(first["volume"]) == pytest.approx(expected, rel=1e-6)
    # The dock's table says the same.
    measure = measure_of(session.stack)
    assert measure.pixel * (labels == 7).sum() == pytest.approx(expected, rel=1e-6)


def test_slices_are_measured_as_by_regionprops(tmp_path: Path, backend: Backend) -> None:
    labels = _labels((4, 40, 50))
    image = np.random.default_rng(1).normal(size=labels.shape).astype(np.float32)
    session = _session(backend, ImageStack(image, "ZYX", spacing=_SPACING), labels)
    write_measurements(tmp_path / "a.csv", session, by="slice")
    rows = _rows(tmp_path / "a.csv")
    expected = []
    for index in range(4):
        dense = np.where(labels[index] == 7, 1, np.where(labels[index] == 70_000, 2, 0))
        expected += [(index, region) for region in regionprops(dense, image[index].astype(float), spacing=(0.4, 0.3))]
    assert len(rows) == len(expected) > 4
    for row, (index, region) in zip(rows, expected, strict=True):
        assert int(row["index"]) == index
        _check(row, region, "area", "yx")


def test_time_points_are_measured_on_their_own(tmp_path: Path, backend: Backend) -> None:
    labels = _labels((6, 30, 30))
    image = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 30, 30), np.uint8)
    for axes, shape, times in (("TZYX", (2, 3), [0, 0, 0, 1, 1, 1]), ("ZTYX", (3, 2), [0, 1, 0, 1, 0, 1])):
        session = _session(backend, ImageStack(image.reshape(*shape, 30, 30), axes), labels)
        write_measurements(tmp_path / "a.csv", session)
        rows = _rows(tmp_path / "a.csv")
        assert [(row["time"], row["object"]) for row in rows] == [(t, o) for t in "01" for o in ("7", "70000")]
        for row in rows:
            chosen = [i for i in range(6) if times[i] == int(row["time"])]
            mask = labels[chosen] == int(row["object"])
            assert float(row["volume"]) == mask.sum()
            assert float(row["intensity_mean"]) == pytest.approx(image[chosen][mask].mean())
            assert row["unit"] == "pixel"


def test_each_slice_is_read_once_however_many_objects_there_are(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = AnnotationSession(ImageStack(np.zeros((3, 30, 30), np.uint8), "ZYX"), backend=backend)
    for label in range(1, 21):
        session.add_object(str(label), label)
        mask = np.zeros((30, 30), bool)
        mask[label] = True
        session.results.put(ObjectResult.from_mask(label, 1, mask))
    read: list[int] = []
    raw = ImageStack.raw

    def counted(stack: ImageStack, index: int) -> Any:
        read.append(index)
        return raw(stack, index)

    monkeypatch.setattr(ImageStack, "raw", counted)
    write_measurements(tmp_path / "a.csv", session)
    assert len(_rows(tmp_path / "a.csv")) == 20
    # And the first one for its channels.
    assert len(read) <= 3 + 2


def test_the_frames_of_a_film_are_no_depth(tmp_path: Path, backend: Backend) -> None:
    labels = _labels((3, 30, 30))
    stack = ImageStack(np.zeros((3, 1, 30, 30), np.uint8), "TZYX", spacing=_SPACING)
    write_measurements(tmp_path / "a.csv", _session(backend, stack, labels))
    rows = _rows(tmp_path / "a.csv")
    assert [(row["time"], row["object"]) for row in rows] == [(t, o) for t in "012" for o in ("7", "70000")]
    for row in rows:
        mask = labels[int(row["time"])] == int(row["object"])
        assert float(row["volume"]) == pytest.approx(mask.sum() * 2.5 * 0.4 * 0.3)
        assert float(row["centroid_z"]) == 0


def test_pictures_and_colours(tmp_path: Path, backend: Backend) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (30, 30, 3), np.uint8), rng.integers(0, 255, (20, 40), np.uint8)]
    session = AnnotationSession(ImageStack(pictures, names=["a.png", "b.png"]), backend=backend)
    session.add_object("cell")
    for index in range(2):
        shape = session.stack.slice_shape(index)
        session.results.put(ObjectResult.from_mask(1, index, np.arange(shape[1]) < np.full(shape, 9)))
    for by in ("object", "slice"):
        write_measurements(tmp_path / "a.csv", session, by=by)
        colour, grey = _rows(tmp_path / "a.csv")
        assert (colour["image"], grey["image"]) == ("a.png", "b.png")
        for channel in range(3):
            assert float(colour[f"intensity_mean_{channel}"]) == pytest.approx(pictures[0][:, :9, channel].mean())
        assert float(grey["intensity_max_0"]) == pictures[1][:, :9].max()
        assert grey["intensity_max_1"] == ""
    with pytest.raises(InputError, match="by 'object' or by 'slice'"):
        write_measurements(tmp_path / "a.csv", session, by="volume")  # type: ignore[arg-type]


def test_elongation_is_that_of_known_shapes(tmp_path: Path, backend: Backend) -> None:
    y, x = np.mgrid[:101, :101] - 50.0
    shapes = {
        1: x**2 + y**2 <= 40**2,
        2: (x / 40) ** 2 + (y / 10) ** 2 <= 1,
        3: (y == 0) & (abs(x) < 9),
        4: (y == 0) & (x == 0),
    }
    stack = ImageStack(np.zeros((4, 101, 101), np.uint8), "NYX")
    session = AnnotationSession(stack, backend=backend)
    for label, mask in shapes.items():
        session.add_object()
        session.results.put(ObjectResult.from_mask(label, label - 1, mask))
    write_measurements(tmp_path / "a.csv", session)
    found = [float(row["elongation"]) for row in _rows(tmp_path / "a.csv")]
    assert found == pytest.approx([0, 0.75, 1, 0], abs=0.01)

"""Labels in every format, read again by programs that know nothing of this one."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import nibabel as untyped
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.export import (
    FORMATS,
    export_labels,
    write_coco,
    write_nifti,
    write_ome_zarr,
    write_pngs,
    write_rois,
)
from napari_medsam2.importing import open_labels
from napari_medsam2.results import ObjectResult, Results
from napari_medsam2.session import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend

nib: Any = untyped

_NAMES = {3: "liver", 4: 'left "kidney" & <cortex>', 900: "Zelle µ 🔬"}
# pycocotools gives numpy 2 arrays in the way of numpy 1.
_COCO_WARNS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
_SPACING = {"z": 2.5, "y": 0.4, "x": 0.3, "unit": "um"}


def _masks(shape: tuple[int, int], seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """A ring, two separate pieces, and specks that touch at their corners."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    far = (y - shape[0] // 2) ** 2 + (x - shape[1] // 2) ** 2
    yield 3, (far < 120) & (far > 20)
    pieces = np.zeros(shape, bool)
    pieces[:4, :6] = pieces[-5:, -3:] = True
    yield 4, pieces
    yield 900, (rng.random(shape) > 0.7) & (x < 9) & (y > 10)


def _filled(backend: Backend, stack: ImageStack) -> AnnotationSession:
    session = AnnotationSession(stack, backend=backend)
    for label, name in _NAMES.items():
        session.add_object(name, label)
    for index in range(len(stack)):
        if index == 1:
            continue
        for label, mask in _masks(stack.slice_shape(index), index):
            session.results.put(ObjectResult.from_mask(label, index, mask))
    return session


@pytest.fixture
def session(backend: Backend) -> AnnotationSession:
    image = np.random.default_rng(0).integers(0, 999, (4, 30, 41), np.uint16)
    return _filled(backend, ImageStack(image, "ZYX", spacing=_SPACING, name="cells"))


def _truth(session: AnnotationSession) -> np.ndarray:
    return np.stack([session.slice_labels(index) for index in range(len(session.stack))])


# -- TIFF --------------------------------------------------------------------------------------------------------------


def test_ome_tiff(tmp_path: Path, session: AnnotationSession) -> None:
    export_labels(tmp_path / "a.ome.tif", session, "ome-tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_ome
        assert (tif.series[0].axes, tif.series[0].dtype.name) == ("ZYX", "uint16")
        np.testing.assert_array_equal(tif.asarray(), _truth(session))
        assert tif.ome_metadata is not None
        root = ElementTree.fromstring(tif.ome_metadata)  # noqa: S314
    pixels = root.find("{*}Image/{*}Pixels")
    assert pixels is not None
    sizes = [float(pixels.get(f"PhysicalSize{axis}", "nan")) for axis in "ZYX"]
    assert sizes == [2.5, 0.4, 0.3]
    assert {pixels.get(f"PhysicalSize{axis}Unit") for axis in "ZYX"} == {"µm"}
    maps = root.findall("{*}StructuredAnnotations/{*}MapAnnotation")
    names, colors = ({m.get("K"): m.text for m in one.findall("{*}Value/{*}M")} for one in maps)
    assert names == {str(label): name for label, name in _NAMES.items()}
    assert all(len(color or "") == 7 for color in colors.values())
    assert len(set(colors.values())) == 3
    # What the annotations say belongs to the image.
    refs = {ref.get("ID") for ref in root.findall("{*}Image/{*}AnnotationRef")}
    assert refs == {one.get("ID") for one in maps}


def test_plain_tiff(tmp_path: Path, session: AnnotationSession) -> None:
    export_labels(tmp_path / "a.tif", session, "tiff")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert not tif.is_ome
        np.testing.assert_array_equal(tif.asarray(), _truth(session))
        about = json.loads(tif.pages[0].description)  # type: ignore[union-attr]
        page: Any = tif.pages[0]
        x, y = page.tags["XResolution"].value, page.tags["YResolution"].value
        assert page.tags["ResolutionUnit"].value == 3
    # Pixels a centimetre.
    assert x[0] / x[1] == pytest.approx(1e4 / 0.3, rel=1e-6)
    assert y[0] / y[1] == pytest.approx(1e4 / 0.4, rel=1e-6)
    assert about["axes"] == "ZYX"
    assert {o["label"]: o["name"] for o in about["napari-medsam2"]["objects"]} == _NAMES
    with Image.open(tmp_path / "a.tif") as picture:
        picture.seek(2)
        np.testing.assert_array_equal(np.asarray(picture), session.slice_labels(2))


def test_collections_are_no_ome_tiff(tmp_path: Path, backend: Backend) -> None:
    session = _filled(backend, ImageStack(np.zeros((3, 30, 41), np.uint8), "NYX"))
    with pytest.raises(InputError, match="use tiff or png"):
        export_labels(tmp_path / "a.ome.tif", session, "ome-tiff")
    assert not list(tmp_path.iterdir())


# -- OME-Zarr ----------------------------------------------------------------------------------------------------------


def test_ome_zarr_is_a_label_image(tmp_path: Path, backend: Backend) -> None:
    image = np.zeros((2, 3, 600, 530), np.uint8)
    session = _filled(backend, ImageStack(image, "TZYX", spacing=_SPACING))
    write_ome_zarr(tmp_path / "a.zarr", session)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    ome: Any = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (scales,) = ome["multiscales"]
    assert [(a["name"], a["type"], a.get("unit")) for a in scales["axes"]] == [
        ("t", "time", None),
        *[(name, "space", "micrometer") for name in "zyx"],
    ]
    assert [d["coordinateTransformations"][0]["scale"] for d in scales["datasets"]] == [
        [1, 2.5, 0.4, 0.3],
        [1, 2.5, 0.8, 0.6],
        [1, 2.5, 1.6, 1.2],
    ]
    truth = _truth(session).reshape(image.shape)
    for level, dataset in enumerate(scales["datasets"]):
        array: Any = group[dataset["path"]]
        assert array.dtype == np.uint16
        np.testing.assert_array_equal(array[...], truth[..., :: 2**level, :: 2**level])
    label = ome["image-label"]
    assert {p["label-value"]: p["name"] for p in label["properties"]} == _NAMES
    assert {c["label-value"] for c in label["colors"]} == set(_NAMES)
    assert all(len(c["rgba"]) == 4 and c["rgba"][3] == 255 for c in label["colors"])


def test_ome_zarr_is_valid_for_its_own_library(tmp_path: Path, session: AnnotationSession) -> None:
    models = pytest.importorskip("ome_zarr_models.v05")
    write_ome_zarr(tmp_path / "a.zarr", session)
    read = models.ImageLabel.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    assert {c.label_value for c in read.attributes.ome.image_label.colors} == set(_NAMES)


def test_ome_zarr_puts_time_first(tmp_path: Path, backend: Backend) -> None:
    session = _filled(backend, ImageStack(np.zeros((3, 2, 30, 41), np.uint8), "ZTYX"))
    write_ome_zarr(tmp_path / "a.zarr", session)
    array: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")["0"]
    assert list(array.metadata.dimension_names) == ["t", "z", "y", "x"]
    np.testing.assert_array_equal(array[...], _truth(session).reshape(3, 2, 30, 41).swapaxes(0, 1))


def test_labels_join_an_image(tmp_path: Path, session: AnnotationSession) -> None:
    image = zarr.create_group(tmp_path / "image.zarr", zarr_format=3)
    image.attrs["ome"] = {"version": "0.5", "multiscales": []}
    for name in ("first", "second", "first"):
        write_ome_zarr(tmp_path / "image.zarr" / "labels" / name, session)
    labels: Any = zarr.open_group(tmp_path / "image.zarr" / "labels", mode="r")
    assert labels.attrs["ome"]["labels"] == ["first", "second"]
    assert labels["first"].attrs["ome"]["image-label"]["source"] == {"image": "../../"}
    np.testing.assert_array_equal(labels["second/0"][...], _truth(session))


@pytest.mark.parametrize("inside", [True, False])
def test_labels_of_an_ome_zarr_image_lie_where_it_lies(tmp_path: Path, backend: Backend, inside: bool) -> None:
    units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    group = zarr.create_group(tmp_path / "image.zarr", zarr_format=3)
    group.create_array("0", shape=(4, 1, 3, 300, 41), chunks=(1, 1, 1, 300, 41), dtype="u2", fill_value=0)
    axes: list[Any] = [{"name": n, "type": "channel" if n == "c" else "time" if n == "t" else "space"} for n in "tczyx"]
    level: list[Any] = [
        {"type": "scale", "scale": [15.0, 1.0, 1.0, 0.25, 0.5]},
        {"type": "translation", "translation": [5.0, 0.0, 50.0, 125.0, -40.0]},
    ]
    whole: list[Any] = [{"type": "scale", "scale": [2.0, 1.0, 2.0, 2.0, 1.0]}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [a | ({"unit": units[a["name"]]} if a["name"] in units else {}) for a in axes],
                "datasets": [{"path": "0", "coordinateTransformations": level}],
                "coordinateTransformations": whole,
            }
        ],
    }
    session = AnnotationSession(ImageStack.open(tmp_path / "image.zarr"), backend=backend)
    path = tmp_path / ("image.zarr/labels/cells" if inside else "cells.zarr")
    write_ome_zarr(path, session)
    written: Any = zarr.open_group(path, mode="r").attrs["ome"]
    image = written["multiscales"][0]
    assert {a["name"]: a.get("unit") for a in image["axes"]} == units
    places = [[t[t["type"]] for t in d["coordinateTransformations"]] for d in image["datasets"]]
    assert places == [
        [[30.0, 2.0, 0.5, 0.5], [10.0, 100.0, 250.0, -40.0]],
        [[30.0, 2.0, 1.0, 1.0], [10.0, 100.0, 250.0, -40.0]],
    ]


def test_ome_zarr_overwrites_labels_and_nothing_else(tmp_path: Path, session: AnnotationSession) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no Zarr"):
        write_ome_zarr(other, session)
    assert (other / "thesis.txt").read_text() == "years of work"
    zarr.create_array(str(tmp_path / "image.zarr"), shape=(3,), dtype="u1")
    with pytest.raises(InputError, match="holds no labels"):
        write_ome_zarr(tmp_path / "image.zarr", session)
    old = zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    old.attrs["multiscales"] = [{"version": "0.4"}]
    with pytest.raises(InputError, match=r"no OME-Zarr 0\.5"):
        write_ome_zarr(tmp_path / "old.zarr" / "labels" / "a", session)


def test_a_failed_ome_zarr_leaves_the_old_one(
    tmp_path: Path, session: AnnotationSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", session)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(index: int) -> np.ndarray:
        if index == 2:
            raise OSError(28, "No space left on device")
        return np.ones((30, 41), np.uint16)

    monkeypatch.setattr(session, "slice_labels", fail)
    with pytest.raises(InputError, match="No space left"):
        write_ome_zarr(tmp_path / "a.zarr", session)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


# -- NIfTI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti(tmp_path: Path, session: AnnotationSession, name: str) -> None:
    write_nifti(tmp_path / name, session)
    image: Any = nib.load(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(image.dataobj), _truth(session).transpose(2, 1, 0))
    assert image.get_data_dtype() == np.uint16
    np.testing.assert_allclose(image.affine, np.diag([0.3, 0.4, 2.5, 1]), rtol=1e-6)
    assert image.header.get_xyzt_units()[0] == "micron"
    assert image.header.get_intent("code")[0] == 1002
    about = json.loads(image.header.extensions[0].get_content())
    assert {o["label"]: o["name"] for o in about["napari-medsam2"]["objects"]} == _NAMES


def _oblique() -> np.ndarray:
    """Voxels of 0.7 × 0.8 × 2.5 mm, turned, with x to the left and slices from top to bottom (LAI)."""
    a, b = 0.3, 0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.7, 0.8, -2.5])
    affine[:3, 3] = (12.5, -30, 7)
    return affine


def test_nifti_lies_where_its_image_lies(tmp_path: Path, backend: Backend) -> None:
    affine = _oblique()
    data = np.random.default_rng(0).integers(0, 99, (41, 30, 4)).astype(np.int16)
    source = nib.Nifti1Image(data, affine)
    source.header.set_xyzt_units("mm", "sec")
    source.set_sform(affine, 4)
    source.set_qform(affine, 1)
    nib.save(source, tmp_path / "image.nii.gz")
    session = _filled(backend, ImageStack.open(tmp_path / "image.nii.gz"))
    write_nifti(tmp_path / "labels.nii.gz", session)
    image, labels = (nib.load(tmp_path / name) for name in ("image.nii.gz", "labels.nii.gz"))
    assert nib.aff2axcodes(labels.affine) == nib.aff2axcodes(image.affine) == ("L", "A", "I")
    np.testing.assert_array_equal(labels.affine, image.affine)
    for code in ("sform_code", "qform_code"):
        assert labels.header[code] == image.header[code]
    np.testing.assert_allclose(labels.get_qform(), image.get_qform(), atol=1e-5)
    assert labels.header.get_xyzt_units() == ("mm", "sec")
    # The voxel under a landmark, found in space: brightest in the image, labelled here.
    session.results.put(ObjectResult.from_mask(900, 2, np.eye(30, 41, dtype=bool)))
    write_nifti(tmp_path / "labels.nii.gz", session)
    again = nib.as_closest_canonical(nib.load(tmp_path / "labels.nii.gz"))
    world = affine @ (7, 7, 2, 1)
    voxel = np.rint(np.linalg.inv(again.affine) @ world)[:3].astype(int)
    assert np.asarray(again.dataobj)[tuple(voxel)] == session.slice_labels(2)[7, 7] != 0


@pytest.mark.parametrize("axes", ["ZYX", "ZXY", "YZX", "YXZ", "XZY", "XYZ", "TYX", "TXY"])
@pytest.mark.parametrize("file", [True, False])
def test_nifti_lies_where_its_image_lies_in_any_order_of_axes(
    tmp_path: Path, backend: Backend, axes: str, file: bool
) -> None:
    affine = _oblique()
    data = np.zeros((9, 10, 11), np.int16)
    data[2, 3, 0] = data[2, 4, 0] = data[7, 5, 0] = 50
    if axes[0] != "T":
        data[5, 6, 7] = 50
    source = nib.Nifti1Image(data, affine)
    source.header.set_xyzt_units("micron", "sec")
    nib.save(source, tmp_path / "image.nii.gz")
    stack = ImageStack.open(tmp_path / "image.nii.gz", axes=axes)
    # Along each axis of the array there lie the distances that lay there.
    sizes = dict(zip(axes.lower(), (2.5, 0.8, 0.7), strict=True))
    assert stack.spacing == pytest.approx({**{a: sizes[a] for a in sizes if a in "zyx"}, "unit": "um"})
    session = AnnotationSession.create(tmp_path / "s", stack, backend=backend, embed=not file)
    session.add_object()
    for index in range(len(stack)):
        if (found := stack.raw(index) > 0).any():
            session.results.put(ObjectResult.from_mask(1, index, found))
    write_nifti(tmp_path / "labels.nii.gz", session)
    labels: Any = nib.load(tmp_path / "labels.nii.gz")
    assert labels.header.get_xyzt_units()[0] == "micron"
    marked = np.argwhere(np.asarray(labels.dataobj))[:, :3]
    world = nib.affines.apply_affine(labels.affine, marked)
    expected = nib.affines.apply_affine(nib.load(tmp_path / "image.nii.gz").affine, np.argwhere(data))
    np.testing.assert_allclose(sorted(world.tolist()), sorted(expected.tolist()), atol=1e-4)
    for code in ("sform_code", "qform_code"):
        assert labels.header[code] == source.header[code]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_map_that_leads_nowhere_stops_no_export(tmp_path: Path, backend: Backend, value: float) -> None:
    raw = bytearray(nib.Nifti1Image(np.zeros((41, 30, 4), np.int16), np.diag([2.0, 3, 4, 1])).to_bytes())
    # nibabel itself does not write such maps.
    raw[280:328] = np.full(12, value, "<f4").tobytes()
    (tmp_path / "image.nii").write_bytes(bytes(raw))
    stack = ImageStack.open(tmp_path / "image.nii")
    session = _filled(backend, stack)
    write_nifti(tmp_path / "labels.nii", session)
    labels: Any = nib.load(tmp_path / "labels.nii")
    np.testing.assert_array_equal(labels.affine, np.diag([2, 3, 4, 1]))
    np.testing.assert_array_equal(open_labels(tmp_path / "labels.nii", stack).slice_labels(2), session.slice_labels(2))


def test_times_in_place_of_space_have_no_place_in_nifti(tmp_path: Path, backend: Backend) -> None:
    nib.save(nib.Nifti1Image(np.zeros((9, 10, 4, 3), np.int16), _oblique()), tmp_path / "image.nii")
    stack = ImageStack.open(tmp_path / "image.nii", axes="ZTYX")
    assert stack.affine is None
    assert stack.spacing == pytest.approx({"y": 0.8, "x": 0.7, "unit": "mm"})
    with pytest.raises(InputError, match="opened as ZTYX, with times or channels in place of space"):
        write_nifti(tmp_path / "labels.nii", AnnotationSession(stack, backend=backend))


def test_nifti_through_time_and_with_large_labels(tmp_path: Path, backend: Backend) -> None:
    session = _filled(backend, ImageStack(np.zeros((2, 3, 30, 41), np.uint8), "ZTYX"))
    session.add_object(label=2**31 - 1)
    session.results.put(ObjectResult.from_mask(2**31 - 1, 0, np.ones((30, 41), bool)))
    write_nifti(tmp_path / "a.nii", session)
    image: Any = nib.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == np.int32
    truth = _truth(session).reshape(2, 3, 30, 41)
    np.testing.assert_array_equal(np.asarray(image.dataobj), truth.transpose(3, 2, 0, 1))
    assert np.asarray(image.dataobj).max() == 2**31 - 1


def test_nifti_holds_no_collections(tmp_path: Path, backend: Backend) -> None:
    session = _filled(backend, ImageStack(np.zeros((3, 30, 41), np.uint8), "NYX"))
    with pytest.raises(InputError, match="collection"):
        write_nifti(tmp_path / "a.nii", session)
    with pytest.raises(InputError, match=r"ends in \.nii"):
        write_nifti(tmp_path / "a.img", session)


# -- COCO --------------------------------------------------------------------------------------------------------------


@_COCO_WARNS
@pytest.mark.parametrize("polygon", [False, True])
def test_coco(tmp_path: Path, session: AnnotationSession, polygon: bool) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    write_coco(tmp_path / "a.json", session, polygon)
    coco = coco_module.COCO(tmp_path / "a.json")
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == _NAMES
    truth = _truth(session)
    drawn = np.zeros_like(truth)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert isinstance(annotation["segmentation"], list) == polygon
        mask = coco.annToMask(annotation).astype(bool)
        layer = drawn[annotation["image_id"] - 1]
        assert not layer[mask].any()
        layer[mask] = annotation["category_id"]
        assert annotation["area"] == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, w, h = annotation["bbox"]
        assert (y, x, y + h, x + w) == (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        assert annotation["score"] == 1
    np.testing.assert_array_equal(drawn, truth)
    assert len(coco.getImgIds()) == 4, "slices without objects are images too"


@_COCO_WARNS
def test_coco_of_pictures_of_different_sizes(tmp_path: Path, backend: Backend) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    pictures = [np.zeros((30, 41), np.uint8), np.zeros((50, 32), np.uint8), np.zeros((33, 64, 3), np.uint8)]
    session = _filled(backend, ImageStack(pictures, names=["a.png", "b.png", "c.jpg"]))
    write_coco(tmp_path / "a.json", session)
    coco = coco_module.COCO(tmp_path / "a.json")
    images = {i["file_name"]: i for i in coco.loadImgs(coco.getImgIds())}
    assert {name: (i["height"], i["width"]) for name, i in images.items()} == {
        "a.png": (30, 41),
        "b.png": (50, 32),
        "c.jpg": (33, 64),
    }
    (ring,) = coco.loadAnns(coco.getAnnIds(imgIds=[images["c.jpg"]["id"]], catIds=[3]))
    np.testing.assert_array_equal(coco.annToMask(ring) == 1, session.slice_labels(2) == 3)


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_pngs(tmp_path: Path, session: AnnotationSession) -> None:
    written = write_pngs(tmp_path / "out", session)
    assert [p.name for p in written] == [f"slice-{i:04d}.png" for i in range(4)]
    for index, path in enumerate(written):
        with Image.open(path) as picture:
            assert picture.mode.startswith("I;16")
            np.testing.assert_array_equal(np.asarray(picture), session.slice_labels(index))
    with Image.open(written[0]) as picture:
        assert {o["name"] for o in json.loads(picture.info["napari-medsam2"])["objects"]} == set(_NAMES.values())
    listed = json.loads((tmp_path / "out" / "objects.json").read_text())["objects"]
    assert {o["label"]: o["name"] for o in listed} == _NAMES
    session.add_object(label=70_000)
    with pytest.raises(InputError, match="65535"):
        write_pngs(tmp_path / "out", session)


def test_pngs_are_named_after_their_pictures(tmp_path: Path, backend: Backend) -> None:
    pictures = [np.zeros((30, 41), np.uint8)] * 4
    session = _filled(backend, ImageStack(pictures, names=["a.tif", "b.jpg", "B.png", "c/d.tif"]))
    written = write_pngs(tmp_path / "out", session)
    assert [p.relative_to(tmp_path / "out").as_posix() for p in written] == [
        "a.png",
        "b.jpg.png",
        "B.png.png",
        "c/d.png",
    ]


# -- ImageJ ------------------------------------------------------------------------------------------------------------


def test_rois(tmp_path: Path, session: AnnotationSession) -> None:
    roifile = pytest.importorskip("roifile")
    draw = pytest.importorskip("skimage.draw")
    write_rois(tmp_path / "a.zip", session)
    rois = roifile.ImagejRoi.fromfile(tmp_path / "a.zip")
    assert len(rois) == 9
    assert len(zipfile.ZipFile(tmp_path / "a.zip").namelist()) == len(
        set(zipfile.ZipFile(tmp_path / "a.zip").namelist())
    )
    truth = _truth(session)
    drawn = np.zeros_like(truth)
    for roi in rois:
        label = int(roi.name.split("-")[0])
        inside = np.zeros(truth.shape[1:], int)
        for path in roi.coordinates(multi=True):
            # Corners lie between the pixels; in the drawer's coordinates pixels lie on whole numbers.
            inside += draw.polygon2mask(inside.shape, path[:, ::-1] - 0.5 + 1e-6)
        layer = drawn[roi.position - 1]
        layer[inside % 2 == 1] = label
        assert roi.stroke_color != b"\x00\x00\x00\x00"
        assert f'"label": {label}' in roi.props
        rows, columns = np.nonzero(inside % 2)
        assert (roi.top, roi.left, roi.bottom, roi.right) == (
            rows.min(),
            columns.min(),
            rows.max() + 1,
            columns.max() + 1,
        )
    np.testing.assert_array_equal(drawn, truth)
    assert {roi.roitype.name for roi in rois if not roi.composite} <= {"TRACED"}


def test_rois_know_depth_and_time(tmp_path: Path, backend: Backend) -> None:
    roifile = pytest.importorskip("roifile")
    session = _filled(backend, ImageStack(np.zeros((2, 3, 30, 41), np.uint8), "TZYX"))
    write_rois(tmp_path / "a.zip", session)
    places = {(roi.t_position, roi.z_position) for roi in roifile.ImagejRoi.fromfile(tmp_path / "a.zip")}
    assert places == {(1, 1), (1, 3), (2, 1), (2, 2), (2, 3)}


def test_what_a_missing_library_says(
    tmp_path: Path, session: AnnotationSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(InputError, match=r"napari-medsam2\[export\]"):
        write_rois(tmp_path / "a.zip", session)


# -- all ---------------------------------------------------------------------------------------------------------------


class _Endless:
    """A session too large for memory, whose labels are drawn when they are asked for."""

    kind = "stack"

    def __init__(self, slices: int, side: int, first_label: int = 1, each: int = 4) -> None:
        self.side, self.first_label, self.each, self.drawn = side, first_label, each, 0
        shape = (slices, side, side)
        self.stack = ImageStack(_Nothing(shape), "ZYX", spacing=_SPACING, window=(0, 1))
        self.objects = {
            label: ObjectInfo(label, f"object {label}")
            for label in range(first_label, first_label + (slices * each if each > 4 else each))
        }
        self.prompts: dict[tuple[int, int], Any] = {}
        self.results = Results()
        self.dtype = np.dtype(np.uint16 if max(self.objects) < 2**16 else np.uint32)

    def slice_labels(self, index: int) -> np.ndarray:
        self.drawn += 1
        labels = np.zeros((self.side, self.side), self.dtype)
        first = self.first_label + (index * self.each if self.each > 4 else 0)
        columns = 32
        for number in range(self.each):
            y, x = divmod(number, columns)
            labels[y * 16 + 2 : y * 16 + 10, x * 16 + 2 : x * 16 + 12] = first + number
        return labels


class _Nothing:
    """An array of zeros that takes no memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(np.broadcast_to(np.zeros(1, np.uint8), self.shape)[key])


@pytest.mark.parametrize("form", FORMATS)
def test_large_volumes_are_streamed(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "roi":
        pytest.importorskip("roifile")
    # As on a machine of many processors, where tifffile compresses beside reading.
    monkeypatch.setattr(tifffile.TIFF, "MAXWORKERS", 16)
    session = _Endless(48, 1024)
    whole = 48 * 1024 * 1024 * 2
    FORMATS[form].write(tmp_path / f"a{FORMATS[form].suffix}", session)
    tracemalloc.start()
    try:
        FORMATS[form].write(tmp_path / f"b{FORMATS[form].suffix}", session)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A few slices of 8-byte numbers at a time, not all 48.
    assert peak < 0.6 * whole, f"{peak / 2**20:.0f} MiB"
    assert peak < 40 * 1024 * 1024 * 2


@pytest.mark.slow
def test_more_than_65535_objects(tmp_path: Path) -> None:
    session = _Endless(70, 512, each=1000)
    assert len(session.objects) == 70_000
    truth = np.stack([session.slice_labels(i) for i in range(70)])
    export_labels(tmp_path / "a.ome.tif", session, "ome-tiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), truth)
    export_labels(tmp_path / "a.zarr", session, "ome-zarr")
    group: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][...], truth)
    assert len(group.attrs["ome"]["image-label"]["properties"]) == 70_000
    export_labels(tmp_path / "a.nii.gz", session, "nifti")
    image: Any = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, truth)
    export_labels(tmp_path / "a.json", session, "coco")
    annotations = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert [a["category_id"] for a in annotations] == list(range(1, 70_001))
    with pytest.raises(InputError, match="65535"):
        export_labels(tmp_path / "png", session, "png")


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_left_behind_and_nothing_written_into_nowhere(
    tmp_path: Path, session: AnnotationSession, form: str
) -> None:
    if form == "roi":
        pytest.importorskip("roifile")
    name = f"a{FORMATS[form].suffix}"
    export_labels(tmp_path / name, session, form)
    export_labels(tmp_path / name, session, form)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(InputError, match="no-such"):
        export_labels(tmp_path / "no-such" / name, session, form)


def test_unknown_formats_are_named(tmp_path: Path, session: AnnotationSession) -> None:
    with pytest.raises(InputError, match="unknown format 'dicom'; choose one of tiff, ome-tiff"):
        export_labels(tmp_path / "a", session, "dicom")


@pytest.mark.parametrize(
    "form", ["tiff", "ome-tiff", "ome-zarr", "nifti", "coco", "coco-polygons", "roi", "csv", "png"]
)
def test_a_session_without_objects_can_be_exported(
    tmp_path: Path, backend: Backend, form: str, session: AnnotationSession
) -> None:
    if form == "roi":
        pytest.importorskip("roifile")
    export_labels(tmp_path / f"a{FORMATS[form].suffix}", AnnotationSession(session.stack, backend=backend), form)

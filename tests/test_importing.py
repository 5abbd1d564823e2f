from __future__ import annotations

import itertools
import json
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.export import FORMATS, export_labels, write_nifti, write_ome_zarr, write_pictures, write_pngs
from napari_medsam2.export._source import entries
from napari_medsam2.importing import as_changes, as_prompts, open_labels
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.importing import LabelFile

nib: Any = untyped

_LABEL_FORMATS = [name for name in FORMATS if name not in ("csv", "csv-slices", "confidence")]


def _filled(backend: Backend, stack: ImageStack, seed: int = 0) -> AnnotationSession:
    """A session with noise, rings and an object that is on some slices only."""
    rng = np.random.default_rng(seed)
    session = AnnotationSession(stack, backend=backend)
    for label, name in ((2, "a ring"), (5, 'say "µ" & <go>'), (60_000, "specks")):
        session.add_object(name, label)
    for index in range(len(stack)):
        height, width = stack.slice_shape(index)
        y, x = np.ogrid[:height, :width]
        far = (y - 12) ** 2 + (x - 14) ** 2
        session.results.put(ObjectResult.from_mask(2, index, (far < 90) & (far > 20)))
        session.results.put(ObjectResult.from_mask(60_000, index, rng.random((height, width)) > 0.9))
        if index % 2:
            session.results.put(ObjectResult.from_mask(5, index, (y > height - 5) & (x < 7)))
    return session


def _same(labels: LabelFile, session: AnnotationSession) -> None:
    assert len(labels) == len(session.stack)
    for index in range(len(labels)):
        np.testing.assert_array_equal(labels.slice_labels(index), session.slice_labels(index))


def _need(form: str) -> None:
    if form == "roi":
        pytest.importorskip("roifile")


@pytest.mark.parametrize("form", _LABEL_FORMATS)
@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 30, 41), "ZYX"), ((2, 3, 30, 41), "TZYX"), ((3, 2, 30, 41), "ZTYX"), ((30, 41), "YX")]
)
def test_values_names_and_colours_survive(
    tmp_path: Path, backend: Backend, form: str, shape: tuple[int, ...], axes: str
) -> None:
    _need(form)
    session = _filled(backend, ImageStack(np.zeros(shape, np.uint8), axes))
    path = tmp_path / f"a{FORMATS[form].suffix}"
    export_labels(path, session, form)
    labels = open_labels(path, session.stack)
    _same(labels, session)
    wanted = entries(session)
    if form == "roi":
        # A region is an object on a slice: one that is on none has none.
        wanted = {label: entry for label, entry in wanted.items() if session.results.indices(label)}
    assert labels.objects == wanted


@pytest.mark.parametrize("form", ["png", "coco", "coco-polygons", "roi"])
def test_collections_survive(tmp_path: Path, backend: Backend, form: str) -> None:
    _need(form)
    pictures = [np.zeros((30, 41), np.uint8), np.zeros((50, 32), np.uint8), np.zeros((33, 64, 3), np.uint8)]
    session = _filled(backend, ImageStack(pictures, names=["b.png", "a.png", "c.jpg"]))
    export_labels(tmp_path / f"a{FORMATS[form].suffix}", session, form)
    labels = open_labels(tmp_path / f"a{FORMATS[form].suffix}", session.stack)
    _same(labels, session)
    assert labels.objects == entries(session)


def test_pictures_are_found_by_their_names(tmp_path: Path, backend: Backend) -> None:
    pictures = [np.zeros((30, 41), np.uint8)] * 3
    session = _filled(backend, ImageStack(pictures, names=["x10.jpg", "x9.tif", "a.png"]))
    write_pictures(tmp_path / "out", session)
    _same(open_labels(tmp_path / "out", session.stack), session)
    (tmp_path / "out" / "a.png").unlink()
    with pytest.raises(InputError, match=r"no labels for a\.png \(1 of 3"):
        open_labels(tmp_path / "out", session.stack)


def test_masks_are_accepted_or_prompts(tmp_path: Path, backend: Backend) -> None:
    session = _filled(backend, ImageStack(np.zeros((4, 30, 41), np.uint8), "ZYX"))
    export_labels(tmp_path / "a.tif", session, "tiff")
    labels = open_labels(tmp_path / "a.tif", session.stack)
    changes = as_changes(labels)
    assert dict(changes.names) == {2: "a ring", 5: 'say "µ" & <go>', 60_000: "specks"}
    assert set(changes.colors) == {2, 5, 60_000}
    other = AnnotationSession(session.stack, backend=backend)
    for label, name in changes.names.items():
        other.add_object(name, label)
    changes.apply(other.results)
    for index in range(4):
        np.testing.assert_array_equal(other.slice_labels(index), session.slice_labels(index))
    assert {source for *_, source in other.results.summary()} == {"mask"}
    assert {confidence for _, _, confidence, _, _ in other.results.summary()} == {1.0}
    prompts = list(as_prompts(labels, indices=[1, 3], objects=[5]))
    assert [(p.label, p.index) for p in prompts] == [(5, 1), (5, 3)]
    fresh = AnnotationSession(session.stack, backend=backend)
    for prompt in prompts:
        fresh.add_prompt(prompt)
    for index in (1, 3):
        np.testing.assert_array_equal(fresh.slice_labels(index) == 5, session.slice_labels(index) == 5)
    with pytest.raises(InputError, match="slice 4 does not exist"):
        list(as_prompts(labels, indices=[4]))
    with pytest.raises(InputError, match="no object on these slices"):
        as_changes(labels, indices=[0], objects=[5])


# -- files that others wrote -------------------------------------------------------------------------------------------


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    stack = ImageStack(np.zeros((3, 20, 24), np.uint8), "ZYX", name="scan")
    cases: list[tuple[np.ndarray, str]] = [
        (np.zeros((4, 20, 24), np.uint8), "has 4 slices, but scan has 3"),
        (np.zeros((3, 20, 25), np.uint8), r"has shape \(3, 20, 25\), but scan has \(3, 20, 24\)"),
        (np.full((3, 20, 24), 0.5, np.float32), "not whole numbers"),
        (np.full((3, 20, 24), -1, np.int16), "beyond 0 to 2147483647"),
        (np.full((3, 20, 24), 2**31, np.uint32), "beyond 0 to 2147483647"),
        (np.full((3, 20, 24), np.nan, np.float32), "not whole numbers"),
    ]
    for values, complaint in cases:
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata={"axes": "ZYX"})
        with pytest.raises(InputError, match=complaint):
            open_labels(tmp_path / "a.tif", stack).slice_labels(1)
    tifffile.imwrite(
        tmp_path / "a.tif", np.full((3, 20, 24), 7, np.float32), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    assert (open_labels(tmp_path / "a.tif", stack).slice_labels(2) == 7).all()
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="colour picture"):
        open_labels(tmp_path / "a.png", ImageStack(np.zeros((20, 24), np.uint8))).slice_labels(0)


def test_labels_with_a_channel_of_one_are_labels(tmp_path: Path) -> None:
    import zarr

    values = np.random.default_rng(2).integers(0, 900, (2, 1, 3, 20, 24)).astype(np.uint16)
    group = zarr.create_group(tmp_path / "labels.zarr", zarr_format=2)
    group.create_array("0", data=values, chunks=(1, 1, 1, 20, 24))
    axes: Any = [{"name": n, "type": {"t": "time", "c": "channel"}.get(n, "space")} for n in "tczyx"]
    scale = [{"type": "scale", "scale": [1] * 5}]
    datasets: Any = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.attrs["image-label"] = {"version": "0.4"}
    labels = open_labels(tmp_path / "labels.zarr", ImageStack(np.zeros((2, 3, 20, 24), np.uint8), "TZYX"))
    for index in range(6):
        np.testing.assert_array_equal(labels.slice_labels(index), values[index // 3, 0, index % 3])


def _grey_png(path: Path, values: np.ndarray, bits: int) -> None:
    """A grey PNG of few bits, which Pillow cannot write."""
    apart = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(len(values), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in apart)
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(
    "form", ["palette", "palette of 4 bits", "palette in BMP", "palette in TIFF", "2 bits", "4 bits"]
)
def test_pictures_with_a_palette_or_few_bits_hold_the_numbers_that_are_stored(tmp_path: Path, form: str) -> None:
    most = {"2 bits": 4, "4 bits": 16, "palette of 4 bits": 16}.get(form, 256)
    values = np.random.default_rng(1).integers(0, most, (20, 23)).astype(np.uint8)
    suffix = {"BMP": "bmp", "TIFF": "tif"}.get(form.split()[-1], "png")
    (tmp_path / "many").mkdir()
    for path in (tmp_path / f"a.{suffix}", tmp_path / "many" / f"1.{suffix}", tmp_path / "many" / f"2.{suffix}"):
        own = (most - 1) - values if path.stem == "2" else values
        if form.startswith("palette"):
            picture = Image.fromarray(own)
            picture.putpalette(bytes(range(255, -1, -1)) * 3)
            options: Any = {"bits": 4} if "4 bits" in form else {}
            picture.save(path, **options)
        else:
            _grey_png(path, own, int(form[0]))
    one = open_labels(tmp_path / f"a.{suffix}", ImageStack(np.zeros((20, 23), np.uint8)))
    np.testing.assert_array_equal(one.slice_labels(0), values)
    many = open_labels(tmp_path / "many", ImageStack(np.zeros((2, 20, 23), np.uint8), "ZYX"))
    np.testing.assert_array_equal(many.slice_labels(0), values)
    np.testing.assert_array_equal(many.slice_labels(1), (most - 1) - values)


def test_tiff_stacks_with_palettes_hold_the_numbers_that_are_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 200, (3, 20, 23)).astype(np.uint8)
    pages = [Image.fromarray(plane) for plane in values]
    for number, page in enumerate(pages):
        page.putpalette(bytes((number + 50 * channel + place) % 256 for place in range(256) for channel in range(3)))
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert ImageStack.open(tmp_path / "a.tif").axes == "ZYXC"
    labels = open_labels(tmp_path / "a.tif", ImageStack(np.zeros((3, 20, 23), np.uint8), "ZYX"))
    np.testing.assert_array_equal([labels.slice_labels(i) for i in range(3)], values)


def test_nifti_labels_on_another_grid_are_refused(tmp_path: Path, backend: Backend) -> None:
    affine = np.diag([-0.7, 0.8, 2.5, 1])
    nib.save(nib.Nifti1Image(np.zeros((41, 30, 4), np.int16), affine), tmp_path / "image.nii.gz")
    stack = ImageStack.open(tmp_path / "image.nii.gz")
    session = _filled(backend, stack)
    write_nifti(tmp_path / "labels.nii.gz", session)
    _same(open_labels(tmp_path / "labels.nii.gz", stack), session)
    mirrored = nib.Nifti1Image(np.zeros((41, 30, 4), np.int16), affine @ np.diag([-1, 1, 1, 1]))
    nib.save(mirrored, tmp_path / "mirrored.nii.gz")
    with pytest.raises(InputError, match="lies on another grid"):
        open_labels(tmp_path / "mirrored.nii.gz", stack)


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_nifti_labels_that_count_from_the_other_end_are_turned(
    tmp_path: Path, backend: Backend, signs: tuple[int, int, int]
) -> None:
    shape = np.array([41, 30, 4])
    affine = np.array([[-0.7, -0.1, 0, 12.5], [0.1, 0.8, 0, -30], [0, 0.2, -2.5, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), affine), tmp_path / "image.nii.gz")
    stack = ImageStack.open(tmp_path / "image.nii.gz")
    session = _filled(backend, stack)
    truth = np.stack([session.slice_labels(i) for i in range(4)]).T
    # As another program writes the same labels, in another orientation.
    other = nib.orientations.inv_ornt_aff(np.array([[0, signs[0]], [1, signs[1]], [2, signs[2]]]), shape)
    turned = truth[:: signs[0], :: signs[1], :: signs[2]].astype(np.int32)
    nib.save(nib.Nifti1Image(turned, affine @ other), tmp_path / "labels.nii.gz")
    _same(open_labels(tmp_path / "labels.nii.gz", stack), session)
    # Half a voxel beside it is another grid, and so is another size.
    beside = affine @ other
    beside[:3, 3] += 0.5 * affine[:3, 0]
    nib.save(nib.Nifti1Image(turned, beside), tmp_path / "beside.nii.gz")
    with pytest.raises(InputError, match="lies on another grid"):
        open_labels(tmp_path / "beside.nii.gz", stack)


_CARET = b"""<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <VolumeInformation Index="0">   <LabelTable>
<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0"><![CDATA[background]]></Label>
<Label Key="1" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[spleen]]></Label>
<Label Key="5" Red="1.0" Green="0.5" Blue="0.0" Alpha="1"><![CDATA[liver]]></Label>
</LabelTable>  </VolumeInformation></CaretExtension>"""


def test_names_of_totalsegmentator_and_workbench_are_read(tmp_path: Path) -> None:
    data = np.zeros((9, 8, 4), np.uint8)
    data[2:5, 2:5, 1], data[6, 6, 2] = 5, 1
    image = nib.Nifti1Image(data, np.eye(4))
    for content, names in ((_CARET, {1: "spleen", 5: "liver"}), (b"<CaretExtension><broken", {})):
        image.header.extensions.clear()
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, content))
        nib.save(image, tmp_path / "segmentations.nii.gz")
        labels = open_labels(tmp_path / "segmentations.nii.gz", ImageStack(np.zeros((4, 8, 9)), "ZYX"))
        assert {label: entry.name for label, entry in labels.objects.items()} == names
        changes = as_changes(labels)
        assert changes.names == (names or {1: "object 1", 5: "object 5"})
        assert changes.colors == ({1: "#00ff00", 5: "#ff8000"} if names else {})


def test_the_one_object_of_a_file_is_called_as_the_file_is(tmp_path: Path) -> None:
    data = np.zeros((9, 8, 4), np.uint8)
    data[2:5, 2:5, 1] = 1
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "kidney_left.nii.gz")
    labels = open_labels(tmp_path / "kidney_left.nii.gz", ImageStack(np.zeros((4, 8, 9)), "ZYX"))
    assert as_changes(labels).names == {1: "kidney_left"}


def test_nifti_labels_of_several_times_are_turned_within_each(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (9, 8, 4, 3)).astype(np.int16)
    affine = np.diag([2.0, 2, 2, 1])
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 4, 3), np.int16), affine), tmp_path / "image.nii")
    stack = ImageStack.open(tmp_path / "image.nii")
    turned = nib.Nifti1Image(
        labels[:, :, ::-1], affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]])
    )
    nib.save(turned, tmp_path / "labels.nii")
    found = open_labels(tmp_path / "labels.nii", stack)
    np.testing.assert_array_equal(np.stack([found.slice_labels(i) for i in range(12)]), labels.T.reshape(12, 8, 9))


def test_the_labels_of_an_image_are_found(tmp_path: Path, backend: Backend) -> None:
    import zarr

    image = zarr.create_group(tmp_path / "image.zarr", zarr_format=3)
    image.attrs["ome"] = {"version": "0.5", "multiscales": []}
    session = _filled(backend, ImageStack(np.zeros((4, 30, 41), np.uint8), "ZYX"))
    write_ome_zarr(tmp_path / "image.zarr" / "labels" / "cells", session)
    _same(open_labels(tmp_path / "image.zarr", session.stack), session)
    write_ome_zarr(tmp_path / "image.zarr" / "labels" / "more", session)
    with pytest.raises(InputError, match="holds 2 label images"):
        open_labels(tmp_path / "image.zarr", session.stack)


def _coco(path: Path, annotations: list[dict[str, Any]], names: list[str]) -> None:
    data = {
        "images": [{"id": 10 + n, "file_name": name, "height": 20, "width": 24} for n, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": n, "category_id": 1, "iscrowd": 0, **a} for n, a in enumerate(annotations)],
    }
    path.write_text(json.dumps(data))


def test_coco_instances_of_one_category_become_objects(tmp_path: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    circle = (np.mgrid[:20, :24][0] - 10) ** 2 + (np.mgrid[:20, :24][1] - 12) ** 2 < 40
    code = mask.encode(np.asfortranarray(circle.astype(np.uint8)))
    plain = {"size": [20, 24], "counts": [24 * 20 - 5, 5]}
    square = [2.0, 3.0, 7.0, 3.0, 7.0, 9.0, 2.0, 9.0]
    _coco(
        tmp_path / "a.json",
        [
            {"image_id": 10, "segmentation": {"size": [20, 24], "counts": code["counts"].decode()}},
            {"image_id": 10, "segmentation": plain},
            {"image_id": 11, "segmentation": [square]},
            {"image_id": 11, "bbox": [10, 11, 3, 2]},
        ],
        ["dir/b.png", "a.png"],
    )
    stack = ImageStack([np.zeros((20, 24), np.uint8)] * 2, names=["a.png", "dir/b.png"])
    with pytest.raises(InputError, match=r"no image|has 2 images"):
        open_labels(tmp_path / "a.json", ImageStack([np.zeros((20, 24), np.uint8)], names=["z.png"]))
    labels = open_labels(tmp_path / "a.json", stack)
    assert {o.name for o in labels.objects.values()} == {"cell"}
    drawn = labels.slice_labels(1)
    expected = np.where(circle, 1, 0)
    expected[-5:, -1] = 2
    np.testing.assert_array_equal(drawn, expected)
    other = labels.slice_labels(0)
    assert (other[3:9, 2:7] == 3).all()
    assert (other[11:13, 10:13] == 4).all()
    assert np.count_nonzero(other) == 30 + 6


@pytest.mark.parametrize("form", ["polygons", "boxes", "regions"])
def test_many_small_objects_of_a_large_slice_take_little_time(tmp_path: Path, form: str) -> None:
    stack = ImageStack(np.zeros((1, 4096, 4096), np.uint8), "ZYX")
    places = [(y, x) for y in range(0, 4000, 400) for x in range(0, 4000, 400)]
    if form == "regions":
        roifile = pytest.importorskip("roifile")
        kind = roifile.ROI_TYPE.RECT
        rois = [
            roifile.ImagejRoi(roitype=kind, top=y, left=x, bottom=y + 20, right=x + 30, name=f"{y}-{x}", position=1)
            for y, x in places
        ]
        path = tmp_path / "a.zip"
        roifile.roiwrite(path, rois, mode="w")
    else:
        path = tmp_path / "a.json"
        annotations = [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": [x, y, 30, 20]}
            | ({"segmentation": [[x, y, x + 30, y, x + 30, y + 20, x, y + 20]]} if form == "polygons" else {})
            for number, (y, x) in enumerate(places)
        ]
        image = {"id": 1, "height": 4096, "width": 4096}
        path.write_text(json.dumps({"images": [image], "categories": [], "annotations": annotations}))
    labels = open_labels(path, stack)
    start = time.perf_counter()
    drawn = labels.slice_labels(0)
    # A hundred masks of the size of the slice take three times as long.
    assert time.perf_counter() - start < 5
    assert [drawn[y : y + 20, x : x + 30].min() for y, x in places] == list(range(1, 101))
    assert np.count_nonzero(drawn) == 100 * 600


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "cannot read"),
        ("[]", "no COCO file"),
        (100_000 * "[", r"cannot read a\.json"),
        ('{"images": [], "annotations": [{}]}', "not as COCO wants it"),
        (
            '{"images": [{"id": 1, "height": 9, "width": 9}], "annotations": []}',
            "has 9 × 9 pixels, but slice 0 has 20 × 24",
        ),
    ],
)
def test_broken_coco_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=complaint):
        open_labels(tmp_path / "a.json", ImageStack(np.zeros((20, 24), np.uint8)))
    with pytest.raises(InputError, match="no file"):
        open_labels(tmp_path / "b.json", ImageStack(np.zeros((20, 24), np.uint8)))


@pytest.mark.parametrize(
    "part", [{"segmentation": [[2.0, 3.0, 7.0, float("nan"), 7.0, 9.0]]}, {"bbox": [1, 2, float("inf"), 4]}]
)
def test_coco_corners_that_are_no_numbers_are_refused(tmp_path: Path, part: dict[str, Any]) -> None:
    _coco(tmp_path / "a.json", [{"image_id": 10, **part}], ["a"])
    with pytest.raises(InputError, match=r"annotation 0 of a\.json is not as COCO wants it"):
        open_labels(tmp_path / "a.json", ImageStack(np.zeros((20, 24), np.uint8))).slice_labels(0)


def test_coco_names_with_folders_and_large_numbers_of_categories(tmp_path: Path) -> None:
    names = ["images/a.png", "images\\b.png", "other/c.png", "more/c.png"]
    _coco(tmp_path / "a.json", [{"image_id": 10 + n, "bbox": [n, 1, 2, 2]} for n in range(4)], names)
    data = json.loads((tmp_path / "a.json").read_text())
    data["categories"][0]["id"] = 2**40
    for annotation in data["annotations"]:
        annotation["category_id"] = 2**40
    (tmp_path / "a.json").write_text(json.dumps(data))
    stack = ImageStack([np.zeros((20, 24), np.uint8)] * 3, names=["a.png", "b.png", "c.png"])
    labels = open_labels(tmp_path / "a.json", stack)
    assert [np.unique(labels.slice_labels(n)).tolist() for n in range(2)] == [[0, 1], [0, 2]]
    assert [int(np.argwhere(labels.slice_labels(n))[0, 1]) for n in range(2)] == [0, 1]
    # Which of the two pictures of that name it is nobody can know.
    assert not labels.slice_labels(2).any()


@pytest.mark.parametrize("counts", ["04", [3, 4], "\x7f", [-1, 481]])
def test_broken_run_lengths_are_refused(tmp_path: Path, counts: Any) -> None:
    _coco(tmp_path / "a.json", [{"image_id": 10, "segmentation": {"size": [20, 24], "counts": counts}}], ["a"])
    with pytest.raises(InputError, match="run-length"):
        open_labels(tmp_path / "a.json", ImageStack(np.zeros((20, 24), np.uint8))).slice_labels(0)


def test_imagej_regions_of_others(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    rectangle = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, top=2, left=3, bottom=7, right=9, name="box")
    rectangle.position = 2
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, top=5, left=4, bottom=15, right=20, name="cell")
    oval.z_position = 1
    hand = roifile.ImagejRoi.frompoints(np.array([[10, 1], [20, 1], [20, 4], [10, 4]]), name="hand", position=1)
    roifile.roiwrite(tmp_path / "a.zip", [rectangle, oval, hand], mode="w")
    stack = ImageStack(np.zeros((3, 20, 24), np.uint8), "ZYX")
    labels = open_labels(tmp_path / "a.zip", stack)
    assert [o.name for o in labels.objects.values()] == ["box", "cell", "hand"]
    y, x = np.mgrid[:20, :24]
    ellipse = ((y - 9.5) / 5) ** 2 + ((x - 11.5) / 8) ** 2 < 1
    np.testing.assert_array_equal(labels.slice_labels(0) == 2, ellipse)
    second = np.zeros((20, 24), int)
    second[2:7, 3:9], second[1:4, 10:20] = 1, 3
    np.testing.assert_array_equal(labels.slice_labels(1), second)
    assert not labels.slice_labels(2).any()
    for broken, complaint in (
        (roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, bottom=3, right=3, name="lost"), "which slice"),
        (roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, position=1, name="line"), "no area"),
        (roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, bottom=3, right=3, position=9), "slice 8"),
        (
            roifile.ImagejRoi(
                roitype=roifile.ROI_TYPE.RECT, subtype=roifile.ROI_SUBTYPE.TEXT, bottom=3, right=3, position=1
            ),
            "is text, which has no area",
        ),
        (
            roifile.ImagejRoi(
                roitype=roifile.ROI_TYPE.RECT,
                bottom=3,
                right=3,
                position=1,
                shape_roi_size=10,
                multi_coordinates=np.array([0, 1, 1, 3, 2, 2, 3, 3, 4, 4], np.float32),
            ),
            "made of curves",
        ),
    ):
        broken.tofile(tmp_path / "one.roi")
        with pytest.raises(InputError, match=complaint):
            open_labels(tmp_path / "one.roi", stack)
    (tmp_path / "b.zip").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"cannot read b\.zip"):
        open_labels(tmp_path / "b.zip", stack)


@pytest.mark.parametrize(("axes", "counted", "other"), [("ZYX", "t", "z"), ("TYX", "z", "t"), ("ZYX", "z", "t")])
def test_imagej_may_count_times_as_depths(tmp_path: Path, axes: str, counted: str, other: str) -> None:
    roifile = pytest.importorskip("roifile")
    stack = ImageStack(np.zeros((3, 20, 24), np.uint8), axes)

    def regions(*others: int) -> Path:
        rois = [roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, top=2, left=3, bottom=7, right=9) for _ in "abc"]
        for number, roi in enumerate(rois):
            roi.name = f"region {number}"
            setattr(roi, f"{counted}_position", number + 1)
            setattr(roi, f"{other}_position", others[number])
        roifile.roiwrite(tmp_path / "a.zip", rois, mode="w")
        return tmp_path / "a.zip"

    labels = open_labels(regions(1, 1, 1), stack)
    assert [np.unique(labels.slice_labels(index)).tolist() for index in range(3)] == [[0, 1], [0, 2], [0, 3]]
    with pytest.raises(InputError, match=f"several depths and times, but .* has axes {axes}"):
        open_labels(regions(1, 2, 1), stack)


def test_regions_without_their_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(InputError, match=r"napari-medsam2\[export\]"):
        open_labels(tmp_path / "a.zip", ImageStack(np.zeros((20, 24), np.uint8)))


def test_slices_are_read_one_at_a_time(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _filled(backend, ImageStack(np.zeros((4, 30, 41), np.uint8), "ZYX"))
    write_pngs(tmp_path / "out", session)
    labels = open_labels(tmp_path / "out", session.stack)
    read = []
    original = ImageStack.raw

    def watched(self: ImageStack, index: int) -> np.ndarray:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(ImageStack, "raw", watched)
    labels.slice_labels(2)
    assert read == [2]

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import nibabel as untyped
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from tests.dummy import DummyBackend, squares

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.cli import Exportable, main
from napari_medsam2.export import FORMATS, export_labels, format_of
from napari_medsam2.export._measure import By
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend


nib: Any = untyped


@pytest.fixture
def saved(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> AnnotationSession:
    """A session that is found whatever folder is opened."""
    session = AnnotationSession(ImageStack(np.zeros((3, 20, 24), np.uint8), "ZYX"), backend=backend)
    session.add_object("heart")
    session.results.put(ObjectResult.from_mask(1, 1, np.eye(20, 24, dtype=bool)))

    def opened(folder: Path, **known: Any) -> AnnotationSession:
        if folder.name != "session":
            raise InputError(f"there is no session in {folder}")
        return session

    monkeypatch.setattr(AnnotationSession, "open", staticmethod(opened), raising=False)
    return session


def _run(*args: object) -> int:
    with pytest.raises(SystemExit) as leave:
        main([str(arg) for arg in args])
    return int(leave.value.code or 0)


@pytest.mark.parametrize(("option", "name"), [((), "a.ome.tif"), (("--format", "tiff"), "a.tif")])
def test_a_session_is_exported(
    tmp_path: Path,
    saved: AnnotationSession,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, ...],
    name: str,
) -> None:
    assert _run("export", tmp_path / "session", "--output", tmp_path / name, *option) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / name), np.asarray(saved.labels()))
    assert "1 object on 3 slices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "name", "complaint"),
    [
        ("nothing", "a.tif", "there is no session"),
        ("session", "a.dcm", "does not say the format"),
        ("session", "no/a.tif", "does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path,
    saved: AnnotationSession,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    name: str,
    complaint: str,
) -> None:
    assert _run("export", tmp_path / folder, "--output", tmp_path / name) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    for number, picture in enumerate(squares(3)):
        Image.fromarray(picture).save(folder / f"cell {number}.png")
    return folder


def _zarr(folder: Path) -> Path:
    zarr.create_group(str(folder)).create_array("0", data=squares(3))
    return folder


def _write_image(folder: Path, name: str) -> str:
    """Write an image of three slices; returns its path or pattern."""
    place = folder / name
    if name == "pictures":
        return str(_pictures(place))
    if name == "some/*.png":
        return str(_pictures(folder / "some") / "*.png")
    if name.endswith(".zarr"):
        return str(_zarr(place))
    if name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(squares(3).T, np.eye(4)), place)
    else:
        tifffile.imwrite(place, squares(3), photometric="minisblack", metadata={"axes": "ZYX"})
    return str(place)


_OVER = [
    ("ct.nii.gz", "ct.nii.gz", "nifti"),
    ("stack.tif", "stack.tif", "tiff"),
    ("stack.tif", "other/../stack.tif", "csv"),
    ("pictures", "pictures", "png"),
    ("pictures", "pictures/cell 1.png", "csv"),
    ("some/*.png", "some", "png"),
    ("cells.zarr", "cells.zarr", "ome-zarr"),
    ("cells.zarr", "cells.zarr/zarr.json", "coco"),
]


@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize(("image", "output", "form"), _OVER)
def test_the_annotated_image_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: str, output: str, form: str, embed: bool
) -> None:
    (tmp_path / "other").mkdir()
    stack = ImageStack.open(_write_image(tmp_path, image))
    with AnnotationSession.create(tmp_path / "session", stack, backend=DummyBackend(), embed=embed) as session:
        session.add_object("one")
        session.add_mask(1, 1, squares(3)[1] > 100)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert _run("export", tmp_path / "session", "--output", tmp_path / output, "--format", form) == 2
    said = capsys.readouterr().err
    assert "is the image that is annotated" in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("output", "form"),
    [
        ("session.journal", "confidence"),
        ("other/../session.journal", "csv"),
        ("link.csv", "csv"),
        ("session.lock", "csv"),
        ("napari.json", "coco"),
        ("image.npy", "tiff"),
        ("image", "png"),
        ("image/000000.npy", "csv"),
    ],
)
@pytest.mark.parametrize("embed", [False, True])
def test_a_session_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, form: str, embed: bool
) -> None:
    place, folder = _write_image(tmp_path, "stack.tif"), tmp_path / "session"
    # Pictures of different sizes are stored in a folder.
    pictures = [squares(1)[0], squares(1)[0][2:]]
    stack = ImageStack(pictures) if embed and output.startswith("image/") else ImageStack.open(place)
    with AnnotationSession.create(folder, stack, backend=DummyBackend(), embed=embed) as session:
        session.add_object("one")
        session.add_mask(1, 0, squares(1)[0] > 100)
        frozen = session.frozen()
    (folder / "other").mkdir()
    if output == "link.csv":
        (folder / output).symlink_to("session.journal")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert _run("export", folder, "--output", folder / output, "--format", form) == 2
    said = capsys.readouterr().err
    assert "is the place of a saved session's own file" in said
    assert said.count("\n") == 1
    # As the dock exports: a copy in memory, which knows no folder.
    with pytest.raises(InputError, match="saved session"):
        export_labels(folder / output, frozen, form)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert _run("export", folder, "--output", folder / "confidence.csv", "--format", "confidence") == 0


def test_labels_go_beside_the_image_and_into_its_zarr(tmp_path: Path) -> None:
    for image, output, form in [
        ("ct.nii.gz", "ct labels.nii.gz", "nifti"),
        ("pictures", "labels", "png"),
        ("pictures", "pictures/labels", "png"),
        ("cells.zarr", "cells.zarr/labels.zarr", "ome-zarr"),
    ]:
        folder = tmp_path / output.replace("/", " ")
        folder.mkdir()
        stack = ImageStack.open(_write_image(folder, image))
        AnnotationSession.create(folder / "session", stack, backend=DummyBackend()).close()
        assert _run("export", folder / "session", "--output", folder / output, "--format", form) == 0
        assert (folder / output).exists()


def test_the_command_offers_every_format() -> None:
    assert [form.value for form in Exportable] == list(FORMATS)
    assert get_args(By) == ("object", "slice")
    for name, form in FORMATS.items():
        if form.suffix and name in ("tiff", "ome-tiff", "ome-zarr", "nifti", "coco", "roi", "csv"):
            assert format_of(f"a{form.suffix}") == name

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import tifffile

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.cli import Exportable, main
from napari_medsam2.export import FORMATS, format_of
from napari_medsam2.export._measure import By
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend


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


def test_the_command_offers_every_format() -> None:
    assert [form.value for form in Exportable] == list(FORMATS)
    assert get_args(By) == ("object", "slice")
    for name, form in FORMATS.items():
        if form.suffix and name in ("tiff", "ome-tiff", "ome-zarr", "nifti", "coco", "roi", "csv"):
            assert format_of(f"a{form.suffix}") == name

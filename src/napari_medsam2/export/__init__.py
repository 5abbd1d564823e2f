"""Writing what a session knows: labels in the formats of other programs, measurements and confidences.

Everything is written slice by slice, so that memory stays bounded, and atomically.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_medsam2.errors import InputError
from napari_medsam2.export._coco import write_coco
from napari_medsam2.export._confidence import CONFIDENCE_COLUMNS, write_confidence
from napari_medsam2.export._guard import check_no_session, check_target
from napari_medsam2.export._measure import write_measurements
from napari_medsam2.export._ngff import write_ome_zarr
from napari_medsam2.export._nifti import write_nifti
from napari_medsam2.export._pictures import picture_names, write_picture, write_pictures, write_pngs
from napari_medsam2.export._roi import write_rois
from napari_medsam2.export._source import LabelSource, ObjectEntry
from napari_medsam2.export._tiff import write_labels, write_ome_tiff, write_tiff
from napari_medsam2.reading.nifti import NIFTIS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_medsam2.session import AnnotationSession

__all__ = [
    "CONFIDENCE_COLUMNS",
    "FORMATS",
    "Format",
    "LabelSource",
    "ObjectEntry",
    "check_no_session",
    "export_labels",
    "format_of",
    "open_saved",
    "picture_names",
    "write_coco",
    "write_confidence",
    "write_labels",
    "write_measurements",
    "write_nifti",
    "write_ome_tiff",
    "write_ome_zarr",
    "write_picture",
    "write_pictures",
    "write_pngs",
    "write_rois",
    "write_tiff",
]


class Format(NamedTuple):
    """A format that labels can be exported in."""

    write: Callable[[str | Path, LabelSource], object]
    suffix: str
    """What its files' names end in; empty for a folder."""
    about: str


FORMATS: dict[str, Format] = {
    "tiff": Format(write_tiff, ".tif", "multi-page TIFF"),
    "ome-tiff": Format(write_ome_tiff, ".ome.tif", "OME-TIFF with axes and physical sizes"),
    "ome-zarr": Format(write_ome_zarr, ".zarr", "OME-Zarr labels (NGFF 0.5)"),
    "nifti": Format(write_nifti, ".nii.gz", "NIfTI on the image's grid"),
    "png": Format(write_pngs, "", "a folder with a PNG for each slice or picture"),
    "coco": Format(write_coco, ".json", "COCO JSON with run-length codes"),
    "coco-polygons": Format(partial(write_coco, polygon=True), ".json", "COCO JSON with polygons"),
    "roi": Format(write_rois, ".zip", "ImageJ regions"),
    "csv": Format(write_measurements, ".csv", "measurements of each object"),
    "csv-slices": Format(partial(write_measurements, by="slice"), ".csv", "measurements of each object on each slice"),
    "confidence": Format(write_confidence, ".csv", "confidence of each object on each slice"),
}
"""The formats of `export_labels`, by name."""


def export_labels(path: str | Path, session: LabelSource, form: str, sources: Iterable[Path] = ()) -> None:
    """Export a session's labels; never over the image that is annotated, nor over a saved session.

    Parameters
    ----------
    path : str or Path
        The file or, for ``ome-zarr`` and ``png``, the folder.
    session : AnnotationSession
        What to export.
    form : str
        One of `FORMATS`.
    sources : iterable of Path
        Files, folders or patterns that the image came from, where its stack does not say; see
        `AnnotationSession.sources`.

    Raises
    ------
    InputError
        If the format is unknown or cannot hold these labels, the file cannot be written, or is the image or a part
        of it, or a file of a saved session.
    """
    if form not in FORMATS:
        raise InputError(f"unknown format {form!r}; choose one of {', '.join(FORMATS)}")
    check_target(Path(path), form, session.stack, sources)
    FORMATS[form].write(path, session)


def format_of(path: str | Path) -> str:
    """Choose the format that a file's name says.

    Raises
    ------
    InputError
        If it says none.
    """
    name = Path(path).name.lower()
    for suffix, form in _BY_NAME.items():
        if name.endswith(suffix):
            return form
    raise InputError(
        f"the name {Path(path).name} does not say the format; give one with --format: {', '.join(FORMATS)}"
    )


_BY_NAME = {
    **dict.fromkeys((".ome.tif", ".ome.tiff"), "ome-tiff"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **dict.fromkeys(NIFTIS, "nifti"),
    ".zarr": "ome-zarr",
    ".json": "coco",
    ".zip": "roi",
    ".csv": "csv",
}


class _NoModel:
    """Stands where a session wants its model; reading masks asks it for nothing, and it has nothing else."""

    name = "none"


def open_saved(folder: Path, image: Path | None = None) -> AnnotationSession:
    """Open a saved session to read it: no model is loaded.

    Parameters
    ----------
    folder : Path
        That of the session.
    image : Path, optional
        Where its image is now, if it was moved.

    Raises
    ------
    InputError
        If there is no session, or its image is missing or another one.
    """
    from napari_medsam2.session import AnnotationSession

    opener: Any = AnnotationSession
    session: AnnotationSession = opener.open(folder, backend=_NoModel(), image=image)
    return session

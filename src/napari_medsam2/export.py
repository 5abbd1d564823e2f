"""Writing what a session knows: labels as TIFF or one picture an image, and confidences as CSV.

Everything is written slice by slice, so that memory stays bounded, and atomically.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_medsam2._axes import leading
from napari_medsam2._files import atomic_path
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.stack import ImageStack

__all__ = ["CONFIDENCE_COLUMNS", "picture_names", "write_confidence", "write_labels", "write_picture", "write_pictures"]

CONFIDENCE_COLUMNS = ("index", "image", "object", "name", "confidence", "object_score", "source", "area")
"""The columns of the confidence file; see `write_confidence`."""


class _Known(NamedTuple):
    """What the file says of an object on a slice."""

    confidence: float
    score: float
    source: str


_OME_UNITS = {"um": "µm", "angstrom": "Å"}
_CLASSIC_TIFF = 2**32 - 2**25
"""Bytes that surely fit a classic TIFF; more needs BigTIFF."""


def write_labels(path: str | Path, session: AnnotationSession) -> None:
    """Write a session's labels as one compressed TIFF, with its axes and, where known, its spacing.

    Parameters
    ----------
    path : str or Path
        The file. Stacks with the axes T and Z only become OME-TIFF; others (collections, ``N``) a multi-page TIFF whose
        description says its axes.
    session : AnnotationSession
        Labels are ``(*leading axes, H, W)``, uint16, or uint32 where a label needs it; 0 is background.

    Raises
    ------
    InputError
        If the images differ in size (see `write_pictures`), or the file cannot be written.
    """
    import tifffile

    stack = session.stack
    axes = leading(stack.axes) + "YX"
    shape, dtype = stack.shape, session.dtype
    ome = set(axes) <= set("TZYX")
    pages = (session.slice_labels(index) for index in range(len(stack)))
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            pages,
            shape=shape,
            dtype=dtype,
            ome=ome,
            bigtiff=math.prod(shape) * dtype.itemsize > _CLASSIC_TIFF,
            photometric="minisblack",
            compression="zlib",
            predictor=False,
            metadata={"axes": axes, **(_ome_spacing(stack) if ome else {})},
        )


def _ome_spacing(stack: ImageStack) -> dict[str, Any]:
    spacing = stack.spacing or {}
    unit = str(spacing.get("unit", "pixel"))
    out: dict[str, Any] = {}
    for axis in "xyz":
        if axis in spacing:
            out[f"PhysicalSize{axis.upper()}"] = float(spacing[axis])
            out[f"PhysicalSize{axis.upper()}Unit"] = _OME_UNITS.get(unit, unit)
    return out


def write_picture(path: str | Path, labels: np.ndarray) -> None:
    """Write one image's labels ``(H, W)`` unsigned, as TIFF or PNG by the path's suffix.

    Raises
    ------
    InputError
        If the suffix is another, a label is too large for a PNG (65535), or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".tif", ".tiff"):
        import tifffile

        with atomic_path(path) as temporary:
            tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib", metadata={"axes": "YX"})
    elif suffix == ".png":
        from PIL import Image

        if labels.dtype.itemsize > 2:
            raise InputError(f"labels above 65535 do not fit the PNG {path}; write a TIFF")
        with atomic_path(path) as temporary:
            Image.fromarray(labels.astype(np.uint16)).save(temporary, format="PNG")
    else:
        raise InputError(f"labels cannot be written as {path}: give a name that ends in .tif or .png")


def picture_names(names: Iterable[str], wide: bool = False) -> list[str]:
    """Name the label files of a collection's images: the image's name with ``.tif``, or ``.png`` where it was no TIFF.

    Parameters
    ----------
    names : iterable of str
        The images' file names, each different; folders in them are kept.
    wide : bool
        Whether labels above 65535 are among them, which do not fit a PNG.

    Returns
    -------
    list of str
        Relative paths, each different: images that differ in nothing but their format keep its name (``a.jpg.png``).
    """
    paths = [Path(name) for name in names]
    stems = [path.with_suffix("").as_posix().casefold() for path in paths]
    out = []
    for path, stem in zip(paths, stems, strict=True):
        tiff = path.suffix.lower() in (".tif", ".tiff") or wide
        suffix = ".tif" if tiff else ".png"
        kept = path if stems.count(stem) > 1 else path.with_suffix("")
        out.append(kept.with_name(kept.name + suffix).as_posix())
    return out


def write_pictures(folder: str | Path, session: AnnotationSession) -> list[Path]:
    """Write the labels of a collection's images, one file an image.

    Parameters
    ----------
    folder : str or Path
        Made where it does not exist; its parent must exist. Files of the same names are replaced, others stay.
    session : AnnotationSession
        Its images need not have one size.

    Returns
    -------
    list of Path
        The files, in order of the images; see `picture_names`. Images without names are ``image-0000.tif`` and so on.

    Raises
    ------
    InputError
        If the folder or a file cannot be written.
    """
    stack = session.stack
    names = stack.names or [f"image-{index:04d}.tif" for index in range(len(stack))]
    out = []
    for index, name in enumerate(picture_names(names, session.dtype.itemsize > 2)):
        path = Path(folder) / name
        try:
            # The parent of the folder must be there, so that a mistyped path does not grow a tree.
            Path(folder).mkdir(exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
        write_picture(path, session.slice_labels(index))
        out.append(path)
    return out


def write_confidence(path: str | Path, session: AnnotationSession) -> None:
    """Write a CSV with one line for each object that has a prompt and each slice that it was looked for on.

    The columns are the slice's number ``index``, its file name ``image`` (empty for stacks), the label ``object``, its
    ``name``, ``confidence`` and ``object_score`` in [0, 1], the ``source`` of the mask, and the ``area`` in pixels that
    the object has in the labels. ``source`` is ``prompt`` (the model, from a prompt), ``mask`` (a person's, taken as it
    is), ``propagated``, or ``ended``: the object's propagation had ended on an earlier slice without it, and the
    confidence is that of the slice where it did.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    stack = session.stack
    known: dict[int, dict[int, _Known]] = {label: {} for label in sorted({label for label, _ in session.prompts})}
    for index, label, confidence, score, source in session.results.summary():
        if label in known:
            known[label][index] = _Known(confidence, score, source)
    for label, of_object in known.items():
        known[label] = _carry_ends(of_object, stack.runs())
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CONFIDENCE_COLUMNS)
        for index in range(len(stack)):
            values, counts = np.unique(session.slice_labels(index), return_counts=True)
            areas = dict(zip(values.tolist(), counts.tolist(), strict=True))
            image = stack.names[index] if stack.names else ""
            for label in known:
                row = known[label].get(index)
                if row is None:
                    continue
                name, area = session.objects[label].name, areas.get(label, 0)
                writer.writerow(
                    [index, image, label, name, f"{row.confidence:.4f}", f"{row.score:.4f}", row.source, area]
                )


def _carry_ends(known: Mapping[int, _Known], runs: Iterable[range]) -> dict[int, _Known]:
    """Add the slices behind those on which a propagation ended, until another one is known."""
    out = dict(known)
    for run in runs:
        for way in (run, reversed(run)):
            end: _Known | None = None
            for index in way:
                if index in known:
                    # Without an end, nothing was looked for behind: the propagation was stopped or not asked for.
                    here = known[index]
                    absent = here.score < 0.5 or here.confidence == 0
                    end = here._replace(source="ended") if absent else None
                elif end is not None:
                    out.setdefault(index, end)
    return out

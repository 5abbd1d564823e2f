"""Labels as TIFF and OME-TIFF, one page a slice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_medsam2._files import atomic_path
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import KEY, entries, table
from napari_medsam2.reading.axes import leading

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.export._source import LabelSource
    from napari_medsam2.stack import ImageStack

__all__ = ["COLOR_NAMESPACE", "NAME_NAMESPACE", "write_labels", "write_ome_tiff", "write_tiff"]

NAME_NAMESPACE, COLOR_NAMESPACE = f"{KEY}/object-names", f"{KEY}/object-colors"

_OME_UNITS = {"um": "µm", "angstrom": "Å", "inch": "in"}
_OME_AXES = frozenset("TZYX")
_CENTIMETRES = {"m": 100.0, "cm": 1.0, "mm": 0.1, "um": 1e-4, "nm": 1e-7, "pm": 1e-10, "angstrom": 1e-8, "inch": 2.54}
_BUFFER = 1 << 25
"""Bytes that wait to be compressed: with many processors tifffile would take up to half a gigabyte."""
_CLASSIC_TIFF = 2**32 - 2**25
"""Bytes that surely fit a classic TIFF; more needs BigTIFF."""


def write_labels(path: str | Path, session: LabelSource) -> None:
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
    if set(_axes(session.stack)) <= _OME_AXES:
        write_ome_tiff(path, session)
    else:
        write_tiff(path, session)


def write_ome_tiff(path: str | Path, session: LabelSource) -> None:
    """Write a session's labels as OME-TIFF: axes, physical sizes and units, names and colours as map annotations.

    Parameters
    ----------
    path : str or Path
        The file; its name should end in ``.ome.tif``.
    session : AnnotationSession
        As for `write_labels`.

    Raises
    ------
    InputError
        If the images are a collection, which OME knows no axis for, or differ in size; or the file cannot be written.
    """
    stack, objects = session.stack, entries(session)
    if not set(_axes(stack)) <= _OME_AXES:
        raise InputError(
            f"{stack.name} has axes {stack.axes}, and OME-TIFF has none for pictures without order; use tiff or png"
        )
    annotations = [
        {"Namespace": NAME_NAMESPACE, "Value": {str(label): entry.name for label, entry in objects.items()}},
        {"Namespace": COLOR_NAMESPACE, "Value": {str(label): entry.hex for label, entry in objects.items()}},
    ]
    extra: dict[str, Any] = {"MapAnnotation": annotations} if objects else {}
    _write(path, session, ome=True, metadata={**_ome_spacing(stack), **extra})


def write_tiff(path: str | Path, session: LabelSource) -> None:
    """Write a session's labels as a plain multi-page TIFF.

    Its description, in the first page, is JSON with ``axes``, ``spacing`` and the objects' names and colours under
    ``napari-medsam2``; TIFF's own resolution says the distance of pixels where its unit is known.

    Parameters
    ----------
    path : str or Path
        The file.
    session : AnnotationSession
        As for `write_labels`.

    Raises
    ------
    InputError
        If the images differ in size, or the file cannot be written.
    """
    about = {**table(entries(session)), "spacing": session.stack.spacing}
    _write(path, session, ome=False, metadata={KEY: about})


def _write(path: str | Path, session: LabelSource, ome: bool, metadata: dict[str, Any]) -> None:
    import tifffile

    stack, dtype = session.stack, session.dtype
    shape = stack.shape
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            (session.slice_labels(index) for index in range(len(stack))),
            shape=shape,
            dtype=dtype,
            ome=ome,
            bigtiff=math.prod(shape) * dtype.itemsize > _CLASSIC_TIFF,
            photometric="minisblack",
            compression="zlib",
            predictor=False,
            buffersize=_BUFFER,
            metadata={"axes": _axes(stack), **metadata},
            **_resolution(stack),
        )


def _axes(stack: ImageStack) -> str:
    return leading(stack.axes) + "YX"


def _ome_spacing(stack: ImageStack) -> dict[str, Any]:
    spacing = stack.spacing or {}
    unit = str(spacing.get("unit", "pixel"))
    out: dict[str, Any] = {}
    for axis in "xyz":
        if axis in spacing:
            out[f"PhysicalSize{axis.upper()}"] = float(spacing[axis])
            out[f"PhysicalSize{axis.upper()}Unit"] = _OME_UNITS.get(unit, unit)
    return out


def _resolution(stack: ImageStack) -> dict[str, Any]:
    spacing = stack.spacing or {}
    size = _CENTIMETRES.get(str(spacing.get("unit")))
    if size is None or "x" not in spacing or "y" not in spacing:
        return {}
    return {
        "resolution": (1 / (spacing["x"] * size), 1 / (spacing["y"] * size)),
        "resolutionunit": "CENTIMETER",
    }

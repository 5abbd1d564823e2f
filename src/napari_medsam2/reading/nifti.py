"""NIfTI volumes, and FreeSurfer's, read one slice at a time, compressed or not."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import threading
import weakref
from typing import IO, TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import make_spacing
from napari_medsam2.reading.imagefile import ImageFile
from napari_medsam2.reading.sources import MappedArray, ScaledArray, Source, check_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["NIFTIS", "VOLUMES", "open_nifti"]

NIFTIS = (".nii", ".nii.gz")
"""How the names of NIfTI files end."""

VOLUMES = (*NIFTIS, ".mgz", ".mgh")
"""How the names of volumes that lie in space end."""

# NIfTI's array is indexed (x, y, z, t, u) with x running fastest; u counts the channels of a vector.
_AXES = "CTZYX"


def open_nifti(path: Path) -> ImageFile:
    """Open a NIfTI file; its array is turned to ``ZYX`` (``TZYX``, ``CTZYX``) without flipping or resampling.

    Slice ``i``, row ``y`` and column ``x`` of the image are voxel ``(x, y, i)`` of the file, whatever its orientation,
    so labels can be written back voxel for voxel.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file, or FreeSurfer's ``.mgz`` or ``.mgh``.

    Returns
    -------
    ImageFile
        The array, its spacing (in mm where the header names no unit) and ``affine``, a map from ``(x, y, z)`` voxels to
        the scanner's millimetres. Values are scaled by the header's slope and intercept where it has them.

    Raises
    ------
    InputError
        If the values are complex numbers, or lie on a surface and not in a volume.
    """
    import nibabel

    # Its own type says nothing of the members that all images of volumes have.
    image: Any = nibabel.load(path)
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        raise InputError(
            f"{path.name} holds no volume but values on a surface (CIFTI); project them into a NIfTI volume first"
        )
    header: Any = image.header
    stored: Any = image.dataobj
    colours = len(stored.dtype.names or ())
    dtype = stored.dtype if not colours else stored.dtype[0]
    check_dtype(dtype, path.name)
    shape = tuple(int(size) for size in stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 5 and shape[3] == 1:
        axes = "CZYX"
        shape = (*shape[:3], shape[4])
    elif 2 <= len(shape) <= 5:
        axes = _AXES[-len(shape) :]
    else:
        raise InputError(f"{path.name} has shape {shape}; NIfTI volumes with 2 to 5 axes can be read")
    gzipped = path.name.lower().endswith((".gz", ".mgz"))
    file = _Inflated(path) if gzipped else (lambda: path)
    if not gzipped:
        needed = int(stored.offset) + stored.dtype.itemsize * _count(shape)
        if path.stat().st_size < needed:
            raise InputError(
                f"{path.name} is cut short: it ends at byte {path.stat().st_size} of {needed}; copy or export it again"
            )
    inner = shape[::-1]
    if colours:
        # Red, green, blue (and opacity) lie beside each other in each voxel.
        inner, axes = (*inner, colours), f"{axes}C"
    data: Source = MappedArray(file, int(stored.offset), inner, dtype)
    if (stored.slope, stored.inter) != (1.0, 0.0):
        data = ScaledArray(data, float(stored.slope), float(stored.inter))
    zooms = header.get_zooms()
    sizes = {axis: float(zooms[i]) for i, axis in enumerate("xyz") if i < min(len(shape), len(zooms))}
    spacing = make_spacing(sizes, _unit(header, sizes.values()))
    return ImageFile(data=data, axes=axes, spacing=spacing, affine=_affine(image, sizes))


def _affine(image: Any, sizes: Mapping[str, float]) -> NDArray[Any]:
    """Return the map into space; where a program wrote one that leads nowhere (zeros, NaN), that of the sizes."""
    import numpy as np

    affine: NDArray[Any] = image.affine
    if np.isfinite(affine).all() and np.linalg.det(affine) != 0:
        return affine
    return np.diag([sizes.get(axis) or 1.0 for axis in "xyz"] + [1.0])


def _unit(header: Any, sizes: Iterable[float]) -> str | None:
    """Return the unit of the sizes. Where none is named they are millimetres, as all programs take them.

    Sizes of 1 in no space are what is written where nothing is known.
    """
    if not hasattr(header, "get_xyzt_units"):
        # FreeSurfer knows no other unit.
        return "mm"
    try:
        unit = str(header.get_xyzt_units()[0])
    except KeyError:
        # Some programs write numbers that the standard gives no meaning.
        unit = "unknown"
    if unit != "unknown":
        return {"micron": "um"}.get(unit, unit)
    placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    return "mm" if placed or any(size != 1 for size in sizes) else None


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


class _Inflated:
    """A gzip file, inflated to a nameless temporary file at its first use: gzip itself cannot be read from the middle.

    The system removes the file when the array is gone, or the program ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> IO[Any]:
        """Return the inflated file, open for reading."""
        with self._lock:
            if self._file is None:
                self._file = self._inflate()
            return self._file

    def _inflate(self) -> IO[bytes]:
        inflated = tempfile.TemporaryFile()
        try:
            with gzip.open(self._path) as packed:
                shutil.copyfileobj(packed, inflated, 1 << 18)
            inflated.flush()
        except EOFError:
            inflated.close()
            raise InputError(f"{self._path.name} is cut short; copy or export it again") from None
        except BaseException:
            inflated.close()
            raise
        weakref.finalize(self, inflated.close)
        return inflated

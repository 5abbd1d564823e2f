"""Labels as NIfTI, voxel for voxel on the grid of the image."""

from __future__ import annotations

import contextlib
import gzip
import json
from itertools import permutations
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from napari_medsam2._files import atomic_path
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import KEY, entries, table
from napari_medsam2.reading.axes import leading
from napari_medsam2.reading.nifti import VOLUMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medsam2.export._source import LabelSource
    from napari_medsam2.stack import ImageStack

__all__ = ["LABEL_INTENT", "check_space", "write_nifti"]

LABEL_INTENT = 1002
"""By this code a NIfTI header says that its voxels are labels."""
_NIFTI1_LONGEST = 32767
# NIfTI knows metres, millimetres and micrometres.
_UNITS: dict[str, tuple[str, float]] = {
    "m": ("meter", 1.0),
    "cm": ("mm", 10.0),
    "mm": ("mm", 1.0),
    "inch": ("mm", 25.4),
    "um": ("micron", 1.0),
    "nm": ("micron", 1e-3),
    "angstrom": ("micron", 1e-4),
    "pm": ("micron", 1e-6),
}


def write_nifti(path: str | Path, session: LabelSource) -> None:
    """Write a session's labels as NIfTI, slice by slice.

    Parameters
    ----------
    path : str or Path
        A file that ends in ``.nii`` or ``.nii.gz``.
    session : AnnotationSession
        Row ``y`` and column ``x`` of slice ``z`` become voxel ``(x, y, z)``. The affine, its codes and the units are
        those of the image where that is NIfTI too; else the affine holds the spacing. Labels are uint16, or int32
        where one needs it, with the intent ``label``; names and colours are a JSON comment in the header's extension.

    Raises
    ------
    InputError
        If the name ends otherwise, the images are a collection or differ in size, the image is NIfTI but was opened
        with axes that have no place in its space, or the file cannot be written.
    """
    path = Path(path)
    packed = path.name.lower().endswith(".nii.gz")
    if not packed and path.suffix.lower() != ".nii":
        raise InputError(f"NIfTI cannot be written as {path}: give a name that ends in .nii or .nii.gz")
    stack = session.stack
    check_space(stack)
    letters = leading(stack.axes)
    height, width = stack.shape[-2:]
    sizes = dict(zip(letters, stack.shape, strict=False))
    times, depth = sizes.get("T", 1), sizes.get("Z", 1)
    shape = (width, height, depth, times) if "T" in letters else (width, height, depth)
    dtype = np.dtype("<u2" if session.dtype.itemsize == 2 else "<i4")
    header = _header(stack, shape, dtype)
    header.extensions.append(_comment(session))
    # The data begin at a multiple of 16 behind the extension.
    header["vox_offset"] = -(-(header.single_vox_offset + header.extensions.get_sizeondisk()) // 16) * 16
    with atomic_path(path) as temporary, _opened(temporary, packed) as stream:
        header.write_to(stream)
        stream.write(bytes(int(header["vox_offset"]) - stream.tell()))
        for time in range(times):
            for z in range(depth):
                coords = tuple(time if letter == "T" else z for letter in letters)
                stream.write(np.ascontiguousarray(session.slice_labels(stack.ravel(coords)), dtype=dtype).data)


def check_space(stack: ImageStack) -> None:
    """Raise InputError where NIfTI has no place for a stack's labels."""
    if "N" in leading(stack.axes):
        raise InputError(f"{stack.name} is a collection of pictures, which NIfTI does not hold; use tiff or png")
    if stack.affine is None and stack.path is not None and stack.path.name.lower().endswith(VOLUMES):
        raise InputError(
            f"{stack.name} was opened as {stack.axes}, with times or channels in place of space, so its labels lie "
            f"nowhere in the space of {stack.path.name}; open it with other axes, or choose another format"
        )


@contextlib.contextmanager
def _opened(path: Path, packed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as plain:
        if not packed:
            yield plain
            return
        # Without name and time the same labels give the same bytes.
        with gzip.GzipFile("", "wb", 6, plain, mtime=0) as stream:
            yield cast("IO[bytes]", stream)


def _header(stack: ImageStack, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    import nibabel

    long = max(shape) > _NIFTI1_LONGEST
    kind: Any = nibabel.Nifti2Header if long else nibabel.Nifti1Header
    header = kind()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_intent(LABEL_INTENT, (), "labels", allow_unknown=True)
    header["descrip"] = KEY.encode()
    found = _source_header(stack)
    if found is not None:
        source, order = found
        # As they are: some programs write numbers that nibabel has no name for.
        header["xyzt_units"] = source["xyzt_units"]
        zooms = [*source.get_zooms()[:4], 1.0, 1.0, 1.0, 1.0]
        header.set_zooms([*(zooms[axis] for axis in order), *zooms[3:]][: len(shape)])
        # Both maps and their codes: programs differ in which of the two they read.
        header.set_qform(source.get_qform()[:, [*order, 3]], int(source["qform_code"]))
        header.set_sform(source.get_sform()[:, [*order, 3]], int(source["sform_code"]))
        return header
    unit, factor = _UNITS.get(str((stack.spacing or {}).get("unit")), ("unknown", 1.0))
    sizes = [float((stack.spacing or {}).get(axis, 1.0)) * factor for axis in "xyz"]
    header.set_zooms((*sizes, 1.0)[: len(shape)])
    header.set_xyzt_units(unit, "unknown")
    affine = np.diag([*sizes, 1.0]) if stack.affine is None else stack.affine
    header.set_qform(affine, 1)
    header.set_sform(affine, 1)
    return header


def _source_header(stack: ImageStack) -> tuple[Any, tuple[int, ...]] | None:
    """Return the image's own header, where it is NIfTI on the same grid, and which of its axes are x, y and z."""
    import nibabel

    if stack.affine is None or stack.path is None or not stack.path.is_file():
        return None
    try:
        image: Any = nibabel.load(stack.path)
    except (OSError, nibabel.filebasedimages.ImageFileError):
        return None
    if not isinstance(image.header, nibabel.Nifti1Header):
        return None
    # The image may have been opened with its axes in another order.
    orders = (order for order in permutations(range(3)) if np.array_equal(image.affine[:, [*order, 3]], stack.affine))
    order = next(orders, None)
    return None if order is None else (image.header, order)


def _comment(session: LabelSource) -> Any:
    import nibabel

    text = json.dumps({KEY: table(entries(session))})
    return nibabel.nifti1.Nifti1Extension("comment", text.encode())

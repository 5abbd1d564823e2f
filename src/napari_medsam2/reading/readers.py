"""Image files of every kind, opened without reading their pixels."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import guess_axes, leading
from napari_medsam2.reading.imagefile import ImageFile
from napari_medsam2.reading.sources import Key, MappedArray, check_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CollectionItem",
    "distinct_names",
    "find_images",
    "natural_key",
    "open_collection",
    "open_image",
    "reason",
    "short_name",
]

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFFS = (".tif", ".tiff", ".btf", ".tf8")
_LOOKED_AT = 20
"""Files of a folder without pictures that are looked into."""
_KNOWN = "TIFF, OME-TIFF, OME-Zarr, NIfTI (.nii, .nii.gz), FreeSurfer's .mgz, PNG, JPEG, BMP and .npy"
_FOREIGN = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), ("DICOM", "convert the series to NIfTI first, as dcm2niix does")),
    **dict.fromkeys((".nrrd", ".nhdr"), ("NRRD", "save it as NIfTI first, in 3D Slicer or ITK-SNAP")),
    **dict.fromkeys((".mha", ".mhd"), ("MetaImage", "save it as NIfTI first, in 3D Slicer or ITK-SNAP")),
    **dict.fromkeys((".hdr", ".img", ".img.gz"), ("a pair of .hdr and .img", "save it as one .nii file first")),
    **dict.fromkeys((".mif", ".mif.gz"), ("MRtrix's .mif", "convert it to NIfTI first, with mrconvert")),
    **dict.fromkeys((".head", ".brik", ".brik.gz"), ("AFNI's format", "convert it to NIfTI first, with 3dAFNItoNIFTI")),
    ".mnc": ("MINC", "convert it to NIfTI first, with mnc2nii"),
    ".gii": ("GIFTI", "it holds a surface; project that into a NIfTI volume first"),
}
"""Formats of medical images that are not read, by how their names end: what they are called, and what to do."""


def open_image(path: Path) -> ImageFile:
    """Open one image file, or the folder of an OME-Zarr image.

    Parameters
    ----------
    path : Path
        What to open; its suffix says the format.

    Returns
    -------
    ImageFile
        The image, unread.

    Raises
    ------
    InputError
        If the format is unknown or the file cannot be understood.
    """
    from napari_medsam2.reading.ngff import is_zarr, open_zarr

    opener = open_zarr if path.is_dir() and is_zarr(path) else _opener(path)
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty; copy or export it again")
    try:
        return opener(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"cannot read {path.name}: {reason(error)}; check that it is whole, or export it again"
        ) from error


def _opener(path: Path) -> Callable[[Path], ImageFile]:
    from napari_medsam2.reading.nifti import VOLUMES, open_nifti
    from napari_medsam2.reading.pictures import open_picture
    from napari_medsam2.reading.tiff import open_tiff

    name = path.name.lower()
    if name.endswith(_TIFFS):
        return open_tiff
    if name.endswith(_PICTURES):
        return open_picture
    if name.endswith(VOLUMES):
        return open_nifti
    if name.endswith(".npy"):
        return _open_npy
    foreign = next((said for suffix, said in _FOREIGN.items() if name.endswith(suffix)), None)
    if foreign is None and _is_dicom(path):
        foreign = _FOREIGN[".dcm"]
    if foreign is not None:
        raise InputError(f"cannot read {path.name}: {foreign[0]} is not supported; {foreign[1]}")
    raise InputError(f"cannot read {path.name}: its format is not known; use {_KNOWN}")


def _is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, whatever its name."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def reason(error: BaseException) -> str:
    """Return an error's message as a part of one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".;:") if len(text) <= 200 else text[:199] + "…"


def _open_npy(path: Path) -> ImageFile:
    import numpy as np

    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise ValueError("it is no NumPy array")
    try:
        stored: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).lower():
            raise InputError(
                f"{path.name} holds Python objects, not numbers; save it as an array of numbers"
            ) from error
        raise
    dtype = check_dtype(stored.dtype, path.name)
    data = MappedArray(lambda: path, stored.offset, stored.shape, stored.dtype, fortran=not stored.flags.c_contiguous)
    return ImageFile(data=data, axes=guess_axes(stored.shape, dtype, path.name))


@dataclass(frozen=True, slots=True, eq=False)
class CollectionItem:
    """One image file of a collection. Only what its header says is kept; it is opened anew for each read.

    Parameters
    ----------
    path : Path
        The file.
    axes : str
        ``YX`` or ``YX`` and ``C``.
    shape : tuple of int
        Length of each axis.
    dtype : numpy.dtype
        Type of a pixel.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        image = _without_singles(open_image(self.path))
        if image.data.shape != self.shape or image.axes != self.axes:
            raise InputError(
                f"{self.path.name} has changed: it had shape {self.shape} and has {image.data.shape}; open it again"
            )
        return np.asarray(image.data[key])


def _without_singles(image: ImageFile) -> ImageFile:
    """Drop leading axes of length 1, which many programs write around a single picture."""
    from napari_medsam2.reading.sources import match_axes

    kept = "".join(
        letter
        for letter, size in zip(image.axes, image.data.shape, strict=True)
        if size > 1 or letter not in leading(image.axes)
    )
    return ImageFile(data=match_axes(image.data, image.axes, kept), axes=kept, spacing=image.spacing)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts ``img2`` before ``img10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def find_images(place: Path) -> list[Path] | None:
    """Return the files of a folder or a pattern, in natural order; None if it is one image (a file or an OME-Zarr).

    Hidden files of a folder and those that are no TIFF, PNG, JPEG or BMP are passed over.

    Raises
    ------
    InputError
        If there is nothing.
    """
    from napari_medsam2.reading.ngff import is_zarr

    if place.is_file() or (place.is_dir() and is_zarr(place)):
        return None
    if place.is_dir():
        found = [
            path
            for path in place.iterdir()
            if path.name.lower().endswith(_TIFFS + _PICTURES) and not path.name.startswith(".") and path.is_file()
        ]
        if not found and any(path.is_file() and _is_dicom(path) for path in sorted(place.iterdir())[:_LOOKED_AT]):
            raise InputError(f"the folder {place} holds DICOM, which is not supported; {_FOREIGN['.dcm'][1]}")
        if not found:
            raise InputError(f"the folder {place} holds no image; put TIFF, PNG, JPEG or BMP files in it")
    elif any(sign in str(place) for sign in "*?["):
        found = [path for path in map(Path, glob.glob(str(place), recursive=True)) if path.is_file()]
        if not found:
            raise InputError(f"no file matches {place}; check the folder and the pattern")
    elif ":/" in str(place):
        raise InputError(f"cannot open {place}: only files on this computer can be opened; download it first")
    else:
        raise InputError(f"there is no file or folder {place}; check the path")
    return sorted(found, key=lambda path: natural_key(str(path)))


def short_name(path: Path) -> str:
    """Return a file's name without the suffixes of its format."""
    suffix = r"(\.ome)?\.(tiff?|zarr|nii|mg[zh]|npy|png|jpe?g|bmp|btf|tf8)(\.gz)?$"
    return re.sub(suffix, "", path.name, flags=re.IGNORECASE)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the files' names; with their folders, below the one they share, where two have the same name."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    # Not resolved: a link has the name that it is given by.
    whole = [Path(os.path.abspath(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(shared).as_posix() for path in whole]


def open_collection(paths: Sequence[Path]) -> list[CollectionItem]:
    """Open many image files, each of which is one picture.

    Parameters
    ----------
    paths : sequence of Path
        The files.

    Returns
    -------
    list of CollectionItem
        In the same order.

    Raises
    ------
    InputError
        If any file cannot be read, naming those that cannot, or is a stack.
    """
    items: list[CollectionItem] = []
    failed: list[tuple[str, str]] = []
    for path in paths:
        try:
            image = _without_singles(open_image(path))
        except InputError as error:
            failed.append((path.name, str(error)))
            continue
        if leading(image.axes):
            raise InputError(
                f"{path.name} is a stack of its own, with axes {image.axes} and shape {image.data.shape}; "
                f"open it alone, or put only single pictures in the folder"
            )
        dtype = check_dtype(image.data.dtype, path.name)
        items.append(CollectionItem(path, image.axes, tuple(image.data.shape), dtype))
    if failed:
        if len(paths) == 1:
            raise InputError(failed[0][1])
        names = ", ".join(name for name, _ in failed[:5]) + (", …" if len(failed) > 5 else "")
        raise InputError(
            f"cannot read {len(failed)} of {len(paths)} images ({names}); repair or remove them and try again"
        )
    return items

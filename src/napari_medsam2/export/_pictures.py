"""Labels as pictures: one PNG or TIFF an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2._files import atomic_path, write_text
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import KEY, entries, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_medsam2.export._source import LabelSource, ObjectEntry
    from napari_medsam2.stack import ImageStack

__all__ = ["TABLE_FILE", "picture_names", "png_names", "write_picture", "write_pictures", "write_pngs"]

TABLE_FILE = "objects.json"
"""The file with names and colours that lies beside the pictures."""


def write_picture(path: str | Path, labels: np.ndarray, objects: Mapping[int, ObjectEntry] | None = None) -> None:
    """Write one image's labels ``(H, W)`` unsigned, as TIFF or PNG by the path's suffix.

    Parameters
    ----------
    path : str or Path
        The file.
    labels : ndarray
        ``(H, W)`` unsigned.
    objects : mapping, optional
        Names and colours, by label; those of the labels that are there go into the file as text.

    Raises
    ------
    InputError
        If the suffix is another, a label is too large for a PNG (65535), or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".tif", ".tiff"):
        import tifffile

        with atomic_path(path) as temporary:
            about = {KEY: json.loads(_known(labels, objects))} if objects else {}
            metadata = {"axes": "YX", **about}
            tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib", metadata=metadata)
    elif suffix == ".png":
        from PIL import Image, PngImagePlugin

        if labels.dtype.itemsize > 2:
            raise InputError(f"labels above 65535 do not fit the PNG {path}; write a TIFF")
        with atomic_path(path) as temporary:
            text = PngImagePlugin.PngInfo()
            if objects:
                text.add_itxt(KEY, _known(labels, objects), zip=True)
            Image.fromarray(labels.astype(np.uint16)).save(temporary, format="PNG", pnginfo=text)
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


def write_pictures(folder: str | Path, session: LabelSource) -> list[Path]:
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
    return _write_all(Path(folder), session, picture_names(names, session.dtype.itemsize > 2))


def write_pngs(folder: str | Path, session: LabelSource) -> list[Path]:
    """Write the labels of every slice or picture as a 16-bit PNG, and ``objects.json`` with names and colours.

    Parameters
    ----------
    folder : str or Path
        Made where it does not exist; its parent must exist. Files of the same names are replaced, others stay.
    session : AnnotationSession
        A stack or a collection; its images need not have one size.

    Returns
    -------
    list of Path
        The pictures, in order: named after the image's files, else ``slice-0000.png`` and so on.

    Raises
    ------
    InputError
        If a label is above 65535, or the folder or a file cannot be written.
    """
    if session.dtype.itemsize > 2:
        raise InputError("labels above 65535 do not fit PNG pictures; choose tiff, ome-tiff, ome-zarr, nifti or coco")
    written = _write_all(Path(folder), session, png_names(session.stack))
    write_text(Path(folder) / TABLE_FILE, json.dumps(table(entries(session)), indent=1))
    return written


def png_names(stack: ImageStack) -> list[str]:
    """Name the pictures that `write_pngs` writes, in order: relative paths, each different."""
    digits = max(4, len(str(len(stack) - 1)))
    names = stack.names or [f"slice-{index:0{digits}d}.png" for index in range(len(stack))]
    named = [Path(name).with_suffix("").as_posix().casefold() for name in names]
    return [
        f"{name if named.count(stem) > 1 else Path(name).with_suffix('').as_posix()}.png"
        for name, stem in zip(names, named, strict=True)
    ]


def _write_all(folder: Path, session: LabelSource, names: list[str]) -> list[Path]:
    objects = entries(session)
    out = []
    for index, name in enumerate(names):
        path = folder / name
        try:
            # The parent of the folder must be there, so that a mistyped path does not grow a tree.
            folder.mkdir(exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
        write_picture(path, session.slice_labels(index), objects)
        out.append(path)
    return out


def _known(labels: np.ndarray, objects: Mapping[int, ObjectEntry] | None) -> str:
    """Return the table of the objects that are on a picture."""
    found = [label for label in np.unique(labels).tolist() if objects and label in objects]
    return json.dumps(table({label: (objects or {})[label] for label in found}))

"""Opening files of labels, of every format that `napari_medsam2.export` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.importing._grid import check_grid, turned
from napari_medsam2.importing._indices import open_indices, read_indices
from napari_medsam2.importing._names import known_objects
from napari_medsam2.reading.axes import leading
from napari_medsam2.reading.readers import find_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_medsam2.export import ObjectEntry
    from napari_medsam2.stack import ImageStack

__all__ = ["LabelFile", "check_labels", "open_labels"]

_LARGEST = 2**31 - 1


class LabelFile:
    """Labels of a stack's slices, read one at a time.

    Parameters
    ----------
    name : str
        What the file is called.
    draw : callable
        Takes a slice's number in the stack and gives its labels ``(H, W)``, integers from 0 to 2³¹ − 1.
    count : int
        How many slices there are.
    objects : mapping
        Names and colours by label, where the file knows them.
    """

    def __init__(
        self, name: str, draw: Callable[[int], np.ndarray], count: int, objects: Mapping[int, ObjectEntry]
    ) -> None:
        self.name, self.objects, self._draw, self._count = name, dict(objects), draw, count

    def __len__(self) -> int:
        return self._count

    def slice_labels(self, index: int) -> np.ndarray:
        """Read one slice's labels, ``(H, W)`` uint32.

        Raises
        ------
        InputError
            If they are not whole numbers, or the file is damaged.
        """
        return self._draw(index)


def open_labels(path: str | Path, stack: ImageStack) -> LabelFile:
    """Open a file of labels that belongs to a stack.

    Parameters
    ----------
    path : str or Path
        TIFF, OME-TIFF, OME-Zarr (the label image's own folder, or an image with labels), NIfTI, PNG, ``.npy``, COCO
        JSON, a zip of ImageJ regions (or one ``.roi``), or a folder or pattern of pictures. Of pictures with a palette
        the places in it are the labels. The pictures of a
        collection are found by their names, with or without suffix; else they are taken in natural order.
    stack : ImageStack
        The images that the labels belong to.

    Returns
    -------
    LabelFile
        Nothing but headers has been read; annotations of COCO and regions have.

    Raises
    ------
    InputError
        If the file cannot be read, or its labels do not fit the stack: other sizes, or a NIfTI on another grid.
    """
    place = Path(path).expanduser()
    suffix = place.suffix.lower()
    if suffix == ".json":
        from napari_medsam2.importing._coco import open_coco

        return open_coco(place, stack)
    if suffix in (".zip", ".roi"):
        from napari_medsam2.importing._roi import open_rois

        return open_rois(place, stack)
    place = _label_group(place)
    labels = open_indices(place)
    files = find_images(place) or [place]
    axes = check_grid(labels, stack)
    order = _order(labels, stack)

    def draw(index: int) -> np.ndarray:
        number = order(index)
        values = read_indices(files[number]) if number < len(files) else None
        if values is None:
            values = labels.raw(number)
        return check_labels(values, stack.slice_shape(index), f"slice {index} of {labels.name}")

    return LabelFile(labels.name, turned(draw, stack, axes), len(stack), known_objects(place))


def check_labels(values: np.ndarray, shape: tuple[int, int], where: str) -> np.ndarray:
    """Check that a slice's values are labels, ``(H, W)`` uint32.

    Raises
    ------
    InputError
        If they are colours, have another size, or are not whole numbers from 0 to 2³¹ − 1.
    """
    if values.ndim == 3 and values.shape[2] == 1:
        # Many programs write a channel around labels, too.
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(f"{where} is a colour picture, not labels; save it with one number for each pixel")
    if values.shape != shape:
        raise InputError(
            f"{where} has {values.shape[0]} × {values.shape[1]} pixels, but the image has {shape[0]} × {shape[1]}; "
            f"choose the labels of this image"
        )
    if values.dtype.kind == "f":
        # Not finite numbers differ from their rounded selves, or are out of range.
        with np.errstate(invalid="ignore"):
            whole = bool((np.rint(values) == values).all())
        if not whole:
            raise InputError(f"{where} holds values that are not whole numbers, so they are no labels")
    if values.size and (values.min() < 0 or values.max() > _LARGEST):
        raise InputError(f"{where} holds values beyond 0 to {_LARGEST}, so they are no labels")
    return values.astype(np.uint32)


def _label_group(place: Path) -> Path:
    """Return the label image of an OME-Zarr: itself, or the only one of an image."""
    from napari_medsam2.reading.ngff import is_zarr

    folder = place / "labels"
    if not (is_zarr(place) and folder.is_dir()):
        return place
    found = sorted(child for child in folder.iterdir() if is_zarr(child))
    if len(found) != 1:
        names = ", ".join(str(child) for child in found[:5])
        raise InputError(f"{place} holds {len(found)} label images; give the folder of one: {names or 'none'}")
    return found[0]


def _order(labels: ImageStack, stack: ImageStack) -> Callable[[int], int]:
    """Map the numbers of the stack's slices to those of the labels'."""
    if stack.names is not None and labels.names is not None:
        by_name = _by_name(labels.names, stack.names)
        if by_name is not None:
            return lambda index: by_name[index]
    if len(labels) != len(stack):
        raise InputError(
            f"{labels.name} has {len(labels)} slices, but {stack.name} has {len(stack)}; choose its own labels"
        )
    ours, theirs = leading(stack.axes), leading(labels.axes)
    if ours == theirs or sorted(ours) != sorted(theirs):
        if labels.uniform and stack.uniform and len(ours) == len(theirs) and labels.shape != stack.shape:
            raise InputError(f"{labels.name} has shape {labels.shape}, but {stack.name} has {stack.shape}")
        return lambda index: index
    places = [ours.index(letter) for letter in theirs]
    return lambda index: labels.ravel([stack.unravel(index)[place] for place in places])


def _by_name(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int] | None:
    """Find the picture of labels for every image, by name with suffix or without; None if names say nothing."""
    known = {name: number for number, name in enumerate(names)}
    for number, name in enumerate(names):
        known.setdefault(_stem(name), number)
    found = [
        next((known[key] for key in (name, f"{name}.png", f"{name}.tif", _stem(name)) if key in known), None)
        for name in wanted
    ]
    missing = [name for name, number in zip(wanted, found, strict=True) if number is None]
    if len(missing) == len(wanted):
        return None
    if missing:
        raise InputError(f"there are no labels for {missing[0]} ({len(missing)} of {len(wanted)} are missing)")
    return [number for number in found if number is not None]


def _stem(name: str) -> Any:
    return Path(name).with_suffix("").as_posix().casefold()

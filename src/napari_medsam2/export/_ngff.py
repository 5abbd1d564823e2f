"""Labels as OME-Zarr: a label image of NGFF 0.5, Zarr format 3, with a pyramid, colours and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medsam2._files import atomic_folder, write_text
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import entries
from napari_medsam2.reading.axes import leading
from napari_medsam2.reading.ngff import GridAxis, grid_of, is_zarr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_medsam2.export._source import LabelSource, ObjectEntry
    from napari_medsam2.stack import ImageStack

__all__ = ["NGFF_VERSION", "write_ome_zarr"]

NGFF_VERSION = "0.5"

_CHUNK = 1024
_SMALLEST = 256
"""Levels are added until rows and columns are at most so many."""

_UNITS = {
    "m": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    "um": "micrometer",
    "nm": "nanometer",
    "pm": "picometer",
    "angstrom": "angstrom",
    "inch": "inch",
}
_ORDER = "TN"
"""NGFF wants time first and space last."""


def write_ome_zarr(path: str | Path, session: LabelSource) -> None:
    """Write a session's labels as an OME-Zarr label image, slice by slice.

    Every level halves rows and columns by taking every second pixel, so that no label is invented; depth and time stay.

    Parameters
    ----------
    path : str or Path
        The folder. A Zarr that is there is replaced. ``IMAGE.zarr/labels/NAME`` of an OME-Zarr image 0.5 adds the
        labels to that image, whose list of labels is brought up to date.
    session : AnnotationSession
        Labels are ``(*leading axes, H, W)``, in NGFF's order: time, image number, depth.

    Raises
    ------
    InputError
        If the images differ in size, the folder holds something else, the image around it is of an older NGFF
        release, or it cannot be written.
    """
    path = Path(path)
    if path.is_dir() and not is_zarr(path) and any(path.iterdir()):
        raise InputError(f"cannot write {path}: the folder is there and is no Zarr; choose another name")
    if is_zarr(path) and "image-label" not in _attributes(path):
        raise InputError(f"cannot write {path}: it is a Zarr that holds no labels; choose another name")
    image = _image_around(path)
    if image is not None:
        _list_labels(image / "labels")
    with atomic_folder(path) as temporary:
        _write(temporary, session, path, image)
    if image is not None:
        listed = _list_labels(image / "labels")
        if path.name not in listed:
            attributes = {"ome": {"version": NGFF_VERSION, "labels": [*listed, path.name]}}
            group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            write_text(image / "labels" / "zarr.json", json.dumps(group, indent=2))


def _attributes(path: Path) -> Mapping[str, Any]:
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return attributes if isinstance(attributes, dict) else {}


def _image_around(path: Path) -> Path | None:
    """Return the OME-Zarr image whose labels these are to be."""
    image = path.parent.parent
    if path.parent.name != "labels" or not is_zarr(image):
        return None
    if str(_attributes(image).get("version")) != NGFF_VERSION:
        raise InputError(
            f"{image} is no OME-Zarr {NGFF_VERSION}, and releases must not be mixed in one image; write the labels "
            f"beside it instead"
        )
    return image


def _list_labels(folder: Path) -> list[str]:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    listed = _attributes(folder).get("labels", [])
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _write(folder: Path, session: LabelSource, path: Path, image: Path | None) -> None:
    import zarr

    stack, objects = session.stack, entries(session)
    letters = leading(stack.axes)
    lead = stack.shape[:-2]
    order = sorted(range(len(letters)), key=lambda i: _ORDER.find(letters[i]) % 3)
    axes = "".join(letters[i] for i in order) + "YX"
    shapes = [(tuple(lead[i] for i in order), stack.shape[-2:])]
    while max(shapes[-1][1]) > _SMALLEST:
        height, width = shapes[-1][1]
        shapes.append((shapes[0][0], (-(-height // 2), -(-width // 2))))
    group = zarr.create_group(str(folder), zarr_format=3)
    levels = [
        group.create_array(
            str(number),
            shape=first + last,
            chunks=(1,) * len(first) + tuple(min(size, _CHUNK) for size in last),
            dtype=session.dtype,
            fill_value=0,
            dimension_names=list(axes.lower()),
        )
        for number, (first, last) in enumerate(shapes)
    ]
    for index in range(len(stack)):
        labels = session.slice_labels(index)
        coords = stack.unravel(index)
        place = tuple(coords[i] for i in order)
        for level in levels:
            level[place] = labels
            labels = labels[::2, ::2]
    group.attrs["ome"] = _metadata(stack, axes, len(levels), objects, path, image)


def _metadata(
    stack: ImageStack,
    axes: str,
    levels: int,
    objects: Mapping[int, ObjectEntry],
    path: Path,
    image: Path | None,
) -> dict[str, Any]:
    placed = _grid(stack, image)
    grid = [placed[letter] for letter in axes]
    listed: list[dict[str, str]] = []
    for letter, axis in zip(axes, grid, strict=True):
        kind = {"T": {"type": "time"}, "N": {}}.get(letter, {"type": "space"})
        listed.append({"name": letter.lower(), **kind})
        if axis.unit is not None:
            listed[-1]["unit"] = axis.unit
    # Every second pixel is taken, from the first on: its centre stays where it is.
    moved = any(axis.translation for axis in grid)
    shift = [{"type": "translation", "translation": [axis.translation for axis in grid]}] if moved else []
    datasets = []
    for level in range(levels):
        factors = [2.0**level if letter in "YX" else 1.0 for letter in axes]
        scale = {"type": "scale", "scale": [axis.scale * f for axis, f in zip(grid, factors, strict=True)]}
        datasets.append({"path": str(level), "coordinateTransformations": [scale, *shift]})
    label: dict[str, Any] = {}
    if objects:
        label["colors"] = [
            {"label-value": o.label, "rgba": [*(o.color or (128, 128, 128)), 255]} for o in objects.values()
        ]
        label["properties"] = [{"label-value": o.label, "name": o.name} for o in objects.values()]
    if image is not None:
        label["source"] = {"image": "../../"}
    return {
        "version": NGFF_VERSION,
        "multiscales": [{"name": path.name, "axes": listed, "datasets": datasets, "type": "nearest"}],
        "image-label": label,
    }


def _grid(stack: ImageStack, image: Path | None) -> dict[str, GridAxis]:
    """Return how the labels' axes lie: as those of the OME-Zarr image that they are of, else by the stack's spacing."""
    letters, shape = leading(stack.axes) + "YX", stack.shape
    spacing = stack.spacing or {}
    unit = _UNITS.get(str(spacing.get("unit")))
    own = {
        letter: GridAxis(length, float(spacing.get(axis, 1.0)), 0.0, unit if axis in spacing else None)
        for letter, axis, length in zip(letters, letters.lower(), shape, strict=True)
    }
    source = image if image is not None else stack.path
    grid = {} if source is None else grid_of(Path(source))
    # With axes in another order, or cut out, they would be other axes.
    same = all(letter in grid and grid[letter].length == axis.length for letter, axis in own.items())
    return {letter: grid[letter] for letter in letters} if same else own

"""File ▸ Open of volumes that lie in space, which napari itself does not read: an image, or labels with their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.reading.nifti import VOLUMES
from napari_medsam2.stack import ImageStack
from napari_medsam2.widgets.views_file import KEY, LayerData, image_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_medsam2.export import ObjectEntry

__all__ = ["get_reader", "read_volume"]

_PLACE = ("name", "scale", "units", "axis_labels")


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader for NIfTI files; None where any of them is something else.

    Parameters
    ----------
    path : str or list of str
        What a person opens.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or not all(one.lower().endswith(VOLUMES) for one in paths):
        return None
    return lambda _: [read_volume(Path(one)) for one in paths]


def read_volume(path: Path) -> LayerData:
    """Read a NIfTI file as a layer; its voxels are not turned, so labels go back voxel for voxel.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple
        Data, arguments and kind, as napari takes them: Labels where the file says that it holds labels.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    from napari_medsam2.importing._names import known_objects

    stack = ImageStack.open(path)
    data, arguments, kind = image_layer(stack)
    if stack.dtype.kind in "iu":
        objects = known_objects(path)
        if objects or _says_labels(path):
            return _labels(path, np.asarray(data), arguments, objects)
    return data, arguments, kind


def _says_labels(path: Path) -> bool:
    import nibabel

    from napari_medsam2.export._nifti import LABEL_INTENT

    # Its own type says nothing of the members that all images of volumes have.
    header: Any = nibabel.load(path).header
    return isinstance(header, nibabel.Nifti1Header) and int(header["intent_code"]) == LABEL_INTENT


def _labels(path: Path, data: np.ndarray, image: dict[str, Any], objects: Mapping[int, ObjectEntry]) -> LayerData:
    from napari_medsam2.export._source import table
    from napari_medsam2.widgets.label_colors import LabelColors

    axes = image["metadata"]["axes"]
    arguments: dict[str, Any] = {name: image[name] for name in _PLACE if name in image}
    arguments["metadata"] = {"axes": axes, "path": str(path), KEY: table(objects)}
    present = {int(label) for label in np.unique(data)} - {0}
    if present and present <= set(objects):
        colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
        colors |= {label: entry.hex for label, entry in objects.items()}
        arguments["colormap"] = LabelColors(color_dict=colors)
    return data, arguments, "labels"

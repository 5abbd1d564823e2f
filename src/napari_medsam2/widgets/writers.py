"""File ▸ Save of Labels layers, of this plugin or not, in the formats of `napari_medsam2.export`."""

from __future__ import annotations

import math
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._canvas import hex_of
from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import CHANNEL, parse_axes
from napari_medsam2.stack import ImageStack
from napari_medsam2.state import ObjectInfo
from napari_medsam2.widgets.layer_spec import letters_of, spacing_of
from napari_medsam2.widgets.views_file import IMAGE, KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_medsam2.export import LabelSource

__all__ = ["LayerLabels", "write_nifti", "write_ome_tiff", "write_ome_zarr"]

_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "NTZYX"}


def write_ome_tiff(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer as OME-TIFF; collections, which OME does not know, as a multi-page TIFF."""
    from napari_medsam2.export import write_labels

    return _write(write_labels, path, data, meta)


def write_ome_zarr(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer as the labels of an OME-Zarr 0.5."""
    from napari_medsam2.export import write_ome_zarr as write

    return _write(write, path, data, meta)


def write_nifti(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer as NIfTI."""
    from napari_medsam2.export import write_nifti as write

    def placed(target: str | Path, labels: Any) -> None:
        labels.find_space()
        write(target, labels)

    return _write(placed, path, data, meta)


def _write(
    write: Callable[[str | Path, LabelSource], object], path: str, data: Any, meta: Mapping[str, Any]
) -> list[str]:
    image = (meta.get("metadata") or {}).get(IMAGE)
    if isinstance(image, str) and Path(path).exists() and Path(path).resolve() == Path(image).resolve():
        raise InputError(f"{Path(path).name} is the image that is annotated; save its labels under another name")
    write(Path(path), LayerLabels(data, meta))
    return [path]


class LayerLabels:
    """A Labels layer as the writers see it, see `LabelSource`; slices are read when they are written.

    Parameters
    ----------
    data : array-like
        Integers. An axis of channels, which a layer over an image with channels has, is looked at in its first.
    meta : mapping
        The layer's arguments: scale, units, axis labels, ``metadata``, colours.

    Raises
    ------
    InputError
        If the data are no labels.
    """

    prompts: Mapping[tuple[int, int], Any] = MappingProxyType({})

    def __init__(self, data: Any, meta: Mapping[str, Any]) -> None:
        from napari.layers import Image

        name = str(meta.get("name") or "labels")
        if isinstance(data, (list, tuple)) or type(data).__name__ == "MultiScaleData":
            data = data[0]
        if np.dtype(data.dtype).kind not in "biu":
            raise InputError(f"the layer {name} holds {data.dtype}, not whole numbers; convert it to integers first")
        place = {key: meta[key] for key in _PLACE if meta.get(key) is not None}
        layer = Image(data, rgb=False, contrast_limits=(0, 1), multiscale=False, name=name, **place)
        said = meta.get("metadata") or {}
        axes = _axes_of(layer, said, tuple(map(int, data.shape)))
        spacing = spacing_of(layer, axes)
        if CHANNEL in axes:
            at = axes.index(CHANNEL)
            data, axes = _FirstChannel(data, at), axes.replace(CHANNEL, "")
        self.stack = ImageStack(data, axes, spacing=spacing, name=name)
        path = said.get(IMAGE) or said.get("path")
        self._image = Path(path) if isinstance(path, str) and path else None
        self.kind = "collection" if self.stack.is_collection else "stack"
        self._labels = self._all_labels()
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if max(self._labels, default=0) < 2**16 else np.uint32)
        self.objects: dict[int, ObjectInfo] = _objects(self._labels, said, meta.get("colormap"))

    def find_space(self) -> None:
        """Lie where the image lies of which the layer says that it is one of labels, as far as that is so."""
        if self._image is None or not self._image.is_file():
            return
        try:
            image = ImageStack.open(self._image, axes=self.stack.axes)
        except InputError:
            return
        mine, its = self.stack.spacing or {}, image.spacing or {}
        # Where a person gave the layer other sizes, these hold.
        alike = all(math.isclose(mine.get(axis, 1.0), its.get(axis, 1.0), rel_tol=1e-4) for axis in "zyx")
        if image.affine is not None and image.shape == self.stack.shape and alike:
            self.stack.placed(image.path, image.affine)

    @property
    def results(self) -> _NoResults:
        """Nothing is known of confidences."""
        return _NoResults()

    def slice_labels(self, index: int) -> np.ndarray:
        """Return one slice's labels ``(H, W)``."""
        return self.stack.raw(index).astype(self.dtype)

    def _all_labels(self) -> list[int]:
        found: set[int] = set()
        for index in range(len(self.stack)):
            found.update(np.unique(self.stack.raw(index)).tolist())
        found.discard(0)
        if found and (min(found) < 0 or max(found) >= 2**31):
            raise InputError(f"{self.stack.name} has the label {min(found)}; labels are from 1 to {2**31 - 1}")
        return sorted(map(int, found))


class _NoResults:
    def summary(self) -> Iterator[tuple[int, int, float, float, Any]]:
        return iter(())


class _FirstChannel:
    """An array without its axis of channels."""

    def __init__(self, data: Any, at: int) -> None:
        self._data, self._at = data, at
        self.shape: tuple[int, ...] = tuple(size for axis, size in enumerate(data.shape) if axis != at)
        self.dtype = data.dtype

    def __getitem__(self, key: Any) -> Any:
        return self._data[(*key[: self._at], 0, *key[self._at :])]


def _axes_of(layer: Any, said: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """Return a letter for each axis: what metadata or axis labels say, else by their number."""
    for candidate in (said.get("axes"), letters_of(layer.axis_labels)):
        if isinstance(candidate, str):
            try:
                return parse_axes(candidate, shape)
            except InputError:
                continue
    if len(shape) not in _AXES:
        raise InputError(f"{layer.name} has {len(shape)} axes; labels with 2 to 5 axes can be written")
    return _AXES[len(shape)]


def _objects(labels: list[int], said: Mapping[str, Any], colormap: Any) -> dict[int, ObjectInfo]:
    """Name and colour the labels: as the plugin noted in the layer's metadata, else as the layer shows them."""
    from napari_medsam2.export._source import parse_table

    known = parse_table(said.get(KEY))
    out = {}
    for label in labels:
        if label in known and known[label].color is not None:
            out[label] = ObjectInfo(label, known[label].name, known[label].hex)
            continue
        name = known[label].name if label in known else f"object {label}"
        color = None
        if colormap is not None:
            red, green, blue = (round(float(value) * 255) for value in np.ravel(colormap.map(label))[:3])
            color = hex_of((red, green, blue))
        out[label] = ObjectInfo(label, name, color)
    return out

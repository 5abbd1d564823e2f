"""File ▸ Open of a session: its image and its masks as layers, which a dock takes over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from napari_medsam2._imageref import ChangedImageError, MissingImageError
from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import CHANNEL
from napari_medsam2.storage import JOURNAL
from napari_medsam2.widgets.kept import is_session
from napari_medsam2.widgets.stack_array import StackArray
from napari_medsam2.widgets.views_file import IMAGE, KEY, LayerData, image_layer, read_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_medsam2.session import AnnotationSession

__all__ = ["companions", "get_reader", "mark_session", "moved", "read_session", "session_of"]

_PLUGIN = "napari-medsam2"
_MARKED: WeakSet[Any] = WeakSet()
"""Layers that a dock has marked. What napari makes of a layer, a copy or a projection, carries the mark as well."""
_SPATIAL = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader for a session's file ``session.journal``, or its folder; None for anything else.

    Parameters
    ----------
    path : str or list of str
        What a person opens.
    """
    folder = _folder(path)
    return None if folder is None else lambda _: read_session(folder)


def read_session(folder: Path) -> list[LayerData]:
    """Read a session as layers, without a model.

    Parameters
    ----------
    folder : Path
        The session's.

    Returns
    -------
    list
        The image, then the masks as Labels, named and coloured. Both say in ``metadata["napari-medsam2"]`` which
        session they are of, see `session_of`.

    Raises
    ------
    InputError
        If the session is damaged, or its image is missing or another one.
    """
    from napari_medsam2.export import open_saved

    try:
        session = open_saved(folder)
    except (ChangedImageError, MissingImageError) as error:
        # napari's own dialog cannot ask where it is.
        raise InputError(f"{error}: choose Open… in the dock of Medical SAM 2, which asks for it") from error
    try:
        data, arguments, kind = image_layer(session.stack, read_view(folder))
        mark = {KEY: _mark(folder, data.shape)}
        arguments["metadata"] = {**arguments["metadata"], **mark}
        return [(data, arguments, kind), _labels(session, arguments, mark)]
    finally:
        session.close()


def session_of(layer: Any) -> Path | None:
    """Return the folder of the session that a layer was read from; None for layers of other origin, such as copies."""
    said = _said(layer)
    folder = said.get("session")
    if not isinstance(folder, str) or said.get("shape") != list(layer.data.shape):
        return None
    return Path(folder) if layer in _MARKED or layer.source.reader_plugin == _PLUGIN else None


def moved(layer: Any, folder: Path) -> None:
    """Let a layer that was read from a session say that the session is in another folder from now on."""
    if session_of(layer) is not None:
        mark_session(layer, folder)


def mark_session(layer: Any, folder: Path) -> None:
    """Let a layer say that a session is of it, which *Annotate* then goes on with."""
    layer.metadata = {**layer.metadata, KEY: {**_said(layer), **_mark(folder, layer.data.shape)}}
    _MARKED.add(layer)


def companions(layers: Sequence[Any], folder: Path) -> list[Any]:
    """Return the layers that show the masks of a session as it was read: a dock that takes it over has its own."""
    from napari.layers import Labels

    return [layer for layer in layers if isinstance(layer, Labels) and session_of(layer) == folder]


def _said(layer: Any) -> dict[str, Any]:
    """Return what a layer carries of this plugin's; others may have put anything there."""
    said = layer.metadata.get(KEY)
    return said if isinstance(said, dict) else {}


def _mark(folder: Path, shape: Sequence[int]) -> dict[str, Any]:
    return {"session": str(folder.absolute()), "shape": list(shape)}


def _folder(path: str | Sequence[str]) -> Path | None:
    if not isinstance(path, str):
        if len(path) != 1:
            return None
        path = path[0]
    place = Path(path)
    folder = place.parent if place.name == JOURNAL else place
    return folder if is_session(folder) else None


def _labels(session: AnnotationSession, image: dict[str, Any], mark: dict[str, Any]) -> LayerData:
    from napari_medsam2.export._source import entries, table
    from napari_medsam2.widgets.label_colors import LabelColors

    array = StackArray(session.stack)
    axes = array.axes
    shape = array.shape[: len(axes)]
    sliced = tuple(size for size, letter in zip(shape, axes, strict=True) if letter != CHANNEL)
    labels = np.zeros(sliced, session.dtype)
    flat = labels.reshape(-1, *sliced[-2:])
    for index in range(len(session.stack)):
        drawn = session.slice_labels(index)
        flat[index, : drawn.shape[0], : drawn.shape[1]] = drawn
    if CHANNEL in axes:
        # The same labels in every channel.
        labels = np.repeat(np.expand_dims(labels, axes.index(CHANNEL)), shape[axes.index(CHANNEL)], axes.index(CHANNEL))
    objects = entries(session)
    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    colors |= {label: entry.hex for label, entry in objects.items()}
    arguments: dict[str, Any] = {
        **{name: image[name] for name in _SPATIAL if name in image},
        "name": f"{image['name']} masks",
        "colormap": LabelColors(color_dict=colors),
        "metadata": {
            "axes": axes,
            KEY: {**mark[KEY], "shape": list(labels.shape), **table(objects)},
            **({IMAGE: image["metadata"]["path"]} if "path" in image["metadata"] else {}),
        },
    }
    return labels, arguments, "labels"

"""Layers that lie where the image lies, also after it was moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari.layers import Layer

    from napari_medsam2.widgets.coordinates import Frame

__all__ = ["Alike", "make_current"]

_EVENTS = ("scale", "translate", "rotate", "shear", "affine", "units")


class Alike:
    """Hands on where the image lies whenever that changes.

    Parameters
    ----------
    frame : Frame
        Of the image.
    layers : callable
        Gives the layers that lie where the image does.
    """

    def __init__(self, frame: Frame, layers: Callable[[], Iterable[Layer]]) -> None:
        self._frame, self._layers = frame, layers
        for name in _EVENTS:
            getattr(frame.layer.events, name).connect(self._moved)

    def close(self) -> None:
        """Leave them where they are."""
        for name in _EVENTS:
            getattr(self._frame.layer.events, name).disconnect(self._moved)

    def _moved(self, _: Any = None) -> None:
        place = self._frame.like()
        for layer in self._layers():
            for name in _EVENTS:
                if not _same(getattr(layer, name), place[name]):
                    setattr(layer, name, place[name])


def make_current(viewer: Any) -> None:
    """Make the canvas current for OpenGL; before layers are removed.

    napari deletes their buffers in whatever context is current: in another one than the canvas's, the next drawing
    ends the process (napari 0.9, vispy 0.17, Mesa's software renderer: remove an empty Shapes layer, add an image).
    """
    window = getattr(getattr(viewer, "window", None), "_qt_viewer", None)
    native = getattr(getattr(window, "canvas", None), "native", None)
    if native is not None and native.isVisible():
        native.makeCurrent()


def _same(one: Any, other: Any) -> bool:
    if hasattr(one, "affine_matrix"):
        one = one.affine_matrix
    if isinstance(one, tuple):
        return bool(tuple(one) == tuple(other))
    one, other = np.asarray(one), np.asarray(other)
    return one.shape == other.shape and bool(np.array_equal(one, other))

"""What is being drawn with napari's own tools, which are ended by keys that are this plugin's else."""

from __future__ import annotations

from typing import Any

__all__ = ["ends_drawing"]


def ends_drawing(layer: Any, action: str) -> bool:
    """Let Enter and Esc do to what is being drawn what they do without this plugin.

    Parameters
    ----------
    layer : napari.layers.Layer
        The layer that has the key.
    action : str
        What the key does else: ``"accept"`` or ``"discard"``.

    Returns
    -------
    bool
        False where nothing is being drawn: the key is this plugin's.
    """
    from napari.layers import Labels, Shapes

    # Typed for napari's own use only: its key bindings do the same.
    own: Any = layer
    if isinstance(layer, Labels):
        stroke, polygon = own._overlays.get("brush_stroke"), own._overlays["polygon"]
        if stroke is not None and stroke.active:
            if action == "discard":
                stroke.abort(own)
            return True
        if str(own.mode) == "polygon" and polygon.points:
            if action == "discard":
                polygon.points = []
            else:
                polygon.add_polygon_to_labels(own)
            return True
    elif isinstance(layer, Shapes) and own._is_creating:
        own._finish_drawing()
        return True
    return False

"""How a session's image lay in the viewer: written beside the session, and given back when it is opened."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import CHANNEL, check_letters
from napari_medsam2.widgets.stack_array import StackArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_medsam2.stack import ImageStack

__all__ = ["IMAGE", "KEY", "VIEW", "LayerData", "image_layer", "read_view", "source_of", "view_of", "write_view"]

LayerData = tuple[Any, dict[str, Any], str]
"""What napari makes a layer of: data, arguments, kind."""

VIEW = "napari.json"
KEY = "napari-medsam2"
"""Under this name layers carry what the plugin must know of them in their metadata."""

IMAGE = "napari-medsam2-image"
"""Under this name a layer of masks says which file holds the image below them."""

_LOADED = 256 * 2**20
"""Bytes up to which an image is read at once, so that moving through it is fast."""
_VECTORS, _MATRICES = ("scale", "translate"), ("rotate", "shear")


def source_of(layer: Image) -> Path | None:
    """Return where a layer's image was loaded from, as far as the layer knows.

    Parameters
    ----------
    layer : napari.layers.Image
        A layer made by this plugin says it in ``metadata["path"]``, others in their ``source``.
    """
    said = layer.metadata.get("path") or getattr(layer.source, "path", None)
    return Path(said) if isinstance(said, (str, Path)) and str(said) else None


def view_of(layer: Image, axes: str) -> dict[str, Any]:
    """Describe how an image lies in the viewer, in JSON values.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer.
    axes : str
        A letter for each of its axes, that of colours excluded.
    """
    view: dict[str, Any] = {
        "axes": axes,
        "name": layer.name,
        "scale": np.asarray(layer.scale, float).tolist(),
        "translate": np.asarray(layer.translate, float).tolist(),
        "rotate": np.asarray(layer.rotate, float).tolist(),
        "shear": _shear_matrix(np.asarray(layer.shear, float), len(axes)).tolist(),
        "affine": np.asarray(layer.affine.affine_matrix, float).tolist(),
        "units": [str(unit) for unit in layer.units],
        "axis_labels": list(map(str, layer.axis_labels)),
    }
    if not layer.rgb:
        view["contrast_limits"] = list(map(float, layer.contrast_limits))
        view["colormap"] = str(layer.colormap.name)
    return view


def _shear_matrix(shear: NDArray[Any], n: int) -> NDArray[Any]:
    """Return napari's shear, which may be the part above the diagonal, as a matrix."""
    if shear.ndim == 2:
        return shear
    out: NDArray[Any] = np.eye(n)
    out[np.triu_indices(n, 1)] = shear
    return out


def write_view(folder: Path, view: Mapping[str, Any]) -> None:
    """Write `view_of` into a session's folder.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    from napari_medsam2._files import write_text

    write_text(folder / VIEW, json.dumps(dict(view), indent=1) + "\n")


def read_view(folder: Path) -> dict[str, Any]:
    """Return what `write_view` has written; empty where there is nothing, or nothing that makes sense."""
    try:
        found = json.loads((folder / VIEW).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def image_layer(stack: ImageStack, view: Mapping[str, Any] | None = None) -> LayerData:
    """Make the image layer of a stack; reads images of up to 256 MiB.

    Parameters
    ----------
    stack : ImageStack
        The image.
    view : mapping, optional
        From `read_view`: how it lay in the viewer. By default scale and units are the stack's; a NIfTI volume lies as
        radiologists look at it, which mirrors what is shown and never the data.

    Returns
    -------
    tuple
        Data, arguments and kind, as napari takes them. ``metadata`` says ``axes``, ``kind``, ``window`` and ``path``.
    """
    array = StackArray(stack)
    axes = array.axes
    arguments: dict[str, Any] = {"name": stack.name, "rgb": array.rgb, "axis_labels": tuple(axes.lower())}
    window, channel = stack.display
    metadata: dict[str, Any] = {"axes": axes, "kind": "collection" if stack.is_collection else "stack"}
    if stack.path is not None:
        metadata["path"] = str(stack.path)
    if window is not None:
        metadata["window"] = window
    if channel is not None:
        metadata["channel"] = channel
    spacing = stack.spacing
    if spacing is not None:
        signs = _upright(stack.affine)
        arguments["scale"] = tuple(float(spacing.get(letter.lower(), 1.0)) * signs.get(letter, 1.0) for letter in axes)
        unit = str(spacing.get("unit", "pixel"))
        arguments["units"] = tuple(unit if letter.lower() in spacing else "pixel" for letter in axes)
    if not array.rgb:
        arguments["contrast_limits"] = window or _limits(stack, array)
    arguments |= _placed(view or {}, axes, array.rgb)
    arguments["metadata"] = metadata
    small = stack.uniform and array.nbytes <= _LOADED
    return (np.asarray(array) if small else array), arguments, "image"


def _upright(affine: NDArray[Any] | None) -> dict[str, float]:
    """Return -1 for rows or columns that are to run the other way in the viewer.

    As in other viewers of medical images they run to the patient's left, to the back and to the feet: right on the left
    hand, in front and above at the top. NIfTI counts towards right, front and top.
    """
    if affine is None:
        return {}
    directions = {"X": affine[:3, 0], "Y": affine[:3, 1]}
    return {letter: -1.0 for letter, along in directions.items() if along[np.argmax(np.abs(along))] > 0}


def _limits(stack: ImageStack, array: StackArray) -> tuple[float, float]:
    """Return contrast limits for all slices."""
    if array.dtype == np.bool_ or (array.dtype == np.float32 and array.dtype != stack.dtype):
        return 0.0, 1.0
    every = [w for i in sorted({0, len(stack) // 2, len(stack) - 1}) for w in stack.windows(i)]
    low, high = min(w[0] for w in every), max(w[1] for w in every)
    return (low, high) if low < high else (low, low + 1)


def _placed(view: Mapping[str, Any], axes: str, rgb: bool) -> dict[str, Any]:
    """Return the arguments that a view gives for these axes; what makes no sense is left out."""
    try:
        own = check_letters(view.get("axes"))
    except InputError:
        return {}
    if sorted(own) != sorted(axes) or (rgb and CHANNEL in own):
        return {}
    order = [own.index(letter) for letter in axes]
    n = len(axes)
    out: dict[str, Any] = {}
    for name in _VECTORS:
        with contextlib.suppress(TypeError, ValueError):
            vector = np.asarray(view[name] if name in view else None, float)
            if vector.shape == (n,) and np.isfinite(vector).all() and (name != "scale" or vector.all()):
                out[name] = vector[order]
    for name in _MATRICES:
        with contextlib.suppress(TypeError, ValueError):
            matrix = np.asarray(view[name] if name in view else None, float)
            if matrix.shape == (n, n) and np.isfinite(matrix).all():
                out[name] = matrix[np.ix_(order, order)]
    with contextlib.suppress(TypeError, ValueError):
        affine = np.asarray(view.get("affine"), float)
        if affine.shape == (n + 1, n + 1) and np.isfinite(affine).all() and abs(np.linalg.det(affine)) > 0:
            out["affine"] = affine[np.ix_([*order, n], [*order, n])]
    for name in ("units", "axis_labels"):
        texts = view.get(name)
        if isinstance(texts, list) and len(texts) == n and all(isinstance(text, str) for text in texts):
            out[name] = tuple(texts[axis] for axis in order)
    limits = view.get("contrast_limits")
    if not rgb and isinstance(limits, list) and len(limits) == 2 and all(type(v) in (int, float) for v in limits):
        if math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]:
            out["contrast_limits"] = tuple(limits)
    for name in ("name", "colormap"):
        if isinstance(view.get(name), str) and not (rgb and name == "colormap"):
            out[name] = view[name]
    return out

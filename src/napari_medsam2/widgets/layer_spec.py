"""What an image layer is as a stack: its axes, and the stack made of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import CHANNEL, check_letters, leading, make_spacing, parse_axes
from napari_medsam2.stack import ImageStack
from napari_medsam2.widgets.stack_array import StackArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

__all__ = ["LayerSpec", "choices", "guess_axes", "letters_of", "spacing_of", "stack_of"]

_WORDS = {
    **dict.fromkeys(("t", "time", "frame", "frames", "timepoint"), "T"),
    **dict.fromkeys(("z", "depth", "plane", "slice", "slices", "pln"), "Z"),
    **dict.fromkeys(("n", "image", "images", "picture", "position", "p", "s", "i", "sample", "series"), "N"),
    **dict.fromkeys(("c", "ch", "channel", "channels"), "C"),
    **dict.fromkeys(("y", "row", "rows", "height"), "Y"),
    **dict.fromkeys(("x", "col", "column", "columns", "width"), "X"),
}
_FEW = 4
"""So many planes are more likely channels than slices."""
_ORDER = "TNZC"
"""How axes are usually ordered, in front of rows and columns."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """The axes of an image layer.

    Parameters
    ----------
    axes : str
        A letter for each of the layer's axes, in order, that of colours excluded: ``TZNCYX``.
    shape : tuple of int
        Their lengths.
    rgb : bool
        Whether the data have a last axis of colours besides.
    """

    axes: str
    shape: tuple[int, ...]
    rgb: bool

    @classmethod
    def of(cls, layer: Image, axes: str) -> LayerSpec:
        """Describe a layer.

        Raises
        ------
        InputError
            If the axes do not fit it.
        """
        shape = shape_of(layer)
        if layer.rgb and CHANNEL in check_letters(axes):
            raise InputError(f"{layer.name} is a colour image, so its colours are no axis; leave out the C of {axes!r}")
        return cls(parse_axes(axes, shape, layer.name), shape, bool(layer.rgb))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def stack_axes(self) -> str:
        """The axes of the data as `ImageStack` names them, colours included."""
        return self.axes + CHANNEL if self.rgb else self.axes

    @property
    def plane(self) -> tuple[int, int]:
        """The axes of rows and columns."""
        return self.axes.index("Y"), self.axes.index("X")

    @property
    def outer(self) -> tuple[int, ...]:
        """All other axes, in order."""
        return tuple(axis for axis, letter in enumerate(self.axes) if letter not in "YX")

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes that number the slices, in order."""
        return tuple(axis for axis, letter in enumerate(self.axes) if letter in leading(self.axes))

    @property
    def channel(self) -> int | None:
        """The axis of channels, if there is one."""
        return self.axes.index(CHANNEL) if CHANNEL in self.axes else None

    @property
    def length(self) -> int:
        """Number of slices."""
        return math.prod(self.shape[axis] for axis in self.lead)

    def unravel(self, index: int) -> tuple[int, ...]:
        """Return a slice's coordinates along `lead`.

        Raises
        ------
        InputError
            If there is no such slice.
        """
        if not 0 <= index < self.length:
            raise InputError(f"there is no slice {index}; the image has {self.length}, numbered from 0")
        out: list[int] = []
        for axis in reversed(self.lead):
            index, at = divmod(index, self.shape[axis])
            out.append(at)
        return tuple(reversed(out))


def shape_of(layer: Image) -> tuple[int, ...]:
    """Return the lengths of a layer's axes, of the largest level, without the axis of colours."""
    shape = tuple(map(int, _data_of(layer).shape))
    return shape[:-1] if layer.rgb else shape


def guess_axes(layer: Image) -> str:
    """Choose the axes that an image layer most likely has.

    Taken from ``metadata["axes"]``, else from axis labels that are names of axes, else from number and lengths:
    ``YX``; ``ZYX``, ``NYX`` for colour pictures, or ``CYX`` where there are at most 4 planes without a scale of their
    own; with more axes a short one is ``C``, the last other one ``Z`` and the one before ``T``.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer.

    Returns
    -------
    str
        A letter for each axis, that of colours excluded.

    Raises
    ------
    InputError
        If there are fewer than 2 axes, or more than 6.
    """
    shape = shape_of(layer)
    most = 5 if layer.rgb else 6
    if not 2 <= len(shape) <= most:
        raise InputError(f"{layer.name} has {len(shape)} axes; only images with 2 to {most} can be annotated")
    if isinstance(layer.data, StackArray):
        return layer.data.axes
    said = layer.metadata.get("axes")
    if isinstance(said, str):
        said = said.upper().removesuffix(CHANNEL) if layer.rgb else said.upper()
        if _fits(said, shape, layer.rgb):
            return said
    named = letters_of(layer.axis_labels)
    if _fits(named, shape, layer.rgb):
        return named
    outer = shape[:-2]
    short = [axis for axis, size in enumerate(outer) if size <= _FEW]
    letters = [""] * len(outer)
    free = [axis for axis in range(len(outer)) if not letters[axis]]
    if short and not layer.rgb and (len(outer) > 1 or float(layer.scale[0]) == float(layer.scale[-1])):
        letters[min(short, key=lambda axis: (outer[axis] == 1, outer[axis], -axis))] = CHANNEL
        free = [axis for axis in range(len(outer)) if not letters[axis]]
    if layer.rgb and len(free) == 1:
        letters[free.pop()] = "N"
    for axis, letter in zip(reversed(free), ("Z", "T", "N", CHANNEL), strict=False):
        letters[axis] = letter
    return "".join(letters) + "YX"


def letters_of(labels: Sequence[str]) -> str:
    """Return the letters of axis labels such as ``("time", "y", "x")``, ``?`` for what is no name of an axis."""
    return "".join(_WORDS.get(str(label).strip().lower(), "?") for label in labels)


def choices(layer: Image) -> list[str]:
    """List the axes that an image layer may have, the likeliest first.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer.

    Returns
    -------
    list of str
        The guess, then all others with rows and columns last.
    """
    first = guess_axes(layer)
    if isinstance(layer.data, StackArray):
        return [first]
    count = len(first) - 2
    letters = _ORDER.replace(CHANNEL, "") if layer.rgb else _ORDER
    every = ["".join(outer) + "YX" for outer in itertools.permutations(letters, count)]
    usual = sorted(every, key=lambda axes: [_ORDER.index(letter) for letter in axes[:-2]] != _sorted(axes))
    return [first, *(axes for axes in usual if axes != first)]


def stack_of(
    layer: Image,
    axes: str,
    *,
    channel: int | Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    name: str | None = None,
) -> ImageStack:
    """Make the stack of an image layer. Nothing is read of dask, zarr and other lazy arrays.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer; of a multiscale one the largest level is taken.
    axes : str
        Its axes, see `guess_axes`.
    channel, window
        As for `ImageStack`.
    name : str, optional
        That of the layer by default.

    Raises
    ------
    InputError
        If the axes do not fit the layer, or its data cannot be annotated.
    """
    spec = LayerSpec.of(layer, axes)
    data = _data_of(layer)
    called = layer.name if name is None else name
    if isinstance(data, StackArray):
        whole = data.stack
        if channel is None and window is None:
            return whole
        if whole.uniform and not whole.is_collection:
            spacing = whole.spacing
            return ImageStack(data, spec.stack_axes, window=window, channel=channel, spacing=spacing, name=called)
        pictures = [_Picture(whole, i) for i in range(len(whole))]
        return ImageStack(pictures, window=window, channel=channel, name=called, names=whole.names)
    spacing = spacing_of(layer, spec.axes)
    return ImageStack(data, spec.stack_axes, window=window, channel=channel, spacing=spacing, name=called)


def spacing_of(layer: Image, axes: str) -> dict[str, Any] | None:
    """Return the distance between pixel centres as `ImageStack` takes it.

    Parameters
    ----------
    layer : napari.layers.Image
        Its scale, affine and units say.
    axes : str
        Its axes.

    Returns
    -------
    dict or None
        ``{"z": …, "y": …, "x": …, "unit": …}``; None where the layer says nothing.
    """
    n = len(axes)
    origin = np.asarray(layer.data_to_world(np.zeros(n)))
    steps = [np.asarray(layer.data_to_world(row)) - origin for row in np.eye(n)]
    sizes: dict[str, float | None] = {}
    units: dict[str, str | None] = {}
    for axis, letter in enumerate(axes):
        if letter in "ZYX":
            # Rounded, for a rotation leaves 0.9999999999999999.
            sizes[letter.lower()] = float(f"{np.linalg.norm(steps[axis]):.12g}")
            units[letter.lower()] = str(layer.units[axis])
    return make_spacing(sizes, units)


def _data_of(layer: Image) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _fits(axes: str, shape: tuple[int, ...], rgb: bool) -> bool:
    try:
        letters = parse_axes(axes, shape)
    except InputError:
        return False
    return not (rgb and CHANNEL in letters)


def _sorted(axes: str) -> list[int]:
    return sorted(_ORDER.index(letter) for letter in axes[:-2])


class _Picture:
    """A picture of a collection, as an array of its own."""

    def __init__(self, stack: ImageStack, number: int) -> None:
        self._stack, self._number = stack, number
        layout = stack._layout
        channels = layout.channels(number)
        size = stack.slice_shape(number)
        self.shape: tuple[int, ...] = size if channels is None else (*size, channels)
        self.dtype = layout.slice_dtype(number)

    def __getitem__(self, key: Any) -> Any:
        return self._stack.raw(self._number)[key]

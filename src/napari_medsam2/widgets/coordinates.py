"""Between napari's world and the stack; the one place where coordinates are converted."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.layer_spec import LayerSpec, choices, guess_axes, spacing_of, stack_of
from napari_medsam2.widgets.stack_array import StackArray
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from napari.components import Dims
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_medsam2.stack import ImageStack

    World: TypeAlias = Sequence[float] | NDArray[np.floating[Any]]

__all__ = ["Frame", "LayerSpec", "choices", "guess_axes", "spacing_of", "stack_of"]

_NAMES = {"T": "time", "Z": "depth", "N": "picture", "C": "channel", "Y": "row", "X": "column"}
_PROBE = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0])


class Frame:
    """Where an image layer lies in the viewer, at any time: scale, rotation, units and sliders are looked up anew.

    World coordinates are those of mouse events and of ``dims.point``: one number for each of the viewer's axes, in
    the viewer's units. The layer's axes are the viewer's last ones. As napari does, a rotation or shear out of the
    slice plane is left out: the slice is the one that napari shows for the sliders, and rows and columns are those
    under the mouse.

    Parameters
    ----------
    layer : napari.layers.Image
        The image.
    axes : str
        A letter for each of its axes but that of colours, such as ``"TZYX"``; see `layer_spec.guess_axes`.
    dims : napari.components.Dims
        The viewer's.

    Raises
    ------
    InputError
        If the axes do not fit the layer.
    """

    def __init__(self, layer: Image, axes: str, dims: Dims) -> None:
        self.layer, self.dims = layer, dims
        self.spec = LayerSpec.of(layer, axes)
        self._known: tuple[tuple[float, ...], _Map] | None = None

    # -- world and stack -------------------------------------------------------------------------------------------

    def to_stack(self, world: World, clip: bool = False) -> tuple[int, float, float]:
        """Convert a world position.

        Parameters
        ----------
        world : sequence of float
            One number for each of the viewer's axes.
        clip : bool
            Move a place beside the slice to its edge instead of refusing it.

        Returns
        -------
        tuple of int, float, float
            ``(index, y, x)``.

        Raises
        ------
        InputError
            If it is outside the image; the message says where.
        """
        place, where = self._own(world), self._map()
        index = self._ravel(np.round(where.outer(place)), explain=True)
        y, x = where.plane_inverse(place)
        h, w = self.slice_shape(index)
        for letter, value, size in (("Y", y, h), ("X", x, w)):
            if not clip and not -0.5 <= value < size - 0.5:
                raise InputError(
                    f"{_NAMES[letter]} {math.floor(value + 0.5)} is outside the image, which has {size}; "
                    f"click inside the image"
                )
        return (index, min(max(y, -0.5), h - 0.5), min(max(x, -0.5), w - 0.5))

    def to_world(self, index: int, y: float, x: float) -> NDArray[np.float64]:
        """Return the world position of a place in the stack; on the viewer's other axes it is where they stand.

        Parameters
        ----------
        index : int
            The slice.
        y, x : float
            Row and column.

        Returns
        -------
        ndarray
            ``(ndim,)`` float64, one number for each of the viewer's axes.
        """
        place = self._own(self.dims.point)
        place = self._map().place(place, self._outer(index), (y, x))
        out = np.array(self.dims.point, dtype=np.float64)
        out[len(out) - len(place) :] = place * self._units()
        return out

    def to_layer(self, index: int, y: float, x: float, channel: int | None = None) -> NDArray[np.float64]:
        """Return data coordinates for a layer with the image's axes (Points, Shapes, Labels), see `like`.

        Parameters
        ----------
        index : int
            The slice.
        y, x : float
            Row and column.
        channel : int, optional
            Where the image has a channel axis; the one that is shown by default.
        """
        out = np.zeros(self.spec.ndim)
        outer = self._outer(index, channel)
        out[list(self.spec.outer)] = outer
        out[list(self.spec.plane)] = y, x
        return out

    def from_layer(self, coordinates: World) -> tuple[int, float, float]:
        """Convert data coordinates of a layer with the image's axes; the inverse of `to_layer`.

        Raises
        ------
        InputError
            If the slice is outside the stack; rows and columns are not checked.
        """
        place = np.asarray(coordinates, dtype=np.float64)[-self.spec.ndim :]
        if len(place) != self.spec.ndim:
            raise InputError(f"the coordinates have {len(place)} numbers, but the image has {self.spec.ndim} axes")
        index = self._ravel(np.round(place[list(self.spec.outer)]), explain=True)
        y, x = place[list(self.spec.plane)]
        return (index, float(y), float(x))

    # -- slices ----------------------------------------------------------------------------------------------------

    @property
    def index(self) -> int | None:
        """The slice that the viewer shows; None where its sliders stand outside the image."""
        return self.index_at(self.dims.point)

    @property
    def channel_shown(self) -> int | None:
        """The channel that the viewer shows, or the one nearest to where its slider stands; None without channels."""
        if self.spec.channel is None:
            return None
        shown = self._map().outer(self._own(self.dims.point))[self.spec.outer.index(self.spec.channel)]
        return int(np.clip(np.round(shown), 0, self.spec.shape[self.spec.channel] - 1))

    def index_at(self, point: World) -> int | None:
        """Return the slice that is shown where the viewer's sliders stand at ``point`` (as ``dims.point``)."""
        try:
            return self._index(self._own(point))
        except InputError:
            return None

    def point_to(self, index: int) -> tuple[float, ...]:
        """Return the ``dims.point`` that shows a slice; axes that do not matter stay where they are."""
        world = self.to_world(index, 0, 0)
        offset = len(world) - self.spec.ndim
        out = list(map(float, self.dims.point))
        for axis in self.spec.lead:
            out[offset + axis] = float(world[offset + axis])
        return tuple(out)

    def step_to(self, index: int) -> tuple[int, ...]:
        """Return the ``dims.current_step`` that shows a slice.

        Beside layers with other scales no step may show it: then it is the nearest one, and `show` is exact.
        """
        point = self.point_to(index)
        near = tuple(
            round((at - bounds.start) / (bounds.step or 1)) for at, bounds in zip(point, self.dims.range, strict=True)
        )
        offset = self.dims.ndim - self.spec.ndim
        moves = [(0, -1, 1) if axis - offset in self.spec.lead else (0,) for axis in range(self.dims.ndim)]
        for move in itertools.product(*moves):
            step = tuple(s + m for s, m in zip(near, move, strict=True))
            at = tuple(bounds.start + s * (bounds.step or 1) for s, bounds in zip(step, self.dims.range, strict=True))
            if self.index_at(at) == index:
                return step
        return near

    def show(self, index: int) -> None:
        """Move the viewer's sliders to a slice."""
        if self.index != index:
            self.dims.point = self.point_to(index)

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)`` of a slice; of a padded picture, without what it was padded with."""
        data = self.layer.data
        if isinstance(data, StackArray):
            return data.stack.slice_shape(index)
        return self.spec.shape[self.spec.plane[0]], self.spec.shape[self.spec.plane[1]]

    def check(self, stack: ImageStack) -> None:
        """See to it that the layer shows a stack.

        Raises
        ------
        InputError
            If the number of slices, or the size of one, is another.
        """
        mine, its = self.spec.length, len(stack)
        if mine != its:
            raise InputError(
                f"{self.layer.name} has {counted(mine, 'slice')}, but its session has {its}; open the session again"
            )
        for index in range(its):
            here, there = self.slice_shape(index), stack.slice_shape(index)
            if here != there:
                raise InputError(
                    f"slice {index} of {self.layer.name} is {here[0]} × {here[1]}, but that of its session "
                    f"{there[0]} × {there[1]}; open the session again"
                )

    def key(self, index: int) -> tuple[int | slice, ...]:
        """Return what to index an array with the layer's axes with, to get a slice (of all channels)."""
        coordinates = iter(self.spec.unravel(index))
        return tuple(next(coordinates) if axis in self.spec.lead else slice(None) for axis in range(self.spec.ndim))

    # -- the view --------------------------------------------------------------------------------------------------

    def displayed(self, dims: Dims | None = None) -> str | None:
        """Say why prompts make no sense in the present view, in one sentence with what to do; None if they do."""
        dims = self.dims if dims is None else dims
        if dims.ndisplay != 2:
            return "the viewer shows the image in 3-D; switch to 2-D with the button below the layer list to prompt it"
        offset = dims.ndim - self.spec.ndim
        shown = [axis - offset for axis in dims.displayed]
        if shown == list(self.spec.plane):
            return None
        if sorted(shown) == sorted(self.spec.plane):
            return (
                "the viewer shows the image with rows and columns swapped; press the transpose button below the "
                "layer list once to prompt it"
            )
        names = " and ".join(_NAMES[self.spec.axes[axis]] if axis >= 0 else "another axis" for axis in shown)
        return (
            f"the viewer shows {names} instead of row and column; press the button that changes the order of the "
            f"axes, below the layer list, until the slices are back to prompt them"
        )

    def like(self) -> dict[str, Any]:
        """Return the arguments that put a layer with the image's axes (Labels, Points, Shapes) in the same place."""
        layer = self.layer
        return {
            "scale": np.array(layer.scale),
            "translate": np.array(layer.translate),
            "rotate": np.array(layer.rotate),
            "shear": np.array(layer.shear),
            "affine": np.array(layer.affine.affine_matrix),
            "units": tuple(layer.units),
            "axis_labels": tuple(layer.axis_labels),
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _own(self, world: World) -> NDArray[np.float64]:
        """Return the world coordinates of the layer's axes in the layer's units."""
        place = np.asarray(world, dtype=np.float64)
        if place.ndim != 1 or len(place) < self.spec.ndim:
            raise InputError(
                f"the position has {place.size} numbers, but the image has {self.spec.ndim} axes; show the image first"
            )
        return place[len(place) - self.spec.ndim :] / self._units()

    def _units(self) -> NDArray[np.float64]:
        """Return how many of the viewer's units one unit of the layer is, for each axis."""
        units = getattr(self.dims, "units", None)
        own = self.layer.units
        if units is None or len(units) < len(own) or tuple(units[len(units) - len(own) :]) == tuple(own):
            return np.ones(len(own))
        world = units[len(units) - len(own) :]
        return np.array([(1 * unit).to(other).magnitude for unit, other in zip(own, world, strict=True)], np.float64)

    def _map(self) -> _Map:
        # Asking napari for a place is slow. One is enough to see whether the layer lies where it lay: no change of
        # scale, rotation or shift that a person makes leaves a place with such coordinates where it is.
        layer, known = self.layer, self._known
        state = tuple(layer.data_to_world(_PROBE[: self.spec.ndim]))
        if known is None or known[0] != state:
            n = self.spec.ndim
            origin = np.asarray(layer.data_to_world(np.zeros(n)), dtype=np.float64)
            matrix = np.stack([np.asarray(layer.data_to_world(row)) - origin for row in np.eye(n)], axis=1)
            self._known = known = state, _Map(matrix, origin, list(self.spec.plane), list(self.spec.outer))
        return known[1]

    def _outer(self, index: int, channel: int | None = None) -> NDArray[np.float64]:
        """Return the data coordinates of a slice along all axes but rows and columns."""
        out = dict(zip(self.spec.lead, self.spec.unravel(index), strict=True))
        if self.spec.channel is not None:
            out[self.spec.channel] = (self.channel_shown or 0) if channel is None else channel
        return np.array([out[axis] for axis in self.spec.outer], dtype=np.float64)

    def _index(self, place: NDArray[np.float64], explain: bool = False) -> int:
        return self._ravel(np.round(self._map().outer(place)), explain)

    def _ravel(self, outer: NDArray[np.float64], explain: bool = False) -> int:
        """Return the slice's number from coordinates along all axes but rows and columns."""
        index = 0
        for axis, value in zip(self.spec.outer, outer, strict=True):
            size = self.spec.shape[axis]
            if axis == self.spec.channel:
                continue
            if not 0 <= value < size:
                raise InputError(
                    f"{_NAMES[self.spec.axes[axis]]} {value:.0f} is outside the image, which has {size}, numbered "
                    f"from 0; move the slider to the image"
                    if explain
                    else "outside"
                )
            index = index * size + int(value)
        return index


class _Map:
    """The affine map from a layer's data to its world, as napari draws it: slice and plane apart.

    Napari shows the slice ``B(w) = (A⁻¹)[o, o] (w − b)[o]``, with all but the plane's axes ``o``, and draws its pixels
    at ``A[p, p] y + b[p]`` (``_SliceInput.data_slice`` and ``VispyBaseLayer._on_matrix_change`` in napari 0.9). Without
    a rotation or shear out of the plane both are parts of ``A``.
    """

    def __init__(self, matrix: NDArray[Any], origin: NDArray[Any], plane: list[int], outer: list[int]) -> None:
        self._plane, self._outer = plane, outer
        self._drawn = matrix[np.ix_(plane, plane)]
        self._undrawn = np.linalg.inv(self._drawn)
        inverse = np.linalg.inv(matrix)
        self._sliced = inverse[np.ix_(outer, outer)]
        self._unsliced = np.linalg.pinv(self._sliced)
        self._start = (-inverse @ origin)[outer]
        self._origin = origin

    def outer(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the data coordinates of the slice that is shown."""
        out: NDArray[np.float64] = self._sliced @ place[self._outer] + self._start
        return out

    def plane_inverse(self, place: NDArray[np.float64]) -> tuple[float, float]:
        """Return row and column."""
        y, x = self._undrawn @ (place[self._plane] - self._origin[self._plane])
        return float(y), float(x)

    def place(
        self, base: NDArray[np.float64], outer: NDArray[np.float64], plane: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return where data coordinates are drawn."""
        out = base.copy()
        out[self._plane] = self._drawn @ np.asarray(plane, dtype=np.float64) + self._origin[self._plane]
        if self._outer:
            out[self._outer] = self._unsliced @ (outer - self._start)
        return out

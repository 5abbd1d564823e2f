"""How the slices of a stack lie in what holds them: one array with many axes, or many pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import CHANNEL, check_letters, guess_axes, leading, parse_axes
from napari_medsam2.reading.readers import CollectionItem
from napari_medsam2.reading.sources import Source, check_dtype, computed, divisible

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Grid", "Layout", "Pile", "layout_of"]


class Layout(Protocol):
    """The slices of a stack, in order."""

    axes: str
    lead: tuple[int, ...]
    dtype: np.dtype[Any]

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)`` of one slice."""
        ...

    def slice_dtype(self, index: int) -> np.dtype[Any]:
        """Return the type of one slice."""
        ...

    def channels(self, index: int) -> int | None:
        """Return how many channels one slice has, None where it has no such axis."""
        ...

    def colour(self, index: int) -> bool:
        """Whether one slice's channels are red, green, blue (and opacity)."""
        ...

    def divisible(self, index: int) -> bool:
        """Whether a part of one slice is read without the rest of it."""
        ...

    def read(self, index: int, coordinates: tuple[int, ...], rows: slice, columns: slice) -> NDArray[Any]:
        """Read one slice, or a part: ``(H, W)`` or ``(H, W, C)``, native byte order, not shared with anything."""
        ...


def _is_colour(axes: str, shape: tuple[int, ...]) -> bool:
    return axes.endswith("YXC") and shape[-1] in (3, 4)


class Grid:
    """The slices are the ``YX`` planes of one array.

    Parameters
    ----------
    source : Source
        The array.
    axes : str
        Its axes, already checked.
    dtype : numpy.dtype
        Its type, already checked.
    """

    def __init__(self, source: Source, axes: str, dtype: np.dtype[Any]) -> None:
        self._source = source
        self.axes = axes
        self.dtype = dtype
        sizes = dict(zip(axes, source.shape, strict=True))
        self.lead = tuple(int(sizes[letter]) for letter in leading(axes))
        self._plane = (int(sizes["Y"]), int(sizes["X"]))
        self._channels = int(sizes[CHANNEL]) if CHANNEL in axes else None
        self._colour = _is_colour(axes, tuple(source.shape))

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)``, the same for all."""
        return self._plane

    def slice_dtype(self, index: int) -> np.dtype[Any]:
        """Return the type of a pixel, the same for all."""
        return self.dtype

    def channels(self, index: int) -> int | None:
        """Return the number of channels, the same for all."""
        return self._channels

    def colour(self, index: int) -> bool:
        """Whether the channels are colours, the same for all."""
        return self._colour

    def divisible(self, index: int) -> bool:
        """Whether a part of one slice is read without the rest of it."""
        return divisible(self._source, (self.axes.index("Y"), self.axes.index("X")))

    def read(self, index: int, coordinates: tuple[int, ...], rows: slice, columns: slice) -> NDArray[Any]:
        """Read one slice, or a part."""
        numbers = iter(coordinates)
        inside = {"Y": rows, "X": columns, CHANNEL: slice(None)}
        key = tuple(inside[letter] if letter in inside else next(numbers) for letter in self.axes)
        return _plane(self._source[key], "".join(letter for letter in self.axes if letter in "YXC"), self.dtype)


class Pile:
    """The slices are pictures of their own, which may differ in size, type and channels.

    Parameters
    ----------
    items : sequence of Source
        The pictures.
    item_axes : sequence of str
        The axes of each: ``Y``, ``X`` and perhaps ``C``.
    types : sequence of numpy.dtype
        The type of each.
    along : str
        The axis that numbers them: ``N``, ``Z`` or ``T``.
    """

    def __init__(
        self, items: Sequence[Source], item_axes: Sequence[str], types: Sequence[np.dtype[Any]], along: str
    ) -> None:
        import numpy as np

        self._items = tuple(items)
        self._item_axes = tuple(item_axes)
        self._types = tuple(types)
        self.lead: tuple[int, ...] = (len(items),)
        self.dtype = np.result_type(*set(types))
        coloured = all(CHANNEL in letters for letters in item_axes)
        self.axes = along + (item_axes[0] if len(set(item_axes)) == 1 else "YXC" if coloured else "YX")

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)`` of one picture."""
        sizes = dict(zip(self._item_axes[index], self._items[index].shape, strict=True))
        return int(sizes["Y"]), int(sizes["X"])

    def slice_dtype(self, index: int) -> np.dtype[Any]:
        """Return the type of one picture."""
        return self._types[index]

    def channels(self, index: int) -> int | None:
        """Return the number of channels of one picture."""
        axes = self._item_axes[index]
        return int(self._items[index].shape[axes.index(CHANNEL)]) if CHANNEL in axes else None

    def colour(self, index: int) -> bool:
        """Whether one picture's channels are colours."""
        return _is_colour(self._item_axes[index], tuple(self._items[index].shape))

    def divisible(self, index: int) -> bool:
        """Whether a part of one picture is read without the rest of it."""
        axes = self._item_axes[index]
        return divisible(self._items[index], (axes.index("Y"), axes.index("X")))

    def read(self, index: int, coordinates: tuple[int, ...], rows: slice, columns: slice) -> NDArray[Any]:
        """Read one picture, or a part."""
        axes = self._item_axes[index]
        inside = {"Y": rows, "X": columns, CHANNEL: slice(None)}
        return _plane(self._items[index][tuple(inside[letter] for letter in axes)], axes, self._types[index])


def _plane(part: Any, axes: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Turn what was read to ``(H, W)`` or ``(H, W, C)``, a contiguous array of its own."""
    import numpy as np

    order = [axes.index(letter) for letter in "YXC" if letter in axes]
    return np.array(computed(part).transpose(order), dtype=dtype, order="C", copy=True)


def layout_of(data: Any, axes: str | None, what: str) -> Layout:
    """Find out how the slices lie in what a person gave.

    Parameters
    ----------
    data : array-like or sequence of array-like
        See `napari_medsam2.ImageStack`.
    axes : str or None
        Its axes; guessed where None.
    what : str
        What it is called in an error.

    Raises
    ------
    InputError
        If it cannot be a stack.
    """
    if isinstance(data, (list, tuple)):
        return _pile_of(data, axes, what)
    if not all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        path = isinstance(data, str) or hasattr(data, "__fspath__")
        hint = "open a file with ImageStack.open" if path else "convert it with numpy.asarray"
        raise InputError(
            f"{what} must be an array (numpy, dask, zarr) or a list of pictures, not {type(data).__name__}; {hint}"
        )
    shape = tuple(data.shape)
    dtype = check_dtype(data.dtype, what)
    if any(isinstance(size, float) and math.isnan(size) for size in shape):
        raise InputError(f"{what} is a dask array of unknown shape; call its compute_chunk_sizes() first")
    letters = guess_axes(shape, dtype, what) if axes is None else parse_axes(axes, shape, what)
    _check_sizes(shape, what)
    return Grid(data, letters, dtype)


def _check_sizes(shape: tuple[int, ...], what: str) -> None:
    if 0 in shape:
        raise InputError(f"{what} has shape {shape}, so it has no pixel; check how it was cut or loaded")


def _pile_of(data: Sequence[Any], axes: str | None, what: str) -> Pile:
    if not data:
        raise InputError(f"{what} is an empty list; give at least one picture")
    asked = None if axes is None else check_letters(axes)
    if asked is not None and (len(leading(asked)) != 1 or asked[0] not in "NZT"):
        raise InputError(
            f"axes {axes!r} does not fit a list of pictures; give NYX or NYXC for a collection, ZYX or TYX for a stack"
        )
    letters: list[str] = []
    types: list[np.dtype[Any]] = []
    for i, item in enumerate(data):
        name = item.path.name if isinstance(item, CollectionItem) else f"picture {i} of {what}"
        if not all(hasattr(item, attribute) for attribute in ("shape", "dtype", "__getitem__")):
            raise InputError(f"{name} is {type(item).__name__}, not an array; give a list of arrays, or one array")
        _check_sizes(tuple(item.shape), name)
        types.append(check_dtype(item.dtype, name))
        letters.append(item.axes if isinstance(item, CollectionItem) else _picture_axes(tuple(item.shape), asked, name))
    if asked is not None and CHANNEL in asked and not any(CHANNEL in own for own in letters):
        raise InputError(f"axes {axes!r} has channels but no picture of {what} does; leave out the C")
    pile = Pile(data, letters, types, "N" if asked is None else asked[0])
    sizes = {pile.slice_shape(i) for i in range(len(data))}
    if len(sizes) > 1 and "N" not in pile.axes:
        raise InputError(
            f"{what} has pictures of {len(sizes)} sizes, which are no stack with axes {axes}; "
            f"leave axes out to open them as a collection"
        )
    return pile


def _picture_axes(shape: tuple[int, ...], asked: str | None, name: str) -> str:
    """Return the axes of one picture of many."""
    if len(shape) == 2:
        return "YX"
    own = "".join(letter for letter in asked or "" if letter in "YXC")
    if len(shape) == 3 and len(own) == 3:
        return own
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "YXC"
    raise InputError(
        f"{name} has shape {shape}, which is no picture; each must be (rows, columns) or (rows, columns, 3)"
    )

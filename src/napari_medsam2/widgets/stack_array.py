"""A stack as one array that napari can show, read when it is looked at."""

from __future__ import annotations

import itertools
import operator
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.reading.axes import leading

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from napari_medsam2.stack import ImageStack

__all__ = ["StackArray"]

_KEPT = 4
"""Slices that are kept: napari reads the one it shows several times."""


class StackArray:
    """The slices of a stack. Pictures of different sizes are in the upper left corner of theirs, with zeros around.

    Grey images of one type, and colours of 8 bits, are shown as they are. Where the pictures of a collection differ in
    type, and for colours of more bits, each slice is shown in its own intensity window, as float32 in [0, 1]. Where
    only some pictures have colours, all are shown in colour.

    Parameters
    ----------
    stack : ImageStack
        The stack.

    Attributes
    ----------
    stack : ImageStack
        The stack.
    axes : str
        A letter for each axis but that of colours: the leading ones, ``C`` if there are channels, ``YX``.
    shape : tuple of int
        Their lengths, with the largest height and width, and 3 for colours.
    dtype : numpy.dtype
        Type of a pixel.
    rgb : bool
        Whether the last axis is red, green, blue.
    """

    def __init__(self, stack: ImageStack) -> None:
        self.stack = stack
        layout = stack._layout
        # Only pictures of a list can differ.
        distinct = stack._distinct
        sizes = [stack.slice_shape(i) for i in distinct]
        types = {layout.slice_dtype(i) for i in distinct}
        counts = {layout.channels(i) for i in distinct}
        self.rgb = any(layout.colour(i) for i in distinct)
        count = counts.pop() if len(counts) == 1 and not self.rgb else None
        self._plain = len(types) == 1 and (not self.rgb or types == {np.dtype(np.uint8)})
        self.dtype: np.dtype[Any] = layout.dtype if self._plain else np.dtype(np.float32)
        self._channels = self._plain and count is not None
        self.axes = leading(stack.axes) + ("CYX" if self._channels else "YX")
        inner = max(h for h, _ in sizes), max(w for _, w in sizes)
        self._lead = layout.lead
        self._inner: tuple[int, ...] = (*inner, 3) if self.rgb else inner
        if self._channels and count is not None:
            self._inner = (count, *inner)
        self.shape: tuple[int, ...] = self._lead + self._inner
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all values, were they in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part, as numpy does; only the slices that are asked for are read."""
        parts = list(key) if isinstance(key, tuple) else [key]
        gaps = [i for i, part in enumerate(parts) if part is Ellipsis]
        if len(gaps) == 1:
            parts[gaps[0] : gaps[0] + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        if len(parts) != self.ndim or not all(map(_is_simple, parts)):
            whole: NDArray[Any] = self._part([slice(None)] * self.ndim)[key]
            return whole
        return self._part(parts)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self._part([slice(None)] * self.ndim), dtype=dtype)

    def _part(self, parts: list[Any]) -> NDArray[Any]:
        """Return a part for a number or a slice for every axis."""
        outer, inner = parts[: len(self._lead)], tuple(parts[len(self._lead) :])
        chosen = [_numbers(part, size) for part, size in zip(outer, self._lead, strict=True)]
        kept = tuple(len(c) for c, part in zip(chosen, outer, strict=True) if isinstance(part, slice))
        shape = np.broadcast_to(np.zeros((), self.dtype), self._inner)[inner].shape
        if not kept:
            part: NDArray[Any] = self._slice(self.stack.ravel([c[0] for c in chosen]))[inner]
            return part
        out: NDArray[Any] = np.empty((*kept, *shape), self.dtype)
        flat = out.reshape(-1, *shape)
        for row, coordinates in enumerate(itertools.product(*chosen)):
            flat[row] = self._slice(self.stack.ravel(coordinates))[inner]
        return out

    def _slice(self, number: int) -> NDArray[Any]:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        out = self._read(number)
        if out.shape != self._inner:
            picture = out
            out = np.zeros(self._inner, self.dtype)
            out[: picture.shape[0], : picture.shape[1]] = picture
        # Shared by all who ask.
        out.flags.writeable = False
        with self._lock:
            self._kept[number] = out
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return out

    def _read(self, number: int) -> NDArray[Any]:
        if not self._plain:
            planes = self.stack.pixels(number)
            return planes.transpose(1, 2, 0) if self.rgb else planes[0]
        raw = self.stack.raw(number)
        if self._channels:
            out: NDArray[Any] = np.zeros(self._inner, self.dtype)
            out[:, : raw.shape[0], : raw.shape[1]] = np.moveaxis(raw, -1, 0)
            return out
        if not self.rgb:
            return raw if raw.ndim == 2 else raw[..., 0]
        if raw.ndim == 2 or raw.shape[-1] not in (3, 4):
            return np.repeat((raw if raw.ndim == 2 else raw[..., 0])[..., None], 3, axis=2)
        return raw[..., :3]


def _is_simple(part: Any) -> bool:
    return isinstance(part, slice) or (
        np.ndim(part) == 0 and not isinstance(part, (bool, np.bool_)) and part is not None
    )


def _numbers(part: Any, size: int) -> list[int]:
    if isinstance(part, slice):
        return list(range(size))[part]
    number = operator.index(part)
    if not -size <= number < size:
        raise IndexError(f"there is no slice {number}; there are {size}")
    return [number % size]

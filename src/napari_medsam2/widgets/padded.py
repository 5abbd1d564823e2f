"""Pictures of different sizes as one array that napari can show."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from napari_medsam2.stack import ImageStack

__all__ = ["PaddedPictures"]

_KEPT = 4
"""Pictures that are kept, padded: napari reads the one it shows several times."""


class PaddedPictures:
    """The pictures of a collection, each in the upper left corner of a slice with zeros around, read when indexed.

    Grey pictures of one type, and colour pictures of 8 bits, are shown as they are. Where the types differ, and for
    colours of more than 8 bits, each picture is shown in its own intensity window, as float32 in [0, 1]. Where only
    some have colours, all are shown in colour.

    Parameters
    ----------
    stack : ImageStack
        The collection.

    Attributes
    ----------
    stack : ImageStack
        The collection.
    shape : tuple of int
        ``(N, H, W)``, or ``(N, H, W, 3)`` for colours, with the largest height and width.
    dtype : numpy.dtype
        Type of a pixel.
    rgb : bool
        Whether the last axis is red, green, blue.
    """

    def __init__(self, stack: ImageStack) -> None:
        self.stack = stack
        layout = stack._layout
        every = range(len(stack))
        sizes = [stack.slice_shape(i) for i in every]
        types = {layout.slice_dtype(i) for i in every}
        self.rgb = any(layout.colour(i) for i in every)
        self._plain = len(types) == 1 and (not self.rgb or types == {np.dtype(np.uint8)})
        self.dtype: np.dtype[Any] = layout.dtype if self._plain else np.dtype(np.float32)
        lead = len(stack), max(h for h, _ in sizes), max(w for _, w in sizes)
        self.shape: tuple[int, ...] = (*lead, 3) if self.rgb else lead
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
        """Return the number of pictures."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part, as numpy does; only the pictures that are asked for are read."""
        parts = key if isinstance(key, tuple) else (key,)
        first, rest = (parts[0], parts[1:]) if parts and parts[0] is not Ellipsis else (slice(None), parts)
        if isinstance(first, slice):
            chosen = range(len(self))[first]
        elif np.ndim(first) == 0 and not isinstance(first, (bool, np.bool_)):
            return self._padded(operator.index(first))[rest]
        else:
            chosen = np.arange(len(self))[np.asarray(first)].tolist()
        out: NDArray[Any] = np.zeros((len(chosen), *self.shape[1:]), self.dtype)
        for row, number in zip(out, chosen, strict=True):
            row[...] = self._padded(number)
        return out[(slice(None), *rest)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[:], dtype=dtype)

    def _padded(self, number: int) -> NDArray[Any]:
        if not -len(self) <= number < len(self):
            raise IndexError(f"there is no picture {number}; there are {len(self)}")
        number %= len(self)
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        picture = self._read(number)
        out: NDArray[Any] = np.zeros(self.shape[1:], self.dtype)
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
        if not self.rgb:
            return raw if raw.ndim == 2 else raw[..., 0]
        if raw.ndim == 2 or raw.shape[-1] not in (3, 4):
            return np.repeat((raw if raw.ndim == 2 else raw[..., 0])[..., None], 3, axis=2)
        return raw[..., :3]

"""Array-likes that read no more than they are asked for, and hold no file open between two reads."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, Literal, Protocol

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Key",
    "MappedArray",
    "Rearranged",
    "ScaledArray",
    "Source",
    "check_dtype",
    "computed",
    "divisible",
    "full_key",
    "match_axes",
    "small_blocks",
]

Key = tuple["int | slice", ...]

_BLOCKS = 16
"""So many blocks a plane has at least that is worth reading in parts."""


class Source(Protocol):
    """What a stack reads from: numpy, dask and zarr arrays have this, and so have the readers of this package."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Return the part at ``key``: an integer or a slice for each axis; full ones but of rows and columns."""
        ...


def full_key(key: Key, length: int) -> Key:
    """Return ``key`` with a full slice for each axis that it does not mention."""
    return key + (slice(None),) * (length - len(key))


def computed(part: Any) -> NDArray[Any]:
    """Turn what was read of an array to numpy's, as ``numpy.asarray`` does; dask's out of reach of global callbacks.

    The cache that napari gives dask while it draws a slice is such a callback. Two threads that compute at once
    may both have it, and whichever ends first takes away what the other still counts on.
    """
    import numpy as np

    if hasattr(part, "__dask_graph__") and part.__dask_graph__() is not None:
        from dask import base

        find: Any = base.get_scheduler
        scheduler = find(collections=[part])
        own = getattr(scheduler, "__module__", "") in {"dask.threaded", "dask.local", "dask.multiprocessing"}
        # Other schedulers, such as a cluster's, have no callbacks.
        part = part.compute(callbacks=()) if own else part.compute()
    return np.asarray(part)


def divisible(source: Any, plane: tuple[int, int]) -> bool:
    """Whether a part of a plane is read without the rest of it.

    Parameters
    ----------
    source : Source
        Of this package, where it says so itself; numpy's; or anything in blocks.
    plane : (int, int)
        The axes of rows and columns.
    """
    import numpy as np

    own = getattr(source, "divisible", None)
    if own is not None:
        return bool(own(plane))
    if isinstance(source, np.ndarray):
        return True
    blocks: Any = getattr(source, "chunks", None)
    return bool(blocks) and small_blocks([_block(blocks[axis]) for axis in plane], [source.shape[a] for a in plane])


def small_blocks(blocks: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether blocks are small enough for the edge of a part to cost little."""
    return math.prod(blocks) * _BLOCKS <= math.prod(sizes)


def _block(block: int | tuple[int, ...]) -> int:
    # dask has the length of each.
    return block if isinstance(block, int) else max(block)


class MappedArray:
    """An array that lies in a file as it is: uncompressed TIFF, NIfTI, npy.

    The file is mapped for each read and unmapped after it, so that the memory in use does not grow with what was read,
    threads need not share a position, and the file can be replaced or deleted in between.

    Parameters
    ----------
    file : callable
        Returns the path, or an open binary file without a name.
    offset : int
        Bytes before the first pixel.
    shape : tuple of int
        Length of each axis.
    dtype : numpy.dtype
        As stored, with its byte order.
    fortran : bool
        Whether the first axis is the one that runs fastest.
    """

    def __init__(
        self,
        file: Callable[[], Any],
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        fortran: bool = False,
    ) -> None:
        self._file = file
        self._offset = offset
        self._stored = dtype
        self._order: Literal["F", "C"] = "F" if fortran else "C"
        self._lock = threading.Lock()
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")

    def divisible(self, plane: tuple[int, int]) -> bool:
        """Whether a part of a plane is read without the rest of it."""
        return True

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return a copy of the part at ``key``, in native byte order."""
        import numpy as np

        file = self._file()
        with self._lock:
            view: NDArray[Any] = np.memmap(file, self._stored, "r", self._offset, self.shape, self._order)
        return np.array(view[key], dtype=self.dtype)


class ScaledArray:
    """Stored numbers times a slope plus an intercept, as NIfTI has them, in floats that hold them exactly enough.

    Parameters
    ----------
    source : Source
        The stored numbers.
    slope, intercept : float
        ``value = slope · stored + intercept``.
    """

    def __init__(self, source: Source, slope: float, intercept: float) -> None:
        import numpy as np

        self._source = source
        self._slope = slope
        self._intercept = intercept
        small = source.dtype.itemsize <= 2 or source.dtype == "float32"
        self.dtype: np.dtype[Any] = np.dtype("float32" if small else "float64")

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._source.shape

    def divisible(self, plane: tuple[int, int]) -> bool:
        """Whether a part of a plane is read without the rest of it."""
        return divisible(self._source, plane)

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        values = np.asarray(self._source[key], dtype=np.float64)
        return (values * self._slope + self._intercept).astype(self.dtype)


class Rearranged:
    """A source with its axes in another order, without some of length 1, or with new ones.

    Parameters
    ----------
    source : Source
        What is read.
    axes : tuple of int or None
        For each axis of this array its number in the source; None for a new one of length 1.
    """

    def __init__(self, source: Source, axes: tuple[int | None, ...]) -> None:
        self._source = source
        self.axes = axes

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(1 if axis is None else self._source.shape[axis] for axis in self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self._source.dtype

    def divisible(self, plane: tuple[int, int]) -> bool:
        """Whether a part of a plane is read without the rest of it."""
        rows, columns = (self.axes[axis] for axis in plane)
        return rows is not None and columns is not None and divisible(self._source, (rows, columns))

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        whole = full_key(key, len(self.axes))
        inner: list[int | slice] = [0] * len(self._source.shape)
        for axis, part in zip(self.axes, whole, strict=True):
            if axis is not None:
                inner[axis] = part
        found = np.asarray(self._source[tuple(inner)])
        kept = [axis for axis, part in zip(self.axes, whole, strict=True) if isinstance(part, slice)]
        order = [axis for axis in kept if axis is not None]
        turned = found.transpose([sorted(order).index(axis) for axis in order])
        return np.expand_dims(turned, tuple(i for i, axis in enumerate(kept) if axis is None))


def match_axes(source: Source, own: str, wanted: str) -> Source:
    """Bring a file's array to the number of axes that a person asked for, where that is not ambiguous.

    Axes of length 1 that were not asked for go (a 5-D file with one time point and one channel opened as ``ZYX``), and
    axes that the file does not have come with length 1 (a single picture opened as a stack, ``ZYX``).

    Parameters
    ----------
    source : Source
        The file's array.
    own : str
        Its axes, as the file has them.
    wanted : str
        The axes asked for.

    Returns
    -------
    Source
        ``source`` itself where the numbers of axes agree, or where nothing could be done.
    """
    if len(wanted) < len(own):
        surplus = len(own) - len(wanted)
        single = [i for i, letter in enumerate(own) if source.shape[i] == 1 and letter not in "YX"]
        # Those of which nothing was said go first; the file's own letters may have been guessed.
        single.sort(key=lambda i: own[i] in wanted)
        if len(single) >= surplus:
            return Rearranged(source, tuple(i for i in range(len(own)) if i not in single[:surplus]))
    elif len(wanted) > len(own) and "".join(letter for letter in wanted if letter in own) == own:
        return Rearranged(source, tuple(own.index(letter) if letter in own else None for letter in wanted))
    return source


def check_dtype(dtype: Any, what: str) -> np.dtype[Any]:
    """Return ``dtype`` as a native numpy type, if it can be the type of a pixel.

    Raises
    ------
    InputError
        If it is not bool, integer or float.
    """
    import numpy as np

    try:
        found = np.dtype(dtype)
    except TypeError:
        raise InputError(f"{what} has pixels of type {dtype}; convert it to a numpy array of numbers first") from None
    if found.kind not in "buif":
        hint = "take its magnitude or real part" if found.kind == "c" else "convert it to integers or floats"
        raise InputError(f"{what} has pixels of type {found}, which is no grey value; {hint}")
    native: np.dtype[Any] = found.newbyteorder("=")
    return native

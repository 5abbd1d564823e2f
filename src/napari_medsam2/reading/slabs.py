"""Slices of an array whose blocks span several of them, without decoding every block anew for each."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from napari_medsam2.reading.sources import Key, full_key, small_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_medsam2.reading.sources import Source

__all__ = ["Slabs"]

_KEPT_BYTES = 1 << 28
"""Two slabs of 64 slices of 1024 × 1024 pixels of 16 bits: the one that is walked through and the one that is shown."""


class Slabs:
    """An array in blocks; slices that were decoded together with one that was asked for are kept for the next reads.

    A read that needs a part of a block costs as much as one of the whole block. A slab is the slices that a row of
    blocks spans, or as many of them as half of the memory allowed holds. Where that is one slice, and where blocks span
    no slices, nothing is kept.

    Parameters
    ----------
    source : Source
        The array.
    blocks : sequence of int
        Length of a block along each axis.
    kept : int
        Bytes of slabs that are kept at most; the ones used last.
    """

    def __init__(self, source: Source, blocks: Sequence[int], kept: int = _KEPT_BYTES) -> None:
        self._source = source
        self._blocks = tuple(blocks)
        self._limit = kept
        self._kept: OrderedDict[tuple[range, ...], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self._source.dtype

    def divisible(self, plane: tuple[int, int]) -> bool:
        """Whether a part of a plane is read without the rest of it."""
        return small_blocks([self._blocks[axis] for axis in plane], [self.shape[axis] for axis in plane])

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return a copy of the part at ``key``."""
        import numpy as np

        whole = full_key(key, len(self.shape))
        slab = self._around(whole)
        if all(len(part) == 1 for part, asked in zip(slab, whole, strict=True) if not isinstance(asked, slice)):
            return np.array(self._source[whole])
        inside = (
            slice(None) if isinstance(asked, slice) else asked - part.start
            for part, asked in zip(slab, whole, strict=True)
        )
        # A view would keep all of the slab in memory.
        return self._read(slab)[tuple(inside)].copy()

    def _around(self, key: Key) -> tuple[range, ...]:
        """Return the part of the array that is read for ``key``."""
        slab = [
            range(size)[part] if isinstance(part, slice) else range(part, part + 1)
            for size, part in zip(self.shape, key, strict=True)
        ]
        room = self._limit // 2 // max(1, math.prod(map(len, slab)) * self.dtype.itemsize)
        # The innermost axis is the one that is walked along.
        for axis, part in reversed(list(enumerate(key))):
            if not isinstance(part, slice):
                begin = part - part % self._blocks[axis]
                length = max(1, min(self._blocks[axis], room))
                start = part - (part - begin) % length
                slab[axis] = range(start, min(start + length, begin + self._blocks[axis], self.shape[axis]))
                room //= len(slab[axis])
        return tuple(slab)

    def _read(self, slab: tuple[range, ...]) -> NDArray[Any]:
        import numpy as np

        found = self._find(slab)
        if found is None:
            # One thread decodes; others that need the same slab wait for it, those whose slab is there do not.
            with self._decoding:
                found = self._find(slab)
                if found is None:
                    self._make_room(math.prod(map(len, slab)) * self.dtype.itemsize)
                    key = tuple(slice(part.start, part.stop, part.step) for part in slab)
                    found = np.asarray(self._source[key])
                    with self._lock:
                        self._kept[slab] = found
        return found

    def _find(self, slab: tuple[range, ...]) -> NDArray[Any] | None:
        with self._lock:
            if slab in self._kept:
                self._kept.move_to_end(slab)
            return self._kept.get(slab)

    def _make_room(self, size: int) -> None:
        with self._lock:
            while self._kept and sum(kept.nbytes for kept in self._kept.values()) + size > self._limit:
                self._kept.popitem(last=False)

"""Painted masks as prompts keep them: bits, of the window that the paint takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from napari_medsam2.prompts import SlicePrompt

__all__ = ["PackedMask", "Painted"]


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask of a slice, small where what is painted is; two of the same mask are equal.

    Parameters
    ----------
    shape : tuple of int
        ``(H, W)`` of the slice.
    top, left : int
        First row and column of the window, outside of which nothing is painted.
    size : tuple of int
        ``(rows, columns)`` of the window; zeros for a mask that is empty.
    bits : bytes
        The window's pixels, row by row, eight a byte.
    """

    shape: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    bits: bytes

    @classmethod
    def of(cls, mask: np.ndarray) -> PackedMask:
        """Pack a mask ``(H, W)`` bool."""
        shape = (int(mask.shape[0]), int(mask.shape[1]))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls(shape, 0, 0, (0, 0), b"")
        piece = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        size = (int(piece.shape[0]), int(piece.shape[1]))
        return cls(shape, int(rows[0]), int(columns[0]), size, np.packbits(piece).tobytes())

    def unpack(self) -> np.ndarray:
        """Return the whole mask, ``(H, W)`` bool, anew."""
        out = np.zeros(self.shape, bool)
        (rows, columns), bits = self.size, np.frombuffer(self.bits, np.uint8)
        piece = np.unpackbits(bits, count=rows * columns).astype(bool).reshape(self.size)
        out[self.top : self.top + rows, self.left : self.left + columns] = piece
        return out


class Painted:
    """The field `SlicePrompt.mask`: whole for who reads or writes it, kept as a `PackedMask`."""

    @overload
    def __get__(self, owner: None, kind: type) -> None: ...

    @overload
    def __get__(self, owner: SlicePrompt, kind: type) -> np.ndarray | None: ...

    def __get__(self, owner: SlicePrompt | None, kind: type) -> np.ndarray | None:
        # Of the class it is what the field is by default.
        if owner is None or owner.painted is None:
            return None
        return owner.painted.unpack()

    def __set__(self, owner: SlicePrompt, value: np.ndarray | None) -> None:
        owner.__dict__["painted"] = None if value is None else PackedMask.of(value)

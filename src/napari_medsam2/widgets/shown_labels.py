"""The labels of a session as an array that napari can show and paint on, without ever being held as a whole."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ShownLabels"]

_KEPT = 8
"""Drawn slices that are kept: the one that is looked at, and those that a drag of the slider passes again."""


class ShownLabels:
    """Slices are drawn when they are looked at; what is painted is kept apart until it is taken over.

    Parameters
    ----------
    numbers : ndarray
        The number of the slice at each place of the leading axes. An axis along which it does not change, such as the
        channels', may be a broadcast one.
    size : (int, int)
        Rows and columns, at least those of every slice.
    dtype : dtype
        An unsigned integer.
    draw : callable
        Takes a slice's number, gives its labels ``(h, w)``; smaller ones are shown in the upper left corner.
    order : sequence of int, optional
        Which axes of the array the leading axes, rows and columns are; in this order by default.
    """

    def __init__(
        self,
        numbers: np.ndarray,
        size: tuple[int, int],
        dtype: np.dtype[Any],
        draw: Callable[[int], np.ndarray],
        order: Sequence[int] | None = None,
    ) -> None:
        self._numbers, self._size, self._draw = numbers, size, draw
        self.dtype = np.dtype(dtype)
        own = (*numbers.shape, *size)
        self._order = tuple(range(len(own))) if order is None else tuple(order)
        self.shape: tuple[int, ...] = tuple(own[self._order.index(axis)] for axis in range(len(own)))
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        # As each slice was drawn when the stroke began, and as it is now.
        self._painted: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the labels are drawn when asked for: they cannot be given without a copy")
        return np.asarray(self[...], dtype=dtype)

    # -- for the session -------------------------------------------------------------------------------------------

    def forget(self, index: int | None = None) -> None:
        """Draw a slice, or all, anew when it is looked at next; what is being painted stays."""
        if index is None:
            self._kept.clear()
        else:
            self._kept.pop(index, None)

    def patch(self, index: int, window: tuple[slice, slice], piece: np.ndarray) -> bool:
        """Draw a part of a slice anew; False where the slice is not kept or is being painted: it has to be drawn whole.

        Parameters
        ----------
        index : int
            The slice.
        window : tuple of slice
            Rows and columns.
        piece : ndarray
            The labels there.
        """
        if index not in self._kept or index in self._painted:
            return False
        self._kept[index][window] = piece
        return True

    def keeps(self, index: int) -> bool:
        """Whether a slice need not be drawn to be shown."""
        return index in self._kept

    def drawn(self, index: int) -> np.ndarray:
        """A slice's labels as the session has them, ``(H, W)``; not to be written to."""
        found = self._kept.get(index)
        if found is None:
            piece = self._draw(index)
            if piece.shape == self._size and piece.dtype == self.dtype:
                found = piece
            else:
                found = np.zeros(self._size, self.dtype)
                found[: piece.shape[0], : piece.shape[1]] = piece
            self._kept[index] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(index)
        return found

    @property
    def differs(self) -> bool:
        """Whether anything is painted that `painted` would give."""
        return any((before != after).any() for before, after in self._painted.values())

    def painted(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """What was painted: for each slice ``(before, after)``, both ``(H, W)``; it is then no longer kept.

        Before is what the stroke began on: what came meanwhile, as it does while one propagates, is no part of it.
        """
        out, self._painted = sorted(self._painted.items()), {}
        return {i: pair for i, pair in out if (pair[0] != pair[1]).any()}

    # -- for napari ------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> np.ndarray:
        lead, rest = self._split(key)
        if _points(lead, rest):
            where = np.broadcast_arrays(*lead, *rest)
            numbers = self._numbers[tuple(where[:-2])] if lead else np.zeros(where[0].shape, int)
            rows, columns = (np.asarray(w) for w in where[-2:])
            out = np.zeros(rows.shape, self.dtype)
            for number in np.unique(numbers):
                here = numbers == number
                out[here] = self._slice(int(number))[rows[here], columns[here]]
            return out
        numbers = np.asarray(self._numbers[lead])
        pieces = [self._slice(int(n))[rest] for n in np.ravel(numbers)]
        inner = pieces[0].shape if pieces else np.empty(self._size, bool)[rest].shape
        out = np.array(pieces, self.dtype).reshape((*numbers.shape, *inner))
        return out.transpose(np.argsort(self._left(lead, rest)))

    def __setitem__(self, key: Any, value: Any) -> None:
        lead, rest = self._split(key)
        values = np.asarray(value)
        if _points(lead, rest):
            where = np.broadcast_arrays(*lead, *rest)
            numbers = self._numbers[tuple(where[:-2])] if lead else np.zeros(where[0].shape, int)
            values = np.broadcast_to(values, where[0].shape)
            rows, columns = (np.asarray(w) for w in where[-2:])
            for number in np.unique(numbers):
                here = numbers == number
                self._canvas(int(number))[rows[here], columns[here]] = values[here]
            return
        numbers = np.asarray(self._numbers[lead])
        inner = np.empty(self._size, bool)[rest].shape
        left = self._left(lead, rest)
        own = (*numbers.shape, *inner)
        shown = tuple(own[left.index(axis)] for axis in sorted(left))
        values = np.broadcast_to(values, shown).transpose([sorted(left).index(axis) for axis in left])
        for number, piece in zip(numbers.ravel(), values.reshape((numbers.size, *inner)), strict=True):
            self._canvas(int(number))[rest] = piece

    def __deepcopy__(self, memo: Any) -> np.ndarray:
        """A copy, as napari makes it of a duplicated layer, is an array of its own."""
        return np.asarray(self)

    def astype(self, dtype: Any) -> np.ndarray:
        """What napari calls to convert the layer's type, which is the session's.

        Raises
        ------
        InputError
            Always: the layer would no longer show the session.
        """
        raise InputError(
            f"the masks stay {self.dtype}, as the session has them; duplicate the layer and convert the copy, or use "
            f"Export…"
        )

    def _slice(self, index: int) -> np.ndarray:
        return self._painted[index][1] if index in self._painted else self.drawn(index)

    def _canvas(self, index: int) -> np.ndarray:
        if index not in self._painted:
            before = self.drawn(index)
            self._painted[index] = before, before.copy()
        return self._painted[index][1]

    def _split(self, key: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """A full index, split into that of the leading axes and that of rows and columns."""
        full: Sequence[Any] = key if isinstance(key, tuple) else (key,)
        at = next((i for i, k in enumerate(full) if k is Ellipsis), len(full))
        after = full[at + 1 :]
        missing = self.ndim - at - len(after)
        if missing < 0:
            raise IndexError(f"too many indices: the labels have {self.ndim} axes")
        full = (*full[:at], *([slice(None)] * missing), *after)
        own = [full[axis] for axis in self._order]
        return tuple(own[:-2]), tuple(own[-2:])

    def _left(self, lead: tuple[Any, ...], rest: tuple[Any, ...]) -> list[int]:
        """The array's axes that an index leaves, in the order of leading axes, rows and columns."""
        return [axis for axis, part in zip(self._order, (*lead, *rest), strict=True) if isinstance(part, slice)]


def _points(lead: tuple[Any, ...], rest: tuple[Any, ...]) -> bool:
    """Whether an index is a list of pixels: whole numbers for every axis, arrays for at least one."""
    parts = [*lead, *rest]
    return all(not isinstance(p, slice) for p in parts) and any(np.ndim(p) for p in parts)

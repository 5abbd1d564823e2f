"""Slice numbers and coordinates along the leading axes, and which slices are neighbours."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import leading

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_index", "ravel", "run_axis", "runs", "unravel", "volumes"]


def check_index(index: int, count: int, what: str) -> int:
    """Return a slice's number as an int, if there are so many slices.

    Raises
    ------
    InputError
        If it is no whole number, negative or too large.
    """
    try:
        number = operator.index(index)
    except TypeError:
        raise InputError(f"a slice's number must be whole, not {index!r}") from None
    if not 0 <= number < count:
        raise InputError(f"there is no slice {number} in {what}; it has {count}, numbered from 0")
    return number


def unravel(number: int, lead: tuple[int, ...]) -> tuple[int, ...]:
    """Return the coordinates of a slice along leading axes of these lengths, the last of which runs fastest."""
    coordinates: list[int] = []
    for size in reversed(lead):
        number, coordinate = divmod(number, size)
        coordinates.append(coordinate)
    return tuple(reversed(coordinates))


def ravel(coords: Sequence[int], lead: tuple[int, ...], axes: str) -> int:
    """Return the number of the slice at these coordinates; the inverse of `unravel`.

    Raises
    ------
    InputError
        If there are too many or too few coordinates, or one is outside the stack.
    """
    try:
        whole = tuple(operator.index(coordinate) for coordinate in coords)
    except TypeError:
        raise InputError(f"slice coordinates must be whole numbers, not {coords!r}") from None
    letters = leading(axes)
    if len(whole) != len(lead) or any(not 0 <= c < size for c, size in zip(whole, lead, strict=True)):
        raise InputError(f"there is no slice at {whole}; give {len(lead)} numbers ({letters or 'none'}) within {lead}")
    number = 0
    for coordinate, size in zip(whole, lead, strict=True):
        number = number * size + coordinate
    return number


def run_axis(axes: str, lead: tuple[int, ...]) -> str:
    """Return the letter of the axis along which slices are neighbours: depth, else time, else image number.

    An axis with one slice leads nowhere and is passed over, unless all have one. Empty for a picture, which has none.

    Parameters
    ----------
    axes : str
        The image's axes.
    lead : tuple of int
        The lengths of the leading ones.
    """
    lengths = dict(zip(leading(axes), lead, strict=True))
    there = [letter for letter in "ZTN" if letter in lengths]
    return next((letter for letter in there if lengths[letter] > 1), "".join(there[:1]))


def runs(axes: str, lead: tuple[int, ...]) -> tuple[range, ...]:
    """Return the slice numbers along the `run_axis`, in order, for each place along the other axes.

    Parameters
    ----------
    axes : str
        The image's axes.
    lead : tuple of int
        The lengths of the leading ones.
    """
    return _lines(leading(axes).index(run_axis(axes, lead)), lead) if lead else (range(1),)


def volumes(axes: str, lead: tuple[int, ...]) -> tuple[range, ...]:
    """Return the slice numbers of each volume, in order: those along depth, of which there may be only one.

    Parameters
    ----------
    axes : str
        The image's axes, Z among them.
    lead : tuple of int
        The lengths of the leading ones.
    """
    return _lines(leading(axes).index("Z"), lead)


def _lines(along: int, lead: tuple[int, ...]) -> tuple[range, ...]:
    step = math.prod(lead[along + 1 :])
    block = step * lead[along]
    starts = (outer + inner for outer in range(0, math.prod(lead), block) for inner in range(step))
    return tuple(range(start, start + block, step) for start in starts)

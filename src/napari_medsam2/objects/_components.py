"""Connected components of masks that are looked at slice by slice: only two slices are in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Forest", "components", "label_slice"]

Window = tuple[int, int, np.ndarray]
"""First row, first column, and ``(h, w)`` bool or integers."""


class Forest:
    """Numbers that turn out to be one and the same (union-find)."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def __len__(self) -> int:
        return len(self._parents)

    def grow(self, count: int) -> int:
        """Add numbers; return the first."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return first

    def find(self, number: int) -> int:
        """Return the number that stands for all that are the same."""
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def join(self, a: int, b: int) -> None:
        """Say that two are the same; the smaller stands for both."""
        a, b = self.find(a), self.find(b)
        self._parents[max(a, b)] = min(a, b)


def label_slice(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the components of a mask ``(h, w)`` from 1; pixels that touch at a corner only are apart."""
    from scipy.ndimage import label

    numbers, count = label(mask)
    return numbers, int(count)


def touching(a: Window, b: Window) -> NDArray[np.int64]:
    """Return the pairs of numbers ``(P, 2)`` that two slices have at the same pixels, without zeros."""
    y0, x0 = max(a[0], b[0]), max(a[1], b[1])
    y1 = min(a[0] + a[2].shape[0], b[0] + b[2].shape[0])
    x1 = min(a[1] + a[2].shape[1], b[1] + b[2].shape[1])
    if y0 >= y1 or x0 >= x1:
        return np.zeros((0, 2), np.int64)
    first = a[2][y0 - a[0] : y1 - a[0], x0 - a[1] : x1 - a[1]]
    second = b[2][y0 - b[0] : y1 - b[0], x0 - b[1] : x1 - b[1]]
    both = (first > 0) & (second > 0)
    pairs = np.stack([first[both], second[both]], 1).astype(np.int64)
    return np.unique(pairs, axis=0)


def components(slices: Iterable[Window | None]) -> tuple[list[NDArray[np.int64]], int]:
    """Find the components of a volume, which are connected through faces.

    Parameters
    ----------
    slices : iterable
        The mask of each slice in a window of its own, or None where it is empty.

    Returns
    -------
    list of ndarray
        For each slice, the volume's component, from 0 in order of first appearance, of each of the slice's own
        components as `label_slice` numbers them, which is repeatable.
    int
        How many components the volume has.
    """
    forest = Forest()
    firsts: list[tuple[int, int]] = []
    before: Window | None = None
    for window in slices:
        if window is None:
            firsts.append((0, 0))
            before = None
            continue
        numbers, count = label_slice(window[2])
        first = forest.grow(count)
        here = (window[0], window[1], np.where(numbers > 0, numbers.astype(np.int64) + first, 0))
        if before is not None:
            for a, b in touching(before, here).tolist():
                forest.join(a - 1, b - 1)
        firsts.append((first, count))
        before = here
    ranks: dict[int, int] = {}
    found = [
        np.array([ranks.setdefault(forest.find(first + i), len(ranks)) for i in range(count)], np.int64)
        for first, count in firsts
    ]
    return found, len(ranks)


def sizes(slices: Iterator[Window | None], found: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """Count the pixels of each component that `components` found."""
    total = np.zeros(count, np.int64)
    for window, own in zip(slices, found, strict=True):
        if window is not None and len(own):
            numbers, _ = label_slice(window[2])
            total += np.bincount(own, np.bincount(numbers.ravel(), minlength=len(own) + 1)[1:], count).astype(np.int64)
    return total

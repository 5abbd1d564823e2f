"""Drawing a slice's labels, or a part of them, from what is known of its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.overlap import share_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_medsam2.results import PackedResult

__all__ = ["Window", "changed_window", "composed"]

Window = tuple[slice, slice]
"""Rows and columns of a slice, from a first one to one behind the last."""


def composed(
    held: Mapping[int, PackedResult], shape: tuple[int, int], dtype: np.dtype[Any], window: Window | None = None
) -> np.ndarray:
    """Draw a slice's labels, or those in a window of it.

    Where objects overlap, `napari_medsam2.overlap.share_out` says which one has the pixel. That depends on the objects
    that are there alone, so that a window is drawn from those that reach into it: what a click
    costs on a slide of a gigapixel is what its object costs.

    Parameters
    ----------
    held : mapping
        What is known of the slice's objects, by label.
    shape : tuple of int
        ``(H, W)`` of the slice.
    dtype : dtype
        Of the labels.
    window : tuple of slice, optional
        Rows and columns; all of the slice by default.

    Returns
    -------
    ndarray
        ``(H, W)``, or of the window's size.
    """
    entries = [entry for _, entry in sorted(held.items()) if all(entry.size)]
    within = _around(entries) if window is None else window
    rows, columns = within
    results = [entry.unpack() for entry in entries if _meets(entry, within)]

    def piece(place: int) -> tuple[Window, np.ndarray]:
        one = results[place]
        (y0, y1), (x0, x1) = (_overlap(part, a) for part, a in zip(_extent(one.logits.shape, one), within, strict=True))
        logits = one.logits[y0 - one.top : y1 - one.top, x0 - one.left : x1 - one.left]
        return (slice(y0 - rows.start, y1 - rows.start), slice(x0 - columns.start, x1 - columns.start)), logits

    labels = np.array([0, *(one.label for one in results)], dtype)
    size = rows.stop - rows.start, columns.stop - columns.start
    drawn = np.asarray(labels[share_out(results, size, piece)])
    if window is not None:
        return drawn
    out = np.zeros(shape, dtype)
    out[within] = drawn
    return out


def changed_window(before: Mapping[int, PackedResult], after: Mapping[int, PackedResult]) -> Window | None:
    """Find the part of a slice in which its labels may have changed; None where no object did.

    Parameters
    ----------
    before, after : mapping
        What was and what is known of the slice's objects, by label.
    """
    entries = [
        entry
        for label in before.keys() | after.keys()
        for entry in (before.get(label), after.get(label))
        if before.get(label) is not after.get(label) and entry is not None and all(entry.size)
    ]
    return _around(entries) if entries else None


def _extent(size: tuple[int, ...], at: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (at.top, at.top + size[0]), (at.left, at.left + size[1])


def _around(entries: list[PackedResult]) -> Window:
    """The window around all that some results hold."""
    if not entries:
        return slice(0, 0), slice(0, 0)
    both = np.array([_extent(entry.size, entry.bare) for entry in entries])
    (top, left), (bottom, right) = both[:, :, 0].min(0).tolist(), both[:, :, 1].max(0).tolist()
    return slice(top, bottom), slice(left, right)


def _overlap(part: tuple[int, int], window: slice) -> tuple[int, int]:
    return max(part[0], window.start), min(part[1], window.stop)


def _meets(entry: PackedResult, window: Window) -> bool:
    parts = zip(_extent(entry.size, entry.bare), window, strict=True)
    return all(first < last for first, last in (_overlap(part, a) for part, a in parts))

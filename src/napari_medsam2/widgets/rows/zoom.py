"""Which slices a strip shows, and what its pixels look like: numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Zoom", "bars", "lane", "ticks"]

_WIDEST = 36.0
"""Pixels of a slice at most: a stack of three does not fill a screen."""
_LEAST = 6
"""Slices that are shown at least."""
_GAP = 5.0
"""Bars of so many pixels have a gap between them."""


@dataclass(frozen=True, slots=True)
class Zoom:
    """The stretch of slices that is shown.

    Parameters
    ----------
    count : int
        Slices in all.
    first : float
        The left edge: slice ``i`` covers ``[i, i + 1)``.
    span : float
        How many are shown.
    """

    count: int
    first: float
    span: float

    @classmethod
    def all_of(cls, count: int) -> Zoom:
        """Show all slices."""
        return cls(count, 0.0, float(max(count, 1)))

    @property
    def full(self) -> bool:
        """Whether all slices are shown."""
        return self.span >= self.count

    def width(self, pixels: int) -> float:
        """Pixels of the bars together; fewer than there are where slices are few."""
        return min(float(pixels), self.span * _WIDEST)

    def cell(self, pixels: int) -> float:
        """Pixels of one slice."""
        return self.width(pixels) / self.span

    def x(self, index: float, pixels: int) -> float:
        """Return the pixel at which a slice begins."""
        return (index - self.first) * self.cell(pixels)

    def index(self, x: float, pixels: int) -> int:
        """Return the slice at a pixel, the nearest one if there is none."""
        return min(max(math.floor(self.first + x / max(self.cell(pixels), 1e-9)), 0), max(self.count - 1, 0))

    def around(self, index: float, factor: float) -> Zoom:
        """Show ``factor`` times as many slices, with one place kept where it is; ``index`` may be a fraction."""
        span = min(max(self.span * factor, float(min(_LEAST, self.count)), 1.0), float(max(self.count, 1)))
        return self._at(index - (index - self.first) * span / self.span, span)

    def between(self, first: int, last: int) -> Zoom:
        """Show the slices from ``first`` to ``last``, both included, or a few more."""
        low, high = min(first, last), max(first, last)
        span = min(float(max(high - low + 1, _LEAST)), float(max(self.count, 1)))
        return self._at((low + high + 1 - span) / 2, span)

    def moved(self, first: float) -> Zoom:
        """Show as many from another place on."""
        return self._at(first, self.span)

    def showing(self, index: int) -> Zoom:
        """Move as little as needed to show a slice, with some of those beyond it."""
        if self.first <= index and index + 1 <= self.first + self.span:
            return self
        edge = min(self.span / 8, 5.0)
        if index < self.first:
            return self._at(index - edge, self.span)
        return self._at(index + 1 + edge - self.span, self.span)

    def _at(self, first: float, span: float) -> Zoom:
        return replace(self, first=min(max(first, 0.0), max(self.count - span, 0.0)), span=span)


def _starts(zoom: Zoom, pixels: int) -> tuple[np.ndarray, bool]:
    """Return the first slice of each pixel, and whether pixels hold several slices."""
    width = max(math.ceil(zoom.width(pixels)), 1)
    crowded = zoom.cell(pixels) < 1
    at = zoom.first + (np.arange(width) + (0.0 if crowded else 0.5)) / zoom.cell(pixels)
    return np.minimum(np.floor(at).astype(np.int64), zoom.count - 1), crowded


def lane(flags: np.ndarray, zoom: Zoom, pixels: int) -> np.ndarray:
    """Return which pixels show a slice with a flag.

    Parameters
    ----------
    flags : ndarray
        ``(R, N)`` unsigned.
    zoom : Zoom
        What is shown.
    pixels : int
        The width there is.

    Returns
    -------
    ndarray
        ``(R, W)``: the bitwise or of the slices that a pixel shows.
    """
    starts, crowded = _starts(zoom, pixels)
    if not crowded:
        return np.asarray(flags[:, starts])
    stop = min(math.ceil(zoom.first + zoom.span), zoom.count)
    return np.asarray(np.bitwise_or.reduceat(flags[:, :stop], starts, axis=1))


def ticks(flags: np.ndarray, zoom: Zoom, pixels: int) -> np.ndarray:
    """Like `lane`, but slices that are wide have a tick of three pixels in their middle."""
    cell = zoom.cell(pixels)
    seen = lane(flags, zoom, pixels)
    if cell <= 3:
        return seen
    at = zoom.first + (np.arange(seen.shape[1]) + 0.5) / cell
    middle = np.abs((at % 1.0) - 0.5) * cell <= 1.5
    return np.where(middle, seen, 0)


def bars(confidence: np.ndarray, zoom: Zoom, pixels: int, ramp: np.ndarray, empty: int) -> np.ndarray:
    """Return the pixels of bars.

    Parameters
    ----------
    confidence : ndarray
        ``(R, N)`` float32 in [0, 1]; NaN without a result.
    zoom : Zoom
        What is shown.
    pixels : int
        The width there is.
    ramp : ndarray
        ``(256,)`` uint32, colours of confidences 0 to 1.
    empty : int
        The colour of slices without a result; 0 leaves them clear.

    Returns
    -------
    ndarray
        ``(R, W)`` uint32 ARGB. A pixel that shows several slices has the colour of the lowest confidence.
    """
    starts, crowded = _starts(zoom, pixels)
    if crowded:
        stop = min(math.ceil(zoom.first + zoom.span), zoom.count)
        values = np.fmin.reduceat(confidence[:, :stop], starts, axis=1)
    else:
        values = confidence[:, starts]
    known = ~np.isnan(values)
    level = np.rint(np.where(known, values, 0.0) * 255).clip(0, 255).astype(np.int64)
    out = np.where(known, ramp[level], np.uint32(empty))
    if zoom.cell(pixels) >= _GAP:
        out[:, np.flatnonzero(np.diff(starts)) + 1] = 0
        if starts[0] > 0 and float(zoom.first).is_integer():
            out[:, 0] = 0
    return np.ascontiguousarray(out, dtype=np.uint32)

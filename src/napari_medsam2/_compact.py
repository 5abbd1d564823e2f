"""Stored logits made compact: coarse where it does not matter, so that they compress; their signs stay as they are.

Levels are half an octave apart, so that the outline can still be found between pixels and the order of objects that
overlap is kept where it is clear. Where the model is sure, its logits are a plateau with noise on it, which no
compression can shorten: they are averaged over their neighbourhood first.
"""

from __future__ import annotations

import numpy as np

__all__ = ["CERTAIN", "compact"]

CERTAIN = 127
"""The stored logit of pixels that a person painted, positive or negative: no prediction outweighs them."""

_SURE = 24
"""From this logit on (three, in eighths), on either side of zero, values are averaged."""
_REACH = 2
"""Values are averaged over a square that reaches so many pixels to each side."""
_LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 17, 24, 34, 48, 68, 96, 126])
_FARTHEST = 48
"""Below its negative all is the same: no order among objects depends on it."""


def _table() -> np.ndarray:
    """The level of each int8, at the place that it has as uint8."""
    values = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.intp)
    size = _LEVELS[np.searchsorted((_LEVELS[1:] + _LEVELS[:-1]) / 2, np.abs(values))]
    out = np.where(values > 0, np.maximum(size, 1), -np.minimum(size, _FARTHEST))
    painted = np.abs(values) >= CERTAIN
    out[painted] = np.sign(values[painted]) * CERTAIN
    return np.asarray(out, dtype=np.int8)


_TABLE = _table()


def compact(logits: np.ndarray) -> np.ndarray:
    """Make logits compressible.

    Parameters
    ----------
    logits : ndarray
        ``(h, w)`` int8, mask logits in eighths; ±127 where a person painted.

    Returns
    -------
    ndarray
        ``(h, w)`` int8, positive just where ``logits`` are. What came out of this function comes back as it is.
    """
    level = _level(logits)
    if (level == logits).all():
        return level
    for sure in ((logits >= _SURE) & (logits < CERTAIN), (logits <= -_SURE) & (logits > -CERTAIN)):
        if sure.any():
            mean = _around(np.where(sure, logits, 0)) / np.maximum(_around(sure), 1)
            np.copyto(level, _level(np.rint(mean).astype(np.int8)), where=sure)
    return level


def _level(logits: np.ndarray) -> np.ndarray:
    return np.asarray(_TABLE[np.ascontiguousarray(logits).view(np.uint8)])


def _around(values: np.ndarray) -> np.ndarray:
    """The sum over the square around each pixel, zero beyond the edges: ``(h, w)`` float32."""
    out = np.pad(values.astype(np.int16), _REACH)
    height, width = values.shape
    out = sum((out[at : at + height] for at in range(1, 2 * _REACH + 1)), start=out[:height])
    out = sum((out[:, at : at + width] for at in range(1, 2 * _REACH + 1)), start=out[:, :width])
    return out.astype(np.float32)

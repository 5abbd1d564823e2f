"""Small pictures of slices with their masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.geometry import Box

__all__ = ["surroundings", "thumbnail"]

_FILL = 0.22
"""How opaque a mask is inside its outline."""


def thumbnail(
    pixels: np.ndarray, masks: Sequence[np.ndarray], colours: Sequence[str], side: int, window: Box | None = None
) -> np.ndarray:
    """Draw a small picture with the outlines of masks.

    Parameters
    ----------
    pixels : ndarray
        ``(3, H, W)`` float in [0, 1], as from `ImageStack.pixels`.
    masks : sequence of ndarray
        ``(H, W)`` bool each.
    colours : sequence of str
        ``"#rrggbb"`` of each mask.
    side : int
        Pixels of the longer side; the other keeps the proportions.
    window : tuple of float, optional
        The part ``(y0, x0, y1, x1)`` (edges, as from `surroundings`) to draw; all of the slice by default.

    Returns
    -------
    ndarray
        ``(h, w, 3)`` uint8, ``max(h, w) == side``. A mask smaller than a pixel of the picture still shows as one.
    """
    y0, x0, y1, x1 = _whole(window, pixels.shape[1:])
    pixels = pixels[:, y0:y1, x0:x1]
    h, w = pixels.shape[1:]
    scale = side / max(h, w)
    size = max(1, round(h * scale)), max(1, round(w * scale))
    picture = np.stack([_shrink(plane, size) for plane in pixels], axis=-1)
    picture = np.clip(np.nan_to_num(picture), 0, 1) * 255
    for mask, colour in zip(masks, colours, strict=True):
        paint = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        part = mask[y0:y1, x0:x1]
        if not part.any():
            continue
        inside = _cover(part, size)
        edge = inside & ~_eroded(inside)
        picture[inside] += _FILL * (paint - picture[inside])
        picture[edge] = paint
    return np.asarray(np.rint(picture), np.uint8)


def surroundings(box: Box | None, shape: tuple[int, int], margin: float = 0.6, least: float = 48) -> Box:
    """Return the square part of a slice in which an object is seen well.

    Parameters
    ----------
    box : tuple of float or None
        Edges of the tight box around it; None: the whole slice.
    shape : tuple of int
        ``(H, W)`` of the slice.
    margin : float
        What is added on each side, as a part of the box's longer side.
    least : float
        Pixels of the square's side at least, where the slice has them.
    """
    height, width = shape
    if box is None:
        return -0.5, -0.5, height - 0.5, width - 0.5
    side = max(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin), least)
    out = []
    for low, high, length in ((box[0], box[2], height), (box[1], box[3], width)):
        extent = min(float(round(side)), float(length))
        start = min(max(round((low + high - extent) / 2 + 0.5) - 0.5, -0.5), length - 0.5 - extent)
        out.append((start, start + extent))
    return out[0][0], out[1][0], out[0][1], out[1][1]


def _whole(window: Box | None, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the rows and columns that edges take in, at least one of each."""
    h, w = shape
    if window is None:
        return 0, 0, h, w
    y0, x0 = max(math.floor(window[0] + 0.5), 0), max(math.floor(window[1] + 0.5), 0)
    y1, x1 = min(math.ceil(window[2] + 0.5), h), min(math.ceil(window[3] + 0.5), w)
    y0, x0 = min(y0, h - 1), min(x0, w - 1)
    return y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)


def _shrink(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample by the mean of what each new pixel covers; by the nearest pixel where it gets larger."""
    # A few rows of each block are enough for a small picture; all of a large slice would take long.
    down, across = (max(1, old // (new * 4)) for old, new in zip(plane.shape, size, strict=True))
    plane = plane[::down, ::across]
    for axis, new in enumerate(size):
        old = plane.shape[axis]
        if new > old:
            plane = plane.take(np.minimum((np.arange(new) + 0.5) * old // new, old - 1).astype(np.int64), axis)
        elif new < old:
            starts = (np.arange(new) * old) // new
            shape = [1, 1]
            shape[axis] = new
            counts = np.diff(np.append(starts, old)).reshape(shape)
            plane = np.add.reduceat(plane, starts, axis, dtype=np.float32) / counts
    return plane


def _cover(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample a mask: at least half of a pixel is covered or, if that is nowhere so, anything of it."""
    share = _shrink(mask, size)
    inside = np.asarray(share >= 0.5)
    if inside.any():
        return inside
    out = np.zeros(size, bool)
    rows, columns = np.nonzero(mask)
    out[rows * size[0] // mask.shape[0], columns * size[1] // mask.shape[1]] = True
    return out


def _eroded(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return np.asarray(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])

"""COCO's run-length code: lengths of background and object in turn, down the columns, as numbers or as text."""

from __future__ import annotations

import numpy as np

from napari_medsam2.errors import InputError

__all__ = ["decode", "encode", "pack", "unpack"]


def encode(mask: np.ndarray, top: int, left: int, shape: tuple[int, int]) -> list[int]:
    """Encode a mask that lies in a window of a slice.

    Parameters
    ----------
    mask : ndarray
        ``(h, w)`` bool.
    top, left : int
        The window's first row and column.
    shape : tuple of int
        ``(H, W)`` of the slice.

    Returns
    -------
    list of int
        Lengths that add up to ``H × W``; the first is of background and may be 0.
    """
    height, width = shape
    steps = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    columns, rows = np.nonzero(steps == 1)
    starts = (columns + left) * height + rows + top
    columns, rows = np.nonzero(steps == -1)
    ends = (columns + left) * height + rows + top
    # A run that reaches the lower edge goes on at the top of the next column.
    joined = starts[1:] == ends[:-1]
    starts, ends = starts[np.r_[True, ~joined][: len(starts)]], ends[np.r_[~joined, True][: len(ends)]]
    bounds = np.concatenate([[0], np.stack([starts, ends], 1).ravel(), [height * width]])
    counts: list[int] = np.diff(bounds).tolist()
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def decode(counts: list[int], shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Decode lengths; the inverse of `encode`.

    Parameters
    ----------
    counts : list of int
        As of `encode`.
    shape : tuple of int
        ``(H, W)`` of the slice.

    Returns
    -------
    tuple
        The rows and columns that the object spans, and the mask there ``(h, w)`` bool. Only these columns are ever
        unfolded: an image of thousands of objects has room for each of them.

    Raises
    ------
    InputError
        If they do not add up to the size of the slice.
    """
    height, width = shape
    lengths = np.asarray(counts, np.int64)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise InputError(
            f"a run-length code covers {int(lengths.sum())} pixels of an image of {height} × {width}; "
            f"it belongs to another image, or is damaged"
        )
    ends = np.cumsum(lengths)
    starts, inside = ends - lengths, np.arange(len(lengths)) % 2 == 1
    runs = np.flatnonzero(inside & (lengths > 0))
    if not len(runs):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    left, right = int(starts[runs[0]]) // height, (int(ends[runs[-1]]) - 1) // height + 1
    first, last = left * height, right * height
    mask = np.repeat(inside, ends.clip(first, last) - starts.clip(first, last)).reshape(right - left, height).T
    rows = np.flatnonzero(mask.any(1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return (slice(top, bottom), slice(left, right)), mask[top:bottom]


def pack(counts: list[int]) -> str:
    """Pack lengths into COCO's text: differences to the length before the last, 5 bits a character, from ``0`` on."""
    out = []
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            out.append(chr(48 + (bits | 0x20 if more else bits)))
            if not more:
                break
    return "".join(out)


def unpack(text: str) -> list[int]:
    """Unpack the lengths from COCO's text.

    Raises
    ------
    InputError
        If it is none.
    """
    counts: list[int] = []
    value = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64:
            raise InputError(f"a run-length code holds {sign!r}, which none does; the file is damaged")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise InputError("a run-length code ends within a number; the file is cut short")
    return counts

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


def decode(counts: list[int], shape: tuple[int, int]) -> np.ndarray:
    """Decode lengths to a mask ``(H, W)`` bool; the inverse of `encode`.

    Raises
    ------
    InputError
        If they do not add up to the size of the slice.
    """
    lengths = np.asarray(counts, np.int64)
    if (lengths < 0).any() or lengths.sum() != shape[0] * shape[1]:
        raise InputError(
            f"a run-length code covers {int(lengths.sum())} pixels of an image of {shape[0]} × {shape[1]}; "
            f"it belongs to another image, or is damaged"
        )
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(shape[1], shape[0]).T


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

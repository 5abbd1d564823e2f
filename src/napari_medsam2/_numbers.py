"""Whole numbers: what is one, and those that objects have in labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["LARGEST_LABEL", "check_label", "check_whole", "free_labels", "is_whole"]

LARGEST_LABEL = 2**31 - 1


def is_whole(value: object) -> bool:
    """Whether it is Python's or numpy's whole number."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_whole(value: int, what: str) -> int:
    """Return a whole number as Python's; InputError, which begins with ``what``, where it is none."""
    if not is_whole(value):
        raise InputError(f"{what} must be a whole number, not {value!r}")
    return int(value)


def check_label(label: int) -> int:
    """Return a label as Python's number; InputError where it is none."""
    if not is_whole(label) or not 1 <= label <= LARGEST_LABEL:
        raise InputError(f"a label must be a whole number from 1 to {LARGEST_LABEL}, not {label!r}")
    return int(label)


def free_labels(taken: Collection[int]) -> Iterator[int]:
    """Yield labels that nothing has: above all that are in use, then between them, as long as 16 bits hold them.

    Masks of one thing often have the value 65535. What comes beside it shall not need labels of 32 bits, which a PNG
    does not hold, nor a layer of the masks that is open.
    """
    known, top = taken, max(taken, default=0)
    for most in (2**16 - 1, LARGEST_LABEL):
        if top <= most:
            yield from range(top + 1, most + 1)
            yield from (label for label in range(1, top) if label not in known)
            known, top = range(1, most + 1), most

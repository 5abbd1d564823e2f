"""The fingerprint of an image's pixels, slice by slice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["fingerprint_steps", "run_through"]

R = TypeVar("R")


def fingerprint_steps(
    lead: tuple[int, ...],
    dtype: np.dtype[Any],
    count: int,
    raw: Callable[[int], NDArray[Any]],
    unread: list[int] | None = None,
) -> Generator[int, None, str]:
    """Compute `ImageStack.fingerprint` one slice at a time, so that a thread can be ended in between.

    A slice that cannot be read counts as such: one that is damaged must not keep a session from being saved.

    Parameters
    ----------
    lead : tuple of int
        Lengths of the leading axes.
    dtype : numpy.dtype
        The stack's type.
    count : int
        Number of slices.
    raw : callable
        Reads a slice.
    unread : list of int, optional
        Gets the numbers of the slices that cannot be read.

    Yields
    ------
    int
        How many slices have been read.

    Returns
    -------
    str
        SHA-256 in hexadecimal.

    Raises
    ------
    InputError
        If no slice can be read.
    """
    import numpy as np

    unread = [] if unread is None else unread

    digest = hashlib.sha256()
    digest.update(f"{lead} {dtype.str.lstrip('<>=|')}".encode())
    for index in range(count):
        try:
            image = raw(index)
        except InputError:
            unread.append(index)
            if len(unread) == count:
                raise
            digest.update(b"unreadable")
            yield index + 1
            continue
        digest.update(f"{image.shape} {image.dtype.str.lstrip('<>=|')}".encode())
        digest.update(np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).data)
        yield index + 1
    return digest.hexdigest()


def run_through(steps: Generator[Any, None, R]) -> R:
    """Run a generator to its end and give back what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            value: R = stop.value
            return value

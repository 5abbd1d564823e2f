"""The numbers that objects have in labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["LARGEST_LABEL", "free_labels"]

LARGEST_LABEL = 2**31 - 1


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

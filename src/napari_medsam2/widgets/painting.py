"""What a person painted on a Labels layer, as masks of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["masks_painted"]


def masks_painted(
    before: np.ndarray, after: np.ndarray, mask_of: Callable[[int], np.ndarray | None], locked: Collection[int] = ()
) -> dict[int, np.ndarray]:
    """Say which objects' masks changed, and what they are now.

    Only pixels that changed are looked at: what of an object lies hidden under another one stays as it is.

    Parameters
    ----------
    before, after : ndarray
        ``(H, W)`` labels as they were drawn and as they are now.
    mask_of : callable
        An object's whole mask ``(H, W)`` bool so far, hidden pixels included; None where it has none.
    locked : collection of int
        Labels whose pixels nobody may take away or add to.

    Returns
    -------
    dict
        ``label → (H, W)`` bool; an object that lost its last pixel has an empty mask.
    """
    changed = before != after
    if locked:
        changed &= ~np.isin(before, list(locked)) & ~np.isin(after, list(locked))
    out: dict[int, np.ndarray] = {}
    for label in np.union1d(before[changed], after[changed]):
        if label == 0:
            continue
        so_far = mask_of(int(label))
        mask = np.zeros(before.shape, bool) if so_far is None else so_far.copy()
        mask[changed & (before == label)] = False
        mask[changed & (after == label)] = True
        out[int(label)] = mask
    return out

"""Where an object ends: what the network cannot see on one slice shows in the course of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.results import ObjectResult

__all__ = ["DIP", "RISE", "narrowest", "same_body", "waist"]

DIP, RISE = 0.05, 0.065
"""How much narrower a waist is than what came before, and how much wider what comes after is than the waist.

Chosen on the two z-stacks among the development cases, see ``docs/model.md``.
"""


def waist(widths: Sequence[float], before: float = 0.0, dip: float = DIP, rise: float = RISE) -> int | None:
    """Find where a walk has passed from one object to another that touches it.

    Bodies that lie one behind the other, as nuclei in tissue do, are a single column to a network that sees slice after
    slice: the mask narrows where the first ends and widens again where the next begins. The same waist is what a
    watershed cuts at.

    Parameters
    ----------
    widths : sequence of float
        The square root of the mask's area on each slice, from the prompted one outwards.
    before : float
        How wide the object is known to be on the other side of the prompted slice, which may itself be the waist then.
    dip, rise : float
        Shares of the width before, and of the width at the waist, that count.

    Returns
    -------
    int or None
        The position of the narrowest slice, the last that belongs to the first object; None where there is no waist.
    """
    narrowest, widest = widths[0], max(widths[0], before)
    at = 0
    for position, width in enumerate(widths):
        if at == 0 and width > widest and narrowest >= (1 - dip) * widest:
            # The prompted slice need not be the widest.
            widest = narrowest = width
        elif width < narrowest:
            narrowest, at = width, position
        if narrowest < (1 - dip) * widest and width > (1 + rise) * narrowest:
            return at
    return None


def same_body(one: ObjectResult, other: ObjectResult) -> bool:
    """Tell whether two objects' masks on a slice are of one thing: their IoU is a half or more.

    A walk whose mask is that of another object which a person prompted on this slice has gone over into it. Things that
    lie in one another, as a nucleus in its cell, overlap as well, but differ in size.
    """
    return 3 * one.shares(other) >= one.area + other.area > 0


def narrowest(widths: Sequence[float], dip: float = DIP) -> int:
    """Find the last slice of an object that is known to have ended: where it was narrowest on the way.

    Parameters
    ----------
    widths : sequence of float
        As for `waist`.
    dip : float
        How much narrower than the prompted slice that must be.

    Returns
    -------
    int
        A position in ``widths``; the last one where the object never narrowed.
    """
    at = int(np.argmin(widths))
    return at if widths[at] < (1 - dip) * widths[0] else len(widths) - 1

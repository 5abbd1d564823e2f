"""Where an object ends: what the network cannot see on one slice shows in the course of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DIP", "RISE", "waist"]

DIP, RISE = 0.05, 0.08
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

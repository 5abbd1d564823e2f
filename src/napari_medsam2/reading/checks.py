"""Checks of what a person says about an image besides its pixels."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, cast

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from napari_medsam2.reading.intensity import Window

__all__ = ["check_channel", "check_names", "check_spacing", "check_window"]


def check_window(window: Sequence[float] | None) -> Window | None:
    """Return an intensity window as two floats, the first below the second."""
    if window is None:
        return None
    try:
        low, high = (float(end) for end in window)
    except (TypeError, ValueError):
        raise InputError(f"the window must be two numbers, such as (-160, 240), not {window!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"the window must rise from its first number to its second, unlike ({low:g}, {high:g})")
    return low, high


def check_channel(channel: int | Sequence[int] | None, counts: Collection[int | None]) -> tuple[int, ...] | None:
    """Return the numbers of the channels to show, one to three.

    Parameters
    ----------
    channel : int, sequence of int or None
        What was asked for.
    counts : collection of int or None
        How many channels each picture has; None where it has no such axis, which counts as one.
    """
    if channel is None:
        return None
    try:
        several = cast("Sequence[int]", channel) if hasattr(channel, "__len__") else (channel,)
        asked = tuple(map(operator.index, several))
    except TypeError:
        raise InputError(f"a channel must be a whole number, or up to three of them, not {channel!r}") from None
    fewest = min(1 if count is None else count for count in counts)
    if not 1 <= len(asked) <= 3:
        raise InputError(f"from one to three channels can be shown, not {len(asked)}; choose among them")
    wrong = [c for c in asked if not 0 <= c < fewest]
    if wrong:
        raise InputError(f"there is no channel {wrong[0]}; the image has {fewest}, numbered from 0")
    return asked


def check_spacing(spacing: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a spacing whose sizes are positive floats, with a unit; None where it has no size."""
    if spacing is None:
        return None
    unknown = sorted(set(map(str, spacing)) - {"z", "y", "x", "unit"})
    if unknown:
        raise InputError(f'spacing has the unknown key {unknown[0]!r}; give "z", "y", "x" and "unit"')
    found: dict[str, Any] = {}
    for axis in ("z", "y", "x"):
        if axis in spacing:
            try:
                size = float(spacing[axis])
            except (TypeError, ValueError):
                size = math.nan
            if not (math.isfinite(size) and size > 0):
                raise InputError(f"spacing along {axis} must be a positive number, not {spacing[axis]!r}")
            found[axis] = size
    return {**found, "unit": str(spacing.get("unit") or "pixel")} if found else None


def check_names(names: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    """Return the names of the pictures of a collection, as many as there are and each different."""
    if names is None:
        return None
    found = tuple(map(str, names))
    if len(found) != count:
        raise InputError(f"there are {len(found)} names for {count} pictures; give one for each")
    if len(set(found)) != count:
        twice = next(name for name in found if found.count(name) > 1)
        raise InputError(f"two pictures have the name {twice!r}; give each a name of its own")
    return found

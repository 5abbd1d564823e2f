"""Tiles of the gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_medsam2.widgets.rows.strip import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.widgets.rows.strip import StripAxis, StripRow

__all__ = ["Order", "Tile", "gallery_tiles"]

Order = Literal["slice", "worst", "name"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture or slice.

    Parameters
    ----------
    index : int
        Its number.
    name : str
        What it is called.
    confidence : float or None
        The least confident object's, in [0, 1]; None without a result.
    state : str
        ``"empty"``, ``"prompted"``, ``"corrected"``, ``"accepted"`` (all that was found is), ``"rejected"``,
        ``"skipped"`` or ``"propagated"``.
    objects : int
        How many objects are seen.
    """

    index: int
    name: str
    confidence: float | None
    state: str
    objects: int = 0


def gallery_tiles(rows: Sequence[StripRow], axis: StripAxis, order: Order = "slice") -> tuple[Tile, ...]:
    """Summarise each slice over all objects.

    Parameters
    ----------
    rows : sequence of StripRow
        All objects, or those that are looked at.
    axis : StripAxis
        The slices.
    order : str
        ``"slice"``; ``"name"``; ``"worst"``: those left to review by rising confidence, then rejected, skipped,
        prompted and accepted ones, then those without a result.
    """
    count = axis.count
    if rows:
        confidence = np.stack([row.confidence for row in rows])
        marks = np.stack([row.marks for row in rows])
    else:
        confidence, marks = np.full((1, count), np.nan, np.float32), np.zeros((1, count), np.uint8)
    known = ~np.isnan(confidence)
    lowest = np.where(known, confidence, np.inf).min(0)
    any_of = np.bitwise_or.reduce(marks, axis=0)
    settled = ~known | ((marks & np.uint8(Mark.ACCEPTED)) > 0)
    seen = (known & ((marks & np.uint8(Mark.ABSENT)) == 0)).sum(0)
    tiles = []
    for index in range(count):
        found = bool(known[:, index].any())
        tile = Tile(
            index,
            axis.titles[index] if axis.titles is not None else str(index),
            float(lowest[index]) if found else None,
            _state(int(any_of[index]), found, bool(settled[:, index].all())),
            int(seen[index]),
        )
        tiles.append(tile)
    if order == "name":
        tiles.sort(key=lambda tile: (tile.name.casefold(), tile.index))
    elif order == "worst":
        tiles.sort(key=_risk)
    return tuple(tiles)


def _state(marks: int, found: bool, settled: bool) -> str:
    if marks & Mark.REJECTED:
        return "rejected"
    if found and settled:
        return "accepted"
    if marks & Mark.CORRECTED:
        return "corrected"
    if marks & Mark.PROMPTED:
        return "prompted"
    if marks & Mark.SKIPPED:
        return "skipped"
    return "propagated" if found else "empty"


_TURN = {"propagated": 0, "rejected": 1, "skipped": 2, "corrected": 3, "prompted": 3, "accepted": 4, "empty": 5}


def _risk(tile: Tile) -> tuple[int, float, int]:
    return _TURN[tile.state], 1.0 if tile.confidence is None else tile.confidence, tile.index

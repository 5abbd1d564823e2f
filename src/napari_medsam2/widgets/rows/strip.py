"""Rows of the review strip."""

from __future__ import annotations

import bisect
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medsam2.words import noun

if TYPE_CHECKING:
    import numpy as np

    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.results import PackedResult
    from napari_medsam2.session_base import Kind
    from napari_medsam2.stack import ImageStack

__all__ = ["Mark", "StripAxis", "StripRow", "mark_of", "names_of", "strip_axis"]


class Mark(enum.IntFlag):
    """What is to be said of an object's slice beside its confidence."""

    PROMPTED = 1
    CORRECTED = 2
    ACCEPTED = 4
    REJECTED = 8
    SKIPPED = 16
    EDITED = 32
    ABSENT = 64


_WORDS = {
    Mark.CORRECTED: "corrected",
    Mark.PROMPTED: "prompted",
    Mark.EDITED: "edited",
    Mark.ACCEPTED: "accepted",
    Mark.REJECTED: "rejected",
    Mark.SKIPPED: "skipped",
    Mark.ABSENT: "not there",
}
_VERDICTS = {"accepted": int(Mark.ACCEPTED), "rejected": int(Mark.REJECTED), "skipped": int(Mark.SKIPPED)}
# Flags are slow to combine, and this is done for every mask.
_PROMPTED, _CORRECTED, _EDITED, _ABSENT = (
    int(flag) for flag in (Mark.PROMPTED, Mark.CORRECTED, Mark.EDITED, Mark.ABSENT)
)


@dataclass(frozen=True, slots=True, eq=False)
class StripRow:
    """One object in the strip.

    Parameters
    ----------
    label : int
        The object.
    name : str
        What a person calls it.
    color : str
        ``"#rrggbb"``.
    confidence : ndarray
        ``(N,)`` float32 in [0, 1], NaN on slices without a result. Not to be written to.
    marks : ndarray
        ``(N,)`` uint8, `Mark` flags. Not to be written to.
    """

    label: int
    name: str
    color: str
    confidence: np.ndarray
    marks: np.ndarray


@dataclass(frozen=True, slots=True)
class StripAxis:
    """The slices that the strip's columns stand for.

    Parameters
    ----------
    count : int
        How many there are.
    groups : tuple of int
        First slices of volumes or films that follow each other, without the first one.
    titles : tuple of str, optional
        What the slices are called where their number is not enough: file names, ``"t 3, z 12"``.
    word : str
        What one is called: ``"slice"`` or ``"image"``.
    """

    count: int
    groups: tuple[int, ...] = ()
    titles: tuple[str, ...] | None = None
    word: str = "slice"

    def title(self, index: int) -> str:
        """Return what a slice is called."""
        return f"{self.word} {index}" if self.titles is None else self.titles[index]

    def short(self, index: int) -> str:
        """Return what a ruler calls a slice: its number or, where it has coordinates, those."""
        return self.titles[index] if self.titles is not None and self.groups else str(index)

    def start(self, index: int) -> int:
        """Return the first slice of the volume or film that a slice is part of."""
        place = bisect.bisect_right(self.groups, index)
        return self.groups[place - 1] if place else 0

    def group_title(self, index: int) -> str:
        """Return what the volume or film of a slice is called, such as ``"t 3"``; empty where there is only one."""
        return self.title(index).rpartition(", ")[0] if self.groups and self.titles is not None else ""


def strip_axis(stack: ImageStack, kind: Kind = "stack") -> StripAxis:
    """Describe a stack's slices: file names for a collection, coordinates where slices have two axes or more."""
    from napari_medsam2.reading.axes import leading

    letters = leading(stack.axes).lower()
    groups = () if stack.is_collection else tuple(run[0] for run in stack.runs()[1:])
    titles = stack.names
    if titles is None and len(letters) > 1:
        titles = tuple(
            ", ".join(f"{letter} {place}" for letter, place in zip(letters, stack.unravel(index), strict=True))
            for index in range(len(stack))
        )
    return StripAxis(len(stack), groups, titles, noun(kind))


def mark_of(packed: PackedResult | None, prompt: SlicePrompt | None, verdict: str | None) -> int:
    """Return the `Mark` flags of one object on one slice, as a plain number."""
    mark = 0 if verdict is None else _VERDICTS.get(verdict, 0)
    if prompt is not None:
        mark |= _CORRECTED if prompt.corrects else _PROMPTED
    if packed is not None:
        if prompt is None and packed.bare.source == "mask":
            mark |= _EDITED
        if not packed.size[0]:
            mark |= _ABSENT
    return mark


def names_of(mark: Mark | int) -> list[str]:
    """Return the flags in words."""
    return [word for flag, word in _WORDS.items() if Mark(int(mark)) & flag]

"""Confidence, marks and areas of all objects on all slices, followed slice by slice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.widgets.rows.objects import Measure, ObjectRow, measure_of
from napari_medsam2.widgets.rows.strip import Mark, StripRow, mark_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from napari_medsam2.results import PackedResult
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.state import ObjectInfo

__all__ = ["ColorOf", "Ledger"]

ColorOf = Callable[[int], str]
"""Gives the ``"#rrggbb"`` of a label that has no colour of its own."""

_SAID = np.uint8(Mark.PROMPTED | Mark.CORRECTED)
_UNKNOWN = -1
_AT_ONCE = 0.003
"""Seconds that `Ledger.refresh` may count pixels for before it leaves the rest to `Ledger.measure`."""


@dataclass(slots=True, eq=False)
class _Page:
    """One object."""

    confidence: np.ndarray
    marks: np.ndarray
    areas: np.ndarray
    packed: dict[int, PackedResult] = field(default_factory=dict)
    uncounted: int = 0
    row: StripRow | None = None

    @classmethod
    def empty(cls, count: int) -> _Page:
        return cls(np.full(count, np.nan, np.float32), np.zeros(count, np.uint8), np.zeros(count, np.int64))


class Ledger:
    """What strip and table show of a session, kept up to date at the cost of what changed.

    Call `refresh` with the slices that ``session.events.slice_changed`` named, and after ``objects_changed``, then take
    `strip_rows` and `object_rows`. Areas need every mask unpacked once; what takes too long for one go is left to
    `measure`, which an idle timer calls while `behind` is true.

    Parameters
    ----------
    session : AnnotationSession
        What is shown. It is read only, in the thread that calls.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._measure = measure_of(session.stack, session.kind)
        # Which volume, frame or picture each slice is part of.
        self._run = np.zeros(len(session.stack), np.int64)
        for number, run in enumerate(self._measure.runs):
            self._run[list(run)] = number
        self._pages: dict[int, _Page] = {}
        self._uncounted: dict[tuple[int, int], None] = {}
        self.refresh()

    @property
    def behind(self) -> bool:
        """Whether `measure` has something left to count."""
        return bool(self._uncounted)

    @property
    def measured_as(self) -> Measure:
        """What the objects' sizes are."""
        return self._measure

    def refresh(self, indices: Iterable[int] | None = None, seconds: float = _AT_ONCE) -> None:
        """Take over what changed.

        Parameters
        ----------
        indices : iterable of int, optional
            The slices that changed; all of them by default.
        seconds : float
            How long pixels may be counted; at least one mask is.
        """
        session = self._session
        for label in [one for one in self._pages if one not in session.objects]:
            for index in self._pages.pop(label).packed:
                self._uncounted.pop((label, index), None)
        added = [label for label in session.objects if label not in self._pages]
        for label in added:
            self._pages[label] = _Page.empty(len(session.stack))
        if indices is None:
            self._take(self._places())
        else:
            named = {one for one in indices if 0 <= one < len(session.stack)}
            # An object that came back, with undo, may have slices that nobody named.
            back = {label: session.results.indices(label) for label in added}
            self._take({label: named.union(back.get(label, ())) for label in self._pages})
        self.measure(seconds)

    def measure(self, seconds: float = 0.01) -> bool:
        """Count pixels for so long; return whether all are counted now."""
        end = time.perf_counter() + seconds
        while self._uncounted:
            # The newest first: the front of a dict is slow to find once much of it is gone.
            (label, index), _ = self._uncounted.popitem()
            page = self._pages[label]
            page.areas[index] = page.packed[index].unpack().area
            page.uncounted -= 1
            if time.perf_counter() > end:
                break
        return not self._uncounted

    def strip_rows(self, color_of: ColorOf) -> tuple[StripRow, ...]:
        """Return a row for each object, in order of labels; the same row as before where nothing changed."""
        rows = []
        for label, info in self._session.objects.items():
            page = self._pages.get(label) or _Page.empty(len(self._session.stack))
            color = info.color or color_of(label)
            row = page.row
            if row is None or (row.name, row.color) != (info.name, color):
                row = page.row = StripRow(label, info.name, color, page.confidence.copy(), page.marks.copy())
            rows.append(row)
        return tuple(rows)

    def object_rows(
        self, color_of: ColorOf, hidden: Collection[int] = (), locked: Collection[int] = ()
    ) -> tuple[ObjectRow, ...]:
        """Return a row for each object, in order of labels.

        Parameters
        ----------
        color_of : callable
            Gives the colour of an object that has none of its own.
        hidden, locked : collection of int
            Labels that are not shown, and that are kept from changes.
        """
        return tuple(
            self._object_row(info, color_of, label in hidden, label in locked)
            for label, info in self._session.objects.items()
        )

    def areas(self, label: int) -> np.ndarray:
        """``(N,)`` int64: an object's pixels on each slice, -1 where they are not counted yet."""
        return self._pages[label].areas.copy()

    def to_review(self) -> tuple[int, int]:
        """How many masks `AnnotationSession.review` lists, and how many it would list had nobody looked at any."""
        left = total = 0
        for page in self._pages.values():
            there = ~np.isnan(page.confidence) | (page.marks & Mark.REJECTED != 0)
            ours = there & (page.marks & _SAID == 0)
            total += int(ours.sum())
            left += int((ours & (page.marks & Mark.ACCEPTED == 0)).sum())
        return left, total

    # -- inside ----------------------------------------------------------------------------------------------------

    def _places(self) -> dict[int, set[int]]:
        """Return the slices on which each object has, or had, something: most objects are on few of them."""
        session = self._session
        places = {label: {*page.packed, *np.flatnonzero(page.marks).tolist()} for label, page in self._pages.items()}
        for index, label, *_ in session.results.summary():
            places[label].add(index)
        for label, index in (*session.prompts, *session.marks):
            places[label].add(index)
        return places

    def _take(self, places: Mapping[int, Collection[int]]) -> None:
        session, uncounted = self._session, self._uncounted
        results, prompts, marks = session.results, session.prompts, session.marks
        for label, indices in places.items():
            if not indices:
                continue
            page, confidences, flags, areas = self._pages[label], [], [], {}
            for index in indices:
                at = label, index
                packed, known = results.packed(label, index), page.packed.get(index)
                confidences.append(np.nan if packed is None else packed.bare.confidence)
                flags.append(mark_of(packed, prompts.get(at), marks.get(at)))
                if packed is known:
                    continue
                if at in uncounted:
                    del uncounted[at]
                    page.uncounted -= 1
                areas[index] = 0
                if packed is None:
                    del page.packed[index]
                    continue
                page.packed[index] = packed
                if packed.size[0]:
                    areas[index] = _UNKNOWN
                    uncounted[at] = None
                    page.uncounted += 1
            chosen = list(indices)
            page.confidence[chosen], page.marks[chosen] = confidences, flags
            page.areas[list(areas)] = list(areas.values())
            page.row = None

    def _object_row(self, info: ObjectInfo, color_of: ColorOf, hidden: bool, locked: bool) -> ObjectRow:
        page = self._pages.get(info.label) or _Page.empty(0)
        there = np.flatnonzero(page.areas)
        size: float | None = None
        if not page.uncounted:
            size = float(page.areas.sum()) * self._measure.pixel
            if self._measure.mean and len(there):
                size /= len(np.unique(self._run[there]))
        return ObjectRow(
            info.label, info.name, info.color or color_of(info.label), info.color is not None, not hidden, locked,
            len(there), size, self._measure,
        )  # fmt: skip

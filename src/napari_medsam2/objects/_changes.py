"""What an operation on objects changes, and how its masks become results."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.results import ObjectResult, PackedResult, Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Changes", "ResultsLike", "in_window", "relabel", "require", "seen"]

_CERTAIN = 127


class ResultsLike(Protocol):
    """The part of `Results` that the operations read."""

    def get(self, label: int, index: int) -> ObjectResult | None:
        """What is known of an object on a slice."""

    def indices(self, label: int | None = None) -> list[int]:
        """The slices that hold a result (of one object), in order."""

    def on(self, index: int) -> Iterator[ObjectResult]:
        """All results on a slice."""

    def summary(self) -> Iterator[tuple[int, int, float, float, str]]:
        """Index, label, confidence, object score and source of everything."""


def _empty() -> Results:
    return Results()


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What one step does to a session's objects. Values only: the session applies them, and can undo them.

    Parameters
    ----------
    results : Results
        New results, compressed; each takes the place of what was known of its object on its slice.
    cleared : tuple of (int, int)
        ``(label, index)`` of results that are forgotten.
    removed : tuple of int
        Labels of objects that are removed, with their prompts and what is left of their results.
    names : mapping
        Names, by label, of the objects that the results need, where they do not exist yet.
    colors : mapping
        Their colours, ``"#rrggbb"``, where they have one of their own.
    sources : mapping
        By ``(label, index)``, the labels of the masks that a new result was made of, where objects were merged,
        taken apart or given another label: what a person said of those holds for it.
    """

    results: Results = field(default_factory=_empty)
    cleared: tuple[tuple[int, int], ...] = ()
    removed: tuple[int, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, str] = field(default_factory=dict)
    sources: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ObjectResult]:
        """Yield the new results one by one, slice by slice."""
        for index in self.results.indices():
            yield from self.results.on(index)

    def packed(self) -> Iterator[PackedResult]:
        """Yield the new results as they are kept: nothing is unpacked."""
        for index, label, *_ in self.results.summary():
            found = self.results.packed(label, index)
            if found is not None:
                yield found

    def __bool__(self) -> bool:
        return bool(len(self.results) or self.cleared or self.removed or self.names)

    def apply(self, results: Results) -> None:
        """Make the changes in results, without a session."""
        for label in self.removed:
            results.discard(label)
        for label, index in self.cleared:
            results.discard(label, index)
        for result in self:
            results.put(result)


def in_window(
    label: int,
    index: int,
    mask: np.ndarray,
    top: int,
    left: int,
    shape: tuple[int, int],
    like: ObjectResult | None = None,
) -> ObjectResult:
    """Make a result of a mask that lies in a window of a slice.

    Parameters
    ----------
    label, index : int
        The object and the slice.
    mask : ndarray
        ``(h, w)`` bool.
    top, left : int
        The window's first row and column.
    shape : tuple of int
        ``(H, W)`` of the slice.
    like : ObjectResult, optional
        A result of the model that the mask is made of: its confidence and source are kept, and where the mask agrees
        with it, its logits. Without it the mask is a person's.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return replace(ObjectResult.from_mask(label, index, np.zeros((1, 1), bool)), shape=shape)
    piece = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    y, x = int(top + rows[0]), int(left + columns[0])
    if like is None or like.source == "mask":
        logits = np.where(piece, _CERTAIN, -_CERTAIN).astype(np.int8)
        return ObjectResult(label, index, shape, y, x, logits, 1.0, 1.0, "mask")
    old = seen(like, y, x, piece.shape)
    # Where the mask differs the model did not say so: hardly in, hardly out.
    logits = np.where(piece, np.maximum(old, 1), np.minimum(old, 0)).astype(np.int8)
    return replace(like, label=label, index=index, top=y, left=x, logits=logits)


def seen(result: ObjectResult, top: int, left: int, size: tuple[int, ...]) -> np.ndarray:
    """Return a result's logits in another window; -126 where it has none."""
    out = np.full(size, -126, np.int8)
    h, w = result.logits.shape
    y0, y1 = max(top, result.top), min(top + size[0], result.top + h)
    x0, x1 = max(left, result.left), min(left + size[1], result.left + w)
    if y0 < y1 and x0 < x1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = result.logits[
            y0 - result.top : y1 - result.top, x0 - result.left : x1 - result.left
        ]
    return out


def relabel(result: ObjectResult, label: int) -> ObjectResult:
    """Return a result as that of another object."""
    return replace(result, label=label)


def require(results: ResultsLike, label: int) -> list[int]:
    """Return the slices on which an object has a mask.

    Raises
    ------
    InputError
        If there is none.
    """
    found = [index for index in results.indices(label) if (one := results.get(label, index)) is not None and one.area]
    if not found:
        raise InputError(f"object {label} has no mask on any slice; segment it first")
    return found

"""Masks of an object on the slices that it spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_medsam2.objects._changes import ResultsLike
    from napari_medsam2.objects._components import Window
    from napari_medsam2.stack import ImageStack

__all__ = ["Box", "bounds", "check_dimensions", "mask_in", "spans", "step", "windows"]

Box = tuple[int, int, int, int]
"""First row, first column, height and width."""


def check_dimensions(dimensions: int) -> None:
    """Raise InputError if it is neither 2 nor 3."""
    if dimensions not in (2, 3):
        raise InputError(f"dimensions must be 2 (each slice on its own) or 3 (the volume), not {dimensions!r}")


def step(stack: ImageStack) -> tuple[float, float, float]:
    """Return the distance of pixels along z, y and x; 1 where it is unknown."""
    spacing = stack.spacing or {}
    z, y, x = (float(spacing.get(axis, 1.0)) for axis in "zyx")
    return z, y, x


def spans(stack: ImageStack, indices: Sequence[int]) -> list[range]:
    """Return, for each run of neighbouring slices, those from the first to the last of ``indices``."""
    wanted = set(indices)
    out = []
    for run in stack.runs():
        places = [place for place, index in enumerate(run) if index in wanted]
        if places:
            out.append(run[places[0] : places[-1] + 1])
    return out


def windows(results: ResultsLike, label: int, indices: Sequence[int]) -> Iterator[Window | None]:
    """Yield an object's mask on each slice in a window of its own; None where it has none."""
    for index in indices:
        result = results.get(label, index)
        yield None if result is None or not result.area else (result.top, result.left, result.logits > 0)


def bounds(results: ResultsLike, label: int, indices: Sequence[int]) -> Box:
    """Return the box around an object on all of these slices, on one of which it has a mask."""
    corners = [(w[0], w[1], w[0] + w[2].shape[0], w[1] + w[2].shape[1]) for w in windows(results, label, indices) if w]
    y0, x0 = min(c[0] for c in corners), min(c[1] for c in corners)
    return y0, x0, max(c[2] for c in corners) - y0, max(c[3] for c in corners) - x0


def mask_in(results: ResultsLike, label: int, index: int, box: Box) -> np.ndarray:
    """Return an object's mask in a box, which may reach beyond the slice and must hold all of the mask."""
    out = np.zeros(box[2:], bool)
    result = results.get(label, index)
    if result is not None and result.area:
        rows, columns = np.nonzero(result.logits > 0)
        out[rows + result.top - box[0], columns + result.left - box[1]] = True
    return out

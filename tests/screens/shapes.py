"""Where a person who knows an image would click, drag and draw."""

from __future__ import annotations

import numpy as np

from napari_medsam2.geometry import tight_box

__all__ = ["around", "largest", "outline", "stroke"]


def largest(labels: np.ndarray, count: int) -> list[int]:
    """The labels with most pixels, the largest first."""
    values, areas = np.unique(labels, return_counts=True)
    order = np.argsort(-areas[values > 0])
    return [int(value) for value in values[values > 0][order][:count]]


def around(mask: np.ndarray, margin: float = 0.0) -> list[tuple[float, float]]:
    """A box as a person drags it, with a stop on the way."""
    y0, x0, y1, x1 = np.add(tight_box(mask), (-margin, -margin, margin, margin)).tolist()
    return [(y0, x0), ((y0 + y1) / 2, (x0 + x1) / 2), (y1, x1)]


def outline(mask: np.ndarray, corners: int = 14) -> list[tuple[float, float]]:
    """A lasso around a mask."""
    from napari_medsam2._outlines import outlines

    line = max(outlines(mask), key=len) - 0.5
    return [(float(line[i, 0]), float(line[i, 1])) for i in np.linspace(0, len(line) - 1, corners).astype(int)]


def stroke(mask: np.ndarray) -> list[tuple[float, float]]:
    """A brush stroke along a mask's middle."""
    columns = np.flatnonzero(mask.any(0))
    chosen = columns[len(columns) // 4 : max(3 * len(columns) // 4, len(columns) // 4 + 2)]
    return [(float(np.flatnonzero(mask[:, x]).mean()), float(x)) for x in chosen[:: max(1, len(chosen) // 5)]]

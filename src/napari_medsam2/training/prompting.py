"""Prompts as a person would give them, drawn from reference masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.geometry import tight_box

__all__ = ["corrective_click", "first_prompt", "interior_point", "spoil"]


def interior_point(mask: np.ndarray, rng: np.random.Generator | None = None) -> tuple[float, float]:
    """Where a person would click into a mask: its innermost pixel or, given ``rng``, one well inside."""
    box = tight_box(mask)
    y, x = int(box[0] + 0.5), int(box[1] + 0.5)
    piece = np.pad(mask[y : int(box[2] + 0.5), x : int(box[3] + 0.5)], 1)
    depth = ndimage.distance_transform_edt(piece)
    if rng is None:
        flat = int(depth.argmax())
    else:
        flat = int(rng.choice(np.flatnonzero(depth >= rng.uniform(0.3, 0.95) * depth.max())))
    py, px = np.unravel_index(flat, piece.shape)
    return float(y + py - 1), float(x + px - 1)


def corrective_click(mask: np.ndarray, predicted: np.ndarray) -> tuple[tuple[float, float], int] | None:
    """A click in the middle of the largest error: ``((y, x), 1 or 0)``, or None where there is no error."""
    wrong = mask != predicted
    if not wrong.any():
        return None
    missed, n = ndimage.label(wrong & mask)
    extra, _m = ndimage.label(wrong & predicted)
    sizes = np.concatenate([np.bincount(missed.ravel(), minlength=n + 1)[1:], np.bincount(extra.ravel())[1:]])
    largest = int(sizes.argmax())
    piece = missed == largest + 1 if largest < n else extra == largest - n + 1
    return interior_point(piece), int(largest < n)


def spoil(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask that is nearly right: eroded, dilated, shifted, with a bite taken out or a spot added."""
    size = max(2.0, np.sqrt(np.count_nonzero(mask)))
    out = mask.copy()
    kind = rng.integers(5)
    if kind in (0, 1):
        steps = max(1, int(size * rng.uniform(0.02, 0.15)))
        out = (ndimage.binary_erosion if kind == 0 else ndimage.binary_dilation)(out, iterations=steps)
    elif kind == 2:
        out = np.roll(out, tuple((rng.uniform(-0.25, 0.25, 2) * size).astype(int)), (0, 1))
    else:
        centres = np.argwhere(mask if kind == 3 else ndimage.binary_dilation(mask, iterations=max(1, int(size * 0.2))))
        cy, cx = centres[rng.integers(len(centres))] if len(centres) else (0, 0)
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        disc = (y - cy) ** 2 + (x - cx) ** 2 < (size * rng.uniform(0.15, 0.5)) ** 2
        out = out & ~disc if kind == 3 else out | disc
    return np.asarray(out)


def first_prompt(mask: np.ndarray, rng: np.random.Generator, pieces: bool = False, far: bool = False) -> ViewPrompt:
    """A box, a click, both, a scribble's points, or an unfinished mask with a corrective click.

    With ``pieces`` a box or an unfinished mask: a click into one of several bodies does not ask for the others. With
    ``far`` a click: whatever else there is tells how large the object is, and it is not seen from there.
    """
    points, labels = NO_POINTS
    kind = rng.choice(["box", "click", "both", "scribble", "mask"], p=[0.34, 0.30, 0.06, 0.05, 0.25])
    if pieces and kind != "mask":
        kind = "box"
    if far:
        kind = "click"
    box = previous = None
    if kind in ("box", "both"):
        y0, x0, y1, x1 = tight_box(mask)
        if rng.random() < 0.5:
            jitter = rng.normal(0, 0.04, 4) * np.array([y1 - y0, x1 - x0, y1 - y0, x1 - x0])
            y0, x0, y1, x1 = np.array([y0, x0, y1, x1]) + jitter
        box = (min(y0, y1 - 2), min(x0, x1 - 2), y1, x1)
    if kind in ("click", "both"):
        points = np.array([interior_point(mask, rng if rng.random() < 0.6 else None)], np.float32)
        labels = np.ones(1, np.int64)
    if kind == "scribble":
        inside = np.argwhere(mask)
        points = inside[rng.choice(len(inside), int(rng.integers(2, 6)))].astype(np.float32)
        labels = np.ones(len(points), np.int64)
    if kind in ("click", "both") and rng.random() < 0.12:  # a click beside the object says what it is not
        near = ndimage.binary_dilation(mask, iterations=max(3, int(0.04 * len(mask)))) & ~ndimage.binary_dilation(mask)
        beside = np.argwhere(near)
        if len(beside):
            points = np.concatenate([points, beside[rng.integers(len(beside))][None].astype(np.float32)])
            labels = np.concatenate([labels, np.zeros(1, np.int64)])
    if kind == "mask":
        bad = spoil(mask, rng)
        previous = bad.astype(np.float32)
        click = corrective_click(mask, bad)
        if click is not None:
            points, labels = np.array([click[0]], np.float32), np.array([click[1]])
    return ViewPrompt(points, labels, box, previous)

"""Synthetic colonies and filaments: bacteria, yeast, packed nuclei and hyphae under light microscopes.

What a network must learn from them is that the object is the cell and not the colony: cells lie side by side in rows,
with gaps that a microscope hardly resolves, and all of them together look like one thing as well. Which kinds of cells
there are, from cocci to bent rods and threads, follows what the Omnipose data show (Cutler et al., Nature
Methods 2022); nothing of those images is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_medsam2.training.shapes import blur, detected, grid, smooth_field

__all__ = ["draw_colony"]

_FAR = 9.0
"""The relative distance from a cell's middle that is given where there is no cell."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """Which cell each pixel is of, ``(T, S, S)``, and how far from its middle, 1 being its outline."""

    labels: np.ndarray
    distance: np.ndarray
    radius: float
    """In pixels."""


def draw_colony(rng: np.random.Generator, slices: int, side: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a field of packed or scattered cells, or of threads.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from here.
    slices, side : int
        How many slices T, and their side S in pixels.
    step : float
        Distance of neighbouring slices in units of the side.

    Returns
    -------
    tuple of Tensor
        ``(T, 3, S, S)`` images in [0, 1]; ``(T, S, S)`` int64 instances; ``(T, S, S)`` int64 kinds, 0 is background.
    """
    z = np.arange(slices, dtype=np.float32) * np.float32(step)
    cells = _threads(rng, z, side) if rng.random() < 0.25 else _rows(rng, z, side)
    labels = torch.from_numpy(cells.labels)
    classes = (labels > 0).long()
    return _look(rng, cells, z, side), labels, classes


def _rows(rng: np.random.Generator, z: np.ndarray, side: int) -> _Cells:
    """Rods or cocci in rows, as they come to lie when they divide; every patch of rows has a direction of its own."""
    radius = float(np.exp(rng.uniform(np.log(0.012), np.log(0.08))))
    aspect = float(np.exp(rng.uniform(0, np.log(7))))
    y, x = _bent(rng, z, side, radius * aspect)
    patch, angles = _patches(rng, y, x, radius * aspect)
    cells = _Cells(np.zeros(y.shape, np.int64), np.full(y.shape, _FAR, np.float32), radius * side)
    count = 0
    volume = rng.random() < 0.4
    for number, angle in enumerate(angles):
        where = patch == number
        u = np.cos(angle) * x[where] + np.sin(angle) * y[where]
        v = np.cos(angle) * y[where] - np.sin(angle) * x[where]
        own, s, t, half = _bricks(rng, u, v, radius, aspect)
        total = int(own.max(initial=-1)) + 1
        width = radius * rng.uniform(0.75, 1.0, total).astype(np.float32)[own]
        gone = np.zeros(len(u), bool)
        if volume:  # every cell is at a depth of its own, and the slices leave it
            depth = np.float32(radius * rng.uniform(1.0, 3.0))
            middle = rng.uniform(-depth, z[-1] + depth, total).astype(np.float32)[own]
            reach = 1 - ((z[np.nonzero(where)[0]] - middle) / depth) ** 2
            width = width * np.sqrt(np.clip(reach, 1e-4, 1))
            gone = reach < 0.1
        along = np.maximum(np.abs(s) - np.maximum(half - width, 0), 0)
        cells.distance[where] = np.where(gone, _FAR, np.hypot(along, t) / width)
        cells.labels[where] = own + 1 + count
        count += total
    labels = np.where(cells.distance < 1, cells.labels, 0)
    keep = _kept(rng, labels, y, x, count)
    cells.distance[~keep[cells.labels]] = _FAR
    return _Cells(np.where(keep[labels], labels, 0), cells.distance, cells.radius)


def _bent(rng: np.random.Generator, z: np.ndarray, side: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(T, S, S)``, drifting along z, and bent: a little at the length of a cell, more over many cells."""
    y, x = (axis.numpy()[None] for axis in grid(side))
    drift = rng.normal(0, 0.3, 2) * rng.random()
    out = [axis + np.float32(d) * z[:, None, None] for axis, d in zip((y, x), drift, strict=True)]
    for cells, most in ((rng.uniform(1, 4), 0.08), (float(np.clip(0.5 / length, 2, 20)), 0.25 * length)):
        bend = smooth_field(rng, 2, z, side, cells).numpy() * np.float32(rng.uniform(0, most))
        out = [axis + b for axis, b in zip(out, bend, strict=True)]
    return out[0], out[1]


def _patches(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    """The number of the patch of each pixel, and the direction of the rows in each."""
    count = int(rng.integers(1, 2 + min(12, round(0.4 / length))))
    middles = rng.uniform(-0.1, 1.1, (count, 2)).astype(np.float32)
    squares = np.stack([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in middles])
    return squares.argmin(0), rng.uniform(0, np.pi) + rng.normal(0, rng.choice([0.2, 1.5]), count)


def _bricks(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, radius: float, aspect: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lay cells in rows: the cell of each pixel, how far it is from its middle along and across, half its length."""
    if not len(u):
        return np.zeros(0, np.int64), u, v, u
    across = v / np.float32(2 * radius)
    row = np.floor(across).astype(np.int64)
    row -= (first := int(row.min()))
    low, high = float(u.min()), float(u.max())
    room = high - low + 8 * radius * aspect
    bounds = []
    for number in range(int(row.max()) + 1):
        lengths = 2 * radius * aspect * rng.uniform(0.55, 1.45, int(room / (1.1 * radius * aspect)) + 3)
        lengths = np.maximum(lengths, 1.5 * radius)
        starts = np.concatenate([[0.0], np.cumsum(lengths)]) - rng.uniform(0, 2 * radius * aspect)
        # All rows in one list in order, so that a single search finds every pixel's cell.
        bounds.append(np.minimum(starts, room) + 2 * room * number)
    edges = np.concatenate(bounds)
    own = np.searchsorted(edges, (u - low).astype(np.float64) + 2 * room * row, side="right") - 1
    own = np.clip(own, 0, len(edges) - 2)
    half = ((edges[own + 1] - edges[own]) / 2).astype(np.float32)
    s = (u - low) - (edges[own] - 2 * room * row).astype(np.float32) - half
    t = (across - row - first - np.float32(0.5)) * np.float32(2 * radius)
    return own, s, t, half


def _kept(rng: np.random.Generator, labels: np.ndarray, y: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """Which labels, from 0 on, stay: those in the colonies, but some that are missing and what patches have cut off."""
    inside = np.zeros(labels.shape, bool)
    if rng.random() < 0.3:
        inside[:] = True
    for _ in range(int(rng.integers(1, 6))):
        cy, cx = rng.uniform(0.1, 0.9, 2)
        inside |= (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(0.08, 0.45) ** 2
    area = np.bincount(labels.ravel(), minlength=count + 1)
    within = np.bincount(labels.ravel(), weights=inside.ravel(), minlength=count + 1)
    whole = area > 0.35 * np.median(area[1:][area[1:] > 0]) if (area[1:] > 0).any() else area > 0
    missing = rng.choice([0.0, 0.1, 0.6], p=[0.5, 0.3, 0.2])
    keep = (within > 0.5 * area) & whole & (rng.random(count + 1) >= missing)
    keep[0] = False
    return np.asarray(keep)


def _threads(rng: np.random.Generator, z: np.ndarray, side: int) -> _Cells:
    """Filaments that wander, cross and lie beside each other."""
    radius = float(np.exp(rng.uniform(np.log(0.006), np.log(0.03))))
    stiff = float(np.exp(rng.uniform(np.log(0.5), np.log(6))))
    shape = (len(z), side, side)
    cells = _Cells(np.zeros(shape, np.int64), np.full(shape, _FAR, np.float32), radius * side)
    drift = rng.normal(0, 0.2, 2) * rng.random()
    for number in range(1, int(rng.integers(2, 14))):
        own = radius * float(rng.uniform(0.8, 1.25))
        length = float(rng.uniform(0.15, 1.4))
        count = max(8, round(length * side * 2))
        turns = ndimage.gaussian_filter1d(rng.normal(0, 1, count), count / (length * 12), mode="wrap")
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(turns / np.sqrt(np.mean(turns**2))) * stiff / count
        path = np.cumsum(np.stack([np.sin(angle), np.cos(angle)]) * length / count, 1)
        path += (rng.uniform(0.05, 0.95, 2) - path.mean(1))[:, None]
        sway = rng.normal(0, 0.3 * radius, 2)
        for t, depth in enumerate(z):
            spots = ((path + (drift * depth + sway * t)[:, None]) * side).astype(int)
            spots = spots[:, ((spots >= 0) & (spots < side)).all(0)]
            if not spots.size:
                continue
            line = np.ones((side, side), bool)
            line[spots[0], spots[1]] = False
            distance = (ndimage.distance_transform_edt(line) / (own * side)).astype(np.float32)
            over = (distance < 1) | (distance < cells.distance[t])
            cells.distance[t][over] = distance[over]
            cells.labels[t][distance < 1] = number
    return cells


def _look(rng: np.random.Generator, cells: _Cells, z: np.ndarray, side: int) -> Tensor:
    """What a microscope shows of them: phase contrast with its halos, bright field, or fluorescence."""
    distance = torch.from_numpy(cells.distance).unsqueeze(1)
    labels = torch.from_numpy(cells.labels)
    edge = float(rng.uniform(0.04, 0.3))
    soft = torch.sigmoid((1 - distance) / edge)
    round_ = (1 - distance.clamp(max=1) ** 2) * float(rng.uniform(0, 0.8))
    own = torch.from_numpy(rng.normal(0, 1, int(labels.max()) + 1).astype(np.float32))[labels].unsqueeze(1)
    kind = rng.choice(["phase", "bright", "fluorescence"], p=[0.4, 0.25, 0.35])
    if kind == "phase":
        ground, depth = float(rng.uniform(0.4, 0.75)), float(rng.uniform(0.1, 0.4))
        depth *= -1 if rng.random() < 0.2 else 1
        image = ground - soft * depth * (1 - round_ * 0.5 + own * float(rng.uniform(0, 0.2)))
        halo = blur(soft, float(rng.uniform(1.5, 6))) * (1 - soft)
        image = image + halo * float(np.sign(depth) * rng.uniform(0, 0.6))
    elif kind == "bright":  # what refracts shows at its edges most
        fine, wide = float(rng.uniform(0.5, 1.2)), float(rng.uniform(1.5, 4))
        ring = blur(soft, fine) - blur(soft, wide)
        image = 0.5 + ring * float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.2)) + soft * float(rng.normal(0, 0.08))
        image = image + own * soft * float(rng.uniform(0, 0.04))
    else:
        ground, light = float(rng.uniform(0, 0.2)), float(rng.uniform(0.2, 0.8))
        if rng.random() < 0.3:  # a membrane stain
            ring = torch.exp(-(((distance - 0.9) / float(rng.uniform(0.1, 0.3))) ** 2))
            image = ground + light * (ring + soft * float(rng.uniform(0, 0.5)))
        else:
            image = ground + light * soft * (1 - float(rng.uniform(0.3, 1)) * (0.8 - round_).clamp(min=0))
        image = image * torch.exp(own * soft * float(rng.uniform(0, 0.5)))
        image = image + blur(image, float(rng.uniform(3, 10))) * float(rng.uniform(0, 0.5))
    for grain, strength in ((rng.uniform(30, 80), 0.05), (rng.uniform(6, 20), 0.06), (rng.uniform(1, 3), 0.12)):
        field = smooth_field(rng, 1, z, side, float(grain))[0].unsqueeze(1)
        image = image + field * float(rng.uniform(0, strength))
    if rng.random() < 0.12:  # a stain
        image = 1 - image.clamp(0, 1) * torch.from_numpy(rng.uniform(0.2, 1, (1, 3, 1, 1)).astype(np.float32))
    # So coarse that nobody could tell one cell from the next teaches nothing.
    return detected(image, rng, float(np.clip(0.4 * cells.radius, 0.6, 3)), float(np.clip(0.7 * cells.radius, 1.1, 5)))

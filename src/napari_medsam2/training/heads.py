"""Synthetic sections through heads, as MR shows them.

What bodies (`anatomy`) do not teach: an object among much that has nearly its grey value. Nuclei lie deep in a brain
whose folded cortex is as grey as they are, in pairs, with soft borders; who asks for one of them does not ask for the
cortex. Shapes, places and contrasts are drawn at random, as in SynthSeg (Billot et al., Medical Image Analysis 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_medsam2.training.scanner import scan
from napari_medsam2.training.shapes import ellipsoid, grid, smooth_field

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["draw_head"]


@dataclass(slots=True)
class _Head:
    """What is being drawn, in a frame of its own: right, down and along z, in units of the brain's half width."""

    rng: Generator
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    depth: np.ndarray
    """Below the brain's surface; negative outside."""
    noise: list[np.ndarray]
    fluid: float
    cortex: float
    white: float
    grey: np.ndarray
    labels: np.ndarray = field(init=False)
    classes: np.ndarray = field(init=False)
    count: int = 0
    kinds: int = 0

    def __post_init__(self) -> None:
        self.labels, self.classes = np.zeros(self.y.shape, np.int64), np.zeros(self.y.shape, np.int64)

    def put(self, shape: np.ndarray, value: float | np.ndarray, paired: bool = True, soft: float = 1e-3) -> None:
        """Make what is deeper than 0 an object, or one on either side, of a new kind; its border is so wide."""
        inside = (shape > 0) & (self.depth > 0)
        self.kinds += 1
        sides = (inside & (self.x > 0), inside & (self.x <= 0)) if paired else (inside,)
        for where in sides:
            if np.count_nonzero(where) >= 30:
                self.count += 1
                self.labels[where], self.classes[where] = self.count, self.kinds
        share = np.where(self.depth > 0, np.clip(shape / soft + 0.5, 0, 1), 0)
        self.grey = (share * value + (1 - share) * self.grey).astype(np.float32)

    def lump(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        """Depth in a turned, uneven ellipsoid and in its mirror image: 1 in the middle, 0 on the surface."""
        depth = ellipsoid(self.rng, self.z - centre[0], self.y - centre[1], np.abs(self.x) - centre[2], radii)
        return np.asarray(depth + self.rng.uniform(0, 0.25) * self.noise[self.rng.integers(2)])

    def level(self) -> float:
        """Draw a z at which there are sections, or that is close to them."""
        far = float(self.z[-1])
        return float(self.rng.uniform(-0.1 - 0.1 * far, 0.1 + 1.1 * far))


def draw_head(rng: Generator, slices: int, side: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw neighbouring sections through a head.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from here.
    slices, side : int
        How many sections T, and their side S in pixels.
    step : float
        Distance of neighbouring sections in units of the side.

    Returns
    -------
    tuple of Tensor
        ``(T, 3, S, S)`` images in [0, 1]; ``(T, S, S)`` int64 instances, the two of a pair apart; ``(T, S, S)`` int64
        kinds, a pair of one kind, 0 is background. Cortex and white matter are background.
    """
    z = np.arange(slices, dtype=np.float32) * np.float32(step)
    head = _outline(rng, z, side)
    _cortex(head)
    _hindbrain(head)
    for _ in range(int(rng.integers(2, 6))):
        _nucleus(head)
    for _ in range(int(rng.integers(0, 3))):
        _ventricle(head)
    rough = np.where(head.depth > 0, np.float32(rng.uniform(0, 0.25)), np.float32(0))
    images = scan(rng, z, head.grey, rough, head.noise, True)
    return images, torch.from_numpy(head.labels), torch.from_numpy(head.classes)


def _outline(rng: Generator, z: np.ndarray, side: int) -> _Head:
    y, x = (np.broadcast_to(a.numpy(), (len(z), side, side)) for a in grid(side))
    zoom = rng.uniform(1, 2) if rng.random() < 0.4 else 1.0
    half = rng.uniform(0.27, 0.4) * zoom
    slack = 0.35 * (1 - 1 / zoom)
    bends = [n.numpy() for n in smooth_field(rng, 2, z, side, rng.uniform(2, 4))]
    u = (x - 0.5 + rng.uniform(-slack, slack)) / half + 0.04 * bends[0]
    v = (y - 0.5 + rng.uniform(-slack, slack)) / half + 0.04 * bends[1]
    z = z / half
    # The sections are anywhere between the middle and most of the way to the top.
    height = (z - rng.uniform(-0.7, 0.1) + rng.uniform(-0.3, 0.3) * float(z[-1]))[:, None, None] / rng.uniform(0.9, 1.2)
    radius = np.sqrt(u * u + (v / rng.uniform(1.05, 1.35)) ** 2 + np.clip(height, -0.9, 0.9) ** 2)
    noise = [*smooth_field(rng, 2, z * half, side, rng.uniform(5, 9) / zoom).numpy()]
    noise += [*smooth_field(rng, 2, z * half, side, rng.uniform(7, 13) / zoom).numpy()]
    noise += [*smooth_field(rng, 3, z * half, side, rng.uniform(16, 40)).numpy()]
    fluid, cortex = rng.uniform(0.05, 0.3), rng.uniform(0.35, 0.6)
    white = cortex + rng.uniform(0.08, 0.3)
    if rng.random() < 0.4:  # the other contrast, as of T2
        fluid, cortex, white = 0.95 - fluid, 0.95 - cortex, 0.95 - white
    depth = (1 - radius).astype(np.float32)
    grey = np.full(depth.shape, rng.uniform(0, 0.05), np.float32)
    if rng.random() < 0.6:  # with its skull
        skull, scalp = rng.uniform(0.06, 0.16), rng.uniform(0.06, 0.2)
        grey[depth > -skull - scalp] = rng.uniform(0.3, 1.0)
        grey[depth > -skull] = rng.uniform(0, 0.15)
        grey[depth > -0.3 * skull] = fluid
    return _Head(rng, z, v.astype(np.float32), u.astype(np.float32), depth, noise, fluid, cortex, white, grey)


def _cortex(head: _Head) -> None:
    """White matter in a folded rim of grey, with fluid in the folds and between the halves."""
    rng, brain = head.rng, head.depth > 0
    # A fold follows a line at which a smooth field is zero; how far off it is, is about the field over its slope.
    fold = np.abs(head.noise[2]) * rng.uniform(0.05, 0.12)
    reach = rng.uniform(0.2, 0.4) * (1 + 0.3 * head.noise[3])
    near = np.where(head.depth < reach, np.minimum(fold, head.depth), head.depth)
    split = rng.uniform(0.008, 0.03)
    gap = np.abs(head.x + 0.03 * head.noise[0])
    near = np.where(np.abs(head.y) > rng.uniform(0.3, 0.7), np.minimum(near, gap), near)
    thick = rng.uniform(0.05, 0.1)
    head.grey = np.where(brain, head.white, head.grey).astype(np.float32)
    head.grey[brain & (near < thick)] = head.cortex
    head.grey[brain & (near < split)] = head.fluid


def _nucleus(head: _Head) -> None:
    rng = head.rng
    r = rng.uniform(0.07, 0.22)
    centre = (head.level(), rng.uniform(-0.45, 0.35), rng.uniform(0.7 * r, 0.5))
    shape = head.lump(centre, (r * rng.uniform(0.8, 2), r * rng.uniform(0.9, 1.6), r * rng.uniform(0.5, 0.9)))
    value = head.cortex + rng.uniform(-0.15, 0.7) * (head.white - head.cortex)
    # Some have no border on one side.
    uneven = value + 0.25 * rng.random() * (head.white - head.cortex) * head.noise[1]
    head.put(shape, uneven, soft=float(np.exp(rng.uniform(np.log(0.01), np.log(0.4)))))


def _ventricle(head: _Head) -> None:
    rng = head.rng
    paired = rng.random() < 0.7
    centre = (head.level(), rng.uniform(-0.4, 0.4), rng.uniform(0.06, 0.15) if paired else 0.0)
    radii = (rng.uniform(0.15, 0.5), rng.uniform(0.12, 0.4), rng.uniform(0.04, 0.1))
    head.put(head.lump(centre, radii), head.fluid, paired)


def _hindbrain(head: _Head) -> None:
    """A stem in the middle, and two finely folded lumps behind it."""
    rng = head.rng
    if rng.random() < 0.5:
        centre = (head.level(), rng.uniform(0.4, 0.7), rng.uniform(0.2, 0.35))
        shape = head.lump(centre, (rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.45), rng.uniform(0.25, 0.45)))
        fine = np.abs(head.noise[-1]) < rng.uniform(0.2, 0.6)
        head.put(shape, np.where(fine, head.white, head.cortex))
    if rng.random() < 0.5:
        centre = (head.level(), rng.uniform(0.0, 0.3), 0.0)
        shape = head.lump(centre, (rng.uniform(0.2, 0.8), rng.uniform(0.12, 0.3), rng.uniform(0.12, 0.3)))
        head.put(shape, head.white + rng.uniform(-0.06, 0.06), paired=False)

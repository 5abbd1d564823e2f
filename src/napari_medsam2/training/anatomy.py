"""Synthetic sections through a body, as CT and MR show them.

What a network must learn from them, and shapes drawn from smooth fields alone do not teach: organs that share their
grey value with the neighbour they touch, hollow organs with walls and mixed contents, crescents along the wall,
branching tubes, bones with a bright shell, and bodies in a row along z that end where a like one begins. Shapes, places
and grey values are drawn at random. That label maps painted with random contrasts teach a
network to segment real scans comes from SynthSeg (Billot et al., Medical Image Analysis 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_medsam2.training.scanner import scan
from napari_medsam2.training.shapes import ellipsoid, grid, smooth_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

__all__ = ["draw_anatomy"]

AIR, FAT, MUSCLE, BONE, MARROW, FLUID, GAS, LUNG, VESSEL, CARTILAGE, SOLID = range(11)
"""Kinds of tissue; every solid organ has a grey value of its own around that of ``SOLID``."""

_HOUNSFIELD = (-1000.0, -100.0, 50.0, 700.0, 220.0, 10.0, -900.0, -800.0, 60.0, 95.0, 55.0)


@dataclass(slots=True)
class _Body:
    """What is being drawn: instances, tissues, grey values, and the fields that shapes are made of."""

    rng: Generator
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    wall: np.ndarray
    """Depth below the skin, in units of the body's half width; negative outside."""
    noise: list[np.ndarray]
    values: np.ndarray
    """Grey value of each kind of tissue."""
    labels: np.ndarray = field(init=False)
    classes: np.ndarray = field(init=False)
    grey: np.ndarray = field(init=False)
    rough: np.ndarray = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        shape = self.y.shape
        self.labels, self.classes = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.grey, self.rough = np.full(shape, self.values[AIR], np.float32), np.zeros(shape, np.float32)

    def fill(self, where: np.ndarray, tissue: int, value: float | None = None, rough: float = 0.0) -> None:
        """Give a region its look; it stays part of whatever object it is in."""
        self.grey[where] = self.values[tissue] if value is None else value
        self.rough[where] = rough

    def put(self, where: np.ndarray, tissue: int, value: float | None = None, rough: float = 0.0) -> bool:
        """Make a region an object of its own, over what was there."""
        if np.count_nonzero(where) < 30:
            return False
        self.count += 1
        self.labels[where], self.classes[where] = self.count, tissue + 1
        self.fill(where, tissue, value, rough)
        return True

    def bumps(self, low: float, middle: float) -> np.ndarray:
        """Draw an unevenness of one shape's surface."""
        a, b = (self.noise[self.rng.integers(len(self.noise) // 2)], self.noise[-1 - self.rng.integers(2)])
        return np.asarray(self.rng.choice((-low, low)) * a + self.rng.choice((-middle, middle)) * b)

    def own(self, spread: float) -> float:
        """Draw a solid organ's grey value."""
        return float(self.values[SOLID] + self.rng.normal(0, spread))


def draw_anatomy(rng: Generator, slices: int, side: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw neighbouring sections through a body.

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
        ``(T, 3, S, S)`` images in [0, 1]; ``(T, S, S)`` int64 instances; ``(T, S, S)`` int64 tissues, 0 is background.
    """
    z = np.arange(slices, dtype=np.float32) * np.float32(step)
    magnetic = rng.random() < 0.35
    body = _outline(rng, z, side, magnetic)
    spread = float(rng.choice([6.0, 15.0, 40.0])) if not magnetic else 0.12
    _wall(body)
    makers: list[Callable[[_Body, float], None]] = [
        *[_solid] * int(rng.integers(1, 4)),
        *[_lungs] * int(rng.random() < 0.3),
        *[_crescent] * int(rng.integers(0, 3)),
        *[_kidney] * int(rng.integers(0, 3)),
        *[_lobulated] * int(rng.integers(0, 3)),
        *[_hollow] * int(rng.integers(0, 3)),
        *[_bowel] * int(rng.integers(0, 6)),
        *[_nodule] * int(rng.integers(0, 4)),
        *[_vessels] * int(rng.integers(1, 4)),
    ]
    rng.shuffle(makers)
    for make in makers:
        make(body, spread)
    _spine(body, spread)
    images = scan(rng, body.z, body.grey, body.rough, body.noise, magnetic)
    return images, torch.from_numpy(body.labels), torch.from_numpy(body.classes)


def _outline(rng: Generator, z: np.ndarray, side: int, magnetic: bool) -> _Body:
    y, x = (np.broadcast_to(a.numpy(), (len(z), side, side)) for a in grid(side))
    zoom = rng.uniform(1, 2) if rng.random() < 0.4 else 1.0
    half = rng.uniform(0.38, 0.5)
    flat = rng.uniform(0.6, 0.95)
    # The body's own frame: right, down (towards the back) and along z, in units of the half width.
    u = (x - 0.5 + rng.uniform(-0.5, 0.5) * (1 - 1 / zoom)) / (half * zoom)
    v = (y - 0.5 + rng.uniform(-0.5, 0.5) * (1 - 1 / zoom)) / (half * zoom)
    bends = [n.numpy() for n in smooth_field(rng, 2, z, side, rng.uniform(2, 4))]
    u, v = u + 0.05 * bends[0], v + 0.05 * bends[1]
    power = rng.uniform(2, 3)
    radius = (np.abs(u) ** power + np.abs(v / flat) ** power) ** (1 / power)
    noise = [*smooth_field(rng, 4, z, side, rng.uniform(3, 6) * zoom).numpy()]
    noise += [*smooth_field(rng, 2, z, side, rng.uniform(9, 16)).numpy()]
    noise += [*smooth_field(rng, 2, z, side, rng.uniform(22, 40)).numpy()]
    values = np.array(_HOUNSFIELD, np.float32)
    if magnetic:
        values = rng.uniform(0.15, 0.85, len(values)).astype(np.float32)
        values[[AIR, GAS, BONE, LUNG]] = rng.uniform(0, 0.12, 4)
        values[FAT] = rng.choice([rng.uniform(0.7, 1), rng.uniform(0.1, 0.3)])
        values[SOLID] = values[MUSCLE] + rng.normal(0, 0.12)
    elif rng.random() < 0.5:  # with contrast medium
        values[VESSEL], values[SOLID] = rng.uniform(100, 260), rng.uniform(60, 130)
    return _Body(rng, z / (half * zoom), v.astype(np.float32), u.astype(np.float32), 1 - radius, noise, values)


def _wall(b: _Body) -> None:
    """Skin, fat and muscle around a cavity filled with fat; ribs and cartilage in the muscle."""
    rng = b.rng
    fat = rng.uniform(0.03, 0.22) * (1 + 0.35 * b.noise[0])
    muscle = rng.uniform(0.04, 0.1) * (1 + 0.3 * b.noise[1])
    b.fill(b.wall > 0, MUSCLE)
    b.fill(b.wall > 0.015, FAT, rough=0.3)
    ring = (b.wall > fat) & (b.wall < fat + muscle)
    b.put(ring, MUSCLE, rough=0.2)
    b.wall = b.wall - fat - muscle  # from here on: depth below the cavity's wall
    cavity = b.wall > 0
    b.fill(cavity, FAT, rough=float(rng.uniform(0.2, 1.0)))
    if rng.random() < 0.7:
        angle = np.arctan2(b.y, b.x)
        wave = np.cos(rng.integers(6, 14) * angle + rng.normal(0, 4) * b.z[:, None, None] + b.noise[2])
        middle = np.abs(b.wall + muscle / 2) < muscle * rng.uniform(0.2, 0.4)
        pieces, n = ndimage.label((wave > rng.uniform(0.5, 0.85)) & middle)
        for i in range(1, min(n, 24) + 1):
            if b.put(pieces == i, BONE) and rng.random() < 0.3:
                b.fill(pieces == i, CARTILAGE)
            elif rng.random() < 0.7:
                b.fill(ndimage.binary_erosion(pieces == i, np.ones((1, 3, 3))), MARROW)


def _ellipsoid(b: _Body, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return ellipsoid(b.rng, b.z - centre[0], b.y - centre[1], b.x - centre[2], radii)


def _place(b: _Body, reach: float = 0.75) -> tuple[float, float, float]:
    angle, far = b.rng.uniform(0, 2 * np.pi), reach * np.sqrt(b.rng.random())
    depth = float(b.z[-1])
    return float(b.rng.uniform(-0.2 - 0.2 * depth, 0.2 + 1.2 * depth)), far * np.sin(angle) * 0.75, far * np.cos(angle)


def _free(b: _Body, where: np.ndarray) -> np.ndarray:
    """Keep a new shape off the objects that are there: against them without a gap, or with some fat between."""
    inside = where & (b.wall > 0)
    if b.rng.random() < 0.25:
        return inside
    others = b.labels > 0
    if b.rng.random() < 0.5:
        disc = np.ones((1, 3, 3), bool)
        others = ndimage.binary_dilation(others, disc, iterations=int(b.rng.integers(1, 4)))
    return inside & ~others


def _solid(b: _Body, spread: float) -> None:
    """A large organ that lies against the wall, with vessels of nearly its own grey in it."""
    rng = b.rng
    centre = _place(b, 0.7)
    radii = (rng.uniform(0.3, 1.0), rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.5))
    where = _free(b, _ellipsoid(b, centre, radii) + b.bumps(0.2, 0.04) > 0)
    value = b.own(spread)
    b.put(where, SOLID, value, rough=float(rng.uniform(0, 0.3)))
    if rng.random() < 0.7:
        for _ in range(int(rng.integers(2, 7))):
            inner = _tube(b, _place_in(b, where), rng.uniform(0.012, 0.035), rng.uniform(0.2, 0.6)) > 0
            b.fill(inner & where, VESSEL, value + float(rng.normal(0, 1.2 * spread)))


def _crescent(b: _Body, spread: float) -> None:
    """A band along the cavity's wall, over a part of the way round; often an organ, sometimes fluid or lung."""
    rng = b.rng
    thick = rng.uniform(0.04, 0.3)
    angle = np.arctan2(b.y, b.x) - rng.uniform(-np.pi, np.pi)
    turn = np.abs((angle + np.pi) % (2 * np.pi) - np.pi) / rng.uniform(0.4, 1.3)
    along = np.abs(b.z - rng.uniform(0, max(float(b.z[-1]), 0.05)))[:, None, None] / rng.uniform(0.1, 0.8)
    shape = 1 - turn**2 - along**2 + b.bumps(0.2, 0.05)
    where = _free(b, (b.wall > 0) & (b.wall < thick * np.sqrt(np.clip(shape, 0, 1))))
    tissue = int(rng.choice([SOLID, SOLID, FLUID, LUNG]))
    b.put(where, tissue, b.own(spread) if tissue == SOLID else None, rough=0.2)


def _lungs(b: _Body, spread: float) -> None:
    """Two dark organs with bright vessels around a middle."""
    rng = b.rng
    middle = rng.uniform(0.12, 0.35)
    for sign in (-1, 1):
        where = (b.wall > 0) & (sign * b.x + b.bumps(0.12, 0.02) > middle)
        if b.put(where, LUNG, rough=0.3):
            for _ in range(int(rng.integers(3, 10))):
                inner = _tube(b, _place_in(b, where), rng.uniform(0.008, 0.03), rng.uniform(0.1, 0.4)) > 0
                b.fill(inner & where, VESSEL)


def _kidney(b: _Body, spread: float) -> None:
    """A bean with a sinus of fat or fluid, open to one side, and a cortex of another grey."""
    rng = b.rng
    centre = _place(b, 0.7)
    r = rng.uniform(0.12, 0.24)
    radii = (r * rng.uniform(1.2, 2.2), r, r * rng.uniform(0.6, 0.9))
    shape = _ellipsoid(b, centre, radii) + b.bumps(0.08, 0.04)
    offset = rng.uniform(-1, 1, 2) * r
    bite = (centre[0], centre[1] + offset[0], centre[2] + offset[1])
    sinus = _ellipsoid(b, bite, (radii[0] * 0.5, r * 0.7, r * 0.45)) + b.bumps(0.2, 0.1) > 0
    where = _free(b, (shape > 0) & ~(sinus & (b.rng.random() < 0.8)))
    value = b.own(spread)
    b.put(where, SOLID, value, rough=0.2)
    if rng.random() < 0.5:
        b.fill(where & (shape > rng.uniform(0.2, 0.5)), SOLID, value + float(rng.normal(0, spread)))
    b.fill((shape > 0) & sinus & ~where & (b.labels == 0) & (b.wall > 0), int(rng.choice([FAT, FLUID])))


def _lobulated(b: _Body, spread: float) -> None:
    """A thick uneven band through the fat, of its neighbours' grey."""
    rng = b.rng
    shape = _tube(b, _place(b, 0.5), rng.uniform(0.05, 0.11), rng.uniform(0.3, 0.9), plane=True)
    where = _free(b, shape + b.bumps(0.25, 0.3) > 0)
    b.put(where, SOLID, b.own(spread), rough=float(rng.uniform(0.2, 0.8)))


def _hollow(b: _Body, spread: float) -> None:
    """A sac: wall, fluid or pulp, and gas above it."""
    rng = b.rng
    r = rng.uniform(0.1, 0.4)
    radii = (r * rng.uniform(0.8, 1.6), r, r * rng.uniform(0.5, 1))
    shape = _ellipsoid(b, _place(b, 0.6), radii) + b.bumps(0.2, 0.06)
    _contents(b, shape, _free(b, shape > 0), rng.uniform(0.0, 0.3), spread)


def _bowel(b: _Body, spread: float) -> None:
    rng = b.rng
    shape = _tube(b, _place(b, 0.65), rng.uniform(0.05, 0.13), rng.uniform(0.2, 0.9))
    shape = shape + b.bumps(0.2, 0.15)
    _contents(b, shape, _free(b, shape > 0), rng.uniform(0.1, 0.5), spread)


def _contents(b: _Body, shape: np.ndarray, where: np.ndarray, wall: float, spread: float) -> None:
    """Fill a hollow organ; wall and contents together are the object."""
    rng = b.rng
    if not b.put(where, SOLID, b.own(spread)):
        return
    inner = where & (shape > wall)
    kind = rng.choice(["fluid", "gas", "pulp", "closed", "bright"], p=[0.3, 0.25, 0.25, 0.12, 0.08])
    if kind == "fluid":
        b.fill(inner, FLUID, float(b.values[FLUID] + rng.normal(0, spread)))
    elif kind == "pulp":
        mottled = b.noise[-1] + 0.6 * b.noise[-2]
        b.fill(inner, SOLID, b.own(2 * spread), rough=1.5)
        b.fill(inner & (mottled > rng.uniform(0.3, 1.5)), GAS)
    elif kind == "bright":
        b.fill(inner, BONE)
    if kind == "gas" or (kind in ("fluid", "pulp") and rng.random() < 0.5):
        rows = b.y[inner]
        if len(rows):  # gas gathers in front, above a level
            level = np.quantile(rows, rng.uniform(0.2, 1.0 if kind == "gas" else 0.7))
            b.fill(inner & (b.y + 0.01 * b.noise[4] < level), GAS)


def _nodule(b: _Body, spread: float) -> None:
    rng = b.rng
    r = rng.uniform(0.025, 0.1)
    shape = _ellipsoid(b, _place(b), (r * rng.uniform(0.7, 1.6), r, r * rng.uniform(0.6, 1)))
    where = (shape + b.bumps(0.2, 0.1) > 0) & (b.wall > 0)
    tissue = int(rng.choice([SOLID, FLUID, BONE, VESSEL], p=[0.5, 0.25, 0.05, 0.2]))
    b.put(where, tissue, b.own(2 * spread) if tissue == SOLID else None)


def _vessels(b: _Body, spread: float) -> None:
    """A trunk with branches; sometimes straight along z."""
    rng = b.rng
    start, radius = _place(b, 0.5), rng.uniform(0.025, 0.08)
    if rng.random() < 0.5:
        dy, dx = b.y - start[1], b.x - start[2]
        tilt = rng.normal(0, 0.3, 2)[:, None, None, None] * b.z[:, None, None]
        where = np.hypot(dy - tilt[0], dx - tilt[1]) < radius * (1 + 0.1 * b.noise[3])
    else:
        where = _tube(b, start, radius, rng.uniform(0.3, 1.0)) > 0
        for _ in range(int(rng.integers(0, 3))):
            where |= _tube(b, start, radius * rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.7)) > 0
    value = float(b.values[VESSEL] + rng.normal(0, spread))
    b.put(where & (b.wall > 0), VESSEL, value)


def _place_in(b: _Body, where: np.ndarray) -> tuple[float, float, float]:
    inside = np.flatnonzero(where)
    if not len(inside):
        return _place(b)
    at = np.unravel_index(inside[b.rng.integers(len(inside))], where.shape)
    return float(b.z[at[0]]), float(b.y[at]), float(b.x[at])


def _tube(b: _Body, start: tuple[float, float, float], radius: float, length: float, plane: bool = False) -> np.ndarray:
    """Depth inside a winding tube: 1 on its axis, 0 on its surface, below 0 outside."""
    rng = b.rng
    out = np.full(b.y.shape, -1.0, np.float32)
    at = np.array(start)
    heading = rng.normal(0, 1, 3) * (0.25 if plane else 0.8, 1, 1)
    heading /= np.linalg.norm(heading)
    # A pixel's width, and a bent frame's slack, in the body's units.
    scale = float(np.abs(np.diff(b.x[0, b.x.shape[1] // 2])).mean())
    step = max(0.35 * radius, scale)
    own, taper, swell = radius, rng.uniform(-0.3, 0.2), 0.0
    for i in range(min(80, max(2, int(length / step)))):
        swell = 0.9 * swell + rng.normal(0, 0.05)
        r = max(own * (1 + swell + taper * i * step / length), 0.3 * own)
        rows = np.flatnonzero(np.abs(b.z - at[0]) < r)
        if len(rows):
            t0, t1 = rows[0], rows[-1] + 1
            near = (np.abs(b.y[t0] - at[1]) < 1.6 * r) & (np.abs(b.x[t0] - at[2]) < 1.6 * r)
            ys, xs = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
            if len(ys):
                w = (slice(t0, t1), slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
                dz = (b.z[t0:t1] - at[0])[:, None, None]
                depth = 1 - np.sqrt((b.y[w] - at[1]) ** 2 + (b.x[w] - at[2]) ** 2 + dz * dz) / r
                np.maximum(out[w], depth, out=out[w])
        heading = heading + rng.normal(0, 0.22, 3) * (0.3 if plane else 0.8, 1, 1)
        heading /= np.linalg.norm(heading)
        at = at + heading * step
    return out


def _spine(b: _Body, spread: float) -> None:
    """Vertebrae with a bright shell, one after the other along z with discs between; canal; muscles on both sides."""
    rng = b.rng
    back = rng.uniform(0.35, 0.55)
    across = rng.uniform(-0.05, 0.05)
    r = rng.uniform(0.13, 0.2)
    dy, dx = b.y - back, b.x - across
    for sign in (-1, 1):
        if rng.random() < 0.8:
            beside = (0.0, back + rng.uniform(0.1, 0.25), across + sign * rng.uniform(0.2, 0.3))
            shape = _ellipsoid(b, beside, (9, 0.26, 0.16))
            b.put((shape + b.bumps(0.1, 0.03) > 0) & (b.wall > -0.2), MUSCLE, rough=0.3)
        if rng.random() < 0.6:
            shape = _ellipsoid(b, (0, back - rng.uniform(0, 0.08), across + sign * r * 1.5), (9, 0.1, 0.08))
            b.put(
                (shape + b.bumps(0.1, 0.03) > 0) & (b.wall > 0), MUSCLE, b.own(spread) if rng.random() < 0.3 else None
            )
    trunk = 1 - np.sqrt((dx / r) ** 2 + ((dy - 0.1 * r) / (0.8 * r)) ** 2) + 0.06 * b.noise[2]
    arms = (np.abs(dy - 1.25 * r) < 0.16 * r) & (np.abs(dx) < rng.uniform(0.8, 1.7) * r)
    tail = (np.abs(dx) < 0.14 * r) & (dy > r) & (dy < rng.uniform(1.8, 2.6) * r)
    period, phase = rng.uniform(0.12, 0.3), rng.random()
    level = (b.z / period + phase)[:, None, None] + 0.05 * b.noise[0]
    disc = (level % 1) > rng.uniform(0.72, 0.9)
    for number in np.unique(np.floor(level)):
        here = (np.floor(level) == number) & ~disc
        if b.put(here & ((trunk > 0) | arms | tail), BONE):
            b.fill(here & (trunk > rng.uniform(0.08, 0.2)), MARROW, rough=1.0)
    b.put(disc & (trunk > 0), CARTILAGE)
    if rng.random() < 0.5:
        b.put(np.hypot(dx, dy - 1.1 * r) < 0.28 * r, FLUID, float(b.values[MUSCLE] * rng.uniform(0.5, 0.9)))

"""Synthetic volumes: organs, touching cells, membranes, in the contrasts of CT, MR, light and electron microscopy.

The idea that label maps drawn from smooth random fields and painted with random intensities teach a network to
segment real scans comes from SynthSeg (Billot et al., Medical Image Analysis 2023) and SynthMorph (Hoffmann et al.,
IEEE TMI 2022). Here the fields are three-dimensional, so that neighbouring slices show how objects begin, move and end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_medsam2.training.anatomy import draw_anatomy
from napari_medsam2.training.colonies import draw_colony
from napari_medsam2.training.heads import draw_head
from napari_medsam2.training.shapes import blur, detected, grid, smooth_field

__all__ = ["BODIES", "SyntheticVolume", "synthesize"]


@dataclass(frozen=True, slots=True)
class SyntheticVolume:
    """A few neighbouring slices with their truth.

    Parameters
    ----------
    images : Tensor
        ``(T, 3, S, S)`` float32 in [0, 1].
    labels : Tensor
        ``(T, S, S)`` int64; instances, 0 is background. An id means the same object in every slice.
    classes : Tensor
        ``(T, S, S)`` int64; the tissue or kind of cell of each pixel, 0 is background.
    """

    images: Tensor
    labels: Tensor
    classes: Tensor


_KINDS = ("anatomy", "cells", "organs", "tissue")
_REST = np.array([0.27, 0.08, 0.2]) / 0.55
BODIES = 0.45


def synthesize(
    rng: np.random.Generator,
    slices: int,
    side: int,
    step: float | None = None,
    bodies: float = BODIES,
    colonies: float = 0.0,
    heads: float = 0.0,
) -> SyntheticVolume:
    """Draw one synthetic volume.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from here.
    slices : int
        How many neighbouring slices (T).
    side : int
        Pixels of a slice's side (S).
    step : float, optional
        Distance between slices in units of the side; drawn when not given. Large steps give unrelated slices of
        the same specimen, which is what a collection is.
    bodies : float
        Share of sections through bodies, in [0, 1]; the other kinds keep their proportions.
    colonies : float
        Share of the volumes that are no heads, in [0, 1], that are colonies and filaments; the others keep their
        proportions.
    heads : float
        Share of all volumes, in [0, 1], that are sections through heads.
    """
    if heads and rng.random() < heads:
        return SyntheticVolume(*draw_head(rng, slices, side, _thickness(rng, step)))
    if colonies and rng.random() < colonies:
        return SyntheticVolume(*draw_colony(rng, slices, side, rng.uniform(0.01, 0.06) if step is None else step))
    kind = rng.choice(_KINDS, p=[bodies, *(1 - bodies) * _REST])
    if kind == "anatomy":
        return SyntheticVolume(*draw_anatomy(rng, slices, side, _thickness(rng, step)))
    z = np.arange(slices, dtype=np.float32) * (rng.uniform(0.01, 0.06) if step is None else step)
    if kind == "cells":
        labels, classes, soft = _cells(rng, z, side)
    elif kind == "organs":
        labels, classes, soft = _organs(rng, z, side)
    else:
        labels, classes, soft = _tissue(rng, z, side)
    paint = _stain_membranes if kind == "tissue" and rng.random() < 0.6 else _paint
    images = paint(rng, labels, classes, soft, z, side)
    return SyntheticVolume(images, labels, classes)


def _thickness(rng: np.random.Generator, step: float | None) -> float:
    """Draw the distance of a scan's sections, in units of the side, where none is given."""
    return float(np.exp(rng.uniform(np.log(0.004), np.log(0.03)))) if step is None else step


def _warped_grid(rng: np.random.Generator, z: np.ndarray, side: int) -> tuple[Tensor, Tensor]:
    """Coordinates ``(T, S, S)`` in [0, 1], bent by smooth fields, so that nothing is a perfect ellipse."""
    y, x = grid(side)
    bend = torch.zeros(2, len(z), side, side)
    for cells, size in ((rng.uniform(2, 5), rng.uniform(0, 0.05)), (rng.uniform(6, 20), rng.uniform(0, 0.012))):
        bend = bend + smooth_field(rng, 2, z, side, cells) * size
    return y + bend[0], x + bend[1]


def _seeds(
    rng: np.random.Generator, z: np.ndarray, side: int, radius: float, count: int, spread: float
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Nearest and second-nearest normalised distance ``(T, S, S)`` to ellipsoids, and the nearest one's number."""
    y, x = _warped_grid(rng, z, side)
    depth = float(z[-1])
    lengthen = rng.uniform(1, 1.8)
    flat = rng.uniform(0.6, 1.6)
    first = torch.full((len(z), side, side), 1e6)
    second = torch.full_like(first, 1e6)
    which = torch.zeros_like(first, dtype=torch.int64)
    for i in range(count):
        r = radius * float(np.exp(rng.normal(0, spread)))
        cy, cx = rng.uniform(-0.05, 1.05, 2)
        cz = rng.uniform(-r, depth + r)
        angle = rng.uniform(0, np.pi)
        long = r * rng.uniform(1, lengthen)
        dy, dx = y - cy, x - cx
        u = (np.cos(angle) * dx + np.sin(angle) * dy) / long
        v = (np.cos(angle) * dy - np.sin(angle) * dx) / (r * r / long)
        w = torch.from_numpy((z - cz).astype(np.float32) / np.float32(r * flat)).view(-1, 1, 1)
        d = (u * u + v * v + w * w).sqrt()
        nearer = d < first
        second = torch.where(nearer, first, torch.minimum(second, d))
        which = torch.where(nearer, torch.tensor(i + 1), which)
        first = torch.where(nearer, d, first)
    return first, second, which.numpy()


def _cells(rng: np.random.Generator, z: np.ndarray, side: int) -> tuple[Tensor, Tensor, Tensor]:
    radius = float(np.exp(rng.uniform(np.log(0.03), np.log(0.2))))
    cover = rng.uniform(0.1, 1.6)
    count = int(np.clip(cover / (np.pi * radius**2), 2, 70))
    first, second, which = _seeds(rng, z, side, radius, count, rng.uniform(0, 0.4))
    labels = torch.from_numpy(which) * (first < 1)
    if rng.random() < 0.4:  # a gap or a membrane between neighbours
        labels = labels * ((second - first) > rng.uniform(0.02, 0.15))
    classes = (labels > 0).long()
    if rng.random() < 0.25:  # two kinds of cells
        kind = torch.from_numpy(rng.integers(1, 3, count + 1))
        classes = kind[labels] * (labels > 0)
    edge = rng.uniform(0.02, 0.25)
    soft = torch.sigmoid((1 - first) / edge) * torch.sigmoid((second - first) / edge * 2)
    return labels.long(), classes, soft


def _organs(rng: np.random.Generator, z: np.ndarray, side: int) -> tuple[Tensor, Tensor, Tensor]:
    kinds = int(rng.integers(3, 10))
    fields = smooth_field(rng, kinds, z, side, rng.uniform(2, 9))
    fields = fields + torch.from_numpy(rng.normal(0, 0.4, (kinds, 1, 1, 1)).astype(np.float32))
    classes = fields.argmax(0)
    y, x = _warped_grid(rng, z, side)
    if rng.random() < 0.6:  # a body in air
        ry, rx = rng.uniform(0.3, 0.55, 2)
        cy, cx = rng.uniform(0.4, 0.6, 2)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        classes = torch.where(inside, classes + 1, 0)
    if rng.random() < 0.6:  # vessels, bones and nodules on top
        first, _, which = _seeds(rng, z, side, rng.uniform(0.02, 0.07), int(rng.integers(3, 25)), 0.5)
        inner = (first < 1) & (classes > 0)
        classes = torch.where(inner, torch.from_numpy(which) % 3 + kinds + 1, classes)
    soft = torch.ones(classes.shape)
    return _components(classes), classes, soft


def _tissue(rng: np.random.Generator, z: np.ndarray, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Packed compartments with membranes, as in electron microscopy or epithelia, and vesicles inside."""
    radius = float(np.exp(rng.uniform(np.log(0.05), np.log(0.25))))
    count = int(np.clip(1.8 / (np.pi * radius**2), 4, 70))
    first, second, which = _seeds(rng, z, side, radius, count, 0.3)
    wall = (second - first) < rng.uniform(0.04, 0.25)
    labels = torch.where(wall, 0, torch.from_numpy(which))
    classes = (labels > 0).long()
    if rng.random() < 0.6:
        tiny, _, inner = _seeds(rng, z, side, radius * rng.uniform(0.12, 0.4), min(70, count * 3), 0.4)
        spot = (tiny < 1) & (labels > 0)
        labels = torch.where(spot, torch.from_numpy(inner) + count, labels)
        classes = torch.where(spot, 2, classes)
    return labels, classes, torch.ones(labels.shape)


def _components(classes: Tensor) -> Tensor:
    """Connected pieces of each class in 3-D; the class 0 stays background."""
    array = classes.numpy()
    out = np.zeros(array.shape, np.int64)
    total = 0
    for value in np.unique(array):
        if value:
            piece, n = ndimage.label(array == value)
            out[piece > 0] = piece[piece > 0] + total
            total += n
    return torch.from_numpy(out)


def _paint(rng: np.random.Generator, labels: Tensor, classes: Tensor, soft: Tensor, z: np.ndarray, side: int) -> Tensor:
    colour = rng.random() < 0.3
    channels = 3 if colour else 1
    kinds = int(classes.max()) + 1
    palette = rng.uniform(0, 1, (kinds, channels)).astype(np.float32)
    if rng.random() < 0.5:  # objects darker or brighter than what is around, as stains make them
        palette = palette * 0.35
        palette[1:] += rng.uniform(0.15, 0.6)
        if rng.random() < 0.4:
            palette = 1 - palette
    table = torch.from_numpy(palette)
    image = table[classes].movedim(-1, 1)  # (T, C, S, S)
    if rng.random() < 0.5:  # every object its own brightness
        own = torch.from_numpy(rng.normal(0, rng.uniform(0.02, 0.15), int(labels.max()) + 1).astype(np.float32))
        own[0] = 0
        image = image + own[labels].unsqueeze(1)
    image = table[0].view(1, -1, 1, 1) * (1 - soft.unsqueeze(1)) + image * soft.unsqueeze(1)
    for cells in (rng.uniform(20, 70), rng.uniform(6, 20)):  # texture, its strength a matter of the tissue
        strength = torch.from_numpy(rng.uniform(0, 0.22, kinds).astype(np.float32) * (rng.random(kinds) < 0.5))
        image = image + smooth_field(rng, 1, z, side, cells)[0].unsqueeze(1) * strength[classes].unsqueeze(1)
    image = image + smooth_field(rng, 1, z, side, rng.uniform(1, 3))[0].unsqueeze(1) * rng.uniform(0, 0.12)
    return detected(image, rng)


def _stain_membranes(
    rng: np.random.Generator, labels: Tensor, classes: Tensor, soft: Tensor, z: np.ndarray, side: int
) -> Tensor:
    """Electron microscopy: dark membranes around everything, grainy insides, folded membranes in organelles."""
    del soft  # membranes are sharp
    ids = labels.float().unsqueeze(1)
    edge = (F.max_pool2d(ids, 3, 1, 1) != -F.max_pool2d(-ids, 3, 1, 1)).float()
    width = float(rng.uniform(0.5, 1.6))
    line = blur(edge, width)
    line = (line / line.max().clamp(min=1e-3) * rng.uniform(1, 1.8)).clamp(0, 1)
    base = float(rng.uniform(0.5, 0.85))
    palette = base + torch.from_numpy(rng.normal(0, 0.06, int(classes.max()) + 1).astype(np.float32))
    if len(palette) > 2:
        palette[2] = base - float(rng.uniform(-0.1, 0.35))
    own = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.06), int(labels.max()) + 1).astype(np.float32))
    image = (palette[classes] + own[labels]).unsqueeze(1)
    y, x = _warped_grid(rng, z, side)
    angle = rng.uniform(0, np.pi)
    waves = torch.sin((np.cos(angle) * y + np.sin(angle) * x) * float(rng.uniform(150, 350)))
    image = image - (waves * (classes == 2)).unsqueeze(1) * float(rng.uniform(0, 0.15))
    for cells, strength in ((rng.uniform(40, 80), 0.1), (rng.uniform(10, 30), 0.06)):
        image = image + smooth_field(rng, 1, z, side, cells)[0].unsqueeze(1) * rng.uniform(0, strength)
    image = image * (1 - line * rng.uniform(0.5, 0.95))
    image = image + torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32)) * rng.uniform(0.01, 0.1)
    if rng.random() < 0.5:
        image = blur(image, float(rng.uniform(0.4, 1.0)))
    low, high = np.quantile(image[:, :, ::4, ::4].numpy(), [0.005, 0.998])
    image = ((image - float(low)) / max(float(high - low), 1e-3)).clamp(0, 1)
    return image.expand(-1, 3, -1, -1).contiguous()

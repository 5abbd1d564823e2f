"""Stacks made of one image, whose bodies sink away from slice to slice."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

__all__ = ["sink"]


def sink(
    image: Tensor, background: Tensor, labels: np.ndarray, slices: int, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """Make a stack of one image: every object is a ball-like body that the slices leave at a depth of its own.

    Where a body has ended, the smooth background shows; the whole view drifts and bends a little from slice to slice.
    """
    side = labels.shape[-1]
    padded = np.pad(labels, 1, mode="edge")
    inner = labels > 0
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= padded[dy : dy + side, dx : dx + side] == labels
    distance = ndimage.distance_transform_edt(inner).astype(np.float32)
    count = int(labels.max()) + 1
    radius = np.zeros(count, np.float32)
    np.maximum.at(radius, labels.ravel(), distance.ravel())
    # Depth in units of the slice distance: half of the object's height, and how far the first slice is from its middle.
    height = radius * rng.uniform(0.6, 1.6, count).astype(np.float32) / rng.uniform(2.0, 12.0) + 0.3
    start = height * rng.uniform(-0.7, 0.9, count).astype(np.float32)
    # Some bodies have another one right behind them, as nuclei in tissue have: where the one ends the next begins.
    behind = rng.random(count) < rng.choice([0.0, 0.7])
    next_height = height * rng.uniform(0.5, 1.3, count).astype(np.float32)
    next_start = start - height - next_height + rng.uniform(-0.8, 0.8, count).astype(np.float32)

    def peel(u: np.ndarray) -> np.ndarray:
        gone = np.where(u >= 1, 1e3, 0).astype(np.float32)
        return np.asarray(radius * (1 - np.sqrt(1 - np.clip(u, 0, 1) ** 2)) + gone)

    def cut(z: float) -> tuple[np.ndarray, np.ndarray]:
        """How deep each body's outline is peeled off, and whether what is left is of the body behind."""
        own = peel(np.abs(start + z) / height)
        other = np.where(behind, peel(np.abs(next_start + z) / next_height), 1e3).astype(np.float32)
        return np.minimum(own, other), other < own

    first = peel(np.abs(start) / height)
    drift = rng.normal(0, 0.006, 2)
    images, stack = [], []
    bend = F.interpolate(
        torch.from_numpy(rng.normal(0, 0.006, (2, 1, 4, 4)).astype(np.float32)), size=(side, side), mode="bicubic"
    )[:, 0]
    soft = float(rng.uniform(1.0, 4.0))
    for z in range(slices):
        peeled, replaced = cut(float(z))
        lost = np.maximum(peeled - first, 0)[labels]
        alpha = torch.from_numpy(1 / (1 + np.exp(np.clip(-(distance - lost) / soft, -40, 40)))).float()
        alpha = torch.where(torch.from_numpy(lost > 0), alpha, torch.ones(()))
        # A body near its end is dimmer, since the slice is as thick as what is left of it.
        plane = background * (1 - alpha) + image * alpha
        kept = np.where((distance > lost) | (lost == 0), labels + count * replaced[labels] * (labels > 0), 0)
        moved, moved_labels = _bend(plane, kept, torch.from_numpy(drift * z).float().view(2, 1, 1) + bend * z)
        noise = torch.from_numpy(rng.standard_normal((1, side, side), dtype=np.float32))
        images.append((moved + noise * float(rng.uniform(0, 0.02))).clamp(0, 1))
        stack.append(moved_labels)
    return torch.stack(images), np.stack(stack)


def _bend(image: Tensor, labels: np.ndarray, shift: Tensor) -> tuple[Tensor, np.ndarray]:
    """Resample at positions moved by ``shift`` ``(2, S, S)``, in units of the side."""
    side = labels.shape[-1]
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x + 2 * shift[1], y + 2 * shift[0]], -1)[None]
    moved = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    ids = torch.from_numpy(labels.astype(np.float32))[None, None]
    nearest = F.grid_sample(ids, grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    return moved, nearest.numpy().round().astype(np.int32)

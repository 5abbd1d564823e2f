"""Changes of intensity, colour, sharpness and noise: the same picture from another microscope or scanner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_medsam2.training.shapes import blur

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["jitter_intensity"]


def jitter_intensity(images: Tensor, rng: Generator, strength: float = 1.0, each: float = 0.1) -> Tensor:
    """Change a clip's look.

    Parameters
    ----------
    images : Tensor
        ``(T, 3, S, S)`` in [0, 1].
    rng : numpy.random.Generator
        Source of randomness.
    strength : float
        Scales the chances of a change.
    each : float
        How much of the change of gamma and window is an image's own instead of the clip's.

    Returns
    -------
    Tensor
        ``(T, 3, S, S)`` in [0, 1].
    """
    coloured = bool((images[:, 0] != images[:, 1]).any())
    if coloured:
        images = _colour(images, rng)
    if rng.random() < 0.15 * strength:
        images = 1 - images
    if rng.random() < 0.08 * strength and not coloured:  # a false-colour picture
        tint = torch.from_numpy(rng.uniform(0, 1, (1, 3, 1, 1)).astype(np.float32))
        images = images * tint / tint.max()
    count = len(images)
    gamma = np.exp(rng.normal(0, 0.3 * strength) + rng.normal(0, 0.3 * each, (count, 1, 1, 1)))
    images = images.clamp(1e-4, 1) ** torch.from_numpy(gamma).float()
    low = rng.uniform(-0.12, 0.12) * strength + rng.normal(0, 0.06 * each, (count, 1, 1, 1))
    high = 1 + rng.uniform(-0.25, 0.25) * strength + rng.normal(0, 0.1 * each, (count, 1, 1, 1))
    low_, high_ = torch.from_numpy(low).float(), torch.from_numpy(high).float()
    images = (images - low_) / (high_ - low_)
    if rng.random() < 0.25 * strength:
        images = blur(images, float(rng.uniform(0.5, 3.0)))
    if rng.random() < 0.2 * strength:
        side = images.shape[-1]
        size = int(side / rng.uniform(1.2, 5))
        images = F.interpolate(images, size=(size, size), mode="area")
        images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    if rng.random() < 0.35 * strength:
        noise = torch.from_numpy(rng.standard_normal(images[:, :1].shape, dtype=np.float32))
        images = images + noise * float(rng.uniform(0.005, 0.08))
    return images.clamp(0, 1)


def _colour(images: Tensor, rng: Generator) -> Tensor:
    """Another stain: mix the channels in optical density (after Tellez et al. 2018), or grey."""
    if rng.random() < 0.15:
        weights = torch.from_numpy(rng.dirichlet([1, 1, 1]).astype(np.float32)).view(1, 3, 1, 1)
        return (images * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    density = -torch.log(images.clamp(1 / 255, 1))
    matrix = np.eye(3) * np.exp(rng.normal(0, 0.2, (3, 1))) + rng.normal(0, 0.08, (3, 3))
    if rng.random() < 0.15:
        matrix = matrix[rng.permutation(3)]
    mixed = torch.einsum("ij,tjhw->tihw", torch.from_numpy(matrix).float(), density)
    return torch.exp(-(mixed.clamp(min=0) + float(rng.uniform(0, 0.08)))).clamp(0, 1)

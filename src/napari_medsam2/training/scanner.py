"""From a synthetic body to the picture that a CT or MR scanner makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_medsam2.training.shapes import blur, smooth_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

__all__ = ["scan"]


def scan(
    rng: Generator, z: np.ndarray, grey: np.ndarray, rough: np.ndarray, noise: Sequence[np.ndarray], magnetic: bool
) -> Tensor:
    """Look at a body through a scanner: texture, slice thickness, resolution, noise with a grain, a window.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from here.
    z : ndarray
        ``(T,)``, where the sections are.
    grey, rough : ndarray
        ``(T, S, S)`` float32: grey values (Hounsfield units, or about [0, 1] for MR), and how strong their texture is.
    noise : sequence of ndarray
        ``(T, S, S)``: smooth fields, of which the last and the third last give the texture.
    magnetic : bool
        Whether it is MR: then with a bias field.

    Returns
    -------
    Tensor
        ``(T, 3, S, S)`` in [0, 1].
    """
    side = grey.shape[-1]
    unit = 0.25 if magnetic else 60.0
    image = grey + unit * rng.uniform(0.1, 0.5) * rough * (0.6 * noise[-1] + 0.4 * noise[-3])
    if len(image) > 2 and rng.random() < 0.6:  # neighbouring sections overlap
        share = rng.uniform(0.05, 0.3)
        padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
        image = (1 - share) * image + share / 2 * (padded[:-2] + padded[2:])
    if magnetic:
        bias = smooth_field(rng, 1, z, side, rng.uniform(1, 2.5))[0].numpy()
        image = image * np.exp(rng.uniform(0, 0.35) * bias)
        low, high = rng.uniform(-0.05, 0.05), rng.uniform(0.7, 1.1)
    else:
        level, width = rng.uniform(0, 90), float(np.exp(rng.uniform(np.log(220), np.log(700))))
        if rng.random() < 0.1:
            level, width = rng.uniform(-500, 300), rng.uniform(1000, 2000)
        low, high = level - width / 2, level + width / 2
    tensor = blur(torch.from_numpy(np.ascontiguousarray(image, np.float32))[:, None], float(rng.uniform(0.4, 1.2)))
    size = int(side / rng.uniform(1, 3)) if rng.random() < 0.7 else side
    if size < side:
        tensor = F.interpolate(tensor, size=(size, size), mode="area")
    grain = torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype=np.float32))
    if rng.random() < 0.6:
        grain = blur(grain, float(rng.uniform(0.4, 1.0)))
        grain = grain / grain.std()
    amount = unit * float(np.exp(rng.uniform(np.log(0.05), np.log(0.6))))
    tensor = tensor + amount * grain * (1.0 if not magnetic else 0.5)
    if magnetic:
        tensor = tensor.abs()
    tensor = ((tensor - low) / (high - low)).clamp(0, 1)
    if size < side:
        tensor = F.interpolate(tensor, size=(side, side), mode="bilinear", align_corners=False)
    return tensor.expand(-1, 3, -1, -1).contiguous()

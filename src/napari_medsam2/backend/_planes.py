"""Prompts drawn as planes, the form in which the embedded network takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_medsam2.backend._compact_network import PLANES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.backend.protocol import ViewPrompt

__all__ = ["draw_planes"]

_NARROW, _WIDE = 5.0, 20.0
"""Standard deviations of a click's two marks, in view pixels: where exactly, and about where."""


def draw_planes(prompts: Sequence[ViewPrompt], side: int) -> Tensor:
    """Draw the prompts of a batch of objects.

    Parameters
    ----------
    prompts : sequence of ViewPrompt
        One an object, in view pixels.
    side : int
        The view's side S in pixels.

    Returns
    -------
    Tensor
        ``(O, 7, S/4, S/4)`` float32 in [-1, 1]. Clicks are Gaussian marks; the box is the share of each cell that it
        covers; masks run from -1 (outside) to 1 (inside). What is not given is 0.
    """
    cells = side // 4
    planes = torch.zeros(len(prompts), PLANES, cells, cells)
    # Cell c covers view pixels 4c … 4c + 3; its centre lies at 4c + 1.5.
    centres = torch.arange(cells, dtype=torch.float32) * 4 + 1.5
    for plane, prompt in zip(planes, prompts, strict=True):
        for (y, x), positive in zip(prompt.points, prompt.labels, strict=True):
            across = (centres - float(x)).square()
            down = (centres - float(y)).square()
            for channel, spread in ((0, _NARROW), (2, _WIDE)):
                mark = torch.exp(-(down[:, None] + across[None, :]) / (2 * spread * spread))
                target = plane[channel if positive else channel + 1]
                torch.maximum(target, mark, out=target)
        if prompt.box is not None:
            y0, x0, y1, x1 = (float(v) for v in prompt.box)
            plane[4] = _covered(centres, y0, y1)[:, None] * _covered(centres, x0, x1)[None, :]
    for channel, masks in ((5, [p.previous for p in prompts]), (6, [p.carried for p in prompts])):
        for plane, mask in zip(planes, masks, strict=True):
            if mask is not None:
                plane[channel] = _at_cells(mask, cells) * 2 - 1
    return planes


def _covered(centres: Tensor, low: float, high: float) -> Tensor:
    return (torch.clamp(centres + 2, max=high) - torch.clamp(centres - 2, min=low)).clamp(0, 4) / 4


def _at_cells(mask: Tensor | np.ndarray, cells: int) -> Tensor:
    """Average a mask of probabilities over the planes' cells."""
    tensor = torch.as_tensor(np.asarray(mask) if isinstance(mask, np.ndarray) else mask).float()
    if tensor.shape[-1] == cells:
        return tensor
    return F.interpolate(tensor[None, None], size=(cells, cells), mode="area")[0, 0]

"""Prompts as SAM 2's prompt encoder takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from napari_medsam2.backend.protocol import ViewPrompt

__all__ = ["NO_POINT", "low_logits", "prompt_points"]

NO_POINT, _CORNERS = -1, (2, 3)
"""Labels of the prompt encoder: nothing here; a box's first and second corner."""


def prompt_points(prompt: ViewPrompt) -> tuple[Tensor, Tensor]:
    """Clicks and corners: ``(n, 2)`` float32 ``(x, y)`` and labels ``(n,)`` int64; at least one."""
    points = torch.as_tensor(prompt.points, dtype=torch.float32).reshape(-1, 2)
    labels = torch.as_tensor(prompt.labels, dtype=torch.int64)
    if prompt.box is not None:
        y0, x0, y1, x1 = prompt.box
        # A box's edges lie half a pixel outside of its outermost pixels; SAM 2 was trained on the pixels' centres.
        dy, dx = min(0.5, (y1 - y0) / 2), min(0.5, (x1 - x0) / 2)
        points = torch.cat([torch.tensor([[y0 + dy, x0 + dx], [y1 - dy, x1 - dx]]), points])
        labels = torch.cat([torch.tensor(_CORNERS), labels])
    if not len(points):
        return torch.zeros(1, 2), torch.tensor([NO_POINT])
    return points.flip(1), labels


def low_logits(previous: Any, size: tuple[int, ...]) -> Tensor:
    """Turn a mask so far, ``(h, w)`` in [0, 1], into logits ``(1, *size)`` float32 on the CPU."""
    # On the CPU: not every device can shrink with antialiasing.
    probability = torch.as_tensor(previous, dtype=torch.float32).cpu()[None, None]
    if probability.shape[-2:] != size:
        probability = F.interpolate(probability, size=size, mode="bilinear", align_corners=False, antialias=True)
    return torch.logit(probability[0], eps=1e-6)

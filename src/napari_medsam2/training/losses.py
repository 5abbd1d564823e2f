"""What a prediction costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from napari_medsam2.backend._compact_network import Prediction

__all__ = ["mask_loss", "soft_iou"]


def soft_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded mask with a reference in [0, 1], ``(O, 1, h, w)`` → ``(O,)``; 1 where both are empty."""
    predicted = (logits > 0).float()
    both = torch.minimum(predicted, target).sum((1, 2, 3))
    either = torch.maximum(predicted, target).sum((1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones(()))


def mask_loss(prediction: Prediction, target: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (heavier at the boundary) + Dice + predicted IoU + object score.

    Parameters
    ----------
    prediction : Prediction
        Of O objects.
    target : Tensor
        ``(O, 1, h, w)`` float in [0, 1]: each output pixel's share of the object.
    present : Tensor
        ``(O,)`` bool: whether the object is in the view.

    Returns
    -------
    tuple of Tensor
        The loss (a scalar) and the achieved IoU ``(O,)``.
    """
    logits = prediction.logits.float()
    spread = F.max_pool2d(target, 5, 1, 2) + F.max_pool2d(-target, 5, 1, 2)
    weight = 1 + 3 * spread
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    # Per object, relative to its size: a small object counts as much as a large one.
    scale = target.mean((1, 2, 3)).clamp(min=0.02)
    entropy = entropy.mean((1, 2, 3)) / (scale + 0.05).sqrt()
    probability = logits.sigmoid()
    both, total = (probability * target).sum((1, 2, 3)), (probability + target).sum((1, 2, 3))
    dice = 1 - (2 * both + 1) / (total + 1)
    there = present.float()
    iou = soft_iou(logits.detach(), target)
    judged = F.binary_cross_entropy_with_logits(prediction.iou.float(), iou, reduction="none")
    found = F.binary_cross_entropy_with_logits(prediction.score.float(), there, reduction="none")
    loss = entropy + dice * there + 0.25 * judged + 0.25 * found
    return loss.mean(), iou

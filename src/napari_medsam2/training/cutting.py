"""Square views cut out of images and labels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["crop", "crop_labels", "turn", "window_around"]


def window_around(
    box: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    fill: tuple[float, float],
    smallest: float = 20.0,
) -> tuple[float, float, float]:
    """A square window ``(y, x, side)`` of whose side the object takes a share of ``fill``, mostly inside the image."""
    y0, y1, x0, x1 = (float(v) for v in box)
    size = max(y1 - y0, x1 - x0)
    side = max(size / float(np.exp(rng.uniform(*np.log(fill)))), smallest)
    side = min(side, max(size * 1.2, max(shape) * rng.uniform(0.9, 1.15)))
    slack = max(side - size, 0) / 2 * 0.85
    shift = rng.uniform(-slack, slack, 2) if rng.random() < 0.7 else rng.uniform(-0.1, 0.1, 2) * slack
    corner = [(y0 + y1) / 2 - side / 2 + shift[0], (x0 + x1) / 2 - side / 2 + shift[1]]
    if rng.random() < 0.85:  # as the views of the engine are: no black margin where it can be avoided
        corner = [
            float(np.clip(c, min(0, n - side), max(0, n - side))) if side < n else (n - side) / 2
            for c, n in zip(corner, shape, strict=True)
        ]
    return corner[0], corner[1], side


def crop(image: Tensor, window: tuple[float, float, float], side: int) -> Tensor:
    """Cut a square window (it may reach over the edge, where the view is black) and resize it to ``side``."""
    y, x, size = round(window[0]), round(window[1]), max(8, round(window[2]))
    height, width = image.shape[-2:]
    piece = image[..., max(y, 0) : min(y + size, height), max(x, 0) : min(x + size, width)]
    piece = piece.float() / 255 if piece.dtype == torch.uint8 else piece
    piece = F.pad(piece, (max(-x, 0), max(x + size - width, 0), max(-y, 0), max(y + size - height, 0)))
    return F.interpolate(piece[None], size=(side, side), mode="bilinear", align_corners=False, antialias=size > side)[
        0
    ].clamp(0, 1)


def crop_labels(labels: np.ndarray, window: tuple[float, float, float], side: int) -> np.ndarray:
    """Cut the same from labels: the nearest one of each pixel, 0 over the edge."""
    y, x, size = round(window[0]), round(window[1]), max(8, round(window[2]))
    take = np.floor((np.arange(side) + 0.5) * size / side).astype(int)
    rows, columns = take + y, take + x
    inside = ((rows >= 0) & (rows < labels.shape[0]))[:, None] & ((columns >= 0) & (columns < labels.shape[1]))[None]
    out = labels[np.clip(rows, 0, labels.shape[0] - 1)[:, None], np.clip(columns, 0, labels.shape[1] - 1)[None]]
    return np.asarray(np.where(inside, out, 0))


def turn(rng: np.random.Generator, labels: np.ndarray, images: list[Tensor]) -> tuple[np.ndarray, list[Tensor]]:
    """The same quarter turn and mirroring for all."""
    turns, mirror = int(rng.integers(4)), rng.random() < 0.5
    labels = np.rot90(labels, turns, (-2, -1))
    images = [torch.rot90(i, turns, (-2, -1)) for i in images]
    if mirror:
        labels, images = labels[..., ::-1], [i.flip(-1) for i in images]
    return np.ascontiguousarray(labels), images

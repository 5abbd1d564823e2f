"""What synthetic images are made of: smooth fields, coordinates, blur."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blur", "detected", "ellipsoid", "grid", "smooth_field"]


def smooth_field(rng: np.random.Generator, channels: int, z: np.ndarray, side: int, cells: float) -> Tensor:
    """Smooth Gaussian noise, ``(channels, T, S, S)``: cubic-like blobs about ``side / cells`` pixels wide."""
    n = max(2, round(cells)) + 3
    depth = int(np.ceil(z[-1] * cells)) + 3
    coarse = torch.from_numpy(rng.standard_normal((channels, depth, n, n), dtype=np.float32))
    # Linear along z between coarse planes, bicubic in the plane.
    position = z * cells + rng.uniform(0, 1)
    low = np.clip(position.astype(int), 0, depth - 2)
    t = torch.from_numpy((position - low).astype(np.float32)).view(1, -1, 1, 1)
    t = t * t * (3 - 2 * t)
    planes = coarse[:, low] * (1 - t) + coarse[:, low + 1] * t
    zoom = F.interpolate(planes, size=(side * n // (n - 3) + 1,) * 2, mode="bicubic", align_corners=False)
    margin = (zoom.shape[-1] - side) // 2
    return zoom[..., margin : margin + side, margin : margin + side]


def grid(side: int) -> tuple[Tensor, Tensor]:
    """Pixel centres ``(S, S)`` along y and along x, in units of the side."""
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def ellipsoid(
    rng: np.random.Generator, dz: np.ndarray, dy: np.ndarray, dx: np.ndarray, radii: tuple[float, float, float]
) -> np.ndarray:
    """Depth inside an ellipsoid turned in the plane: 1 in its middle, 0 on its surface.

    ``dz`` ``(T,)``, ``dy`` and ``dx`` ``(T, S, S)`` are distances from its middle, in the unit of its radii.
    """
    angle = rng.uniform(0, np.pi)
    p, q = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    w = (dz / radii[0])[:, None, None]
    return np.asarray(1 - np.sqrt((p / radii[1]) ** 2 + (q / radii[2]) ** 2 + w * w))


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(N, C, H, W)``."""
    reach = max(1, round(2.5 * sigma))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    c = image.shape[1]
    image = F.pad(image, (reach,) * 4, mode="replicate")
    image = F.conv2d(image, kernel.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
    return F.conv2d(image, kernel.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)


def detected(image: Tensor, rng: np.random.Generator, defocus: float = 3.0, coarse: float = 5.0) -> Tensor:
    """What a detector makes of ``(T, C, S, S)``: blur, larger pixels, noise, a window; ``(T, 3, S, S)`` in [0, 1].

    ``defocus`` and ``coarse`` are the widest blur and the largest pixels, in pixels of the image.
    """
    if rng.random() < 0.5:  # partial volume and defocus
        image = blur(image, float(rng.uniform(0.5, defocus)))
    side = image.shape[-1]
    size = int(side / rng.uniform(1, coarse)) if rng.random() < 0.6 else side
    if size < side:  # detector pixels larger than the view's
        image = F.interpolate(image, size=(size, size), mode="area")
    image = image + torch.from_numpy(
        rng.standard_normal(tuple(image.shape), dtype=np.float32) * np.float32(rng.uniform(0, 0.08))
    )
    if size < side:
        image = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
    low, high = np.quantile(image[:, :, ::4, ::4].numpy(), [rng.uniform(0, 0.02), rng.uniform(0.97, 1.0)])
    image = ((image - float(low)) / max(float(high - low), 1e-3)).clamp(0, 1)
    image = image ** float(np.exp(rng.normal(0, 0.35)))
    return image.expand(-1, 3, -1, -1).contiguous()

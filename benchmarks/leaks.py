"""Whether an image that is measured on lies within one that is trained on, in any of eight orientations.

Run: ``python -m benchmarks.leaks ../shared/data``

Both are halved, their local contrast made even, and correlated at all shifts (FFT). Two images of the same kind of
specimen reach a correlation under 0.15; an image and one that holds it, be it noisier, well over 0.3.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._machine import machine

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SAME", "Found", "closest"]

SAME = 0.3
"""Of this correlation or more, one image holds the other."""

_AROUND = 9
"""Pixels of a halved image over which contrast is made even."""


@dataclass(frozen=True, slots=True)
class Found:
    """The image of a series that is most like one that is looked for.

    Parameters
    ----------
    correlation : float
        Of the two at the best shift, relative to the smaller one.
    number : int
        Which of the series.
    orientation : int
        Quarter turns; from 4 on, mirrored too.
    """

    correlation: float
    number: int
    orientation: int


def closest(image: np.ndarray, series: np.ndarray, orientations: Sequence[int] = range(8)) -> Found:
    """Find which image of a series is most like another one.

    Parameters
    ----------
    image : ndarray
        ``(H, W)`` or ``(H, W, 3)``: what is looked for.
    series : ndarray
        ``(N, H', W')`` or ``(N, H', W', 3)``: where.
    orientations : sequence of int
        In which it is looked for; see `Found`.
    """
    small, large = _even(image[None]), _even(series)
    size = max(small.shape[1:]) + max(large.shape[1:])
    side = -(-size // 64) * 64
    spectra = torch.fft.rfft2(large, s=(side, side))
    best = Found(-1.0, 0, 0)
    for orientation in orientations:
        turned = torch.rot90(small, orientation % 4, (1, 2))
        if orientation >= 4:
            turned = turned.flip(2)
        peaks = torch.fft.irfft2(spectra * torch.fft.rfft2(turned, s=(side, side)).conj(), s=(side, side)).amax((1, 2))
        number = int(peaks.argmax())
        if float(peaks[number]) > best.correlation:
            best = Found(float(peaks[number]), number, orientation)
    return best


def _even(images: np.ndarray) -> Tensor:
    """``(N, h, w)``: halved, without what changes slowly, of a norm of 1."""
    values = images.astype(np.float32)
    values = values[..., :3].mean(-1) if values.ndim == 4 else values
    halved = F.avg_pool2d(torch.from_numpy(values).unsqueeze(1), 2)

    def around(planes: Tensor) -> Tensor:
        edge = _AROUND // 2
        return F.avg_pool2d(F.pad(planes, (edge, edge, edge, edge), mode="reflect"), _AROUND, 1)

    fine = halved - around(halved)
    fine = (fine / (around(fine**2).sqrt() + 1e-6 + 1e-3 * fine.std())).clamp(-3, 3)[:, 0]
    fine = fine - fine.mean((1, 2), keepdim=True)
    norm: Tensor = fine.flatten(1).norm(dim=1)
    return fine / norm.clamp(min=1e-6).view(-1, 1, 1)


def main() -> int:
    """Print the closest training image of each development case; 1 where one holds the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the cases, with the training images in train/")
    given = parser.parse_args()
    print(machine())
    trained = {p.parent.name: tifffile.imread(p.parent / "image.tif") for p in given.data.glob("train/*/case.json")}
    leaks = 0
    for path in sorted(given.data.glob("*/case.json")):
        images = tifffile.imread(path.parent / "image.tif")
        found = [
            (closest(image, series), number, name)
            for name, series in sorted(trained.items())
            for number, image in enumerate(images)
        ]
        best, number, name = max(found, key=lambda one: one[0].correlation)
        same = best.correlation >= SAME
        leaks += same
        verdict = "IS IN" if same else "is not in"
        print(
            f"{path.parent.name:<24} image {number:>2} {verdict} {name} {best.number:>2}: {best.correlation:.3f}",
            flush=True,
        )
    return int(leaks > 0)


if __name__ == "__main__":
    sys.exit(main())

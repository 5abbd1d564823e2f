"""Seconds a click and seconds a slice of the embedded model.

``python -m benchmarks.speed``: medians over repetitions, on images that are in memory. A first click on an image
encodes it; the next ones on the same view find it in the cache. Each figure is also given as a multiple of the
encoder's own time, since ratios carry over from one machine to another where seconds do not.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.backend.protocol import Backend


def _image(slices: int, side: int) -> np.ndarray:
    y, x = np.ogrid[:side, :side]
    image = np.random.default_rng(0).normal(200, 20, (slices, side, side))
    for cy, cx in np.random.default_rng(1).uniform(0.15 * side, 0.85 * side, (12, 2)):
        image[:, (y - cy) ** 2 + (x - cx) ** 2 <= (0.06 * side) ** 2] += 300
    return image.clip(0, 4095).astype(np.uint16)


def measure(backend: Backend, side: int, repeat: int) -> list[tuple[str, float]]:
    """Measure a model on a device.

    Parameters
    ----------
    backend : Backend
        The model, where it is to compute.
    side : int
        Of the images, in pixels.
    repeat : int
        Repetitions, of which the median is taken; a propagation goes over as many slices, once.

    Returns
    -------
    list of (str, float)
        What was done, and seconds; the encoder comes first.
    """
    import torch

    from benchmarks._machine import finish, median_seconds
    from napari_medsam2 import AnnotationSession, ImageStack

    array = _image(repeat + 1, side)
    half, radius = side / 2, 0.06 * side

    def box(shift: float = 0.0) -> tuple[float, float, float, float]:
        return half - radius + shift, half - radius, half + radius + shift, half + radius

    def fresh() -> AnnotationSession:
        session = AnnotationSession(ImageStack(array, "ZYX"), backend=backend)
        session.add_object()
        # The intensity window is found at the first look, once a stack.
        session.stack.pixels(0)
        return session

    def median(task: Callable[[int], object]) -> float:
        return median_seconds(repeat, backend.device, task)

    view = torch.rand(1, 3, backend.views.side, backend.views.side)
    # The allocator, too, is slower at first.
    for _ in range(10):
        backend.encode(view)
    encoder = median(lambda _: backend.encode(view))
    session = fresh()
    session.add_box(1, repeat, box())
    first_box = median(lambda n: session.add_box(1, n, box()))
    again = median(lambda n: session.add_points(1, 0, [(half + n, half)], [n % 2]))
    session = fresh()
    first_click = median(lambda n: session.add_points(1, n, [(half, half)], [1]))
    rows = [("encode one view", encoder), ("first box on a slice", first_box)]
    rows += [("click on a slice without a hint of the size", first_click), ("next click on the same slice", again)]
    for objects in (1, 10):
        session = fresh()
        for number in range(objects):
            label = number + 1
            if label not in session.objects:
                session.add_object()
            session.add_box(label, 0, box(4.0 * number))
        finish(backend.device)
        began = time.perf_counter()
        visited = sum(1 for _ in session.propagate(patience=None))
        finish(backend.device)
        noun = "object" if objects == 1 else "objects"
        rows.append((f"propagate {objects} {noun}, a slice", (time.perf_counter() - began) / visited))
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    from benchmarks._machine import machine
    from napari_medsam2 import load_backend

    print(machine())
    rows = measure(load_backend("compact", device=args.device), args.side, args.repeat)
    encoder = rows[0][1]
    for name, seconds in rows:
        print(f"{name:<46}{seconds:>9.3f} s {seconds / encoder:>8.1f} × the encoder")
    return 0


if __name__ == "__main__":
    sys.exit(main())

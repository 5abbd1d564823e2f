"""What makes a step of training quick, against the same step without it.

``python -m benchmarks.training_step ../shared/data/train``: steps of the first phase, in turns, (1) with torch's
own gradients of depthwise convolutions and all processors on one share of the step after the other, (2) with the quick
gradients of ``training/depthwise.py``, (3) with the shares side by side as well (``training/shares.py``), which is how
the embedded model is trained.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from benchmarks._machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_VOLUMES = 24


class _InTurn:
    """One share after the other, each with all processors."""

    def all(self, work: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do all."""
        return [w() for w in work]


def main() -> None:
    """Time the three ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="annotated images to train on")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each way")
    given = parser.parse_args()

    from napari_medsam2.training import trainable, trainer
    from napari_medsam2.training.pool import load_images, synthetic_pool
    from napari_medsam2.training.recipe import PHASES
    from napari_medsam2.training.shares import Grader, Threads

    images = load_images(given.data)
    with tempfile.TemporaryDirectory() as folder:
        volumes = synthetic_pool(Path(folder), _VOLUMES, 8, 224, 1)
        with patch.object(trainable, "quicken", lambda network: None):
            plain = trainer.Trainer(PHASES[0], images, volumes)
        ways = {
            "torch's gradients, one share after the other": plain,
            "quick gradients, one share after the other": trainer.Trainer(PHASES[0], images, volumes),
            "quick gradients, shares side by side": trainer.Trainer(PHASES[0], images, volumes),
        }
        for way in list(ways.values())[:2]:
            grader = Grader(way.recipe, images, volumes, way.network)
            way._grading = Threads(grader, _InTurn())  # type: ignore[arg-type]
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for step in range(given.steps + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                way.advance()
                if step:  # the first one warms up
                    seconds[name].append(time.perf_counter() - began)
    first = float(np.median(next(iter(seconds.values()))))
    sys.stdout.write(f"{machine()}\n")
    for name, times in seconds.items():
        middle = float(np.median(times))
        sys.stdout.write(f"{middle:6.2f} s a step, {first / middle:4.2f} times as fast: {name}\n")


if __name__ == "__main__":
    main()

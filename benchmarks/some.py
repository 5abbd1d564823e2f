"""Collections on whose first image some of the objects are painted, and not all: what becomes of the other images.

``python -m benchmarks.some ../shared/data [--weights FILE]``: of every development collection all objects of an image,
a half of them, a quarter, or one are painted as one object, those that stand out most from the background or any
of them, and carried to all other images. Printed are the mean Dice with all objects there, and how many images were
left without a mask; means over three first images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._carried import carried
from benchmarks._machine import machine
from napari_medsam2 import load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.evaluation.judging import judge_foreground

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.evaluation import Case

_SHARES = (("all", 1.0), ("a half", 0.5), ("a quarter", 0.25), ("one", 0.0))
_FIRST = 3


def standing_out(image: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return the objects' numbers, that first whose mean differs most from the background's.

    Parameters
    ----------
    image : ndarray
        ``(H, W)`` or ``(H, W, C)``.
    labels : ndarray
        ``(H, W)``, 0 is background.
    """
    grey = image.mean(-1) if image.ndim == 3 else image
    behind = grey[labels == 0].mean() if (labels == 0).any() else 0.0
    far = {int(n): abs(float(grey[labels == n].mean()) - behind) for n in np.unique(labels) if n}
    return sorted(far, key=lambda n: -far[n])


def measured(case: Case, backend: Backend, share: float, order: str) -> tuple[float, int, int]:
    """Return the mean Dice on the other images, how many of them were left empty, and how many there are."""
    found: list[float] = []
    empty = 0
    for first in np.linspace(0, len(case.stack) - 1, _FIRST).round().astype(int).tolist():
        labels = case.labels(first)
        numbers = standing_out(case.stack.raw(first), labels)
        if order == "any":
            numbers = np.random.default_rng(first).permutation(sorted(numbers)).tolist()
        painted = np.isin(labels, numbers[: max(1, round(share * len(numbers)))])
        others = [index for index in range(len(case.stack)) if index != first]
        with carried(case.stack, backend, first, painted) as (session, label):
            found += [score for _, score in judge_foreground(case, session, label, others).pairs]
            empty += sum(not session.slice_labels(index).any() for index in others)
    return float(np.mean(found)), empty, len(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of annotated cases")
    parser.add_argument("--weights", type=Path, help="other weights of the embedded network")
    given = parser.parse_args()
    backend = load_backend("compact", weights=given.weights)
    sys.stdout.write(f"{machine()}\n")
    for case in map(load_case, find_cases([given.data])):
        if case.kind != "collection" or len(case.stack) < _FIRST:
            continue
        for order in ("standing out", "any"):
            for name, share in _SHARES[order == "any" :]:
                mean, empty, count = measured(case, backend, share, order)
                sys.stdout.write(f"{case.name:24}{order:14}{name:12}Dice {mean:.3f}  empty {empty} of {count}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()

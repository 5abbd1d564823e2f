"""What half a pixel is worth: Dice of reference masks with themselves, a pixel larger, smaller or aside.

Run: ``python -m benchmarks.edges ../shared/data [--objects 150] [--weights FILE]``

Beside it the embedded model's masks from one box: how large they are relative to the reference (median), and their Dice
at other levels of the logits than 0. A model whose masks are too large or too small would be better at another level.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from benchmarks._machine import machine
from napari_medsam2 import AnnotationSession, load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.geometry import tight_box
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.evaluation.cases import Case, Target

_LEVELS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)


def moved(truth: np.ndarray) -> tuple[float, float, float]:
    """Dice of a mask with itself, a pixel larger all around, a pixel smaller, and a pixel to the side."""
    padded = np.pad(truth, 2)
    larger, smaller = ndimage.binary_dilation(padded), ndimage.binary_erosion(padded)
    return dice(larger, padded), dice(smaller, padded), dice(np.roll(padded, 1, 1), padded)


def levels(case: Case, backend: Backend, target: Target) -> tuple[float, list[float]]:
    """Area relative to the reference's of the mask from one box, and its Dice at each level of the logits."""
    truth = case.labels(target.index) == target.value
    session = AnnotationSession(case.stack, backend=backend)
    result = session.add_box(session.add_object(), target.index, tight_box(truth)).objects[0]
    logits = np.full(truth.shape, -16.0, np.float32)
    h, w = result.logits.shape
    logits[result.top : result.top + h, result.left : result.left + w] = result.logits / 8
    return result.area / np.count_nonzero(truth), [dice(logits > level, truth) for level in _LEVELS]


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--objects", type=int, default=150, help="at most this many of a case for the model")
    parser.add_argument("--weights", type=Path, help="in place of the embedded model's own")
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu", **({} if given.weights is None else {"weights": given.weights}))
    print(machine())
    print(
        f"{'case':<24}{'objects':>8}  larger smaller  aside   size   Dice at logit "
        + " ".join(f"{v:>6}" for v in _LEVELS)
    )
    for folder in find_cases(given.folders):
        case = load_case(folder)
        targets = case.targets()
        references = np.mean([moved(case.labels(t.index) == t.value) for t in targets], axis=0)
        chosen = np.random.default_rng(0).choice(len(targets), min(given.objects, len(targets)), replace=False)
        found = [levels(case, backend, targets[i]) for i in sorted(chosen)]
        said = "".join(f"{value:>8.3f}" for value in references)
        at = " ".join(f"{value:.4f}" for value in np.mean([one[1] for one in found], axis=0))
        print(
            f"{case.name:<24}{len(targets):>8}{said}{np.median([one[0] for one in found]):>7.2f}{'':<17}{at}",
            flush=True,
        )


if __name__ == "__main__":
    main()

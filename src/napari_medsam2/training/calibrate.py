"""``python -m napari_medsam2.training.calibrate``: fit how far carried masks can be trusted, on synthetic stacks.

The coefficients that it prints are those of `napari_medsam2.trust`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 typer looks at it
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from napari_medsam2.backend.compact import CompactBackend
from napari_medsam2.errors import InputError
from napari_medsam2.geometry import mask_box
from napari_medsam2.metrics import dice
from napari_medsam2.session import AnnotationSession
from napari_medsam2.stack import ImageStack
from napari_medsam2.training.synthetic import synthesize

if TYPE_CHECKING:
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.trust import Course, Parting

_SEED = 77
"""Training draws from other seeds."""
_SIGNS = {"present": {1: 1, 2: 1, 3: 1}, "absent": {2: -1}, "withdrawn": {4: -1}}
"""What is known before: a network's belief that an object is there speaks for its mask, and against its absence."""
_SLICES, _SIDE, _OBJECTS = 20, 160, 6


class _Witness:
    """Stands in for a `Trust` and notes what it is asked about."""

    def __init__(self) -> None:
        self.terms: dict[tuple[int, int], tuple[str, tuple[float, ...]]] = {}

    def of(self, result: ObjectResult, known: Course) -> float:
        """Take down a course; the answer is the network's own, so that a parting can be told of it."""
        self.terms[result.label, result.index] = ("present" if result.area else "absent", known.terms())
        return known.iou * known.score

    def of_withdrawn(self, result: ObjectResult, known: Parting) -> float:
        """Take down a parting."""
        self.terms[result.label, result.index] = ("withdrawn", known.terms())
        return 0.5


@dataclass(frozen=True, slots=True)
class _Case:
    kind: str
    terms: tuple[float, ...]
    dice: float


def main(
    weights: Annotated[Path | None, typer.Option(help="Weights to calibrate; the package's by default.")] = None,
    volumes: Annotated[int, typer.Option(help="Synthetic stacks to propagate through.")] = 40,
) -> None:
    """Propagate through synthetic stacks and fit the coefficients of `napari_medsam2.trust`."""
    backend = CompactBackend.load(weights)
    cases = [case for number in range(volumes) for case in _walk(backend, number)]
    for name in ("present", "absent", "withdrawn"):
        chosen = [case for case in cases if case.kind == name]
        truth = np.array([case.dice for case in chosen])
        terms = np.array([case.terms for case in chosen])
        fitted = ", ".join(f"{v:.2f}" for v in _fit(terms, truth, _SIGNS[name]))
        sys.stdout.write(f"{name}=({fitted})  # {len(chosen)} masks, mean Dice {truth.mean():.3f}\n")


def _walk(backend: CompactBackend, number: int) -> list[_Case]:
    """Propagate some objects of a synthetic stack from a box each, and compare with the truth."""
    rng = np.random.default_rng([_SEED, number])
    volume = synthesize(rng, _SLICES, _SIDE)
    labels = volume.labels.numpy()
    pixels = np.stack([np.bincount(plane.ravel(), minlength=int(labels.max()) + 1) for plane in labels])
    largest = pixels.max(0)
    largest[0] = 0  # the background
    good = np.flatnonzero((largest >= 150) & (largest <= 0.4 * labels[0].size))
    chosen = rng.permutation(good)[:_OBJECTS].tolist()
    stack = ImageStack((volume.images[:, 0].numpy() * 255).astype(np.uint8), "ZYX")
    session = AnnotationSession(stack, backend=backend, kind="stack")
    objects = {}
    for value in chosen:
        at = int(pixels[:, value].argmax())
        box = mask_box(labels[at] == value)
        if box is None:
            continue
        label = session.add_object()
        session.add_box(label, at, box)
        objects[label] = (value, at)
    if not objects:
        return []
    witness = _Witness()
    backend.trust = witness
    for _ in session.propagate():
        pass
    out = []
    for label, (value, at) in objects.items():
        for index in range(_SLICES):
            result = session.results.get(label, index)
            if result is None or index == at:
                continue
            kind, terms = witness.terms[label, index]
            out.append(_Case(kind, terms, dice(result.mask, labels[index] == value)))
    return out


def _fit(terms: np.ndarray, truth: np.ndarray, signs: dict[int, int]) -> np.ndarray:
    """Logistic regression on shares, without the terms whose coefficient comes out with the wrong sign."""
    used = np.ones(terms.shape[1], bool)
    while True:
        weights = np.zeros(terms.shape[1])
        weights[used] = _newton(terms[:, used], truth)
        wrong = [at for at, sign in signs.items() if weights[at] * sign < 0]
        if not wrong:
            return weights
        used[wrong] = False


def _newton(terms: np.ndarray, truth: np.ndarray, decay: float = 1e-3) -> np.ndarray:
    weights = np.zeros(terms.shape[1])
    for _ in range(50):
        guess = 1 / (1 + np.exp(-(terms @ weights)))
        slope = terms.T @ (guess - truth) / len(truth) + decay * weights
        bend = (terms * (guess * (1 - guess))[:, None]).T @ terms / len(truth) + decay * np.eye(len(weights))
        weights = weights - np.linalg.solve(bend, slope)
    return weights


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)

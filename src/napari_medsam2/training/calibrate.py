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
    from napari_medsam2.trust import Course

_SEED = 77
"""Training draws from other seeds."""
_SLICES, _SIDE, _OBJECTS = 20, 160, 6


class _Witness:
    """Stands in for a `Trust` and notes what it is asked about."""

    withdrawn = 0.5

    def __init__(self) -> None:
        self.courses: dict[tuple[int, int], Course] = {}

    def of(self, result: ObjectResult, known: Course) -> float:
        self.courses[result.label, result.index] = known
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
    for name in ("present", "absent"):
        chosen = [case for case in cases if case.kind == name]
        terms = np.array([case.terms for case in chosen])
        truth = np.array([case.dice for case in chosen])
        fitted = ", ".join(f"{v:.3f}" for v in _fit(terms, truth))
        sys.stdout.write(f"{name.upper()} = ({fitted})  # {len(chosen)} masks, mean Dice {truth.mean():.3f}\n")
    right = np.array([case.dice for case in cases if case.kind == "withdrawn"])
    sys.stdout.write(f"WITHDRAWN = {right.mean() if len(right) else 0.5:.2f}  # {len(right)} masks\n")


def _walk(backend: CompactBackend, number: int) -> list[_Case]:
    """Propagate some objects of a synthetic stack from a box each, and compare with the truth."""
    rng = np.random.default_rng([_SEED, number])
    volume = synthesize(rng, _SLICES, _SIDE)
    labels = volume.labels.numpy()
    pixels = np.stack([np.bincount(plane.ravel(), minlength=int(labels.max()) + 1) for plane in labels])
    largest = pixels.max(0)
    good = np.flatnonzero((largest >= 150) & (largest <= 0.4 * labels[0].size))[1:]
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
            known = witness.courses.get((label, index))
            kind = "present" if result.area else "withdrawn" if result.view is None else "absent"
            terms = () if known is None else known.terms()
            out.append(_Case(kind, terms, dice(result.mask, labels[index] == value)))
    return out


def _fit(terms: np.ndarray, truth: np.ndarray, decay: float = 1e-3) -> np.ndarray:
    """Logistic regression on shares, by Newton's method, with a little weight decay."""
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

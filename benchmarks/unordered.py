"""Stacks as collections: an organ is painted on one slice, the others come in no order.

``python -m benchmarks.unordered CASE... [--kind] [--banks] [--weights FILE]``: of every stack each object of some size
is painted on its largest slice, alone, and found on up to seven other slices that hold it, as if these were other
people's images: what is like the object and close to it is not meant. Printed is the mean Dice over objects. Beside it,
for stacks of one kind of object (``--kind``): all objects of a slice painted as one, or one of middle size, and all of
them wanted.
With ``--banks`` by several ways to keep memories: as shipped, as the MedSAM-2 paper has it, the other two policies, and
no memory but the painted slice's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._carried import carried
from benchmarks._machine import machine
from benchmarks._ways import WAYS
from napari_medsam2 import load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.memory import BankConfig
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.evaluation import Case

_LEAST = 60
"""Pixels of an object on a slice, below which it is not looked for there."""
_SLICES = 8
ALONE = "none"
"""No memory is kept but the painted slice's: predicted IoU is never above 1."""


def found(
    case: Case,
    backend: Backend,
    painted: tuple[int, np.ndarray],
    others: Sequence[int],
    wanted: Callable[[int], np.ndarray],
    bank: BankConfig | None = None,
) -> float:
    """Return the mean Dice on the other slices of what is found there of a mask on one, ``(index, (H, W))``."""
    with carried(case.stack, backend, *painted, bank) as (session, label):
        return float(np.mean([dice(session.slice_labels(i) == label, wanted(i)) for i in others]))


def organs(case: Case, backend: Backend, bank: BankConfig | None = None, every: int = 1) -> list[float]:
    """Return the mean Dice of each object that several slices hold; or of every so manyth of all."""
    out = []
    for target in case.targets()[::every]:
        held = [i for i in range(len(case.stack)) if (case.labels(i) == target.value).sum() > _LEAST]
        if len(held) < 4:
            continue
        others = [i for i in held if i != target.index][:: max(1, len(held) // (_SLICES - 2))]

        def wanted(index: int, value: int = target.value) -> np.ndarray:
            return np.asarray(case.labels(index) == value)

        out.append(found(case, backend, (target.index, wanted(target.index)), others, wanted, bank))
    return out


def kinds(case: Case, backend: Backend, bank: BankConfig | None = None) -> tuple[float, float]:
    """Return the mean Dice of all objects, where all of the middle slice are painted, and where one is."""
    count = len(case.stack)
    first = count // 2
    others = [i for i in range(0, count, max(1, count // _SLICES)) if i != first and (case.labels(i) > 0).sum() > 200]
    labels = case.labels(first)
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)
    one = numbers[areas.argsort()[len(areas) // 2]]
    whole, alone = (
        found(case, backend, (first, painted), others, lambda i: np.asarray(case.labels(i) > 0), bank)
        for painted in (labels > 0, labels == one)
    )
    return whole, alone


def said(case: Case, backend: Backend, bank: BankConfig, of_a_kind: bool) -> str:
    """Return what is printed of a stack."""
    if of_a_kind:
        whole, alone = kinds(case, backend, bank)
        return f"all painted {whole:.3f}, one {alone:.3f}"
    scores = organs(case, backend, bank)
    return f"{len(scores)} objects, mean Dice {np.mean(scores):.3f}" if scores else "no object of several slices"


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", type=Path, help="annotated stacks, or folders of them")
    parser.add_argument("--weights", type=Path, help="other weights of the embedded network")
    parser.add_argument("--kind", action="store_true", help="all objects are of one kind")
    parser.add_argument("--banks", action="store_true", help="by several ways to keep memories")
    given = parser.parse_args()
    backend = load_backend("compact", weights=given.weights)
    sys.stdout.write(f"{machine()}\n")
    banks = WAYS | {ALONE: BankConfig(threshold=1.0)} if given.banks else {"": BankConfig()}
    for case in map(load_case, find_cases(given.cases)):
        if case.kind != "stack":
            continue
        for name, bank in banks.items():
            sys.stdout.write(f"{case.name:28}{name:14}{said(case, backend, bank, given.kind)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

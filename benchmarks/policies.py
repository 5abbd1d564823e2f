"""Memory policies and bank sizes against each other: 3-D Dice on stacks, Dice of the foreground on collections.

Run: ``python -m benchmarks.policies ../shared/data [--sizes 2 4 8 16] [--objects 16] [--weights FILE] [--json FILE]``

Three seeds each. In a stack a seed says on which slice each object gets its box: its largest, or one of those with at
least half of its largest area. In a collection it says which image's mask is given and in what order the others come;
nothing of a stack's or a collection's end can be known from its beginning, so the order matters to a bank. Two
collections more are mixed ("+"): the images of two cases in one, a mask given on one image of each; and two have
strangers ("among"): the mask is given on an image of the first case only, whose images alone are judged, and what the
model makes of the others can spoil the bank.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._machine import machine
from benchmarks._ways import PAPERS, WAYS
from napari_medsam2 import AnnotationSession, ImageStack, load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.evaluation.judging import judge_objects
from napari_medsam2.geometry import tight_box
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.evaluation.cases import Case, Target
    from napari_medsam2.memory import BankConfig

SEEDS = (0, 1, 2)


def on_stack(case: Case, backend: Backend, bank: BankConfig, seed: int, most: int) -> float:
    """Mean 3-D Dice of up to ``most`` objects, evenly chosen, one box each."""
    rng = np.random.default_rng(seed)
    targets = case.targets()
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(most, len(targets))).astype(int))
    targets = tuple(targets[i] for i in chosen)
    session = AnnotationSession(case.stack, backend=backend, memory=bank, kind="stack")
    objects: dict[int, Target] = {}
    for target in targets:
        areas = [np.count_nonzero(case.labels(i) == target.value) for i in range(len(case.stack))]
        large = [i for i, area in enumerate(areas) if area >= max(areas) / 2]
        index = target.index if seed == 0 else int(rng.choice(large))
        label = session.add_object()
        session.add_box(label, index, tight_box(case.labels(index) == target.value))
        objects[label] = target
    for _ in session.propagate():
        pass
    return float(np.mean([j.dice for j in judge_objects(case, session, objects).values()]))


def on_collection(cases: tuple[Case, ...], known: int, backend: Backend, bank: BankConfig, seed: int) -> float:
    """Mean Dice of the foreground on the images of the first ``known`` cases but the given one of each.

    The images come in a drawn order.
    """
    rng = np.random.default_rng([seed, len(cases)])
    pictures = [(case, i) for case in cases for i in range(len(case.stack))]
    order = [pictures[i] for i in rng.permutation(len(pictures))]
    given = {next(at for at, (owner, _) in enumerate(order) if owner is case) for case in cases[:known]}
    stack = ImageStack([np.asarray(case.stack.raw(i)) for case, i in order])
    session = AnnotationSession(stack, backend=backend, memory=bank, kind="collection")
    label = session.add_object()
    for at in sorted(given):
        case, i = order[at]
        session.add_mask(label, at, case.labels(i) != 0)
    for _ in session.propagate():
        pass
    return float(
        np.mean(
            [
                dice(session.slice_labels(at) == label, case.labels(i) != 0)
                for at, (case, i) in enumerate(order)
                if at not in given and case in cases[:known]
            ]
        )
    )


def main() -> None:
    """Print a line a case, policy and bank size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--sizes", nargs="*", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--objects", type=int, default=16, help="at most this many objects of a stack")
    parser.add_argument("--weights", type=Path, help="in place of the embedded model's own")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu", **({} if given.weights is None else {"weights": given.weights}))
    cases = [load_case(folder) for folder in find_cases(given.folders)]
    cases = [case for case in cases if len(case.stack) > 1]
    piles = [case for case in cases if case.kind == "collection"]
    # Each work is its name, its cases, and on how many of them a mask is given.
    work: list[tuple[str, tuple[Case, ...], int]] = [(case.name, (case,), 1) for case in cases]
    for other in piles[1:]:
        work.append((f"{piles[0].name} + {other.name}", (piles[0], other), 2))
        work.append((f"{piles[0].name} among {other.name}", (piles[0], other), 1))
    print(machine())
    print(f"{'case':<48}{'policy':<14}{'size':>5}{'Dice':>8}   by seed                 seconds")
    rows = []
    for name, some, known in work:
        if given.only not in name:
            continue
        for way, size in product(WAYS, given.sizes):
            if way == PAPERS and some[0].kind == "stack":
                continue
            bank = replace(WAYS[way], size=size)
            began = time.perf_counter()
            scores = [
                on_stack(some[0], backend, bank, seed, given.objects)
                if some[0].kind == "stack"
                else on_collection(some, known, backend, bank, seed)
                for seed in SEEDS
            ]
            seconds = time.perf_counter() - began
            rows.append({"case": name, "policy": way, "size": size, "dice": scores})
            said = " ".join(f"{s:.3f}" for s in scores)
            print(f"{name:<48}{way:<14}{size:>5}{np.mean(scores):>8.3f}   {said:<22}{seconds:>9.1f}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

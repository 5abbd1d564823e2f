"""Memory policies against each other: 3-D Dice on stacks, Dice of the foreground on collections.

Run: ``python benchmarks/policies.py ../shared/data [--sizes 4 8 16]``. The default policy is the one that is best here.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np

from napari_medsam2 import AnnotationSession, load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.evaluation.judging import judge_foreground, judge_objects
from napari_medsam2.geometry import tight_box
from napari_medsam2.memory import BankConfig

_WINDOWS = {"ct-thorax-abdomen-3mm": (-160.0, 240.0)}
_SEEDS = (0, 5, 11)


def main() -> None:
    """Print a line a case, policy and bank size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--sizes", nargs="*", type=int, default=[])
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu")
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    print(f"{'case':<24}{'policy':<14}{'size':>5}{'Dice':>8}{'seconds':>9}")
    for folder in find_cases(given.folders):
        case = load_case(folder, None)
        case = load_case(folder, _WINDOWS.get(case.name))
        if len(case.stack) < 2:
            continue
        for policy in ("self-sorting", "released", "fifo"):
            for size in given.sizes or [None]:
                bank = BankConfig(policy, size=size)
                began = time.perf_counter()
                scores = []
                if case.kind == "stack":
                    session = AnnotationSession(case.stack, backend=backend, memory=bank, kind="stack")
                    objects = {}
                    for target in case.targets():
                        label = session.add_object()
                        mask = case.labels(target.index) == target.value
                        session.add_box(label, target.index, tight_box(mask))
                        objects[label] = target
                    for _ in session.propagate():
                        pass
                    scores = [j.dice for j in judge_objects(case, session, objects).values()]
                else:
                    for seed in _SEEDS:
                        session = AnnotationSession(case.stack, backend=backend, memory=bank, kind="collection")
                        label = session.add_object()
                        session.add_mask(label, seed, case.labels(seed) != 0)
                        for _ in session.propagate():
                            pass
                        others = [i for i in range(len(case.stack)) if i != seed]
                        scores.append(judge_foreground(case, session, label, others).dice)
                seconds = time.perf_counter() - began
                print(
                    f"{case.name:<24}{policy:<14}{bank.capacity:>5}{np.mean(scores):>8.3f}{seconds:>9.1f}", flush=True
                )


if __name__ == "__main__":
    main()

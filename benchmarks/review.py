"""Review order and correction on annotated stacks: how early errors are found, and what carrying a correction on costs.

Run: ``python -m benchmarks.review ../shared/data/nuclei-3d ../shared/data/ct-thorax-abdomen-3mm [--json FILE]``.

Review: a tight box for each object on its largest slice is propagated. The error of a mask is 1 − Dice with the truth
(1 for a mask where there is nothing), or the pixels that are wrong. The table says how much of the total error lies in
the first 10, 20 and 30 % of the review, for the order of the session, for each of its parts alone, for chance (the
expectation) and for an oracle that knows the errors.

Correction: the first mask of each object's review is replaced by the truth, as a person would paint it, and carried on.

With ``--sides``, instead: what lies between two prompted slices of an object, the Dice of the mask that came from the
nearer one, and of the mask that is made of both.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._machine import machine
from napari_medsam2 import AnnotationSession, load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.geometry import tight_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.evaluation import Case

_SHARES = (0.1, 0.2, 0.3)
_SETTINGS = ((0.8, 1), (0.9, 1), (0.9, 2), (0.95, 2), (0.95, 3))


def first_pass(case: Case, backend: Any) -> tuple[AnnotationSession, dict[int, int]]:
    """Prompt every object by a box and propagate; the session, and the true value of each label."""
    session = AnnotationSession(case.stack, backend=backend, kind="stack")
    values: dict[int, int] = {}
    for target in case.targets():
        label = session.add_object()
        session.add_box(label, target.index, tight_box(case.labels(target.index) == target.value))
        values[label] = target.value
    for _ in session.propagate():
        pass
    return session, values


def errors(case: Case, session: AnnotationSession, values: dict[int, int]) -> dict[tuple[int, int], tuple[float, int]]:
    """1 − Dice and the number of wrong pixels of every mask that a review lists."""
    out = {}
    for item in session.review():
        result = session.results.get(item.label, item.index)
        assert result is not None
        mask, truth = result.mask, case.labels(item.index) == values[item.label]
        total = int(mask.sum()) + int(truth.sum())
        wrong = int((mask ^ truth).sum())
        out[item.label, item.index] = (wrong / total if total else 0.0, wrong)
    return out


def captured(
    order: Sequence[tuple[int, int]], found: dict[tuple[int, int], tuple[float, int]], which: int
) -> list[float]:
    """The share of the total error in the first parts of an order."""
    values = np.array([found[key][which] for key in order], dtype=float)
    sums = np.concatenate([[0.0], np.cumsum(values)]) / max(values.sum(), 1e-9)
    return [float(np.interp(share * len(values), np.arange(len(values) + 1), sums)) for share in _SHARES]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |a ∩ b| / (|a| + |b|); 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def volume(session: AnnotationSession, label: int) -> np.ndarray:
    """An object's masks as ``(Z, H, W)`` bool."""
    out = np.zeros(session.stack.shape, bool)
    for index in session.results.indices(label):
        result = session.results.get(label, index)
        if result is not None:
            out[index] = result.mask
    return out


def corrections(case: Case, session: AnnotationSession, values: dict[int, int], limit: int) -> list[dict[str, Any]]:
    """Correct one mask of each object, carry it on by every setting and by a full second pass."""
    truth = np.stack([case.labels(i) for i in range(len(case.stack))])
    rows: list[dict[str, Any]] = []
    for label in list(values)[:limit]:
        wanted = [i for i in session.review([label]) if (truth[i.index] == values[label]).any()]
        if not wanted:
            continue
        at = wanted[0].index
        before = dice(volume(session, label), truth == values[label])
        session.add_mask(label, at, truth[at] == values[label])
        began = time.perf_counter()
        full_steps = len(list(session.propagate([label])))
        full_seconds = time.perf_counter() - began
        full = volume(session, label)
        session.undo()
        after = dice(full, truth == values[label])
        for agreement, settle in _SETTINGS:
            began = time.perf_counter()
            steps = len(list(session.repropagate([label], agreement, settle)))
            seconds = time.perf_counter() - began
            again = volume(session, label)
            session.undo()
            rows.append(
                {
                    "label": label, "agreement": agreement, "settle": settle, "share": steps / max(full_steps, 1),
                    "like_full": dice(again, full), "before": before, "after": dice(again, truth == values[label]),
                    "after_full": after, "seconds": seconds, "seconds_full": full_seconds,
                }
            )  # fmt: skip
        session.undo()
    return rows


def between(case: Case, backend: Any) -> dict[str, list[tuple[float, float]]]:
    """For two prompts on an object: Dice of what lies between them, from the nearer side and from both."""
    session = AnnotationSession(case.stack, backend=backend, kind="stack")
    truth = np.stack([case.labels(i) for i in range(len(case.stack))])
    out: dict[str, list[tuple[float, float]]] = {}
    for target in case.targets():
        own = truth == target.value
        extent = [int(i) for i in np.flatnonzero(own.any((1, 2)))]
        inset = max(1, round(0.15 * (len(extent) - 1)))
        pairs = {
            "boxes near both ends": (extent[inset], extent[-1 - inset]),
            "box on the largest, last one painted": (target.index, extent[-1]),
            "first one painted, box on the largest": (extent[0], target.index),
        }
        for name, (low, high) in pairs.items():
            if len(extent) < 5 or high - low < 2:
                continue
            label = session.add_object()
            for index in (low, high):
                if name.startswith("boxes") or index == target.index:
                    session.add_box(label, index, tight_box(own[index]))
                else:
                    session.add_mask(label, index, own[index])
            found = {}
            for direction in ("forward", "backward", "both"):
                for _ in session.propagate([label], direction, low, high + 1):
                    pass
                found[direction] = volume(session, label)[low + 1 : high]
                session.undo()
            first = (high - low) // 2
            nearer = np.concatenate([found["forward"][:first], found["backward"][first:]])
            wanted = own[low + 1 : high]
            out.setdefault(name, []).append((dice(nearer, wanted), dice(found["both"], wanted)))
            session.remove_object(label)
    return out


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--objects", type=int, default=10**6, help="Correct at most so many objects of a case.")
    parser.add_argument("--sides", action="store_true", help="Measure what lies between two prompts instead.")
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu")
    out: dict[str, Any] = {"machine": machine(), "cases": {}}
    for folder in find_cases(given.folders):
        case = load_case(folder)
        if case.kind != "stack":
            continue
        if given.sides:
            for name, pairs in between(case, backend).items():
                near, both = np.mean(pairs, 0)
                print(f"{case.name}, {name}: {len(pairs)} objects, nearer side {near:.3f}, both {both:.3f}")
            continue
        session, values = first_pass(case, backend)
        found = errors(case, session, values)
        items = session.review()
        orders = {
            "review": [(i.label, i.index) for i in items],
            "confidence": [(i.label, i.index) for i in sorted(items, key=lambda i: i.confidence)],
            "drift": [(i.label, i.index) for i in sorted(items, key=lambda i: -i.drift)],
            "jump": [(i.label, i.index) for i in sorted(items, key=lambda i: -i.jump)],
            "waned": [(i.label, i.index) for i in sorted(items, key=lambda i: -i.waned)],
        }
        print(f"\n{case.name}: {len(values)} objects, {len(items)} masks; share of the error in the first 10, 20, 30 %")
        lines: dict[str, Any] = {}
        for which, what in enumerate(("1 - Dice", "pixels")):
            best = sorted(found, key=lambda key: -found[key][which])
            for name, order in {**orders, "oracle": best}.items():
                lines[f"{name}, {what}"] = captured(order, found, which)
                print(f"  {what:<9} {name:<11}" + "".join(f"{share:8.2f}" for share in lines[f"{name}, {what}"]))
            print(f"  {what:<9} {'chance':<11}" + "".join(f"{share:8.2f}" for share in _SHARES))
        rows = corrections(case, session, values, given.objects)
        print(
            "  correction: agreement, settle → share of slices, Dice with the full pass, Dice with the truth; seconds"
        )
        for agreement, settle in _SETTINGS:
            some = [r for r in rows if (r["agreement"], r["settle"]) == (agreement, settle)]
            mean = {k: float(np.mean([r[k] for r in some])) for k in some[0]} if some else {}
            if mean:
                print(
                    f"  {agreement:.2f} {settle}: {mean['share']:.2f}  {mean['like_full']:.3f}  {mean['before']:.3f} → "
                    f"{mean['after']:.3f} (full {mean['after_full']:.3f})  {mean['seconds']:.1f} s of "
                    f"{mean['seconds_full']:.1f} s"
                )
        out["cases"][case.name] = {"masks": len(items), "review": lines, "corrections": rows}
        if given.json is not None:
            given.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

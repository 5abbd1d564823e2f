"""The memory banks of a propagation: what they begin with, what they are offered, what a slice reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medsam2.backend.protocol import Memory
from napari_medsam2.memory import Bank, admit
from napari_medsam2.prediction import adopt
from napari_medsam2.results import Read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.backend.protocol import Attended, Reason
    from napari_medsam2.plan import Plan
    from napari_medsam2.prediction import Prediction

__all__ = ["Pinned", "near", "noted", "offer"]

_NEAREST = 8
"""How many pinned memories a slice reads at most: those of the nearest slices, where a person prompted very many."""


class Pinned(dict[int, Mapping[int, Memory]]):
    """Each object's memories of prompted and pinned slices, made when its first walk begins."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def __missing__(self, label: int) -> Mapping[int, Memory]:
        self[label] = found = _pinned(self._plan, label)
        return found


def _pinned(plan: Plan, label: int) -> dict[int, Memory]:
    """The memories of an object's prompted and pinned slices, but for those that a person dropped."""
    out = {}
    whole = plan.kind == "collection"
    for index, seed in plan.seeds[label].items():
        prediction = seed.prediction
        if prediction is None:
            mask = seed.result.mask
            prediction = adopt(plan.stack, plan.backend, plan.cache, index, mask, seed.corrected, whole)
        out[index] = _memory(plan, index, prediction, "corrected" if prediction.corrected else "prompt")
    for index, result in plan.pins.get(label, {}).items():
        if index not in out:
            prediction = adopt(plan.stack, plan.backend, plan.cache, index, result.mask, whole=whole)
            out[index] = _memory(plan, index, prediction, "pinned")
    kept: dict[int, Memory] = {}
    for run in (range(len(plan.stack)),) if whole else plan.stack.runs():
        here = {index: memory for index, memory in out.items() if index in run}
        # A walk reads those of its own run; without any there would be nothing to read.
        kept |= {index: memory for index, memory in here.items() if (label, index) not in plan.drops} or here
    return kept


def _memory(plan: Plan, index: int, prediction: Prediction, reason: Reason) -> Memory:
    view = prediction.view
    (embedding,) = plan.cache.get(plan.stack, plan.backend, index, [view])
    (memory,) = plan.backend.remember(embedding, prediction.decoded, [view], [index], prompted=True)
    return replace(memory, reason=reason)


def offer(plan: Plan, label: int, bank: Bank, memory: Memory) -> Bank:
    """Offer a memory to an object's bank, unless a person dropped it."""
    return bank if (label, memory.index) in plan.drops else admit(bank, memory, plan.bank)


def noted(bank: Sequence[Attended]) -> tuple[Read, ...]:
    """What is noted of the memories that a slice reads."""
    most = max(one.weight for one in bank)
    return tuple(
        Read(m.memory.index, m.weight / most, m.memory.reason, min(max(m.memory.confidence, 0.0), 1.0)) for m in bank
    )


def near(bank: Bank, index: int) -> Bank:
    """The bank without the pinned memories of slices far away, where there are very many."""
    pinned = [m for m in bank if m.pinned]
    if len(pinned) <= _NEAREST:
        return bank
    kept = {id(m) for m in sorted(pinned, key=lambda m: abs(m.index - index))[:_NEAREST]}
    return tuple(m for m in bank if not m.pinned or id(m) in kept)

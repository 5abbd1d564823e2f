"""Correction: which walks a changed slice calls for, and what they are compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medsam2.plan import Again, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_medsam2.results import PackedResult, Results

__all__ = ["follow_up", "reached_by"]


def follow_up(plan: Plan, pending: Iterable[tuple[int, int]], results: Results, agreement: float, settle: int) -> Plan:
    """Narrow a plan down to what changes call for.

    Parameters
    ----------
    plan : Plan
        In both directions, over everything.
    pending : iterable of (int, int)
        ``(label, slice)`` where prompts were added, changed or taken away.
    results : Results
        What is known so far.
    agreement, settle
        When a walk ends; see `Again`.

    Returns
    -------
    Plan
        From each changed slice both ways, and from the prompted slices next to it both ways, since they read its
        memory. Where prompts were taken away, the walks towards that place go all the way: what was drawn from it lies
        at their end. A collection's plan comes back as it is.
    """
    if plan.kind == "collection":
        return plan
    walks: dict[tuple[int, int, int], bool] = {}
    for label, index in pending:
        if label not in plan.seeds:
            continue
        stretch = next(run for run in plan.stack.runs() if index in run)
        others = [seed for seed in plan.seeds[label] if seed in stretch]
        prompted = index in others
        found = [(index, 1, True), (index, -1, True)] if prompted else []
        if before := [seed for seed in others if seed < index]:
            found += [(max(before), 1, prompted), (max(before), -1, True)]
        if after := [seed for seed in others if seed > index]:
            found += [(min(after), -1, prompted), (min(after), 1, True)]
        for seed, step, may_settle in found:
            walks[label, seed, step] = walks.get((label, seed, step), True) and may_settle
    previous: dict[tuple[int, int], PackedResult] = {}
    for index, label, *_ in results.summary():
        packed = results.packed(label, index)
        if label in plan.seeds and packed is not None:
            previous[label, index] = packed
    return replace(plan, again=Again(walks, previous, agreement, settle))


def reached_by(plan: Plan, pending: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Which changes a plan, once carried out, has carried on: all of its objects, if it goes both ways over them."""
    if plan.direction != "both" and plan.kind != "collection":
        return []
    return [(label, index) for label, index in pending if label in plan.seeds and plan.start <= index < plan.stop]

"""Correction: which walks a changed slice calls for, and what they are compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from napari_medsam2.plan import Again, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_medsam2.results import PackedResult, Results
    from napari_medsam2.stack import ImageStack

__all__ = ["Gap", "carried_by", "follow_up", "gap", "neighbours"]


class Gap(NamedTuple):
    """The slices between two prompted ones of an object, or beyond the outermost: what a walk goes through.

    Parameters
    ----------
    label : int
        The object.
    run : int
        The first slice of the run of neighbours.
    number : int
        How many of the run's prompted slices come before.
    """

    label: int
    run: int
    number: int


def gap(plan: Plan, label: int, index: int, stretch: range) -> Gap:
    """Return where a slice lies among the prompted ones of its run."""
    return Gap(label, stretch.start, sum(seed < index for seed in plan.seeds.get(label, ()) if seed in stretch))


def follow_up(
    plan: Plan, pending: Mapping[tuple[int, int], bool], results: Results, agreement: float, settle: int
) -> Plan:
    """Narrow a plan down to what changes call for.

    Parameters
    ----------
    plan : Plan
        In both directions, over everything.
    pending : mapping
        ``(label, slice)`` where prompts were added, changed or taken away: True; False where a propagation came by that
        was stopped.
    results : Results
        What is known so far.
    agreement, settle
        When a walk ends; see `Again`.

    Returns
    -------
    Plan
        From each changed slice both ways, and from the prompted slices next to it both ways, since they read its
        memory. Where prompts were taken away, the walks towards that place go all the way: what was drawn from it lies
        at their end. So do those where one was stopped: what it left is as it will be, and says nothing of the rest.
        A collection's plan comes back as it is.
    """
    if plan.kind == "collection":
        return plan
    walks: dict[tuple[int, int, int], bool] = {}
    for (label, index), whole in pending.items():
        if label not in plan.seeds:
            continue
        stretch = neighbours(plan.stack, plan.kind, index)
        others = [seed for seed in plan.seeds[label] if seed in stretch]
        prompted = index in others
        settles = prompted and whole
        found = [(index, 1, settles), (index, -1, settles)] if prompted else []
        if before := [seed for seed in others if seed < index]:
            found += [(max(before), 1, settles), (max(before), -1, True)]
        if after := [seed for seed in others if seed > index]:
            found += [(min(after), -1, settles), (min(after), 1, True)]
        for seed, step, may_settle in found:
            walks[label, seed, step] = walks.get((label, seed, step), True) and may_settle
    previous: dict[tuple[int, int], PackedResult] = {}
    for index, label, *_ in results.summary():
        packed = results.packed(label, index)
        if label in plan.seeds and packed is not None:
            previous[label, index] = packed
    return replace(plan, again=Again(walks, previous, agreement, settle))


def neighbours(stack: ImageStack, kind: Literal["stack", "collection"], index: int) -> range:
    """The slices to which a prompt on one of them is carried: its run, or all images of a collection."""
    return range(len(stack)) if kind == "collection" else next(run for run in stack.runs() if index in run)


def carried_by(
    plan: Plan, pending: Iterable[tuple[int, int]], results: Results
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Tell how far a plan carries changes.

    Parameters
    ----------
    plan : Plan
        What is to be carried out.
    pending : iterable of (int, int)
        As for `follow_up`.
    results : Results
        What is known before.

    Returns
    -------
    tuple
        The changes that are done with afterwards: the plan goes both ways over them and over all that an earlier
        propagation drew of the object there. And for the others, the ``(label, slice)`` at the rims of the plan's range
        behind which masks stay as they were.
    """
    done: list[tuple[int, int]] = []
    rims: set[tuple[int, int]] = set()
    both = plan.direction == "both" or plan.kind == "collection"
    for label, index in pending:
        stretch = neighbours(plan.stack, plan.kind, index)
        before, behind = [i for i in stretch if i < plan.start], [i for i in stretch if i >= plan.stop]
        within = stretch[len(before) : len(stretch) - len(behind)]
        if label not in plan.seeds or not within:
            continue
        sides = ((within[0], before), (within[-1], behind))
        left = {(label, rim) for rim, beyond in sides if any(_carried(plan, results, label, i) for i in beyond)}
        if both and index in within and not left:
            done.append((label, index))
        rims |= left
    return done, sorted(rims)


def _carried(plan: Plan, results: Results, label: int, index: int) -> bool:
    """Whether there is a mask of an earlier propagation that another one may replace."""
    packed = results.packed(label, index)
    return packed is not None and packed.bare.source == "propagated" and index not in plan.kept.get(label, {})

"""Parts of a training step that are computed side by side, one processor each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_medsam2.training.steps import Exercise

__all__ = ["Graded", "Workers", "graded", "halves", "summed"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Graded:
    """What one share of a step gives.

    Parameters
    ----------
    loss : float
        Weighted loss.
    gradients : tuple of (Tensor or None)
        Of that loss, one a parameter; None where the share does not use it.
    ious : dict
        As of `Exercise`.
    """

    loss: float
    gradients: tuple[Tensor | None, ...]
    ious: dict[str, list[float]]


class Workers:
    """Threads that compute with one processor each.

    Threads that wait for each other within a convolution leave a quarter of two processors idle; two shares at a time
    do not.
    What a share gives does not depend on how many processors there are: one computes it, whoever waits.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "share", initializer=torch.set_num_threads, initargs=(1,))

    def all(self, work: Sequence[Callable[[], _T]]) -> list[_T]:
        """Do all, the first ones first; their results in the order of ``work``."""
        return list(self._pool.map(lambda w: w(), work))


def graded(exercise: Callable[[], Exercise], weight: float, parameters: Sequence[Tensor], bfloat16: bool) -> Graded:
    """Do an exercise and differentiate its loss, without touching the parameters' own gradients."""
    # Autocast keeps its copies of the weights for all threads, and forgets them when any of these is done: in which
    # order a weight's gradients are added, in bfloat16, would depend on which share ended first.
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        result = exercise()
    loss = result.loss * weight
    return Graded(float(loss.detach()), torch.autograd.grad(loss, parameters, allow_unused=True), result.ious)


def summed(shares: Sequence[Graded], parameters: Sequence[Tensor]) -> None:
    """Set the parameters' gradients to the sum of the shares', always added in the same order."""
    for i, parameter in enumerate(parameters):
        parts = [g for g in (s.gradients[i] for s in shares) if g is not None]
        parameter.grad = sum(parts[1:], parts[0].clone()) if parts else None


def halves(count: int) -> list[int]:
    """``count`` in two nearly equal parts, the larger one first; those that hold nothing left out."""
    return [n for n in (count - count // 2, count // 2) if n]

"""Parts of a training step that are computed side by side: by threads of one processor each, or by processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from napari_medsam2.training.clips import Clip, ClipSource
from napari_medsam2.training.steps import collection_exercise, collection_walk, prompt_exercise, stack_exercise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_medsam2.backend._compact_network import CompactNetwork
    from napari_medsam2.training.pool import AnnotatedImage
    from napari_medsam2.training.recipe import Recipe
    from napari_medsam2.training.steps import Exercise

__all__ = ["Drawn", "Graded", "Grader", "Grading", "Threads", "Workers", "divided", "gathered", "graded", "summed"]

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


class Grading(Protocol):
    """Who computes a step's shares."""

    def grade(self, step: int) -> tuple[float, dict[str, list[float]]]:
        """Set the gradients of the network's parameters; return the loss, and the IoUs of each exercise."""
        ...

    def close(self) -> None:
        """End what computes."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """The clips of one share, and the source of what is still to be drawn while they are looked at."""

    clips: list[Clip]
    rng: np.random.Generator


class Grader:
    """Computes the shares of a step; what a share gives depends on the recipe, the step and the share's number only.

    Parameters
    ----------
    recipe : Recipe
        The settings.
    images : sequence of AnnotatedImage
        Real images.
    volumes : sequence of Path
        Synthetic volumes, from `synthetic_pool`.
    network : CompactNetwork
        On the device on which to compute.
    """

    def __init__(
        self, recipe: Recipe, images: Sequence[AnnotatedImage], volumes: Sequence[Path], network: CompactNetwork
    ) -> None:
        self.recipe, self.images, self.volumes, self.network = recipe, images, volumes, network
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.bfloat16 = recipe.bfloat16 and quick_in_bfloat16(network.sharpness.device)
        r = recipe
        parts = [("prompt", n, n / r.singles) for n in divided(r.singles, r.parts)]
        parts += [("stack", n, 0.6 * n / r.stacks) for n in divided(r.stacks, r.parts)]
        parts += [("collection", n, 0.6 * n / r.collections) for n in divided(r.collections, max(1, r.parts // 2))]
        self.shares = parts
        """Kind, how many clips, and what they weigh in the loss; the dearest first."""

    def draw(self, step: int, number: int) -> Drawn:
        """Draw the clips of a share."""
        r = self.recipe
        kind, count, _ = self.shares[number]
        rng = np.random.default_rng([r.seed, 1, step, number])
        source = ClipSource(
            self.images,
            self.volumes,
            r.side_of(step),
            rng,
            pieces=r.pieces,
            far=r.far,
            some=r.some,
            lone=r.lone,
            salient=r.salient,
            own=r.own,
            inverse=r.inverse,
        )
        one: Callable[[bool], Clip]
        if kind == "prompt":
            one = partial(source.single, r.objects)
        elif kind == "stack":
            one = partial(source.stack, r.slices, r.objects)
        else:
            one = partial(source.collection, 3)
        return Drawn([one(bool(v)) for v in rng.random(count) < r.real], rng)

    def grade(self, number: int, drawn: Drawn) -> Graded:
        """Compute a share's loss and its gradients."""
        kind, _, weight = self.shares[number]
        others = collection_walk if self.recipe.collections_only else collection_exercise
        exercise = {"prompt": prompt_exercise, "stack": stack_exercise, "collection": others}[kind]
        work = partial(exercise, self.network, drawn.clips, drawn.rng, self.recipe.fixed)
        return graded(work, weight, self.parameters, self.bfloat16)


def quick_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is worth its precision there.

    Without AVX-512 oneDNN has no convolutions in it, and a step with what PyTorch takes instead is ten times as slow as
    in float32.
    """
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


class Workers:
    """Threads that compute with one processor each.

    Threads that wait for each other within a convolution leave a quarter of two processors idle; two shares at a time
    do not.
    What a share gives does not depend on how many processors there are: one computes it, whoever waits.

    Parameters
    ----------
    count : int, optional
        How many; as many as there are processors where not given.
    """

    def __init__(self, count: int | None = None) -> None:
        count = count or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(count, "share", initializer=torch.set_num_threads, initargs=(1,))

    def all(self, work: Sequence[Callable[[], _T]]) -> list[_T]:
        """Do all, the first ones first; their results in the order of ``work``."""
        return list(self._pool.map(lambda w: w(), work))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class Threads:
    """Grades a step's shares side by side within this process."""

    def __init__(self, grader: Grader, workers: Workers | None = None) -> None:
        self._grader, self._workers = grader, workers or Workers()

    def grade(self, step: int) -> tuple[float, dict[str, list[float]]]:
        """See `Grading.grade`."""
        shares = self._workers.all([partial(self._share, step, i) for i in range(len(self._grader.shares))])
        summed(shares, self._grader.parameters)
        return gathered(shares)

    def _share(self, step: int, number: int) -> Graded:
        return self._grader.grade(number, self._grader.draw(step, number))

    def close(self) -> None:
        """End the threads."""
        self._workers.close()


def graded(exercise: Callable[[], Exercise], weight: float, parameters: Sequence[Tensor], bfloat16: bool) -> Graded:
    """Do an exercise and differentiate its loss, without touching the parameters' own gradients."""
    kind = parameters[0].device.type
    # On the CPU autocast keeps its copies of the weights for all threads, and forgets them when any of these is done:
    # in which order a weight's gradients are added, in bfloat16, would depend on which share ended first. On a GPU a
    # process computes one share at a time, and every exercise uses the weights with gradients first.
    with torch.autocast(kind, torch.bfloat16, enabled=bfloat16, cache_enabled=kind != "cpu"):
        result = exercise()
    loss = result.loss * weight
    return Graded(float(loss.detach()), torch.autograd.grad(loss, parameters, allow_unused=True), result.ious)


def gathered(shares: Sequence[Graded]) -> tuple[float, dict[str, list[float]]]:
    """Give the loss of a step, and the IoUs of each exercise."""
    ious: dict[str, list[float]] = {}
    for share in shares:
        for name, values in share.ious.items():
            ious.setdefault(name, []).extend(values)
    return sum(s.loss for s in shares), ious


def summed(shares: Sequence[Graded], parameters: Sequence[Tensor]) -> None:
    """Set the parameters' gradients to the sum of the shares', always added in the same order."""
    for i, parameter in enumerate(parameters):
        parts = [g for g in (s.gradients[i] for s in shares) if g is not None]
        parameter.grad = sum(parts[1:], parts[0].clone()) if parts else None


def divided(count: int, parts: int) -> list[int]:
    """``count`` in nearly equal parts, the larger ones first; those that hold nothing left out."""
    return [n for n in (count // parts + (i < count % parts) for i in range(parts)) if n]

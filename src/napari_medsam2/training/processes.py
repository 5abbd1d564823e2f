"""Processes that share a GPU: each draws clips, and computes its shares of every step, beside the others.

Drawing clips and launching many small kernels keep one processor busy for longer than they keep a large GPU. Weights
and gradients lie where all processes reach them, on the device itself.
"""

from __future__ import annotations

import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.training.pool import AnnotatedImage
from napari_medsam2.training.shares import Drawn, Graded, Grader, gathered
from napari_medsam2.training.trainable import trainable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    import numpy as np

    from napari_medsam2.training.recipe import Recipe

__all__ = ["Processes"]


@dataclass(frozen=True, slots=True)
class _Common:
    """What the processes share; the first two are written anew with every step.

    Parameters
    ----------
    state : Tensor
        The network's state, as one row of numbers.
    gradients : Tensor
        ``(shares, N)``: what each share gives, the gradients of all parameters in one row.
    pixels, labels : Tensor
        Of all real images, one after the other.
    kinds : list
        Of each image: shape, boxes, group.
    """

    state: Tensor
    gradients: Tensor
    pixels: Tensor
    labels: Tensor
    kinds: list[tuple[tuple[int, int], np.ndarray, str]]

    def images(self) -> list[AnnotatedImage]:
        """Give the real images back, without copies."""
        out, at = [], 0
        for (height, width), boxes, group in self.kinds:
            size = height * width
            image, background = self.pixels[6 * at : 6 * (at + size)].view(2, 3, height, width)
            labels = self.labels[at : at + size].view(height, width).numpy()
            out.append(AnnotatedImage(image, background, labels, boxes, group))
            at += size
        return out


class Processes:
    """Grades a step's shares in several processes.

    A parameter that no share uses gets gradients of zero.

    Parameters
    ----------
    grader : Grader
        What they do; the weights of its network are looked at with every step, on its device.
    count : int
        How many processes; no more than there are shares are started.
    """

    def __init__(self, grader: Grader, count: int) -> None:
        self._network, self._parameters, images = grader.network, grader.parameters, grader.images
        state, shares = _flat(self._network.state_dict().values()), len(grader.shares)
        self._common = _Common(
            _shared(state),
            _shared(state.new_zeros(shares, sum(p.numel() for p in self._parameters))),
            _shared(torch.cat([torch.stack([i.image, i.background]).flatten() for i in images])),
            _shared(torch.cat([torch.from_numpy(i.labels).flatten() for i in images])),
            [((i.labels.shape[0], i.labels.shape[1]), i.boxes, i.group) for i in images],
        )
        context: Any = torch.multiprocessing.get_context("spawn")
        count = min(count, shares)
        self._ends: list[Connection] = []
        self._processes = []
        for number in range(count):
            end, other = context.Pipe()
            work = (other, grader.recipe, list(grader.volumes), self._common, list(range(number, shares, count)))
            process = context.Process(target=_serve, args=work, daemon=True, name=f"shares-{number}")
            process.start()
            other.close()
            self._ends.append(end)
            self._processes.append(process)

    def grade(self, step: int) -> tuple[float, dict[str, list[float]]]:
        """See `Grading.grade`.

        Raises
        ------
        RuntimeError
            If one of the processes failed, with what it said, or ended.
        """
        with torch.no_grad():
            self._common.state.copy_(_flat(self._network.state_dict().values()))
        _wait(self._common.state.device)
        shares: dict[int, Graded] = {}
        try:
            for end in self._ends:
                end.send(step)
            answers = [end.recv() for end in self._ends]
        except (EOFError, ConnectionError):
            raise RuntimeError("a process that computes shares has ended; go on from the checkpoint") from None
        for answer in answers:
            if isinstance(answer, str):
                raise RuntimeError(f"a process that computes shares failed:\n{answer}")
            shares.update(answer)
        total, at = self._common.gradients.sum(0), 0
        for p in self._parameters:
            p.grad = torch.empty_like(p).copy_(total[at : at + p.numel()].view(p.shape))
            at += p.numel()
        return gathered([shares[number] for number in sorted(shares)])

    def close(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.terminate()


def _shared(tensor: Tensor) -> Tensor:
    """Move a tensor to where other processes reach it; one on a GPU is there already."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().float().reshape(-1) for t in tensors])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _serve(end: Connection, recipe: Recipe, volumes: list[Path], common: _Common, numbers: list[int]) -> None:
    """Compute some of the shares of every step that is asked for, until the other end is closed."""
    torch.set_num_threads(1)
    try:
        network = trainable(CompactNetwork(), recipe, common.state.device)
        grader = Grader(recipe, common.images(), volumes, network)
        ahead, drawn = ThreadPoolExecutor(1), dict[int, Future[list[Drawn]]]()

        def draw(step: int) -> list[Drawn]:
            return [grader.draw(step, n) for n in numbers]

        while True:
            try:
                step = end.recv()
            except EOFError:
                return
            clips = drawn.pop(step).result() if step in drawn else draw(step)
            if step + 1 < recipe.end:  # while this step is computed
                drawn[step + 1] = ahead.submit(draw, step + 1)
            end.send(_computed(grader, common, numbers, clips))
    except BaseException:
        end.send(traceback.format_exc())
        raise


def _computed(grader: Grader, common: _Common, numbers: Sequence[int], clips: Sequence[Drawn]) -> dict[int, Graded]:
    """Compute shares by their numbers; their gradients are laid where all reach them."""
    at = 0
    with torch.no_grad():
        for value in grader.network.state_dict().values():
            value.copy_(common.state[at : at + value.numel()].view(value.shape))
            at += value.numel()
    out = {}
    for number, one in zip(numbers, clips, strict=True):
        share = grader.grade(number, one)
        pairs = zip(share.gradients, grader.parameters, strict=True)
        common.gradients[number] = _flat(torch.zeros_like(p) if g is None else g for g, p in pairs)
        out[number] = replace(share, gradients=())
    _wait(common.gradients.device)
    return out

"""Processes that share a GPU: each computes some shares of every step, of clips that one beside it draws.

Drawing clips and launching many small kernels keep one processor busy for longer than they keep a large GPU; within one
process either would wait for the other. Weights and gradients lie where all processes reach them, on the device itself.
"""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.training.clips import Clip
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

_Packed: TypeAlias = "tuple[list[tuple[np.ndarray, np.ndarray, bool, bool]], np.random.Generator]"


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the processes that compute share; both are written anew with every step.

    Parameters
    ----------
    state : Tensor
        The network's state, as one row of numbers.
    gradients : Tensor
        ``(shares, N)``: what each share gives, the gradients of all parameters in one row.
    """

    state: Tensor
    gradients: Tensor


@dataclass(frozen=True, slots=True)
class _Images:
    """The real images, which the processes that draw share.

    Parameters
    ----------
    pixels, labels : Tensor
        Of all images, one after the other.
    kinds : list
        Of each image: shape, boxes, group.
    """

    pixels: Tensor
    labels: Tensor
    kinds: list[tuple[tuple[int, int], np.ndarray, str]]

    def views(self) -> list[AnnotatedImage]:
        """Give the images back, without copies."""
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
        How many processes compute; no more than there are shares. Beside each another one draws its clips.
    """

    def __init__(self, grader: Grader, count: int) -> None:
        self._network, self._parameters, images = grader.network, grader.parameters, grader.images
        state, shares = _flat(self._network.state_dict().values()), len(grader.shares)
        rows = self._rows = _Rows(
            _shared(state), _shared(state.new_zeros(shares, sum(p.numel() for p in self._parameters)))
        )
        common = _Images(
            _shared(torch.cat([torch.stack([i.image, i.background]).flatten() for i in images])),
            _shared(torch.cat([torch.from_numpy(i.labels).flatten() for i in images])),
            [((i.labels.shape[0], i.labels.shape[1]), i.boxes, i.group) for i in images],
        )
        context: Any = torch.multiprocessing.get_context("spawn")
        count = min(count, shares)
        self._ends: list[Connection] = []
        self._processes = []
        for first in range(count):
            numbers = list(range(first, shares, count))
            end, asked = context.Pipe()
            clips, drawn = context.Pipe()
            for name, target, work in (
                ("clips", _draw, (drawn, grader.recipe, list(grader.volumes), common, numbers)),
                ("shares", _serve, (asked, clips, grader.recipe, rows, numbers)),
            ):
                process = context.Process(target=target, args=work, daemon=True, name=f"{name}-{first}")
                process.start()
                self._processes.append(process)
            # Each end is held by one process only, so that the other one sees when that has ended.
            for other in (asked, clips, drawn):
                other.close()
            self._ends.append(end)

    def grade(self, step: int) -> tuple[float, dict[str, list[float]]]:
        """See `Grading.grade`.

        Raises
        ------
        RuntimeError
            If one of the processes failed, with what it said, or ended.
        """
        with torch.no_grad():
            self._rows.state.copy_(_flat(self._network.state_dict().values()))
        _wait(self._rows.state.device)
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
        total, at = self._rows.gradients.sum(0), 0
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


def _draw(end: Connection, recipe: Recipe, volumes: list[Path], common: _Images, numbers: list[int]) -> None:
    """Draw the clips of some of the shares of every step that is asked for, until the other end is closed."""
    torch.set_num_threads(1)
    grader = Grader(recipe, common.views(), volumes, CompactNetwork())
    with contextlib.suppress(ConnectionError):  # nobody waits for it any more
        while True:
            try:
                step = end.recv()
            except EOFError:
                return
            try:
                end.send([_packed(grader.draw(step, n)) for n in numbers])
            except ConnectionError:
                raise
            except BaseException:
                end.send(traceback.format_exc())
                raise


def _packed(drawn: Drawn) -> _Packed:
    """Make arrays of clips; those travel within a message, where tensors would be asked for one by one."""
    return [(c.images.numpy(), c.masks.numpy(), c.ordered, c.pieces) for c in drawn.clips], drawn.rng


def _unpacked(packed: _Packed) -> Drawn:
    clips, rng = packed
    return Drawn([Clip(torch.from_numpy(i), torch.from_numpy(m), *kind) for i, m, *kind in clips], rng)


def _serve(end: Connection, source: Connection, recipe: Recipe, rows: _Rows, numbers: list[int]) -> None:
    """Compute some of the shares of every step that is asked for, until the other end is closed."""
    torch.set_num_threads(1)
    try:
        network = trainable(CompactNetwork(), recipe, rows.state.device)
        grader = Grader(recipe, (), (), network)
        ahead = None
        while True:
            try:
                step = end.recv()
            except EOFError:
                return
            try:
                if ahead != step:
                    source.send(step)
                answer = source.recv()
                ahead = step + 1
                if ahead < recipe.end:  # while this step is computed
                    source.send(ahead)
            except (EOFError, OSError):
                raise RuntimeError("the process that draws its clips has ended; go on from the checkpoint") from None
            if isinstance(answer, str):
                raise RuntimeError(f"the process that draws its clips failed:\n{answer}")
            end.send(_computed(grader, rows, numbers, [_unpacked(one) for one in answer]))
    except BaseException:
        end.send(traceback.format_exc())
        raise


def _computed(grader: Grader, rows: _Rows, numbers: Sequence[int], clips: Sequence[Drawn]) -> dict[int, Graded]:
    """Compute shares by their numbers; their gradients are laid where all reach them."""
    at = 0
    with torch.no_grad():
        for value in grader.network.state_dict().values():
            value.copy_(rows.state[at : at + value.numel()].view(value.shape))
            at += value.numel()
    out = {}
    for number, one in zip(numbers, clips, strict=True):
        share = grader.grade(number, one)
        pairs = zip(share.gradients, grader.parameters, strict=True)
        rows.gradients[number] = _flat(torch.zeros_like(p) if g is None else g for g, p in pairs)
        out[number] = replace(share, gradients=())
    _wait(rows.gradients.device)
    return out

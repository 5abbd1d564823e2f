"""What makes a training step quick must not change what it computes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.training.clips import Clip
from napari_medsam2.training.depthwise import QuickDepthwise, quicken
from napari_medsam2.training.pool import AnnotatedImage, _annotated, synthetic_pool
from napari_medsam2.training.recipe import Recipe
from napari_medsam2.training.shares import Graded, Workers, divided, graded, summed
from napari_medsam2.training.steps import Exercise, _objects
from napari_medsam2.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("channels", "side", "kernel", "stride", "padding"),
    [(24, 12, 3, 1, 1), (24, 13, 3, 2, 0), (24, 12, 5, 1, 2), (24, 15, 5, 2, 0), (8, 11, 7, 1, 3)],
)
def test_quick_gradients_are_those_of_double_precision(
    channels: int, side: int, kernel: int, stride: int, padding: int, autocast: bool
) -> None:
    torch.manual_seed(0)
    original = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False)
    quick = QuickDepthwise(original)
    x = torch.randn(3, channels, side, side, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = quick(x)
    direction = torch.randn(y.shape)
    found = torch.autograd.grad((y.float() * direction).sum(), (x, quick.weight))

    exact = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False).double()
    exact.load_state_dict({"weight": original.weight.double()})
    x64 = x.detach().double().requires_grad_()
    y64 = exact(x64)
    expected = torch.autograd.grad((y64 * direction.double()).sum(), (x64, exact.weight))
    # bfloat16 has eight bits; sums are made in more.
    tolerance = 1e-2 if autocast else 1e-5
    for a, b in zip((y, *found), (y64, *expected), strict=True):
        assert float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max()) < tolerance


def test_only_depthwise_convolutions_are_replaced_and_the_state_keeps_its_names() -> None:
    network = CompactNetwork()
    names, count = list(network.state_dict()), sum(p.numel() for p in network.parameters())
    quicken(network)
    assert list(network.state_dict()) == names
    assert sum(p.numel() for p in network.parameters()) == count
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(QuickDepthwise) == len(network.encoder.blocks)
    assert not any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in network.modules())
    image = torch.rand(1, 3, 64, 64)
    plain = CompactNetwork()
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network.encode(image).s16, plain.encode(image).s16)


def test_a_share_s_gradients_do_not_depend_on_when_another_one_ends() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 64), torch.randn(32, 64)
    parameters = list(layer.parameters())

    def share(midway: Callable[[], None] = lambda: None) -> Graded:
        def exercise() -> Exercise:
            y = x
            for number in range(6):
                y = torch.tanh(layer(y))
                if number == 2:
                    midway()
            return Exercise(y.float().square().sum(), {})

        return graded(exercise, 1.0, parameters, True)

    def other() -> None:
        thread = threading.Thread(target=share)
        thread.start()
        thread.join()

    alone, beside = share(), share(other)
    assert beside.loss == alone.loss
    for a, b in zip(alone.gradients, beside.gradients, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


def test_gradients_of_shares_sum_to_that_of_the_whole() -> None:
    torch.manual_seed(0)
    layer, unused = nn.Linear(5, 3), nn.Linear(2, 2)
    parameters = [*layer.parameters(), *unused.parameters()]
    inputs = [torch.randn(4, 5) for _ in range(3)]

    def exercise(x: torch.Tensor) -> Callable[[], Exercise]:
        return lambda: Exercise(layer(x).square().mean(), {"a": [float(len(x))]})

    work = [
        lambda x=x, w=w: graded(exercise(x), w, parameters, False) for x, w in zip(inputs, (1, 2, 0.5), strict=True)
    ]
    shares = Workers().all(work)
    assert [type(s) for s in shares] == [Graded] * 3
    summed(shares, parameters)
    whole = sum(w * layer(x).square().mean() for x, w in zip(inputs, (1, 2, 0.5), strict=True))
    for parameter, expected in zip(
        layer.parameters(), torch.autograd.grad(whole, list(layer.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, expected)
    assert all(p.grad is None for p in unused.parameters())
    assert sum(s.loss for s in shares) == pytest.approx(whole.item())


def test_workers_keep_the_order_and_pass_on_what_went_wrong() -> None:
    workers, done = Workers(), threading.Event()

    def slow() -> int:
        assert done.wait(30), "the second one did not run beside the first"
        return 1

    def quick() -> int:
        done.set()
        return 2

    if (os.cpu_count() or 1) > 1:
        assert workers.all([slow, quick]) == [1, 2]
    assert workers.all([torch.get_num_threads] * 4) == [1] * 4

    def wrong() -> int:
        raise ValueError("no object in fifty views")

    with pytest.raises(ValueError, match="fifty"):
        workers.all([quick, wrong])
    assert (divided(8, 2), divided(3, 2), divided(1, 2), divided(0, 2)) == ([4, 4], [2, 1], [1], [])
    assert divided(11, 4) == [3, 3, 3, 2]


def _parts(tmp_path: Path) -> tuple[Recipe, list[AnnotatedImage], list[Path]]:
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:90, :110]
    images = []
    for _ in range(3):
        labels = np.zeros((90, 110), np.uint16)
        for label in range(1, 7):
            labels[(y - rng.uniform(10, 80)) ** 2 + (x - rng.uniform(10, 100)) ** 2 < rng.uniform(6, 12) ** 2] = label
        images.append(_annotated(30 + 150.0 * (labels > 0) + rng.normal(0, 6, labels.shape), labels, "disc"))
    recipe = Recipe(
        steps=3, side=64, singles=4, stacks=2, slices=3, collections=1, objects=2, warmup=1, bfloat16=False, parts=3
    )
    return recipe, images, synthetic_pool(tmp_path, 8, 4, 96, seed=0)


def test_processes_make_the_same_steps_as_threads(tmp_path: Path) -> None:
    material = _parts(tmp_path)
    alone, beside = Trainer(*material), Trainer(*material, processes=2)
    try:
        for _ in range(2):
            (loss, ious), (other, others) = alone.advance(), beside.advance()
            assert other == pytest.approx(loss, rel=1e-5)
            assert set(others) == set(ious)
        for name, value in alone.network.state_dict().items():
            torch.testing.assert_close(beside.network.state_dict()[name], value, atol=2e-5, rtol=1e-3)
    finally:
        alone.close()
        beside.close()


def test_a_process_that_fails_says_why_and_one_that_is_killed_ends_the_run(tmp_path: Path) -> None:
    recipe, images, volumes = _parts(tmp_path)
    gone = [path.with_name("gone.npz") for path in volumes]
    trainer = Trainer(replace(recipe, real=0.0), images, gone, processes=2)
    with pytest.raises(RuntimeError, match=r"failed:(.|\n)*gone\.npz"):
        trainer.advance()
    trainer.close()
    trainer = Trainer(recipe, images, volumes, processes=2)
    trainer.advance()
    trainer._grading._processes[1].kill()  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="has ended"):
        trainer.advance()
    trainer.close()


@pytest.mark.parametrize("there", [1, 2, 3])
def test_with_a_fixed_number_shares_hold_as_many_objects_in_every_step(there: int) -> None:
    def clip(number: int) -> Clip:
        masks = torch.zeros(there, 2, 8, 8, dtype=torch.bool)
        for i in range(there):
            masks[i, :, number, i] = True
        return Clip(torch.zeros(2, 3, 8, 8), masks, ordered=True)

    clips = [clip(0), clip(1), clip(2)]
    masks, owner = _objects(clips, 0)
    assert len(masks) == len(owner) == 3 * there
    masks, owner = _objects(clips, 2)
    assert len(masks) == len(owner) == 6
    assert set(owner.tolist()) == {0, 1, 2}, "no clip is looked at in vain"
    for mask, of in zip(masks, owner.tolist(), strict=True):
        assert mask[:, of].any(), "an object is its own clip's"
    different = {tuple(m.flatten().nonzero().flatten().tolist()) for m in masks}
    assert len(different) == min(6, 3 * there)


_DRAWING = """
import multiprocessing, os, sys
from pathlib import Path
from napari_medsam2.training import pool

if __name__ == "__main__":
    os.cpu_count = lambda: 2
    def tell(*_):
        print(*(p.pid for p in multiprocessing.active_children()), flush=True)
    pool.synthetic_pool(Path(sys.argv[1]), 4000, 2, 64, seed=1, report=tell)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes there are")
def test_who_draws_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    script = tmp_path / "draw.py"
    script.write_text(_DRAWING)
    with subprocess.Popen([sys.executable, script, tmp_path / "volumes"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        drawing = [int(pid) for pid in process.stdout.readline().split()]
        assert len(drawing) == 2
        assert all(lives(pid) for pid in drawing)
        process.kill()
    until = time.monotonic() + 20
    while any(lives(pid) for pid in drawing) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in drawing if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left

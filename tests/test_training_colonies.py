"""Packed cells, threads, and views from afar: training shows them so that a click gives the cell, not the colony."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import measure

from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.training.clips import ClipSource
from napari_medsam2.training.colonies import draw_colony
from napari_medsam2.training.pool import read_volume, synthetic_pool
from napari_medsam2.training.prompting import first_prompt
from napari_medsam2.training.recipe import Recipe
from napari_medsam2.training.shares import Grader
from napari_medsam2.training.synthetic import synthesize

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 128
regionprops: Any = measure.regionprops


@pytest.fixture(scope="module")
def colonies() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return [draw_colony(np.random.default_rng([1, seed]), 3, SIDE, 0.02) for seed in range(16)]


def test_colonies_are_images_with_instances(colonies: list[tuple[torch.Tensor, ...]]) -> None:
    for images, labels, classes in colonies:
        assert images.shape == (3, 3, SIDE, SIDE)
        assert labels.shape == classes.shape == (3, SIDE, SIDE)
        assert torch.isfinite(images).all()
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        assert torch.equal(labels > 0, classes > 0)
    again = draw_colony(np.random.default_rng([1, 4]), 3, SIDE, 0.02)
    for one, other in zip(colonies[4], again, strict=True):
        assert torch.equal(one, other)


def test_cells_are_of_many_shapes_and_lie_side_by_side(colonies: list[tuple[torch.Tensor, ...]]) -> None:
    slender, packed = [], 0
    for _, labels, _ in colonies:
        plane = labels[0].numpy()
        cells = [p for p in regionprops(plane) if p.area >= 12]
        slender += [p.axis_major_length / max(p.axis_minor_length, 1) for p in cells]
        # A cell is packed where another one's pixels are within three pixels of its own.
        near = sum(len(np.unique(plane[ndimage.binary_dilation(plane == p.label, iterations=3)])) > 2 for p in cells)
        packed += len(cells) > 4 and near > 0.6 * len(cells)
    assert packed >= 6
    assert min(slender) < 1.3
    assert np.percentile(slender, 95) > 4


def test_a_cell_is_one_piece_and_goes_on_from_slice_to_slice(colonies: list[tuple[torch.Tensor, ...]]) -> None:
    pieces, kept = [], []
    for _, labels, _ in colonies:
        planes = labels.numpy()
        for cell in regionprops(planes[0]):
            if cell.area < 40:
                continue
            here = planes[0] == cell.label
            # Threads that pass under others are in pieces.
            pieces.append(ndimage.label(here, np.ones((3, 3)))[1])
            there = planes[1] == cell.label
            if there.any():
                kept.append((here & there).sum() / here.sum())
    assert np.mean(np.array(pieces) == 1) > 0.8
    assert np.median(kept) > 0.5


def test_cells_show_in_the_picture(colonies: list[tuple[torch.Tensor, ...]]) -> None:
    # Whatever the light: what lies in cells has other values than what lies a little outside.
    told = 0
    for images, labels, _ in colonies:
        inside = labels[0].numpy() > 0
        outside = ndimage.binary_dilation(inside, iterations=4) & ~inside
        if inside.sum() < 50 or outside.sum() < 50:
            continue
        image = images[0].mean(0).numpy()
        bins = np.linspace(0, 1, 21)
        a, b = (np.histogram(image[m], bins)[0] / m.sum() for m in (inside, outside))
        told += np.abs(a - b).sum() / 2 > 0.25
    assert told >= 10


def test_the_share_of_colonies_is_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(rng: np.random.Generator, *given: Any) -> Any:
        drawn.append(1)
        return draw_colony(rng, *given)

    monkeypatch.setattr("napari_medsam2.training.synthetic.draw_colony", counted)
    for share, expected in ((0.0, range(1)), (1.0, range(20, 21)), (0.5, range(5, 16))):
        drawn.clear()
        for seed in range(20):
            synthesize(np.random.default_rng(seed), 1, 48, colonies=share)
        assert len(drawn) in expected, share
    drawn.clear()
    (path,) = synthetic_pool(tmp_path, 1, 2, 48, seed=1, colonies=1.0)
    assert len(drawn) == 1
    fresh = synthesize(np.random.default_rng([1, 0]), 2, 48, colonies=1.0)
    assert torch.equal(read_volume(path).labels, fresh.labels)


def test_from_afar_objects_are_small_and_only_clicked(tmp_path: Path) -> None:
    volumes = synthetic_pool(tmp_path, 4, 2, 160, seed=3, colonies=1.0)

    def sizes(far: float) -> list[float]:
        source = ClipSource([], volumes, 128, np.random.default_rng(5), far=far)
        clips = [source.single(3, real=False) for _ in range(12)]
        assert {clip.far for clip in clips} == {bool(far)}
        assert not source.stack(2, 2, real=False).far, "a mask is carried at its own scale"
        boxes = [ndimage.find_objects(m[0].astype(int))[0] for clip in clips for m in clip.masks.numpy()]
        return [max(s.stop - s.start for s in box) / 128 for box in boxes]

    near, afar = sizes(0.0), sizes(1.0)
    assert min(near) >= 0.06
    assert min(afar) < 0.06
    assert np.median(afar) < 0.75 * np.median(near)
    mask = np.zeros((96, 96), bool)
    mask[30:36, 20:26] = True
    for seed in range(20):
        prompt = first_prompt(mask, np.random.default_rng(seed), far=True)
        assert prompt.box is None
        assert prompt.previous is None
        assert prompt.labels[0] == 1


@pytest.mark.parametrize(("processor", "used"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_bfloat16_is_for_processors_that_have_it(processor: str, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: processor)
    network = CompactNetwork()
    assert Grader(Recipe(), [], [], network).bfloat16 is used
    assert not Grader(Recipe(bfloat16=False), [], [], network).bfloat16

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_medsam2.training.heads import draw_head
from napari_medsam2.training.pool import read_volume, synthetic_pool
from napari_medsam2.training.synthetic import synthesize

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 128


def _unique(values: torch.Tensor) -> list[int]:
    return [int(one) for one in np.unique(values.numpy())]


@pytest.fixture(scope="module")
def heads() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return [draw_head(np.random.default_rng([2, seed]), 3, SIDE, 0.02) for seed in range(16)]


def test_heads_are_images_with_instances(heads: list[tuple[torch.Tensor, ...]]) -> None:
    for images, labels, classes in heads:
        assert images.shape == (3, 3, SIDE, SIDE)
        assert labels.shape == classes.shape == (3, SIDE, SIDE)
        assert torch.isfinite(images).all()
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        assert torch.equal(labels > 0, classes > 0)
        # An object is of one kind.
        assert all(len(_unique(classes[labels == one])) == 1 for one in _unique(labels[labels > 0]))
    again = draw_head(np.random.default_rng([2, 4]), 3, SIDE, 0.02)
    for one, other in zip(heads[4], again, strict=True):
        assert torch.equal(one, other)


def test_objects_come_in_pairs_that_are_told_apart(heads: list[tuple[torch.Tensor, ...]]) -> None:
    paired = total = 0
    for _, labels, classes in heads:
        for kind in _unique(classes[classes > 0]):
            numbers = _unique(labels[classes == kind])
            assert len(numbers) <= 2
            total += 1
            if len(numbers) == 2:
                paired += 1
                (a, b) = (torch.nonzero(labels == n)[:, 2].float().mean() for n in numbers)
                assert abs(float(a - b)) > 2, "one left, one right"
    assert paired > total / 2


def test_much_that_is_no_object_is_as_grey_as_one(heads: list[tuple[torch.Tensor, ...]]) -> None:
    """The reason for heads: brightness alone does not tell the object, as it does most organs of `anatomy`."""
    more = []
    for images, labels, _ in heads:
        grey, plane = images[0].mean(0), labels[0]
        for one in _unique(plane[plane > 0]):
            inside = grey[plane == one]
            low, high = np.quantile(inside.numpy(), [0.1, 0.9])
            more.append(float(((grey >= low) & (grey <= high) & (plane != one)).sum()) / float(inside.numel()))
    assert np.median(more) > 2


def test_the_share_of_heads_is_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(rng: np.random.Generator, *given: Any) -> Any:
        drawn.append(1)
        return draw_head(rng, *given)

    monkeypatch.setattr("napari_medsam2.training.synthetic.draw_head", counted)
    for share, expected in ((0.0, range(1)), (1.0, range(20, 21)), (0.5, range(5, 16))):
        drawn.clear()
        for seed in range(20):
            synthesize(np.random.default_rng(seed), 1, 48, colonies=0.5, heads=share)
        assert len(drawn) in expected, share
    drawn.clear()
    (path,) = synthetic_pool(tmp_path, 1, 2, 48, seed=1, heads=1.0)
    assert len(drawn) == 1
    fresh = synthesize(np.random.default_rng([1, 0]), 2, 48, heads=1.0)
    assert torch.equal(read_volume(path).labels, fresh.labels)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2 import ImageStack
from napari_medsam2.cache import EmbeddingCache
from napari_medsam2.geometry import View

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Embedding:
    pixels: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def nbytes(self) -> int:
        return self.pixels.numel() * 4

    @property
    def descriptor(self) -> torch.Tensor:
        return self.pixels.flatten(1)

    def take(self, indices: list[int]) -> _Embedding:
        return _Embedding(self.pixels[indices])


class _Encoder:
    """Keeps the pixels themselves, so that what comes out can be compared."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, images: torch.Tensor) -> _Embedding:
        self.batches.append(len(images))
        return _Embedding(images)


def _views(count: int) -> list[View]:
    return [View(i, 0, 16, 16, 16) for i in range(count)]


def test_every_view_is_encoded_once_and_comes_in_order() -> None:
    stack = ImageStack(np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8), "ZYX")
    cache, encoder = EmbeddingCache(), _Encoder()
    a, b, c = _views(3)
    first = cache.get(stack, encoder, 1, [b, a, b])  # type: ignore[arg-type]
    assert encoder.batches == [2]
    pixels = stack.pixels(1)
    for embedding, view in zip(first, [b, a, b], strict=True):
        np.testing.assert_allclose(embedding.pixels[0], view.cut(pixels))  # type: ignore[attr-defined]
    cache.get(stack, encoder, 1, [a, c])  # type: ignore[arg-type]
    assert encoder.batches == [2, 1]
    cache.get(stack, encoder, 2, [a])  # type: ignore[arg-type]
    assert encoder.batches == [2, 1, 1]
    assert (cache.hits, cache.misses) == (1, 4)


def test_many_views_are_encoded_in_batches() -> None:
    stack = ImageStack(np.zeros((1, 64, 64), np.uint8), "ZYX")
    encoder = _Encoder()
    EmbeddingCache().get(stack, encoder, 0, _views(19))  # type: ignore[arg-type]
    assert encoder.batches == [8, 8, 3]


def test_the_budget_holds_and_the_least_recently_used_go_first() -> None:
    stack = ImageStack(np.zeros((1, 64, 64), np.uint8), "ZYX")
    one = 3 * 16 * 16 * 4
    cache, encoder = EmbeddingCache(budget=3 * one + 10), _Encoder()
    a, b, c, d = _views(4)
    for view in (a, b, c, a, d):
        cache.get(stack, encoder, 0, [view])  # type: ignore[arg-type]
        assert cache.nbytes <= cache.budget
    assert len(cache) == 3
    before = len(encoder.batches)
    cache.get(stack, encoder, 0, [a, c, d])  # type: ignore[arg-type]
    assert len(encoder.batches) == before
    cache.get(stack, encoder, 0, [b])  # type: ignore[arg-type]
    assert len(encoder.batches) == before + 1
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_what_is_larger_than_the_budget_is_given_but_not_kept() -> None:
    stack = ImageStack(np.zeros((1, 64, 64), np.uint8), "ZYX")
    cache, encoder = EmbeddingCache(budget=10), _Encoder()
    assert len(cache.get(stack, encoder, 0, _views(2))) == 2  # type: ignore[arg-type]
    assert len(cache) == 0

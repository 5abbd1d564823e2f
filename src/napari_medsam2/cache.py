"""Embeddings of the views that were looked at lately, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_medsam2.backend.protocol import Backend, Embedding
    from napari_medsam2.geometry import View
    from napari_medsam2.stack import ImageStack

__all__ = ["EmbeddingCache"]

_BATCH = 8
"""Views that are encoded at once: more gain no speed on a CPU and cost memory."""
_LARGE = 1 << 22
"""Pixels of a slice that is read as a whole. Of a larger one only what the views show: a slide is gigabytes."""


class EmbeddingCache:
    """Least recently used embeddings are dropped first.

    Parameters
    ----------
    budget : int
        Bytes that the kept embeddings may take together. One that alone is larger is returned but not kept.
    """

    def __init__(self, budget: int = 256 * 2**20) -> None:
        self.budget, self.nbytes = budget, 0
        self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[int, View], Embedding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Drop everything, for example because the model was changed."""
        self._kept.clear()
        self.nbytes = 0

    def get(self, stack: ImageStack, backend: Backend, index: int, views: Sequence[View]) -> list[Embedding]:
        """The embeddings of some views of a slice, one a view; what is missing is encoded, in batches.

        Parameters
        ----------
        stack : ImageStack
            Where the slice is read from, if anything is missing.
        backend : Backend
            What encodes it.
        index : int
            The slice.
        views : sequence of View
            May repeat.

        Returns
        -------
        list of Embedding
            Of length 1 each, in the order of ``views``.
        """
        import torch

        wanted = list(dict.fromkeys(views))
        found = {v: self._kept[index, v] for v in wanted if (index, v) in self._kept}
        missing = [v for v in wanted if v not in found]
        self.hits += len(found)
        self.misses += len(missing)
        for view in found:
            self._kept.move_to_end((index, view))
        if not missing:
            return [found[v] for v in views]
        cut = _cutter(stack, index)
        for start in range(0, len(missing), _BATCH):
            group = missing[start : start + _BATCH]
            batch = backend.encode(torch.stack([cut(v) for v in group]))
            for i, view in enumerate(group):
                found[view] = batch.take([i])
                self._keep((index, view), found[view])
        return [found[v] for v in views]

    def _keep(self, key: tuple[int, View], embedding: Embedding) -> None:
        if embedding.nbytes > self.budget:
            return
        self._kept[key] = embedding
        self.nbytes += embedding.nbytes
        while self.nbytes > self.budget:
            _, dropped = self._kept.popitem(last=False)
            self.nbytes -= dropped.nbytes


def _cutter(stack: ImageStack, index: int) -> Callable[[View], Tensor]:
    """Return what cuts views out of a slice."""
    shape = stack.slice_shape(index)
    if shape[0] * shape[1] > _LARGE:
        parts = stack.parts(index)
        return lambda view: view.cut_parts(parts, shape)
    pixels = stack.pixels(index)
    return lambda view: view.cut(pixels)

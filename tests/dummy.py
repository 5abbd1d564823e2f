"""A network that is none: fast, deterministic, and with everything that the protocol asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medsam2 import ImageStack
from napari_medsam2.backend.protocol import Attended, Decoded, Embedding, Memory, ViewPrompt
from napari_medsam2.geometry import View, ViewSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class DummyEmbedding:
    grey: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.grey.numel() * 4

    @property
    def descriptor(self) -> torch.Tensor:
        return torch.nn.functional.normalize(self.grey.flatten(1) + 0.01, dim=1)

    def __len__(self) -> int:
        return len(self.grey)

    def take(self, indices: Sequence[int]) -> DummyEmbedding:
        return DummyEmbedding(self.grey[list(indices)])


class DummyBackend:
    """Draws what is bright, near to what it was told and to what it remembers."""

    batch = 4
    weights = ""

    def __init__(self, name: str = "dummy", side: int = 24, pointers: bool = True, bias: float = 0.0) -> None:
        self.name, self.device = name, torch.device("cpu")
        self.views = ViewSpec(side=side, regions=False, stretch=True)
        self.steps = 0
        self._pointers, self._bias = pointers, bias

    def encode(self, images: torch.Tensor) -> DummyEmbedding:
        return DummyEmbedding(images.mean(1))

    def join(self, embeddings: Sequence[Embedding]) -> DummyEmbedding:
        return DummyEmbedding(torch.cat([e.grey for e in embeddings]))  # type: ignore[attr-defined]

    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        self.steps += len(prompts)
        grey = embedding.grey  # type: ignore[attr-defined]
        side = grey.shape[-1]
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        out = []
        for i, prompt in enumerate(prompts):
            logits = (grey[i] - 0.45 + self._bias) * 9.7
            if prompt.box is not None:
                y0, x0, y1, x1 = prompt.box
                logits = torch.where((y > y0) & (y < y1) & (x > x0) & (x < x1), logits, -7.0)
            for (py, px), mark in zip(prompt.points, prompt.labels, strict=True):
                near = torch.exp(-((y - float(py)) ** 2 + (x - float(px)) ** 2) / 9)
                logits = logits + (3 if mark else -9) * near
            if prompt.previous is not None:
                logits = logits + 2 * torch.as_tensor(prompt.previous) - 1
            if prompt.carried is not None:
                near = torch.nn.functional.max_pool2d(torch.as_tensor(prompt.carried)[None, None], 3, 1, 1)[0, 0]
                logits = torch.where(near > 0.5, logits, logits - 8)
            if context is not None:
                logits = logits + context[i] - 0.5
            out.append(logits)
        logits = torch.stack(out).float()
        sure = torch.sigmoid(logits.abs().mean((1, 2)) / 3)
        pointer = logits.mean(1)[:, :6].contiguous() if self._pointers else None
        return Decoded(logits, sure, logits.amax((1, 2)) - 0.5, pointer)

    def adopt(self, embedding: Embedding, masks: torch.Tensor) -> Decoded:
        logits = (masks.float() * 2 - 1) * 10
        pointer = logits.mean(1)[:, :6].contiguous() if self._pointers else None
        return Decoded(logits, torch.ones(len(masks)), logits.amax((1, 2)), pointer)

    def remember(
        self, embedding: Embedding, decoded: Decoded, views: Sequence[View], indices: Sequence[int], prompted: bool
    ) -> list[Memory]:
        out = []
        for i, (view, index) in enumerate(zip(views, indices, strict=True)):
            mask = decoded.logits[i].sigmoid()
            feature = torch.nn.functional.normalize(mask.flatten(), dim=0)
            reason = "prompt" if prompted else "admitted"
            out.append(
                Memory(index, view, mask, feature, embedding.descriptor[i], float(decoded.iou[i]), reason, 99)  # type: ignore[arg-type]
            )
        return out

    def attend(
        self,
        embedding: Embedding,
        banks: Sequence[Sequence[Attended]],
        views: Sequence[View],
        ordered: bool,
        index: int | None = None,
        run: range | None = None,
    ) -> torch.Tensor:
        return torch.stack([sum(a.weight * a.memory.content for a in b) / sum(a.weight for a in b) for b in banks])


def squares(count: int = 10, size: int = 24) -> np.ndarray:
    """Two bright squares that wander and change, as ``(count, size, size)`` uint8."""
    rng = np.random.default_rng(3)
    image = rng.integers(20, 60, (count, size, size)).astype(np.uint8)
    for z in range(count):
        image[z, 3 + z // 3 : 10 + z // 4, 3 + z // 2 : 10 + z // 3] += 150
        if z < count - 2:
            image[z, 14 - z // 5 : 21, 13 + z // 5 : 20] += 120
    return image


def stack_of_squares() -> ImageStack:
    """The same as a stack in memory."""
    return ImageStack(squares(), "ZYX", window=(0, 255))

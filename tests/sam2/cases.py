"""What our SAM 2 and the published implementations are both asked: weights, films, prompts; and how ours answers.

Everything is made from seeds, so that only the published implementations' answers need to be recorded
(``python -m benchmarks.parity``), and anyone can record them again.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.geometry import View
from napari_medsam2.memory import Bank, BankConfig, admit, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_medsam2.backend.protocol import Backend, Decoded

SIDE, WIDTH, FRAMES = 128, 128, 30
VIEW = View(0, 0, SIDE, SIDE, SIDE)

Given = ViewPrompt | np.ndarray
"""Clicks and boxes, or a mask ``(SIDE, SIDE)`` bool."""


@dataclass(frozen=True)
class Case:
    """A film and the prompts on it.

    ``seeds`` is, for each prompted frame, one prompt an object; ``start`` is where the walk begins.
    """

    name: str
    seeds: dict[int, list[Given]]
    start: int = 0
    reverse: bool = False
    frames: int = FRAMES
    absent: bool = False
    """Whether weights are such that objects are absent on some frames."""
    film: int = 5
    weights: int = 11

    @property
    def walk(self) -> range:
        """The frames that are visited."""
        return range(self.start, -1, -1) if self.reverse else range(self.start, self.frames)


def click(*points: tuple[float, float, int], box: tuple[float, float, float, float] | None = None) -> ViewPrompt:
    """``(y, x, label)`` each."""
    if not points:
        return ViewPrompt(*NO_POINTS, box=box)
    return ViewPrompt(np.array([p[:2] for p in points], np.float32), np.array([p[2] for p in points]), box)


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


CLICK = click((40.0, 61.5, 1))
BOX = click(box=(19.5, 30.5, 71.5, 99.5))
CLICKS = click((90.0, 30.0, 1), (20.0, 20.0, 0), (100.0, 44.0, 1))
BOTH = click((50.0, 60.0, 1), box=(29.5, 30.5, 81.5, 99.5))

STILLS: dict[str, Given] = {
    "one click": CLICK,
    "clicks": CLICKS,
    "box": BOX,
    "box and click": BOTH,
    "negative click": click((64.0, 64.0, 0)),
    "nothing": click(),
}
FILMS = [
    Case("one click, forward", {0: [CLICK]}),
    Case("three objects, backward", {29: [CLICK, BOX, BOTH]}, 29, True),
    Case("two masks, forward", {14: [disc(40, 50, 20), disc(90, 80, 9)]}, 14),
    Case("two masks, backward", {14: [disc(40, 50, 20), disc(90, 80, 9)]}, 14, True),
    Case("two prompted frames", {5: [CLICK], 20: [BOX]}, 5),
    Case("objects that come and go", {0: [CLICK, CLICKS]}, absent=True),
    Case("a short film", {0: [BOX]}, frames=6),
]


def values(
    shapes: Mapping[str, tuple[int, ...]], seed: int, absent: bool = False, structured: bool = False
) -> dict[str, np.ndarray]:
    """Weights for tensors of these (Meta's) names and shapes, in which every part has a say.

    Matrices have variance 2 / inputs, tokens and codes variance 1; memories are about as large as pointers; object
    scores are positive, or with ``absent`` positive and negative. Attention is so soft that small
    differences do not grow from frame to frame; trained networks do not amplify them either. ``structured``:
    matrices are pieces of a cosine transform in place of noise.
    """
    out = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith("num_batches_tracked"):
            out[name] = np.array(100, np.int64)
            continue
        x: np.ndarray = rng.standard_normal(shape, np.float32)
        last = name.rpartition(".")[2]
        if last == "running_var":
            x = 0.5 + np.abs(x)
        elif last in ("bias", "running_mean"):
            x *= 0.2
        elif last == "weight" and x.ndim == 1:
            x = 1 + 0.1 * x
        elif last == "weight" and not ("token" in name or "embed" in name.rpartition(".")[0].rpartition(".")[2]):
            inputs = int(np.prod(shape[1:]))
            if structured:
                rows, columns = np.arange(shape[0])[:, None] + rng.integers(1, 9), np.arange(inputs)[None] + 0.5
                x = (2**0.5 * np.cos(np.pi * rows * columns / inputs)).reshape(shape).astype(np.float32)
            # In double precision, as when the answers were recorded.
            x *= np.float64((2 / inputs) ** 0.5)
        if re.search(r"trunk\.body\..*(token_mixer\.conv1?|(mixer|ffn)\.conv2)\.bn\.(weight|bias)", name):
            # A residual network without norms on its main road.
            x *= 0.1
        if name == "memory_encoder.out_proj.weight":
            x /= 8
        if re.fullmatch(r"memory_attention\..*[qk]_proj\.weight", name):
            x /= 4
        if re.fullmatch(r"sam_mask_decoder\..*[qk]_proj\.weight", name):
            x /= 2
        if re.fullmatch(r"sam_mask_decoder\.output_hypernetworks_mlps\.\d\.layers\.2\..*", name):
            x *= 0.3
        if name.startswith("sam_mask_decoder.pred_obj_score_head.layers.2"):
            x = x * 0 + (-1.0 if absent else 4.0) if last == "bias" else x
        out[name] = x.astype(np.float32)
    return out


def make_film(case: Case, side: int = SIDE) -> Tensor:
    """``(T, 3, side, side)`` in [0, 1], smooth in space and from frame to frame."""
    import torch
    import torch.nn.functional as F

    coarse = np.random.default_rng(case.film).random((1, 3, max(case.frames // 3, 2), 9, 9), np.float32)
    film = F.interpolate(torch.from_numpy(coarse), size=(case.frames, side, side), mode="trilinear", align_corners=True)
    return film[0].transpose(0, 1).contiguous()


@dataclass
class Said:
    """Of each frame: logits ``(O, h, w)``, object scores ``(O,)``, pointers ``(O, C)``."""

    logits: dict[int, np.ndarray] = field(default_factory=dict)
    scores: dict[int, np.ndarray] = field(default_factory=dict)
    pointers: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, frame: int, decoded: Decoded) -> None:
        assert decoded.pointer is not None
        self.logits[frame] = decoded.logits.cpu().numpy()
        self.scores[frame] = decoded.score.cpu().numpy()
        self.pointers[frame] = decoded.pointer.cpu().numpy()


def decode(backend: Backend, embedding: Any, prompts: Sequence[Given]) -> Decoded:
    import torch

    if isinstance(prompts[0], np.ndarray):
        return backend.adopt(embedding, torch.from_numpy(np.stack([np.asarray(p) for p in prompts])).float())
    return backend.decode(embedding, [p for p in prompts if isinstance(p, ViewPrompt)])


def propagate(backend: Backend, case: Case, config: BankConfig | None = None) -> Said:
    """Drive our backend as the engine does, with a ``fifo`` bank."""
    config = BankConfig("fifo") if config is None else config
    film = make_film(case, backend.views.side)
    count = len(next(iter(case.seeds.values())))
    views, said, run = [VIEW] * count, Said(), range(case.frames)[:: case.walk.step]
    banks: list[Bank] = [()] * count
    for frame, prompts in case.seeds.items():
        embedding = backend.encode(film[frame : frame + 1]).take([0] * count)
        decoded = decode(backend, embedding, prompts)
        said.add(frame, decoded)
        memories = backend.remember(embedding, decoded, views, [frame] * count, prompted=True)
        banks = [admit(b, m, config) for b, m in zip(banks, memories, strict=True)]
    for frame in case.walk:
        if frame in case.seeds:
            continue
        embedding = backend.encode(film[frame : frame + 1]).take([0] * count)
        read = [select(b, embedding.descriptor[i], config, frame, run) for i, b in enumerate(banks)]
        context = backend.attend(embedding, read, views, True, frame, run)
        decoded = backend.decode(embedding, [ViewPrompt(*NO_POINTS)] * count, context)
        said.add(frame, decoded)
        memories = backend.remember(embedding, decoded, views, [frame] * count, prompted=False)
        banks = [admit(b, m, config) for b, m in zip(banks, memories, strict=True)]
    return said


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """|a ∩ b| / |a ∪ b|; of two empty masks 1."""
    union = np.count_nonzero(a | b)
    return 1.0 if not union else np.count_nonzero(a & b) / union

"""What a model answers on the sample images, and how far two of these are from each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_medsam2.backend.protocol import Backend, Decoded, Embedding, ViewPrompt
    from napari_medsam2.memory import Policy
    from napari_medsam2.samples import Sample

__all__ = ["Amount", "Answers", "ask", "compare"]

_ABSENT = -1000.0
"""Below this a logit says that there is no object; SAM 2 gives such objects −1024 everywhere."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is asked: objects of a sample's middle slice, and slices that their masks are carried on to."""

    objects: int = 8
    slices: int = 5


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered.

    Parameters
    ----------
    masks : dict
        Masks ``(H, W)`` bool by the kind of question (``"box"``, ``"click"``, ``"carried"``), then slice and object.
    logits : dict
        By the kind of question, what each call of the decoder gave: ``(O, h, w)`` over the views.
    descriptor : ndarray
        The middle slice's features, of unit length.
    """

    masks: dict[str, dict[tuple[int, int], np.ndarray]] = field(default_factory=dict)
    logits: dict[str, list[np.ndarray]] = field(default_factory=dict)
    descriptor: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


class _Listener:
    """A backend whose decoder's answers are kept."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.heard: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        decoded = self._backend.decode(embedding, prompts, context)
        self.heard.append(_array(decoded.logits))
        return decoded


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().float().cpu().numpy())


def ask(backend: Backend, sample: Sample, memory: Policy, amount: Amount) -> Answers:
    """Ask a model for the objects of a sample's middle slice, by boxes and by clicks, and carry the first ones on.

    Parameters
    ----------
    backend : Backend
        The model.
    sample : Sample
        The images and their labels.
    memory : str
        The policy of the memory bank.
    amount : Amount
        How much.
    """
    import tifffile

    from napari_medsam2 import AnnotationSession
    from napari_medsam2.evaluation.annotator import innermost
    from napari_medsam2.geometry import mask_box, whole_slice

    stack = sample.open()
    middle = len(stack) // 2
    labels = tifffile.imread(sample.labels)[middle]
    chosen = [labels == label for label in np.unique(labels)[1 : amount.objects + 1]]
    out = Answers()

    def begin(kind: str) -> dict[tuple[int, int], np.ndarray]:
        out.logits[kind] = listener.heard = []
        return out.masks.setdefault(kind, {})

    listener = _Listener(backend)
    shown: Any = listener
    session = AnnotationSession(stack, backend=shown, memory=memory)
    found = begin("click")
    for mask in chosen:
        label = session.add_object()
        found[middle, label] = session.add_points(label, middle, [innermost(mask)], [1]).mask
    session = AnnotationSession(stack, backend=shown, memory=memory)
    found = begin("box")
    for mask in chosen:
        label, box = session.add_object(), mask_box(mask)
        assert box is not None
        found[middle, label] = session.add_box(label, middle, box).mask
    found = begin("carried")
    for number, result in enumerate(session.propagate(direction="forward", patience=None, part=False)):
        found |= {(result.index, one.label): one.mask for one in result.objects}
        if number + 1 == amount.slices:
            break
    view = whole_slice(stack.slice_shape(middle), backend.views)
    descriptor = _array(backend.encode(view.cut(stack.pixels(middle))[None]).descriptor[0])
    return Answers(out.masks, out.logits, descriptor)


def compare(one: Answers, other: Answers) -> list[str]:
    """Say in words how far two models' answers are from each other: a line a kind of question, then the features."""
    from napari_medsam2.metrics import iou

    lines = []
    for kind, masks in one.masks.items():
        others = other.masks[kind]
        shared = sorted(masks.keys() & others.keys())
        overlaps = [iou(masks[key], others[key]) for key in shared]
        line = f"{kind:8}{len(shared):4} masks"
        if overlaps:
            same = sum(np.array_equal(masks[key], others[key]) for key in shared)
            line += f", {same:3} identical, IoU mean {np.mean(overlaps):.4f}, least {min(overlaps):.4f}"
        if masks.keys() != others.keys():
            line += f", {len(masks.keys() ^ others.keys())} given by one of them only"
        lines.append(f"{line}; {_logits(one.logits[kind], other.logits[kind])}")
    cosine = float(one.descriptor.astype(np.float64) @ other.descriptor.astype(np.float64))
    return [*lines, f"features' cosine {cosine:.7f}"]


def _logits(one: list[np.ndarray], other: list[np.ndarray]) -> str:
    """How far logits differ, of those calls that asked for equally much."""
    alike = [(a, b) for a, b in zip(one, other, strict=False) if a.shape == b.shape]
    calls = "" if len(alike) == len(one) == len(other) else f" (of {len(alike)} calls; {len(one)} and {len(other)})"
    if not alike:
        return "no logits to compare" + calls
    a, b = (np.concatenate([pair[i].ravel() for pair in alike]) for i in (0, 1))
    there = (a > _ABSENT) & (b > _ABSENT)
    gone = int(np.count_nonzero((a > _ABSENT) != (b > _ABSENT)))
    if not there.any():
        return "all absent" + calls
    apart = np.abs(a - b)[there]
    words = f"logits of up to {np.abs(a[there]).max():.1f} differ by at most {apart.max():.2g}, in the mean"
    words += f" {apart.mean():.2g}{calls}"
    return words + (f"; {gone / a.size:.1%} of them where one says absent" if gone else "")

"""What a network must offer to be driven by the engine, and the values that pass between the two.

The engine knows slices, objects and memory banks; a backend knows tensors. In every call the batch axis is one entry
an object (O): the engine repeats embeddings for objects that share a view. A backend keeps nothing between calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from napari_medsam2.geometry import View, ViewSpec

__all__ = ["NO_POINTS", "Attended", "Backend", "Decoded", "Embedding", "Memory", "Reason", "ViewPrompt"]

Reason = Literal["prompt", "corrected", "pinned", "admitted"]
"""Why a memory is in the bank: a person's prompt, or correction, or wish; or its own merits."""

NO_POINTS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
"""The points and labels of a prompt without points."""


@dataclass(frozen=True, slots=True)
class ViewPrompt:
    """The prompts of one object in one view, in view pixels (pixel centres are integers).

    Parameters
    ----------
    points : ndarray
        ``(P, 2)`` float ``(y, x)``.
    labels : ndarray
        ``(P,)`` int: 1 positive, 0 negative.
    box : tuple of float, optional
        Edges ``(y0, x0, y1, x1)``.
    previous : Tensor or ndarray, optional
        ``(h, w)`` probability in [0, 1] over the view, any resolution: this slice's mask so far, to be refined.
    carried : Tensor or ndarray, optional
        ``(h, w)`` likewise: the neighbouring slice's mask. A backend may ignore it.
    """

    points: np.ndarray
    labels: np.ndarray
    box: tuple[float, float, float, float] | None = None
    previous: Tensor | np.ndarray | None = None
    carried: Tensor | np.ndarray | None = None


class Embedding(Protocol):
    """The image encoder's features of a batch of views. Immutable."""

    @property
    def nbytes(self) -> int:
        """Bytes that the features take."""
        ...

    @property
    def descriptor(self) -> Tensor:
        """``(B, D)`` float32, unit length: each view's features flattened, for cosine similarity between slices."""
        ...

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int]) -> Embedding:
        """Select (and repeat) entries along the batch axis."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the mask decoder says of O objects.

    Parameters
    ----------
    logits : Tensor
        ``(O, h, w)`` float32 mask logits covering the view; positive inside.
    iou : Tensor
        ``(O,)`` float32 in [0, 1], the predicted IoU.
    score : Tensor
        ``(O,)`` float32 logit, positive where the object is in the view.
    pointer : Tensor, optional
        ``(O, C)``, SAM 2's object pointers.
    """

    logits: Tensor
    iou: Tensor
    score: Tensor
    pointer: Tensor | None = None

    def take(self, indices: Sequence[int]) -> Decoded:
        """Select objects."""
        index = list(indices)
        pointer = None if self.pointer is None else self.pointer[index]
        return Decoded(self.logits[index], self.iou[index], self.score[index], pointer)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What the memory encoder made of one object on one slice.

    Parameters
    ----------
    index : int
        The slice's number.
    view : View
        The window that was looked through.
    content : Any
        The backend's own tensors, opaque to the engine.
    feature : Tensor
        ``(D,)`` float32, unit length: the flattened memory features that the bank sorts by.
    descriptor : Tensor
        ``(D',)`` float32, unit length: the view's `Embedding.descriptor`, that reading is weighted by.
    confidence : float
        Predicted IoU in [0, 1].
    reason : str
        Why it is in the bank: ``"prompt"``, ``"corrected"``, ``"pinned"`` (a person wants it there) or ``"admitted"``.
    nbytes : int
        Bytes that it takes.
    """

    index: int
    view: View
    content: Any
    feature: Tensor
    descriptor: Tensor
    confidence: float
    reason: Reason = "admitted"
    nbytes: int = 0

    @property
    def pinned(self) -> bool:
        """Whether a person made it; such memories are never evicted."""
        return self.reason != "admitted"


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """A memory as one slice reads it.

    Parameters
    ----------
    memory : Memory
        The bank's member.
    weight : float
        Relative weight in (0, 1] among the members that are read.
    offset : int or None
        For networks with temporal codes: 0 for a prompted slice, 1 for the slice before the one that reads, 2 for the
        one before that; None where order has no meaning (self-sorting banks).
    """

    memory: Memory
    weight: float = 1.0
    offset: int | None = None


class Backend(Protocol):
    """A promptable network with a memory."""

    @property
    def name(self) -> str:
        """The model's name, as in ``load_backend(name)``."""
        ...

    @property
    def weights(self) -> str:
        """SHA-256 of a person's own weights; empty for those that the name always stands for."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its tensors live."""
        ...

    @property
    def views(self) -> ViewSpec:
        """How it wants its views."""
        ...

    @property
    def batch(self) -> int:
        """How many objects are worth decoding at once."""
        ...

    def encode(self, images: Tensor) -> Embedding:
        """Encode views ``(B, 3, S, S)`` float32 in [0, 1], on any device."""
        ...

    def join(self, embeddings: Sequence[Embedding]) -> Embedding:
        """Put embeddings together along the batch axis; without copies where all are the same one."""
        ...

    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        """Predict the masks of O objects from their prompts and, where given, what `attend` returned."""
        ...

    def adopt(self, embedding: Embedding, masks: Tensor) -> Decoded:
        """Take masks ``(O, S, S)`` in [0, 1] as they are: what `decode` would have said, had it drawn them."""
        ...

    def remember(
        self, embedding: Embedding, decoded: Decoded, views: Sequence[View], indices: Sequence[int], prompted: bool
    ) -> list[Memory]:
        """Encode one memory an object from what was decoded (``prompted``: with a person's help) on a slice.

        Every memory's ``reason`` is ``"prompt"`` where prompted, else ``"admitted"``.
        """
        ...

    def attend(
        self,
        embedding: Embedding,
        banks: Sequence[Sequence[Attended]],
        views: Sequence[View],
        ordered: bool,
        index: int | None = None,
        run: range | None = None,
    ) -> Any:
        """Let O objects' views read their banks (each has at least one member); the result goes to `decode`.

        ``ordered`` says that slices are neighbours, so that positions carry over from one to the next; ``index`` is
        the number of the slice that reads, for networks that look at its distance from the members', and ``run`` the
        numbers of all slices that are neighbours of each other, from which distances are counted, in the order of the
        walk: backward its step is negative.
        """
        ...

"""What the model, or a person, said of objects on slices; kept sparse and small."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_medsam2._compact import CERTAIN, compact
from napari_medsam2._compose import composed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from napari_medsam2._compose import Window
    from napari_medsam2.geometry import Box, View

__all__ = ["LazyLabels", "ObjectResult", "PackedResult", "Read", "Results", "SliceResult", "Source", "pack_members"]

Source = Literal["prompt", "mask", "propagated"]
"""Where a mask came from: the model from a prompt, a person, or the model from the memory bank."""

_SCALE = 8.0
"""Logits are held in eighths."""


@dataclass(frozen=True, slots=True)
class Read:
    """A memory that a slice read when its mask was computed.

    Parameters
    ----------
    index : int
        The slice that the memory is of.
    weight : float
        In (0, 1], relative to the others.
    reason : str
        Why it was in the bank: ``"prompt"``, ``"corrected"``, ``"pinned"`` or ``"admitted"``.
    confidence : float
        Its predicted IoU.
    """

    index: int
    weight: float
    reason: str
    confidence: float


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """One object on one slice.

    Parameters
    ----------
    label : int
        The object's value in the labels.
    index : int
        The slice.
    shape : tuple of int
        ``(H, W)`` of the slice.
    top, left : int
        First row and column of ``logits`` on the slice.
    logits : ndarray
        ``(h, w)`` int8, mask logits in eighths around the mask; outside of it the object is not. May be empty.
    confidence : float
        In [0, 1]: the predicted IoU times the probability that the object is there, and somewhat less the farther it
        was carried through a stack; where it is absent, the probability of that.
    object_score : float
        In [0, 1]: the probability that the object is in the slice.
    source : str
        ``"prompt"``, ``"mask"`` or ``"propagated"``.
    view : View, optional
        The window that the model looked through; None for painted masks.
    read : tuple of Read
        What the memory bank held for it, in order of arrival; empty unless it was propagated.
    disagreement : float, optional
        In [0, 1], between two prompted slices: 1 − Dice of the masks that were carried there from either; `logits` are
        of both. None where it was reached from one side only.
    """

    label: int
    index: int
    shape: tuple[int, int]
    top: int
    left: int
    logits: np.ndarray
    confidence: float
    object_score: float
    source: Source
    view: View | None = None
    read: tuple[Read, ...] = ()
    disagreement: float | None = None

    @classmethod
    def from_logits(
        cls,
        label: int,
        index: int,
        shape: tuple[int, int],
        placed: tuple[int, int, np.ndarray],
        iou: float,
        object_score: float,
        source: Source,
        view: View | None,
    ) -> ObjectResult:
        """Make a result of logits that `View.paste` placed on the slice; an object that is absent has no mask."""
        top, left, logits = placed
        if object_score < 0.5:
            return cls(label, index, shape, 0, 0, _nothing(), 1 - object_score, object_score, source, view)
        rows, columns = np.flatnonzero((logits > 0).any(1)), np.flatnonzero((logits > 0).any(0))
        if not len(rows):
            return cls(label, index, shape, 0, 0, _nothing(), 0.0, object_score, source, view)
        # A rim of logits below zero is kept, so that the outline can be found between pixels.
        y0, y1 = max(rows[0] - 2, 0), min(rows[-1] + 3, logits.shape[0])
        x0, x1 = max(columns[0] - 2, 0), min(columns[-1] + 3, logits.shape[1])
        eighths = np.clip(np.rint(logits[y0:y1, x0:x1] * _SCALE), -126, 126)
        # Rounding to zero must not lose a pixel of the mask.
        eighths = np.where((logits[y0:y1, x0:x1] > 0) & (eighths == 0), 1, eighths).astype(np.int8)
        confidence = float(np.clip(iou * object_score, 0, 1))
        return cls(label, index, shape, int(top + y0), int(left + x0), eighths, confidence, object_score, source, view)

    @classmethod
    def from_mask(cls, label: int, index: int, mask: np.ndarray) -> ObjectResult:
        """Make a result of a mask ``(H, W)`` bool that a person gave; it is taken as it is."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        shape = (int(mask.shape[0]), int(mask.shape[1]))
        if not len(rows):
            return cls(label, index, shape, 0, 0, _nothing(), 1.0, 0.0, "mask")
        piece = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        logits = np.where(piece, CERTAIN, -CERTAIN).astype(np.int8)
        return cls(label, index, shape, int(rows[0]), int(columns[0]), logits, 1.0, 1.0, "mask")

    @property
    def mask(self) -> np.ndarray:
        """``(H, W)`` bool."""
        out = np.zeros(self.shape, bool)
        h, w = self.logits.shape
        out[self.top : self.top + h, self.left : self.left + w] = self.logits > 0
        return out

    @property
    def probability(self) -> np.ndarray:
        """``(H, W)`` float32 in [0, 1]; 0 beyond the stored rim."""
        out = np.zeros(self.shape, np.float32)
        h, w = self.logits.shape
        values = 1 / (1 + np.exp(-self.logits.astype(np.float32) / _SCALE))
        out[self.top : self.top + h, self.left : self.left + w] = values
        return out

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.logits > 0))

    def shares(self, other: ObjectResult) -> int:
        """Pixels that belong to this mask and to another one of the slice."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.logits.shape[0], other.top + other.logits.shape[0])
        right = min(self.left + self.logits.shape[1], other.left + other.logits.shape[1])
        if bottom <= top or right <= left:
            return 0
        own, its = (r.logits[top - r.top : bottom - r.top, left - r.left : right - r.left] > 0 for r in (self, other))
        return int(np.count_nonzero(own & its))

    @property
    def box(self) -> Box | None:
        """Edges of the tight box around the mask; None where it is empty."""
        from napari_medsam2.geometry import mask_box

        box = mask_box(self.logits > 0)
        if box is None:
            return None
        return box[0] + self.top, box[1] + self.left, box[2] + self.top, box[3] + self.left


def _nothing() -> np.ndarray:
    return np.zeros((0, 0), np.int8)


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One slice with the objects that a prompt or a step of the propagation gave a mask.

    Parameters
    ----------
    index : int
        The slice.
    objects : tuple of ObjectResult
        At least one.
    """

    index: int
    objects: tuple[ObjectResult, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        """The objects' values in the labels."""
        return tuple(o.label for o in self.objects)

    @property
    def mask(self) -> np.ndarray:
        """``(H, W)`` bool: all objects of this result together."""
        out = self.objects[0].mask
        for other in self.objects[1:]:
            out |= other.mask
        return out

    @property
    def masks(self) -> dict[int, np.ndarray]:
        """Each object's mask, ``(H, W)`` bool, by label."""
        return {o.label: o.mask for o in self.objects}

    @property
    def confidence(self) -> float:
        """The least confident object's confidence, in [0, 1]."""
        return min(o.confidence for o in self.objects)

    @property
    def confidences(self) -> dict[int, float]:
        """Each object's confidence, in [0, 1], by label."""
        return {o.label: o.confidence for o in self.objects}


@dataclass(frozen=True, slots=True, eq=False)
class PackedResult:
    """An `ObjectResult` as it is kept: logits compressed, and coarser where it was propagated; the mask is the same.

    Parameters
    ----------
    bare : ObjectResult
        With empty logits, and without what the bank held.
    data : bytes
        The int8 logits in row order, as a zlib stream.
    size : tuple of int
        ``(h, w)`` of the logits.
    members : bytes
        What the memory bank held, packed; see `read`.
    """

    bare: ObjectResult
    data: bytes
    size: tuple[int, int]
    members: bytes = b""

    @classmethod
    def of(cls, result: ObjectResult) -> PackedResult:
        """Compress a result. What was unpacked before comes back with the same bits."""
        h, w = result.logits.shape
        # Clicks refine a prompted mask from its logits: made coarse, they need twice as many clicks.
        kept = compact(result.logits) if result.source == "propagated" else result.logits
        data = zlib.compress(np.ascontiguousarray(kept).tobytes())
        return cls(replace(result, logits=_nothing(), read=()), data, (int(h), int(w)), pack_members(result.read))

    @property
    def read(self) -> tuple[Read, ...]:
        """What the memory bank held; weights and confidences to four decimals."""
        return tuple(
            Read(index, weight / 1e4, _REASONS[reason], confidence / 1e4)
            for index, weight, reason, confidence in _MEMBER.iter_unpack(self.members)
        )

    def unpack(self) -> ObjectResult:
        """Return the result with the logits that were kept."""
        logits = np.frombuffer(zlib.decompress(self.data), np.int8).reshape(self.size)
        return replace(self.bare, logits=logits, read=self.read)


_MEMBER = struct.Struct("<IHBH")
_REASONS = ("prompt", "corrected", "pinned", "admitted")


def pack_members(read: Sequence[Read]) -> bytes:
    """Pack what a memory bank held: nine bytes a member, where the objects would take a kilobyte a mask."""
    return b"".join(
        _MEMBER.pack(one.index, round(one.weight * 1e4), _REASONS.index(one.reason), round(one.confidence * 1e4))
        for one in read
    )


class Results:
    """All results of a session, compressed: some hundred bytes an object and slice."""

    def __init__(self) -> None:
        self._slices: dict[int, dict[int, PackedResult]] = {}

    def __len__(self) -> int:
        return sum(len(s) for s in self._slices.values())

    def put(self, result: ObjectResult | PackedResult) -> None:
        """Store a result in place of what was known of that object on that slice."""
        packed = result if isinstance(result, PackedResult) else PackedResult.of(result)
        self._slices.setdefault(packed.bare.index, {})[packed.bare.label] = packed

    def packed(self, label: int, index: int) -> PackedResult | None:
        """What is known of an object on a slice, as it is kept."""
        return self._slices.get(index, {}).get(label)

    def get(self, label: int, index: int) -> ObjectResult | None:
        """What is known of an object on a slice."""
        entry = self.packed(label, index)
        return None if entry is None else entry.unpack()

    def discard(self, label: int, index: int | None = None) -> None:
        """Forget an object, on one slice or on all."""
        for i in list(self._slices) if index is None else [index]:
            if i in self._slices:
                self._slices[i].pop(label, None)
                if not self._slices[i]:
                    del self._slices[i]

    def indices(self, label: int | None = None) -> list[int]:
        """The slices that hold a result (of one object), in order."""
        return sorted(i for i, s in self._slices.items() if label is None or label in s)

    def on(self, index: int) -> Iterator[ObjectResult]:
        """All results on a slice, in order of their labels."""
        for _, entry in sorted(self._slices.get(index, {}).items()):
            yield entry.unpack()

    def held(self, index: int) -> dict[int, PackedResult]:
        """All that is known of a slice, by label, as it is kept."""
        return dict(self._slices.get(index, {}))

    def summary(self, labels: Collection[int] | None = None) -> Iterator[tuple[int, int, float, float, Source]]:
        """``(index, label, confidence, object score, source)`` of all or some, in order; without the masks."""
        for index, held in sorted(self._slices.items()):
            for label in sorted(held if labels is None else held.keys() & labels):
                bare = held[label].bare
                yield index, label, bare.confidence, bare.object_score, bare.source

    def compose(
        self, index: int, shape: tuple[int, int], dtype: np.dtype[Any], window: Window | None = None
    ) -> np.ndarray:
        """Draw a slice's labels, ``(H, W)`` or a window of them, see `composed`."""
        return composed(self._slices.get(index, {}), shape, dtype, window)


class LazyLabels:
    """A labels array that draws its slices when they are asked for.

    Parameters
    ----------
    shape : tuple of int
        Leading axes, then ``(H, W)``.
    dtype : dtype
        An integer type.
    draw : callable
        Takes the flat number of a slice, gives ``(H, W)``.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], draw: Callable[[int], np.ndarray]) -> None:
        self.shape, self.dtype, self._draw = tuple(shape), np.dtype(dtype), draw

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        lead = self.shape[:-2]
        if not lead:
            return np.asarray(self._draw(0)[key])
        numbers = np.arange(int(np.prod(lead))).reshape(lead)
        key = key if isinstance(key, tuple) else (key,)
        if any(k is Ellipsis for k in key):
            at = next(i for i, k in enumerate(key) if k is Ellipsis)
            missing = self.ndim - (len(key) - 1)
            key = (*key[:at], *([slice(None)] * missing), *key[at + 1 :])
        if len(key) > self.ndim:
            raise IndexError(f"too many indices: the labels have {self.ndim} axes")
        chosen = numbers[key[: len(lead)]]
        if np.ndim(chosen) == 0:
            return np.asarray(self._draw(int(chosen))[key[len(lead) :]])
        flat = [self._draw(int(i)) for i in np.ravel(chosen)]
        stack = np.stack(flat) if flat else np.zeros((0, *self.shape[-2:]), self.dtype)
        out = stack.reshape(*np.shape(chosen), *self.shape[-2:])
        return np.asarray(out[(slice(None),) * np.ndim(chosen) + key[len(lead) :]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the labels are drawn when asked for: they cannot be given without a copy")
        return np.asarray(self[...], dtype=dtype)

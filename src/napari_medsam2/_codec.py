"""Entries as JSON and blobs, and back; what is read is data of unknown origin, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args

import numpy as np

from napari_medsam2._journal import Blob, Piece
from napari_medsam2._numbers import LARGEST_LABEL
from napari_medsam2.backend.protocol import Decoded, Reason
from napari_medsam2.errors import InputError
from napari_medsam2.geometry import View
from napari_medsam2.prediction import Prediction
from napari_medsam2.prompts import SlicePrompt, check_box, check_points
from napari_medsam2.results import ObjectResult, PackedResult, Read, Source, pack_members
from napari_medsam2.state import COLOR, EntryKind, Key, Mark, ObjectInfo, Value, Wish

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

__all__ = ["Shapes", "decode_entries", "encode_entries"]

_FARTHEST = 2**24
"""No view reaches farther, in pixels."""
_LARGEST_SIDE = 2**13
"""Of views and of the mask decoder's output."""
_MEMBERS = 4096
"""Of a memory bank."""
_DTYPES = ("float32", "float16", "bfloat16")


class Shapes(Protocol):
    """How many slices there are, and their sizes."""

    def __len__(self) -> int: ...

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)``."""
        ...


def encode_entries(values: Iterable[tuple[Key, Value | None]], head: Mapping[str, Any], quick: bool = False) -> Piece:
    """Make a record of entries, after the fields of ``head``; a ``quick`` one leaves logits uncompressed."""
    rows: list[dict[str, Any]] = []
    blobs: list[Blob] = []
    for key, value in values:
        row: dict[str, Any] = {"k": key.kind, "l": int(key.label), "i": int(key.index)}
        if value is None:
            row["gone"] = True
        else:
            row |= _encode(value, blobs, quick)
        rows.append(row)
    return Piece({**head, "entries": rows}, blobs)


def _encode(value: Value, blobs: list[Blob], quick: bool) -> dict[str, Any]:
    if isinstance(value, ObjectInfo):
        return {"name": value.name} if value.color is None else {"name": value.name, "color": value.color}
    if isinstance(value, SlicePrompt):
        return _encode_prompt(value, blobs)
    if isinstance(value, PackedResult):
        return _encode_result(value, blobs)
    if isinstance(value, Prediction):
        return _encode_prediction(value, blobs, quick)
    return {"is": value}


def _encode_prompt(value: SlicePrompt, blobs: list[Blob]) -> dict[str, Any]:
    row: dict[str, Any] = {"corrects": value.corrects}
    if value.refines:
        row["refines"] = True
    if len(value.points):
        row |= {"points": value.points.tolist(), "labels": value.labels.tolist()}
    if value.box is not None:
        row["box"] = [float(v) for v in value.box]
    if (painted := value.mask) is not None:
        row["mask"] = len(blobs)
        blobs.append(Blob.zlib(np.packbits(painted).tobytes()))
    return row


def _encode_result(value: PackedResult, blobs: list[Blob]) -> dict[str, Any]:
    bare = value.bare
    blobs.append(Blob(value.data, value.size[0] * value.size[1], "zlib"))
    row: dict[str, Any] = {
        "at": [int(v) for v in (bare.top, bare.left, *value.size)],
        "confidence": float(bare.confidence),
        "score": float(bare.object_score),
        "source": bare.source,
        "logits": len(blobs) - 1,
    }
    if bare.view is not None:
        row["view"] = _encode_view(bare.view)
    if value.members:
        row["read"] = [[one.index, one.weight, one.reason, one.confidence] for one in value.read]
    if bare.disagreement is not None:
        row["disagreement"] = float(bare.disagreement)
    return row


def _encode_view(view: View) -> list[int]:
    return [view.top, view.left, view.height, view.width, view.side]


def _encode_prediction(value: Prediction, blobs: list[Blob], quick: bool) -> dict[str, Any]:
    decoded = value.decoded
    row: dict[str, Any] = {
        "view": _encode_view(value.view),
        "corrected": value.corrected,
        "model": value.model,
        "shape": list(decoded.logits.shape[1:]),
        "logits": len(blobs),
        # A float32 survives the way through a double and its shortest text.
        "iou": float(decoded.iou[0]),
        "score": float(decoded.score[0]),
    }
    logits = _bytes(decoded.logits)
    # A click waits for its record, but not for a snapshot, which packs them.
    blobs.append(Blob(logits, len(logits)) if quick else Blob.planes(logits))
    if decoded.pointer is not None:
        row["pointer"] = [len(blobs), decoded.pointer.shape[1], str(decoded.pointer.dtype).removeprefix("torch.")]
        blobs.append(Blob(_bytes(decoded.pointer), decoded.pointer.shape[1] * 4))
    return row


def _bytes(tensor: Tensor) -> bytes:
    array = tensor.detach().float().cpu().contiguous().numpy()
    if not np.isfinite(array).all():
        raise InputError("the model gave NaN or infinity; check the image for such values, and the model's weights")
    return bytes(array.astype("<f4", copy=False).tobytes())


@dataclass(slots=True)
class _Reader:
    """The fields of one entry, each checked when it is taken."""

    row: Mapping[str, Any]
    blobs: Sequence[Blob]
    shape: tuple[int, int]
    key: Key

    def whole(self, value: Any, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{value!r} is no whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self.row.get(name)
        if type(value) not in (int, float) or not low <= cast("float", value) <= high:
            raise ValueError(f"{name} is {value!r}, not a number from {low:g} to {high:g}")
        return float(cast("float", value))

    def flag(self, name: str) -> bool:
        value = self.row.get(name)
        if type(value) is not bool:
            raise ValueError(f"{name} is neither true nor false")
        return value

    def wholes(self, name: str, count: int) -> list[int]:
        value = self.row.get(name)
        if not isinstance(value, list) or len(value) != count:
            raise ValueError(f"{name} is not a list of {count} whole numbers")
        return [self.whole(v, -_FARTHEST, _FARTHEST) for v in value]

    def blob(self, number: Any) -> Blob:
        return self.blobs[self.whole(number, 0, len(self.blobs) - 1)]

    def view(self) -> View:
        top, left, height, width, side = self.wholes("view", 5)
        self.whole(height, 1, _FARTHEST)
        self.whole(width, 1, _FARTHEST)
        self.whole(side, 1, _LARGEST_SIDE)
        return View(top, left, height, width, side)


def decode_entries(piece: Piece, shapes: Shapes) -> dict[Key, Value | None]:
    """Read the entries of a record.

    Parameters
    ----------
    piece : Piece
        The record.
    shapes : Shapes
        The image's number of slices and their sizes, which everything must fit.

    Returns
    -------
    dict
        Values by key; None for what was taken away. Tensors are on the CPU.

    Raises
    ------
    ValueError
        If anything is not what the format says. InputError, which is one, with the same meaning.
    """
    rows = piece.head.get("entries")
    if not isinstance(rows, list):
        raise ValueError("it has no list of entries")
    out: dict[Key, Value | None] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError("an entry is no object")
        kind, label, index = row.get("k"), row.get("l"), row.get("i")
        if kind not in get_args(EntryKind):
            raise ValueError(f"an entry is of the unknown kind {kind!r}")
        if type(label) is not int or not 1 <= label <= LARGEST_LABEL:
            raise ValueError(f"{label!r} is no label")
        low, high = (-1, -1) if kind == "object" else (0, len(shapes) - 1)
        if type(index) is not int or not low <= index <= high:
            raise ValueError(f"{index!r} is no slice")
        key = Key(cast("EntryKind", kind), label, index)
        if key in out:
            raise ValueError(f"the {kind} of object {label} on slice {index} is there twice")
        if row.get("gone") is True:
            out[key] = None
            continue
        shape = (0, 0) if kind == "object" else shapes.slice_shape(index)
        out[key] = _DECODERS[key.kind](_Reader(row, piece.blobs, shape, key))
    return out


def _decode_object(read: _Reader) -> ObjectInfo:
    name, color = read.row.get("name"), read.row.get("color")
    if not isinstance(name, str):
        raise ValueError("an object has no name")
    if color is not None and (not isinstance(color, str) or not COLOR.fullmatch(color)):
        raise ValueError(f"{color!r} is no colour")
    return ObjectInfo(read.key.label, name, color)


def _decode_prompt(read: _Reader) -> SlicePrompt:
    content = SlicePrompt(corrects=read.flag("corrects"), refines="refines" in read.row and read.flag("refines"))
    points, labels, box, mask = content.points, content.labels, None, None
    if "points" in read.row:
        points, labels = check_points(read.row["points"], read.row.get("labels"), read.shape)
    if "box" in read.row:
        box = check_box(read.row["box"], read.shape)
    if "mask" in read.row:
        count = math.prod(read.shape)
        bits = np.frombuffer(read.blob(read.row["mask"]).unpack((count + 7) // 8), np.uint8)
        mask = np.unpackbits(bits, count=count).astype(bool).reshape(read.shape)
    found = replace(content, points=points, labels=labels, box=box, mask=mask)
    if found.empty:
        raise ValueError("a prompt says nothing")
    return found


def _decode_result(read: _Reader) -> PackedResult:
    top, left, height, width = read.wholes("at", 4)
    if min(top, left, height, width) < 0 or top + height > read.shape[0] or left + width > read.shape[1]:
        raise ValueError("a mask reaches over its slice")
    source = read.row.get("source")
    if source not in get_args(Source):
        raise ValueError(f"a mask of the unknown source {source!r}")
    blob = read.blob(read.row.get("logits"))
    blob.unpack(height * width)
    if blob.codec != "zlib":
        raise ValueError("a mask is not packed by zlib")
    view = read.view() if "view" in read.row else None
    bare = ObjectResult(
        read.key.label, read.key.index, read.shape, top, left, np.zeros((0, 0), np.int8),
        read.number("confidence", 0, 1), read.number("score", 0, 1), cast("Source", source), view,
        disagreement=read.number("disagreement", 0, 1) if "disagreement" in read.row else None,
    )  # fmt: skip
    return PackedResult(bare, blob.data, (height, width), pack_members(_decode_read(read.row.get("read", []))))


def _decode_read(rows: Any) -> tuple[Read, ...]:
    if not isinstance(rows, list) or len(rows) > _MEMBERS:
        raise ValueError("what the memory bank held is no list, or too long")
    out = []
    for row in rows:
        if not isinstance(row, list) or [type(v) for v in row[:1] + row[2:3]] != [int, str] or len(row) != 4:
            raise ValueError("a member of the memory bank is not as it should be")
        weight, confidence = row[1], row[3]
        if not all(type(v) in (int, float) and 0 <= v <= 1 for v in (weight, confidence)):
            raise ValueError("a member of the memory bank has a weight or a confidence that is none")
        if not 0 <= row[0] < 2**32 or row[2] not in get_args(Reason):
            raise ValueError(f"a memory of slice {row[0]} for the unknown reason {row[2]!r}")
        out.append(Read(row[0], float(weight), row[2], float(confidence)))
    return tuple(out)


def _decode_prediction(read: _Reader) -> Prediction:
    import torch

    rows, columns = read.wholes("shape", 2)
    size = read.whole(rows, 1, _LARGEST_SIDE) * read.whole(columns, 1, _LARGEST_SIDE)
    logits = _floats(read.blob(read.row.get("logits")), size).reshape(1, rows, columns)
    pointer = None
    if "pointer" in read.row:
        value = read.row["pointer"]
        if not isinstance(value, list) or len(value) != 3 or value[2] not in _DTYPES:
            raise ValueError("a pointer is none")
        length = read.whole(value[1], 1, 2**16)
        pointer = torch.from_numpy(_floats(read.blob(value[0]), length)).reshape(1, length)
        pointer = pointer.to(getattr(torch, value[2]))
    decoded = Decoded(
        torch.from_numpy(logits),
        torch.tensor([read.number("iou", -3e38, 3e38)], dtype=torch.float32),
        torch.tensor([read.number("score", -3e38, 3e38)], dtype=torch.float32),
        pointer,
    )
    model = read.row.get("model")
    if not isinstance(model, str):
        raise ValueError("a prediction does not say of which model")
    return Prediction(read.view(), decoded, read.flag("corrected"), model)


def _floats(blob: Blob, count: int) -> np.ndarray:
    array = np.frombuffer(blob.unpack(4 * count), "<f4").astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("NaN or infinity among logits")
    return array


def _one_of(read: _Reader, words: tuple[str, ...], what: str) -> str:
    value = read.row.get("is")
    if value not in words:
        raise ValueError(f"{value!r} is no {what}")
    return str(value)


def _decode_mark(read: _Reader) -> str:
    return _one_of(read, get_args(Mark), "mark")


def _decode_memory(read: _Reader) -> str:
    return _one_of(read, get_args(Wish), "wish for a memory")


def _decode_pending(read: _Reader) -> bool:
    return read.flag("is")


_DECODERS: dict[str, Any] = {
    "object": _decode_object,
    "prompt": _decode_prompt,
    "prediction": _decode_prediction,
    "result": _decode_result,
    "mark": _decode_mark,
    "pending": _decode_pending,
    "memory": _decode_memory,
}

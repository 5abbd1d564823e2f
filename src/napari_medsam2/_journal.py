"""The journal's file: checked records, one after the other, appended so that a crash costs at most the last.

`docs/session-format.md` describes it byte by byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["MAGIC", "Blob", "JournalFile", "Piece", "Tail", "pack", "read_records"]

MAGIC = b"napari-medsam2 session 1\n"
"""What the file begins with; the digit is the format's version."""
_MARK = b"MS2R"
_FRAME = struct.Struct("<4sIII")
"""Mark, number, length of the payload, CRC-32 of the payload; the CRC-32 of these 16 bytes follows."""
_CHECK = struct.Struct("<I")
_HEAD = _FRAME.size + _CHECK.size
_LARGEST = 2**30
"""No record is longer; what says so is damaged."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes beside a record's JSON.

    Parameters
    ----------
    data : bytes
        As stored.
    size : int
        Bytes once unpacked.
    codec : str
        ``"raw"``; ``"zlib"``; ``"zlib4"``: a zlib stream of four planes, of the first, second, third and fourth bytes
        of 4-byte values.
    """

    data: bytes
    size: int
    codec: str = "raw"

    @classmethod
    def zlib(cls, data: bytes) -> Blob:
        """Compress bytes."""
        return cls(zlib.compress(data, 1), len(data), "zlib")

    @classmethod
    def planes(cls, data: bytes) -> Blob:
        """Compress 4-byte values; like bytes of floats stand together, which compresses better and faster."""
        import numpy as np

        planes = np.frombuffer(data, np.uint8).reshape(-1, 4).T
        return cls(zlib.compress(planes.tobytes(), 1), len(data), "zlib4")

    def unpack(self, size: int) -> bytes:
        """Return the bytes, of which there must be ``size``: a stream that swells further is not followed.

        Raises
        ------
        ValueError
            If there are more or fewer, or the stream is damaged.
        """
        if self.size != size:
            raise ValueError(f"{self.size} bytes where {size} belong")
        if self.codec == "raw":
            out = self.data
        else:
            stream = zlib.decompressobj()
            try:
                out = stream.decompress(self.data, size + 1)
            except zlib.error as error:
                raise ValueError(f"a damaged stream: {error}") from error
            if not stream.eof:
                # One byte of room was left, so that a stream of the right size has ended by now.
                raise ValueError("a stream of another size than it says")
        if len(out) != size:
            raise ValueError(f"a stream of {len(out)} bytes where {size} belong")
        if self.codec == "zlib4":
            import numpy as np

            if size % 4:
                raise ValueError(f"{size} bytes are no 4-byte values")
            out = np.frombuffer(out, np.uint8).reshape(4, -1).T.tobytes()
        return out


@dataclass(frozen=True, slots=True)
class Piece:
    """A record: JSON values and blobs."""

    head: dict[str, Any]
    blobs: Sequence[Blob] = ()


@dataclass(slots=True)
class Tail:
    """Where the whole records end, found by `read_records`.

    Parameters
    ----------
    end : int
        Bytes of the file up to there.
    number : int
        Of the next record.
    torn : bytes
        What follows: a record that was never finished. Empty where there is none.
    """

    end: int = 0
    number: int = 0
    torn: bytes = field(default=b"", repr=False)


def pack(piece: Piece, number: int) -> bytes:
    """Make a record's bytes."""
    head = dict(piece.head)
    if piece.blobs:
        head["blobs"] = [[len(b.data), b.size, b.codec] for b in piece.blobs]
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    payload = b"".join([_CHECK.pack(len(text)), text, *(b.data for b in piece.blobs)])
    if len(payload) > _LARGEST:
        raise InputError(f"a step of {len(payload) >> 20} MiB does not fit a session's file; do it in parts")
    frame = _FRAME.pack(_MARK, number, len(payload), zlib.crc32(payload))
    return b"".join([frame, _CHECK.pack(zlib.crc32(frame)), payload])


def read_records(path: Path, tail: Tail) -> Iterator[tuple[int, Piece]]:
    """Read a journal from its beginning.

    Parameters
    ----------
    path : Path
        The file; nothing is written.
    tail : Tail
        Filled in, once the last record was given, with where the whole records end.

    Yields
    ------
    tuple
        The record's number, from 0, and its content.

    Raises
    ------
    InputError
        If the file is none of this format, or a record before the last is damaged.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            begin = stream.read(len(MAGIC))
            if begin != MAGIC:
                raise InputError(_not_one(path, begin))
            at, number = len(MAGIC), 0
            while at < size:
                stream.seek(at)
                head = stream.read(_HEAD)
                length = _length(head, number)
                payload = stream.read(length) if length is not None else b""
                whole = length is not None and len(payload) == length
                if not whole or zlib.crc32(payload) != _FRAME.unpack(head[: _FRAME.size])[3]:
                    stream.seek(at)
                    rest = stream.read()
                    if (whole and at + _HEAD + len(payload) < size) or _goes_on(rest[1:], number):
                        raise InputError(_damaged(path, number, at))
                    tail.torn = rest
                    break
                try:
                    piece = _parse(payload)
                except (ValueError, RecursionError) as error:
                    raise InputError(_damaged(path, number, at)) from error
                yield number, piece
                at, number = at + _HEAD + len(payload), number + 1
            tail.end, tail.number = at, number
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _length(head: bytes, number: int) -> int | None:
    """The payload's length, if a frame is whole and has the number that is due."""
    if len(head) < _HEAD:
        return None
    mark, found, length, _ = _FRAME.unpack(head[: _FRAME.size])
    (check,) = _CHECK.unpack(head[_FRAME.size :])
    if mark != _MARK or check != zlib.crc32(head[: _FRAME.size]) or found != number or length > _LARGEST:
        return None
    return int(length)


def _goes_on(rest: bytes, number: int) -> bool:
    """Whether whole frames follow a damaged one, so that it was not the last that was written."""
    at = rest.find(_MARK)
    while at >= 0:
        head = rest[at : at + _HEAD]
        if len(head) == _HEAD:
            _, found, _, _ = _FRAME.unpack(head[: _FRAME.size])
            if _length(head, found) is not None and found > number:
                return True
        at = rest.find(_MARK, at + 1)
    return False


def _parse(payload: bytes) -> Piece:
    (length,) = _CHECK.unpack(payload[: _CHECK.size])
    text = payload[_CHECK.size : _CHECK.size + length]
    if len(text) != length:
        raise ValueError("its JSON is cut")
    head = json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    if not isinstance(head, dict):
        raise ValueError("its JSON is no object")
    blobs, at = [], _CHECK.size + length
    table = head.pop("blobs", [])
    if not isinstance(table, list):
        raise ValueError("its table of blobs is none")
    for row in table:
        if not isinstance(row, list) or len(row) != 3:
            raise ValueError("its table of blobs is none")
        stored, size, codec = row
        if not all(type(n) is int and n >= 0 for n in (stored, size)) or codec not in ("raw", "zlib", "zlib4"):
            raise ValueError("its table of blobs is none")
        if at + stored > len(payload):
            raise ValueError("a blob is cut")
        blobs.append(Blob(payload[at : at + stored], size, codec))
        at += stored
    if at != len(payload):
        raise ValueError("it holds more than it says")
    return Piece(head, blobs)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _not_one(path: Path, begin: bytes) -> str:
    if begin.startswith(MAGIC[:-2]):
        return f"{path} is of a newer version of the format; open it with a newer napari-medsam2"
    return f"{path} is not a session file, or its beginning is damaged; get a copy of it"


def _damaged(path: Path, number: int, at: int) -> str:
    return f"record {number} of {path} (at byte {at}) is damaged; nothing was changed: get a copy of the folder"


class JournalFile:
    """A journal that is open for appending.

    Parameters
    ----------
    path : Path
        The file; it exists and is whole up to ``tail.end``; what follows is cut off.
    tail : Tail
        From `read_records`.
    """

    def __init__(self, path: Path, tail: Tail) -> None:
        self.path, self.size, self._number = path, tail.end, tail.number
        self._broken, self._handle = False, -1
        self.reopen()
        if tail.torn:
            os.ftruncate(self._handle, tail.end)
            os.fsync(self._handle)

    def reopen(self) -> None:
        """Open the file, which `close` closed; nothing else wrote to it since."""
        self._handle = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def append(self, pieces: Iterable[Piece]) -> None:
        """Write records and wait until the disk has them; all or, where that fails, none.

        Raises
        ------
        InputError
            If the disk is full or fails.
        """
        if self._broken:
            raise InputError(f"{self.path} cannot be written since the disk failed; save the session elsewhere")
        number, chunks = self._number, []
        for piece in pieces:
            chunks.append(pack(piece, number))
            number += 1
        data = b"".join(chunks)
        try:
            os.lseek(self._handle, self.size, os.SEEK_SET)
            write_all(self._handle, data)
            _sync(self._handle)
        except OSError as error:
            self._take_back()
            raise InputError(
                f"cannot save to {self.path}: {error.strerror or error}; the last step was not done, all before it is "
                f"safe: make room, or save the session elsewhere"
            ) from error
        except BaseException:
            # Interrupted: what was written of it must not stay behind the next record.
            self._take_back()
            raise
        self.size, self._number = self.size + len(data), number

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._handle, self.size)
            os.fsync(self._handle)
        except OSError:
            # Appending behind half a record would lose all that follows.
            self._broken = True

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = -1

    __del__ = close


def write_all(handle: int, data: bytes) -> None:
    """Write bytes, however often the system takes only some of them."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


_sync = getattr(os, "fdatasync", os.fsync)

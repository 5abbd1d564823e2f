"""A session's folder: its journal, its lock, and what is read from and written to them.

`docs/session-format.md` describes the format.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_medsam2 import __version__
from napari_medsam2._codec import decode_entries, encode_entries
from napari_medsam2._files import WINDOWS, atomic_path
from napari_medsam2._imageref import ImageReference
from napari_medsam2._journal import MAGIC, JournalFile, Piece, Tail, pack, read_records
from napari_medsam2._lock import LOCK, HeldError, Lock
from napari_medsam2.errors import InputError
from napari_medsam2.history import BUDGET, History, Record
from napari_medsam2.memory import BankConfig
from napari_medsam2.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["JOURNAL", "Saved", "Settings", "Store", "load"]

JOURNAL = "session.journal"
_CHUNK = 256
"""Entries a record of a snapshot holds."""
_WORTH = 32 * 2**20
"""The journal is rewritten once more than this, and more than its last snapshot, was appended."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is fixed when a session begins.

    Parameters
    ----------
    image : ImageReference
        The image.
    kind : str
        ``"stack"`` or ``"collection"``.
    bank : BankConfig
        The memory bank's settings.
    model : str
        The backend's name.
    """

    image: ImageReference
    kind: str
    bank: BankConfig
    model: str

    def to_piece(self, generation: int) -> Piece:
        """Make the journal's first record."""
        bank = {name: getattr(self.bank, name) for name in BankConfig.__slots__}
        return Piece(
            {
                "op": "session", "generation": generation, "program": __version__, "kind": self.kind, "bank": bank,
                "model": self.model, "image": self.image.to_json(),
            }
        )  # fmt: skip

    @classmethod
    def from_piece(cls, piece: Piece) -> Settings:
        """Read the journal's first record; ValueError where it is none."""
        head = piece.head
        if head.get("op") != "session" or head.get("kind") not in ("stack", "collection"):
            raise ValueError("it is no beginning of a session")
        bank, model = head.get("bank"), head.get("model")
        if not isinstance(model, str) or not isinstance(bank, dict):
            raise ValueError("its settings are incomplete")
        # Earlier versions knew no trust.
        bank = {"trust": None, **bank}
        if bank.keys() != set(BankConfig.__slots__):
            raise ValueError("its settings are incomplete")
        number = (int, float)
        kinds: dict[str, type | tuple[type, ...]] = {
            "policy": str, "size": int, "threshold": number, "tolerance": number, "draws": bool, "seed": int,
            "trust": number,
        }  # fmt: skip
        for name, wanted in kinds.items():
            unsaid = bank[name] is None and name in ("size", "threshold", "trust")
            if not unsaid and not isinstance(bank[name], wanted):
                raise ValueError(f"its {name} is {bank[name]!r}")
        return cls(ImageReference.from_json(head.get("image")), head["kind"], BankConfig(**bank), model)


@dataclass(slots=True, eq=False)
class Saved:
    """What a session's folder holds.

    Parameters
    ----------
    settings : Settings
        From the first record, or as changed since.
    state : State
        With tensors on the CPU.
    history : History
        What can be undone and redone.
    tail : Tail
        Where the journal ends.
    step : int
        The next command's number.
    generation : int
        How often the journal was rewritten.
    snapshot : int
        Bytes of the journal up to where its snapshot ends.
    """

    settings: Settings
    state: State = field(default_factory=State)
    history: History = field(default_factory=History)
    tail: Tail = field(default_factory=Tail)
    step: int = 1
    generation: int = 1
    snapshot: int = 0


def load(folder: Path, budget: int = BUDGET) -> Saved:
    """Read a session's folder without changing it.

    Raises
    ------
    InputError
        If it is no session, or damaged.
    """
    path = folder / JOURNAL
    if not path.is_file():
        what = "there is no folder" if not folder.is_dir() else "there is no session in"
        raise InputError(f"{what} {folder}; give a folder that a session was saved to")
    tail = Tail()
    saved: Saved | None = None
    ready = False
    for number, piece in read_records(path, tail):
        try:
            if saved is None:
                saved = Saved(Settings.from_piece(piece), history=History(budget), tail=tail)
                saved.generation = _whole(piece.head.get("generation"), 1)
            elif not ready and piece.head.get("op") == "ready":
                ready = True
            else:
                _take(saved, piece, ready)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise InputError(
                f"record {number} of {path} cannot be read ({error}); nothing was changed: get a copy of the folder"
            ) from error
    if saved is None or not ready:
        raise InputError(f"{path} was cut off in its first part; nothing was changed: get a copy of the folder")
    return saved


def _take(saved: Saved, piece: Piece, ready: bool) -> None:
    """Take in one record."""
    op = piece.head.get("op")
    if not ready:
        if op == "state":
            changes = decode_entries(piece, saved.settings.image)
            saved.state.check(changes)
            saved.state.update(changes)
        elif op == "log":
            saved.history.log.append(_record(saved, piece, apply=False))
        else:
            raise ValueError(f"{op!r} has no place in a snapshot")
    elif op == "do":
        saved.history.add(_record(saved, piece, apply=True))
    elif op == "undo":
        if not saved.history.done:
            raise ValueError("there is nothing to undo")
        for key, entry in saved.history.undo().befores():
            saved.state.put(key, entry.before)
    elif op == "redo":
        if not saved.history.undone:
            raise ValueError("there is nothing to redo")
        for key, entry in saved.history.redo().afters():
            saved.state.put(key, entry.after)
    elif op == "image":
        moved = ImageReference.from_json(piece.head.get("image"))
        if (moved.lead, moved.sizes) != (saved.settings.image.lead, saved.settings.image.sizes):
            raise ValueError("another image took the place of the session's")
        saved.settings = Settings(moved, saved.settings.kind, saved.settings.bank, saved.settings.model)
    else:
        raise ValueError(f"it is of the unknown kind {op!r}")


def _record(saved: Saved, piece: Piece, apply: bool) -> Record:
    from napari_medsam2.state import Entry

    head = piece.head
    step, count = _whole(head.get("step"), 1), _whole(head.get("count", 1), 1)
    name, call = head.get("name"), head.get("call")
    if not isinstance(name, str) or not isinstance(call, dict) or not isinstance(call.get("do"), str):
        raise ValueError("a step has no name or call")
    changes = decode_entries(piece, saved.settings.image)
    if apply:
        saved.state.check(changes)
        entries = saved.state.update(changes)
    else:
        entries = {key: Entry(None, after) for key, after in changes.items()}
    run = call.get("run", 0)
    saved.step = max(saved.step, step + 1, (run if type(run) is int else 0) + 1)
    return Record(step, name, call, entries, count)


def _whole(value: Any, low: int) -> int:
    if type(value) is not int or value < low:
        raise ValueError(f"{value!r} is no whole number of {low} or more")
    return value


def to_piece(record: Record, op: str = "do", quick: bool = False) -> Piece:
    """Make a record's piece of the journal; a ``quick`` one is larger."""
    head = {"op": op, "step": record.step, "name": record.name, "call": dict(record.call)}
    if record.count != 1:
        head["count"] = record.count
    return encode_entries(((key, entry.after) for key, entry in record.entries.items()), head, quick)


def snapshot(settings: Settings, state: State, history: History, generation: int) -> Iterator[Piece]:
    """Write down a whole session: the state before the oldest step that can be undone, then the steps."""
    base = state.copy()
    for command in reversed(history.done):
        for key, entry in command.befores():
            base.put(key, entry.before)
    yield settings.to_piece(generation)
    for record in history.log:
        yield to_piece(record, "log")
    keys = list(base.keys())
    for at in range(0, len(keys), _CHUNK):
        yield encode_entries(((key, base.get(key)) for key in keys[at : at + _CHUNK]), {"op": "state"})
    yield Piece({"op": "ready"})
    for command in (*history.done, *reversed(history.undone)):
        for record in command.records:
            yield to_piece(record)
    for _ in history.undone:
        yield Piece({"op": "undo"})


class Store:
    """A session's folder, open. Without a lock, or in a folder that cannot be written, it can only be read.

    Parameters
    ----------
    folder : Path
        It holds a journal.
    lock : Lock or None
        Held while writing is allowed.
    reason : str, optional
        Why nothing can be written.
    """

    def __init__(self, folder: Path, lock: Lock | None, reason: str | None = None) -> None:
        self.folder, self.reason = folder, reason
        self._lock = lock
        self._file: JournalFile | None = None
        self._snapshot = self._generation = 0

    @classmethod
    def create(cls, folder: Path, lock: Lock) -> Store:
        """Begin in an empty folder; `rewrite` is called next."""
        return cls(folder, lock)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Lock a folder that holds a session, if it can be; `begin` is called next."""
        if not (folder / JOURNAL).is_file():
            load(folder)
        try:
            lock = Lock(folder / LOCK)
            # The lock's file may be writable where the journal is not.
            os.close(os.open(folder / JOURNAL, os.O_RDWR))
        except HeldError as error:
            return cls(folder, None, f"{error} has it open")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return cls(folder, None, f"its folder cannot be written ({error.strerror})")
            raise InputError(f"cannot open the session {folder}: {error.strerror or error}") from error
        return cls(folder, lock)

    @property
    def size(self) -> int:
        """Bytes of the journal."""
        return (self.folder / JOURNAL).stat().st_size

    def begin(self, saved: Saved) -> list[str]:
        """Get ready to append after what was loaded; what was cut off is set aside. Returns what a person is told."""
        notices = []
        self._generation, self._snapshot = saved.generation, saved.tail.end
        if saved.tail.torn:
            notices.append(
                f"the last step in {self.folder / JOURNAL} was never finished and was dropped "
                f"({len(saved.tail.torn)} bytes of record {saved.tail.number})"
            )
        if self.reason is not None:
            notices.append(f"the session {self.folder} was opened read-only, since {self.reason}")
            return notices
        try:
            if saved.tail.torn:
                aside = self.folder / f"dropped-{time.strftime('%Y%m%d-%H%M%S')}-{saved.tail.number}.bin"
                # Kept for whoever can make sense of it; a full disk must not keep the session from opening.
                with contextlib.suppress(OSError):
                    aside.write_bytes(saved.tail.torn)
            self._file = JournalFile(self.folder / JOURNAL, saved.tail)
        except OSError as error:
            raise InputError(f"cannot open {self.folder / JOURNAL}: {error.strerror or error}") from error
        return notices

    def check(self) -> None:
        """Raise InputError where nothing can be written."""
        if self.reason is not None:
            raise InputError(
                f"the session {self.folder} is open read-only, since {self.reason}; save it elsewhere to go on"
            )

    def append(self, piece: Piece) -> None:
        """Write a record; it is on the disk when this returns."""
        self.check()
        if self._file is None:
            raise InputError(f"the session {self.folder} was closed; open it again")
        self._file.append([piece])

    @property
    def grown(self) -> bool:
        """Whether it is time to rewrite the journal."""
        return self._file is not None and self._file.size - self._snapshot > max(_WORTH, self._snapshot)

    def postpone(self) -> None:
        """Let the journal grow as much again before it is rewritten."""
        if self._file is not None:
            self._snapshot = self._file.size

    def rewrite(self, settings: Settings, state: State, history: History) -> None:
        """Replace the journal by a snapshot, atomically: at every instant one of the two is whole.

        Raises
        ------
        InputError
            If the disk is full or fails; the old journal stays.
        """
        self.check()
        path, generation = self.folder / JOURNAL, self._generation + 1
        tail = Tail(len(MAGIC))
        try:
            with atomic_path(path) as temporary:
                with temporary.open("wb") as stream:
                    stream.write(MAGIC)
                    for number, piece in enumerate(snapshot(settings, state, history, generation)):
                        tail.end += stream.write(pack(piece, number))
                        tail.number = number + 1
                if WINDOWS and self._file is not None:
                    # Windows replaces no file that is open.
                    self._file.close()
        except BaseException:
            if WINDOWS and self._file is not None:
                self._file.close()
                self._file.reopen()
            raise
        old, self._file = self._file, JournalFile(path, tail)
        if old is not None:
            old.close()
        self._generation, self._snapshot = generation, tail.end

    def close(self) -> None:
        """Let go of the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

"""The sessions that are kept by themselves: where they are, which were used last, which are empty."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medsam2._files import write_text
from napari_medsam2._imageref import EMBEDDED
from napari_medsam2._journal import MAGIC, Tail, read_records
from napari_medsam2._lock import HeldError, Lock
from napari_medsam2.errors import InputError
from napari_medsam2.storage import JOURNAL
from napari_medsam2.widgets.views_file import VIEW

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FOLDER_VARIABLE",
    "Entry",
    "is_session",
    "last_session",
    "new_folder",
    "prune",
    "recent_sessions",
    "remember",
    "remove_copies",
    "sessions_folder",
]

FOLDER_VARIABLE = "NAPARI_MEDSAM2_SESSIONS"
"""The environment variable that names another folder for the sessions."""
_RECENT = "recent.txt"
_LISTED = 20
_LOCK = "session.lock"
_ABANDONED = 24 * 3600
"""Seconds after which a folder in which no session was ever begun is left over."""


def sessions_folder() -> Path:
    """Return the folder of the sessions that are kept by themselves.

    `FOLDER_VARIABLE` in the environment names another one.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_data_path("napari-medsam2", appauthor=False) / "sessions"


def new_folder(name: str) -> Path:
    """Return a folder for a new session, ``<name>-<date>``, that does not exist yet.

    Parameters
    ----------
    name : str
        What the image is called; what no file's name may hold is left out.
    """
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "session"
    base = f"{plain}-{time.strftime('%Y-%m-%d')}"
    root = sessions_folder()
    number = 1
    while (folder := root / (base if number == 1 else f"{base}-{number}")).exists():
        number += 1
    return folder


def is_session(folder: str | Path) -> bool:
    """Whether a folder holds a session; cheap."""
    try:
        with (Path(folder) / JOURNAL).open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class Entry:
    """A session in the list of the last ones.

    Parameters
    ----------
    folder : Path
        Where it is.
    changed : float
        When it was changed last, seconds since the epoch.
    """

    folder: Path
    changed: float

    @property
    def name(self) -> str:
        """What it is called."""
        return self.folder.name

    @property
    def has_work(self) -> bool:
        """Whether anything was ever done in it."""
        return _has_work(self.folder)


def recent_sessions() -> list[Entry]:
    """List the sessions kept by themselves and those opened or saved elsewhere, the last changed first."""
    root = sessions_folder()
    places = dict.fromkeys(_read_recent())
    with contextlib.suppress(OSError):
        places |= dict.fromkeys(folder for folder in root.iterdir() if folder.is_dir())
    found = []
    for folder in places:
        with contextlib.suppress(OSError):
            if is_session(folder):
                found.append(Entry(folder, (folder / JOURNAL).stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.changed)


def last_session() -> Entry | None:
    """Return the last session in which something was done and which is not open now."""
    return next((entry for entry in recent_sessions() if entry.has_work and not _is_open(entry.folder)), None)


def remember(folder: Path) -> None:
    """Put a session in front of the list; where the list cannot be written, nothing happens."""
    root = sessions_folder()
    place = folder.expanduser().absolute()
    if place.parent == root.absolute():
        return
    lines = [str(place), *(str(known) for known in _read_recent() if known != place)][:_LISTED]
    with contextlib.suppress(OSError, InputError):
        root.mkdir(parents=True, exist_ok=True)
        write_text(root / _RECENT, "".join(f"{line}\n" for line in lines))


def prune() -> list[Path]:
    """Remove kept sessions in which nothing was ever done; those that are open, or hold other files, stay.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    try:
        folders = [folder for folder in sessions_folder().iterdir() if folder.is_dir() and not folder.is_symlink()]
    except OSError:
        return []
    for folder in folders:
        with contextlib.suppress(OSError, HeldError, InputError):
            if _is_empty(folder):
                removed.append(folder)
    return removed


def _is_empty(folder: Path) -> bool:
    """Remove a session without work; returns whether it was one."""
    own = {JOURNAL, _LOCK, VIEW, *EMBEDDED}
    if any(path.name not in own for path in folder.iterdir()):
        return False
    journal = folder / JOURNAL
    if not journal.exists() and time.time() - folder.stat().st_mtime < _ABANDONED:
        # Another window may be about to begin it.
        return False
    lock = Lock(folder / _LOCK)
    try:
        if journal.exists() and _has_work(folder):
            return False
        journal.unlink(missing_ok=True)
        remove_copies(folder, False)
        (folder / VIEW).unlink(missing_ok=True)
    finally:
        lock.release()
    (folder / _LOCK).unlink(missing_ok=True)
    folder.rmdir()
    return True


def _has_work(folder: Path) -> bool:
    """Whether a journal has any step, or cannot be read to its end: what is damaged is never nothing."""
    tail = Tail()
    try:
        ready = False
        for _, piece in read_records(folder / JOURNAL, tail):
            op = piece.head.get("op")
            ready = ready or op == "ready"
            if op not in ("session", "ready", "image"):
                return True
    except (OSError, InputError):
        return True
    return not ready or bool(tail.torn)


def _is_open(folder: Path) -> bool:
    if not (folder / _LOCK).exists():
        return False
    try:
        Lock(folder / _LOCK).release()
    except HeldError:
        return True
    except OSError:
        return False
    return False


def _read_recent() -> Iterator[Path]:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (sessions_folder() / _RECENT).read_text(encoding="utf-8").splitlines()[:_LISTED]:
            if line.strip():
                yield Path(line.strip())


def remove_copies(folder: Path, whole: bool) -> None:
    """Remove the copy of an image from a session's folder, and the folder too if it is empty then and ``whole``."""
    with contextlib.suppress(OSError):
        (folder / EMBEDDED[0]).unlink(missing_ok=True)
    shutil.rmtree(folder / EMBEDDED[1], ignore_errors=True)
    if whole:
        with contextlib.suppress(OSError):
            folder.rmdir()

"""A session's folder, and the lock on it, which the system takes back however its holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_medsam2._files import WINDOWS
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["LOCK", "HeldError", "Lock", "check_empty", "claim", "make_folder"]

LOCK = "session.lock"
"""The file in a session's folder that is locked."""

_FAR = 1 << 30
"""Where Windows locks: beyond the text, which others may then read."""


class HeldError(Exception):
    """Another program holds the lock; its message says which."""


class Lock:
    """An exclusive lock on a file, held until `release` or until the process ends.

    Parameters
    ----------
    path : Path
        The file; it is made where it is missing and stays, as removing it would race with the next holder.

    Raises
    ------
    HeldError
        If it is held.
    OSError
        If the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._handle, self._locked = -1, False
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if not _try(self._handle):
                text = os.read(self._handle, 64).decode("ascii", "replace").strip()
                raise HeldError(f"process {text}" if text.isdigit() else "another program")
            self._locked = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
                os.write(self._handle, f"{os.getpid()}\n".encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go."""
        if self._handle >= 0:
            if self._locked and WINDOWS:
                _unlock_windows(self._handle)
            os.close(self._handle)
            self._handle = -1

    __del__ = release


def _try(handle: int) -> bool:
    return _try_windows(handle) if WINDOWS else _try_posix(handle)


def _try_posix(handle: int) -> bool:
    # Not imported by name: type checkers on Windows know it as little as the other one here.
    fcntl: Any = import_module("fcntl")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; that is no reason to refuse work.
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


def _try_windows(handle: int) -> bool:
    msvcrt: Any = import_module("msvcrt")
    os.lseek(handle, _FAR, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EDEADLK)
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
    return True


def _unlock_windows(handle: int) -> None:
    """Let go before the file is closed: the system would as well, but only when it comes to it."""
    msvcrt: Any = import_module("msvcrt")
    # Without locks, as on some network drives, there is nothing to let go of.
    with contextlib.suppress(OSError):
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)


def check_empty(folder: Path, there: Collection[str] = ()) -> None:
    """Check that a new session writes over nothing: its folder is not there yet, or holds at most what ``there`` names.

    Raises
    ------
    InputError
        If something else is there, or it cannot be looked at.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(p.name not in there for p in folder.iterdir())):
            raise InputError(f"{folder} exists and is not an empty folder; open that session, or choose another place")
    except OSError as error:
        raise _cannot_make(folder, error) from error


def make_folder(folder: Path) -> None:
    """Make the folder of a session, where it is missing.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(folder, error) from error


def claim(folder: Path, there: Collection[str] = ()) -> tuple[Path, Lock]:
    """Make an empty folder for a new session and lock it; it may hold what ``there`` names already.

    Raises
    ------
    InputError
        If something is there already, or it cannot be made.
    """
    folder = folder.expanduser()
    check_empty(folder, (LOCK, *there))
    make_folder(folder)
    try:
        return folder, Lock(folder / LOCK)
    except HeldError as error:
        raise InputError(f"{error} is just making a session in {folder}; choose another place") from error
    except OSError as error:
        raise _cannot_make(folder, error) from error


def _cannot_make(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot make the session {folder}: {error.strerror or error}")

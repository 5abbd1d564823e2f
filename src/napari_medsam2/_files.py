"""Writing files so that a crash, a full disk or a pulled plug never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WINDOWS", "atomic_folder", "atomic_path", "check_place", "expanded", "write_bytes", "write_text"]

WINDOWS = sys.platform == "win32"

_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds after which a refused rename is tried again."""


def expanded(path: str | Path) -> Path:
    """Put a person's home folder in the place of ``~`` or ``~name``.

    Raises
    ------
    InputError
        If there is nobody of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"nobody's home folder is known as {Path(path).parts[0]}; write {path} in full") from error


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``target``; move it there, synced to disk, when the block ends well.

    Parameters
    ----------
    target : str or Path
        The file to write. Its folder must exist. An existing file stays as it was until the new one is whole. A link
        stays one: what it leads to is written.

    Yields
    ------
    Path
        Where the block writes. It has the target's suffix, so that writers that look at it choose the same format.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written, the target is a device or a pipe, or the disk is full.
    """
    target = Path(target)
    place = _behind_links(target)
    if not place.parent.is_dir():
        raise InputError(f"cannot write {target}: the folder {place.parent} does not exist; create it first")
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder; give a file name")
    if target.exists() and not target.is_file():
        # The rename would put a file where /dev/null or a pipe was.
        raise InputError(f"cannot write {target}: it is not an ordinary file; give the name of one, or a new name")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{place.stem}-", suffix=target.suffix, dir=place.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        # mkstemp makes files private to the user; a result file follows the user's umask like any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        _replace(temporary, place)
        _sync_folder(place.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class _UntouchedError(Exception):
    """Ends an attempt to write before anything is written."""


def check_place(target: str | Path) -> None:
    """Find out now, not after the work, whether a file can be written; one that is there stays as it is.

    Raises
    ------
    InputError
        As `atomic_path` does.
    """
    with contextlib.suppress(_UntouchedError), atomic_path(target):
        raise _UntouchedError


@contextlib.contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``target``; move it there, synced to disk, when the block ends well.

    Parameters
    ----------
    target : str or Path
        The folder to write; the folder that it lies in must exist. One that is there is replaced as a whole, and only
        once the new one is complete: the caller has made sure that nothing else is in it. A link stays one.

    Yields
    ------
    Path
        The temporary folder.

    Raises
    ------
    InputError
        If the folder around it does not exist or cannot be written, or the disk is full.
    """
    target = Path(target)
    place = _behind_links(target)
    if not place.parent.is_dir():
        raise InputError(f"cannot write {target}: the folder {place.parent} does not exist; create it first")
    if target.exists() and not target.is_dir():
        raise InputError(f"cannot write {target}: it is a file; give a folder's name")
    try:
        outer = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    new, old = outer / "new", outer / "old"
    try:
        new.mkdir()
        yield new
        for folder, _, files in os.walk(new, topdown=False):
            for name in files:
                with open(os.path.join(folder, name), "rb+") as stream:
                    os.fsync(stream.fileno())
            _sync_folder(Path(folder))
        if place.exists():
            _replace(place, old)
        try:
            _replace(new, place)
        except OSError:
            if old.exists():
                _replace(old, place)
            raise
        _sync_folder(place.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _behind_links(target: Path) -> Path:
    """Where a link leads, so that what is renamed takes the place of the file and not of the link."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def _replace(source: Path, target: Path) -> None:
    """Rename atomically; Windows refuses while another program, such as a virus scanner, has a look at the target."""
    for wait in _WAITS if WINDOWS else ():
        try:
            os.replace(source, target)
        except PermissionError:
            time.sleep(wait)
        else:
            return
    os.replace(source, target)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(target: str | Path, data: bytes) -> None:
    """Write ``data`` to ``target`` atomically."""
    with atomic_path(target) as path:
        path.write_bytes(data)


def write_text(target: str | Path, text: str) -> None:
    """Write ``text`` to ``target`` atomically, as UTF-8."""
    write_bytes(target, text.encode("utf-8"))

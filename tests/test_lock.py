"""One writer a session, on POSIX and, with the part of Windows that it takes played here, there."""

from __future__ import annotations

import errno
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medsam2 import AnnotationSession, ImageStack, InputError, _files, _lock, storage
from napari_medsam2._lock import HeldError, Lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend


class _Windows(ModuleType):
    """``msvcrt`` as its manual has it: locks belong to a handle, are mandatory and are let go before closing."""

    LK_UNLCK, LK_LOCK, LK_NBLCK, LK_RLCK, LK_NBRLCK = range(5)

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[tuple[int, int, int], int] = {}

    def locking(self, handle: int, mode: int, count: int) -> None:
        assert count == 1
        at = os.lseek(handle, 0, os.SEEK_CUR)
        found = os.fstat(handle)
        assert at > found.st_size, "what is locked can be read by nobody else: not the number of the process"
        key = found.st_dev, found.st_ino, at
        if mode == self.LK_UNLCK:
            if self.held.pop(key, None) != handle:
                raise OSError(errno.EACCES, "Permission denied")
        elif mode == self.LK_NBLCK:
            if key in self.held:
                raise OSError(errno.EACCES, "Permission denied")
            self.held[key] = handle
        else:
            raise AssertionError("this would wait")


@pytest.fixture(params=["posix", "windows"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "windows":
        monkeypatch.setitem(sys.modules, "msvcrt", _Windows())
        for module in (_files, _lock, storage):
            monkeypatch.setattr(module, "WINDOWS", True)
        monkeypatch.setattr(_files, "_WAITS", (0.0, 0.0))
    elif _files.WINDOWS:
        pytest.skip("a system of its own")
    return str(request.param)


@pytest.mark.usefixtures("system")
def test_the_second_is_told_who_has_it_and_the_next_gets_it(tmp_path: Path) -> None:
    first = Lock(tmp_path / "lock")
    for _ in range(2):
        with pytest.raises(HeldError, match=f"process {os.getpid()}"):
            Lock(tmp_path / "lock")
    first.release()
    first.release()
    second = Lock(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    second.release()


def test_without_locks_work_goes_on(tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, function = ("msvcrt", "locking") if system == "windows" else ("fcntl", "flock")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(sys.modules[name], function, fail)
    lock = Lock(tmp_path / "lock")
    lock.release()


def _session(backend: Backend) -> AnnotationSession:
    return AnnotationSession(ImageStack(np.zeros((3, 24, 24), np.uint8), "ZYX"), backend=backend)


@pytest.mark.usefixtures("system")
def test_a_session_that_is_open_is_read_only_to_the_next(tmp_path: Path, backend: Backend) -> None:
    session = _session(backend)
    session.add_object()
    session.save_as(tmp_path / "s", embed=True)
    with AnnotationSession.open(tmp_path / "s", backend=backend) as other:
        assert other.read_only
        assert str(os.getpid()) in " ".join(other.notices)
        with pytest.raises(InputError, match="read-only"):
            other.add_object()
    session.add_object()
    session.close()
    with AnnotationSession.open(tmp_path / "s", backend=backend) as other:
        assert not other.read_only
        assert list(other.objects) == [1, 2]


def _refuse(times: int) -> Callable[[Path, Path], None]:
    """``os.replace`` as Windows has it while another program looks at the target."""
    replace, left = os.replace, [times]

    def refused(source: Path, target: Path) -> None:
        if left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    return refused


@pytest.mark.parametrize("system", ["windows"], indirect=True)
@pytest.mark.usefixtures("system")
def test_a_file_that_is_looked_at_is_replaced_a_little_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "replace", _refuse(2))
    _files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    monkeypatch.setattr(os, "replace", _refuse(3))
    with pytest.raises(InputError, match="Access is denied"):
        _files.write_text(tmp_path / "a.txt", "newer")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_journal_that_cannot_be_replaced_is_written_on(
    tmp_path: Path, system: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _session(backend)
    session.save_as(tmp_path / "s", embed=True)
    before = (tmp_path / "s" / storage.JOURNAL).stat().st_size
    monkeypatch.setattr(storage, "_WORTH", 0)
    monkeypatch.setattr(os, "replace", _refuse(99))
    # Each name is longer than the snapshot, so that the journal is due to be rewritten, which fails.
    session.add_object(name="x" * (before + 1))
    session.add_object(name="y")
    assert any("cannot write" in notice for notice in session.notices)
    monkeypatch.undo()
    session.close()
    with AnnotationSession.open(tmp_path / "s", backend=backend) as other:
        assert [info.name[:1] for info in other.objects.values()] == ["x", "y"]
    assert system in ("posix", "windows")

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from napari_medsam2 import InputError
from napari_medsam2._files import atomic_path, write_bytes, write_text

if TYPE_CHECKING:
    from pathlib import Path


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "µm\n")
    write_bytes(tmp_path / "b.bin", b"\x00\xff")
    assert (tmp_path / "a.txt").read_bytes() == "µm\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.bin"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "labels.tif"
    target.write_text("old")
    with atomic_path(target) as path:
        assert (path.parent, path.suffix) == (tmp_path, ".tif")
        path.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "labels.tif"
    target.write_text("old")
    with pytest.raises(type(error)), atomic_path(target) as path:
        path.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "labels.tif"
    with pytest.raises(InputError, match=r"cannot write .*labels\.tif: No space left on device"), atomic_path(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; create it first"):
        write_text(tmp_path / "no" / "a.txt", "")
    with pytest.raises(InputError, match="it is a folder; give a file name"):
        write_text(tmp_path, "")


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write anywhere, so the system's refusal is played.
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: Permission denied"):
        write_text(tmp_path / "a.txt", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_permissions_follow_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640

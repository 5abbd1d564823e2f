from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from napari_medsam2 import InputError
from napari_medsam2._files import atomic_folder, atomic_path, write_bytes, write_text

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


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder in which links can be made."""
    try:
        (tmp_path / "probe").symlink_to(tmp_path)
    except OSError:
        pytest.skip("the system lets nobody make links here")
    (tmp_path / "probe").unlink()
    for name in ("disk", "desk"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(linked: Path, there: bool) -> None:
    real, link = linked / "disk" / "real.dat", linked / "desk" / "labels.tif"
    link.symlink_to("../disk/real.dat")
    if there:
        real.write_text("old")
    with atomic_path(link) as path:
        # A rename is atomic on one disk only; the link's name says the format.
        assert (path.parent.resolve(), path.suffix) == (real.parent.resolve(), ".tif")
        path.write_text("new")
        assert not there or real.read_text() == "old"
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert sorted(path.name for path in linked.rglob("*.*")) == ["labels.tif", "real.dat"]


def test_a_link_to_a_folder_stays_and_the_folder_is_replaced(linked: Path) -> None:
    real, link = linked / "disk" / "real", linked / "desk" / "labels.zarr"
    real.mkdir()
    (real / "old").touch()
    link.symlink_to(real)
    with atomic_folder(link) as path:
        (path / "new").touch()
    assert link.is_symlink()
    assert [path.name for path in real.iterdir()] == ["new"]
    assert [path.name for path in real.parent.iterdir()] == ["real"]


def test_a_link_into_nowhere_is_told(linked: Path) -> None:
    (linked / "a.txt").symlink_to(linked / "gone" / "a.txt")
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: the folder .*gone does not exist"):
        write_text(linked / "a.txt", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_what_is_no_ordinary_file_is_left_alone(linked: Path) -> None:
    # As a device is, which only the superuser could make here.
    os.mkfifo(linked / "pipe")
    (linked / "link").symlink_to(linked / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match=rf"cannot write .*{name}: it is not an ordinary file"):
            write_text(linked / name, "")
    assert stat.S_ISFIFO((linked / "pipe").stat().st_mode)
    assert (linked / "link").is_symlink()


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

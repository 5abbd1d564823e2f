"""Getting a model's file: downloaded once, verified, kept in the cache folder; or copied there by hand.

pooch keeps the folder, verifies, and moves a file to its name only once it is right; the transfer itself
(`_transfer`) can be stopped and goes on where it ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medsam2._files import expanded, write_text
from napari_medsam2._lock import HeldError, Lock
from napari_medsam2.backend._transfer import Cancelled, transfer
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medsam2.backend.registry import ModelEntry

__all__ = ["Cancelled", "fetch", "folder", "is_downloaded", "locate", "pinned", "target"]

CACHE_VARIABLE = "NAPARI_MEDSAM2_CACHE"
"""The environment variable that names another folder for the models."""
MIRRORS_VARIABLE = "NAPARI_MEDSAM2_MIRRORS"
"""Addresses, parted by spaces, under which the published files lie by their names; tried before the published ones."""
OFFLINE_VARIABLE = "NAPARI_MEDSAM2_OFFLINE"
"""Set to anything but 0 it forbids all downloads."""

_ZIP, _HTML = b"PK\x03\x04", (b"<!doc", b"<html", b"<?xml", b"<head")


def folder() -> Path:
    """The folder in which models are kept, one folder a model; it need not exist."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return expanded(named)
    import platformdirs

    return platformdirs.user_cache_path("napari-medsam2", appauthor=False) / "models"


def target(entry: ModelEntry) -> Path:
    """Where a model's file is, or will be: what is copied there by hand is used like a download."""
    return entry.path if entry.path is not None else folder() / entry.name / entry.file


def is_downloaded(entry: ModelEntry) -> bool:
    """Whether a model's file is on this machine with the right size; its checksum is looked at when it is used."""
    path = target(entry)
    if entry.path is not None:
        return path.exists()
    return path.is_file() and (entry.size is None or path.stat().st_size == entry.size)


def pinned(entry: ModelEntry) -> str | None:
    """The SHA-256 that the file must have: the published one, else that of the first download, else None."""
    if entry.sha256 is not None or entry.path is not None:
        return entry.sha256
    try:
        text = _pin(entry).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.match(r"[0-9a-f]{64}\b", text)
    return found[0] if found else None


def locate(entry: ModelEntry) -> Path:
    """Find and verify a model that is on this machine, without any network.

    A file without a published checksum, copied by hand, is pinned by this.

    Returns
    -------
    Path
        The file, or a folder for entries with a path.

    Raises
    ------
    InputError
        If it is missing, damaged or another file.
    """
    path = target(entry)
    if entry.path is not None:
        if not path.exists():
            raise InputError(f"the model {entry.name!r} should be at {path}, but nothing is there; mend its path")
        if path.is_dir():
            _judge_folder(entry)
        elif entry.sha256 is not None:
            _verify(entry, path, entry.sha256)
        return path
    if not path.is_file():
        raise InputError(
            f"the model {entry.name!r} is not on this machine; run 'napari-medsam2 models get {entry.name}', "
            f"or copy {entry.file} to {path}"
        )
    if entry.size is not None and path.stat().st_size != entry.size:
        raise InputError(f"{path} has {path.stat().st_size} bytes instead of {entry.size}; {_again(entry)}")
    wanted = pinned(entry)
    if wanted is not None:
        _verify(entry, path, wanted)
    else:
        _looks_right(path, entry)
        _write_pin(entry, path)
    return path


def fetch(
    entry: ModelEntry,
    progress: Callable[[int, int | None], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Get a model's file, if it is not here yet.

    Parameters
    ----------
    entry : ModelEntry
        Which; see `registry.entries`.
    progress : callable, optional
        Told the bytes that are here and the total (None where unknown), on the calling thread.
    cancelled : callable, optional
        Asked some ten times a second, on the calling thread, whether to stop.

    Returns
    -------
    Path
        The file, verified.

    Raises
    ------
    Cancelled
        If it was stopped; an `InputError` too.
    InputError
        If it cannot be had, is not the right file, or downloads are forbidden.
    """
    if entry.path is not None:
        return locate(entry)
    with contextlib.suppress(InputError):
        return locate(entry)
    path = target(entry)
    if os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0"):
        raise InputError(
            f"the model {entry.name!r} is not here, or is damaged, and downloads are forbidden ({OFFLINE_VARIABLE}); "
            f"copy {entry.file} to {path}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(path.parent / ".lock")
    except HeldError as error:
        raise InputError(f"{error} is downloading {entry.name!r} already; wait until it is done") from error
    except OSError as error:
        raise InputError(
            f"cannot write {path.parent} ({error.strerror}); choose another folder with {CACHE_VARIABLE}"
        ) from error
    try:
        _room(entry, path)
        return _from_anywhere(entry, path, progress or _quiet, cancelled or _never)
    finally:
        lock.release()


def _quiet(done: int, total: int | None) -> None:
    """Tell nobody."""


def _never() -> bool:
    return False


def _room(entry: ModelEntry, path: Path) -> None:
    part = _part(path)
    needed = (entry.size or 0) - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"{path.parent} has room for {free / 1e6:.0f} MB, and {entry.name!r} needs {needed / 1e6:.0f} MB; "
            f"make room, or choose another folder with {CACHE_VARIABLE}"
        )


def _from_anywhere(
    entry: ModelEntry, path: Path, progress: Callable[[int, int | None], None], cancelled: Callable[[], bool]
) -> Path:
    mirrors = os.environ.get(MIRRORS_VARIABLE, "").split()
    addresses = [f"{m.rstrip('/')}/{entry.file}" for m in mirrors] + [entry.url]
    for number, address in enumerate(addresses, start=1):
        try:
            return _from(address, entry, path, progress, cancelled)
        except Cancelled:
            raise
        except InputError:
            if number == len(addresses):
                raise
    raise AssertionError("there is always an address")


def _from(
    address: str,
    entry: ModelEntry,
    path: Path,
    progress: Callable[[int, int | None], None],
    cancelled: Callable[[], bool],
) -> Path:
    import pooch

    wanted = pinned(entry)

    def bring(url: str, output_file: str, _: pooch.Pooch | None) -> None:
        part = _part(path)
        transfer(url, part, entry.size, wanted is not None, progress, cancelled)
        os.replace(part, output_file)
        part.with_name(part.name + ".json").unlink(missing_ok=True)
        _looks_right(Path(output_file), entry, address)
        _as_umask_says(Path(output_file))

    store = pooch.create(
        path.parent, "", registry={path.name: wanted and f"sha256:{wanted}"}, urls={path.name: address}
    )
    if path.is_file() and wanted is None:
        # pooch takes any file for the right one where it knows no checksum.
        path.unlink()
    try:
        with _silence():
            store.fetch(path.name, downloader=bring)
    except InputError:
        raise
    except ValueError as error:
        published = "published" if entry.sha256 is not None else "first downloaded"
        raise InputError(
            f"what {address} sent is not the {published} file (its SHA-256 is another); it was thrown away"
            + ("" if entry.sha256 is not None else f"; if the authors have replaced it, delete {_pin(entry)}")
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; make room, or set {CACHE_VARIABLE}"
        ) from error
    if wanted is None:
        _write_pin(entry, path)
    return path


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep pooch from telling on standard error what it does: callers show progress."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _pin(entry: ModelEntry) -> Path:
    path = target(entry)
    return path.with_name(path.name + ".sha256")


def _write_pin(entry: ModelEntry, path: Path) -> None:
    import pooch

    # As sha256sum writes and checks it. A folder that cannot be written, as of an administrator, does without.
    with contextlib.suppress(InputError):
        write_text(_pin(entry), f"{pooch.file_hash(str(path))}  {path.name}\n")


def _verify(entry: ModelEntry, path: Path, wanted: str) -> None:
    import pooch

    if pooch.file_hash(str(path)) != wanted:
        known = "published" if entry.sha256 is not None else "first downloaded"
        # The pin of a first file that was damaged refuses every right one.
        pin = "" if entry.sha256 is not None else f"; if the first one was not right, delete {_pin(entry)} as well"
        raise InputError(f"{path} is damaged, or not the {known} file (its SHA-256 is another); {_again(entry)}{pin}")


def _judge_folder(entry: ModelEntry) -> None:
    """Refuse what an entry says of a folder and nothing looks at."""
    said = {
        "network": entry.network != "sam2",
        "variant": entry.variant is not None,
        "sha256": entry.sha256 is not None,
    }
    surplus = [key for key, here in said.items() if here]
    if surplus:
        raise InputError(
            f"the model {entry.name!r} is a folder, with a SAM 2 network that its config.json describes; "
            f"take {', '.join(surplus)} out of its entry, or give the path of a file"
        )


def _again(entry: ModelEntry) -> str:
    if entry.path is not None:
        return "get it again, or mend its sha256"
    return f"run 'napari-medsam2 models get {entry.name}', or copy {entry.file} there once more"


def _looks_right(path: Path, entry: ModelEntry, address: str | None = None) -> None:
    """Refuse what is no whole file of weights; for files without a checksum that is all that can be said."""
    where = address or str(path)
    with path.open("rb") as stream:
        start = stream.read(16)
    if start.lstrip().lower().startswith(_HTML):
        raise InputError(f"{where} is a web page, not the file of {entry.name!r}; open the address in a browser")
    tensors = len(start) > 8 and start[8:9] == b"{"
    if not (start.startswith(_ZIP) or tensors):
        raise InputError(f"{where} is not a file of weights (PyTorch's or safetensors); is it the address of the file?")
    # A copy that is under way or broke off must not be pinned.
    if not (_is_whole(path) if tensors else zipfile.is_zipfile(path)):
        what = f"{path} is not whole" if address is None else f"what {address} sent is not whole; it was thrown away"
        raise InputError(f"{what}; {_again(entry)}")


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return True
    except SafetensorError:
        return False


def _as_umask_says(path: Path) -> None:
    # Temporary files are private; a shared cache is not.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(stat.S_IMODE(0o666 & ~umask))

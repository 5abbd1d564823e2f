"""Neither the image that is annotated nor a session is ever replaced by labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2._imageref import EMBEDDED
from napari_medsam2._lock import LOCK
from napari_medsam2.errors import InputError
from napari_medsam2.export._pictures import TABLE_FILE, png_names
from napari_medsam2.reading.readers import find_images
from napari_medsam2.storage import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_medsam2.stack import ImageStack

__all__ = ["check_no_session", "check_target"]

_OWN = {JOURNAL, LOCK, "napari.json", *EMBEDDED}
"""What a session's folder holds of the session, see `docs/session-format.md`; the plugin writes ``napari.json``."""


def check_target(path: Path, form: str, stack: ImageStack, sources: Iterable[Path] = ()) -> None:
    """Check that an export replaces nothing of the image, nor of a saved session, whichever it is.

    Parameters
    ----------
    path : Path
        The file or folder that is to be written.
    form : str
        One of `napari_medsam2.export.FORMATS`.
    stack : ImageStack
        The image; where it was opened from is a source.
    sources : iterable of Path
        Other files, folders or patterns that it came from; those that are gone are passed over.

    Raises
    ------
    InputError
        If it would.
    """
    names = [*png_names(stack), TABLE_FILE] if form == "png" else None
    targets = [path] if names is None else [path / name for name in names]
    for target in targets:
        check_no_session(target)
    places = {*sources, *([] if stack.path is None else [stack.path])}
    images = {file.resolve() for place in places for file in _files(place)}
    if not images:
        return
    for target in targets:
        whole = target.resolve()
        # A Zarr is a folder: labels may be added to it, but no file of it may be replaced.
        inside = form != "ome-zarr" and whole.is_file() and not images.isdisjoint(whole.parents)
        around = form == "ome-zarr" and any(whole in image.parents for image in images)
        if whole in images or inside or around:
            raise InputError(
                f"{target} is the image that is annotated, or a part of it, and would be replaced by its labels; "
                f"export to another place"
            )


def check_no_session(target: Path) -> None:
    """Raise InputError where a file that is to be written would replace one of a saved session."""
    if _of_session(target.absolute()) or _of_session(target.resolve()):
        raise InputError(f"{target} is the place of a saved session's own file; write under another name")


def _of_session(target: Path) -> bool:
    """Whether a path is that of a session's own file, which may not be there yet."""
    # Some systems know upper and lower case as one.
    return any(part.name.casefold() in _OWN and (part.parent / JOURNAL).is_file() for part in (target, *target.parents))


def _files(place: Path) -> list[Path]:
    place = place.expanduser()
    try:
        return find_images(place) or [place]
    except InputError:
        # It is not there any more.
        return []

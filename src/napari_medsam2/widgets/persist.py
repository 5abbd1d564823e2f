"""How a session begins and goes on without the window waiting for it.

Nothing here knows Qt. What reads an image is a generator for the ``"io"`` lane of the worker; the rest is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_medsam2._imageref import ImageReference
from napari_medsam2._lock import check_empty, make_folder
from napari_medsam2.errors import InputError
from napari_medsam2.reading.hashing import run_through
from napari_medsam2.reading.readers import find_images
from napari_medsam2.session import AnnotationSession
from napari_medsam2.stack import ImageStack
from napari_medsam2.widgets.kept import (
    FOLDER_VARIABLE,
    Entry,
    is_session,
    last_session,
    new_folder,
    prune,
    recent_sessions,
    remember,
    remove_copies,
    sessions_folder,
)
from napari_medsam2.widgets.views_file import read_view, write_view
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend

__all__ = [
    "FOLDER_VARIABLE",
    "Entry",
    "Opened",
    "Prepared",
    "is_session",
    "keep",
    "last_session",
    "new_folder",
    "open_session",
    "preparing",
    "prune",
    "recent_sessions",
    "recognise",
    "remember",
    "sessions_folder",
]

T = TypeVar("T")

_COPIED = 512 * 2**20
"""Bytes up to which an image that is only in memory is copied into its session."""
_COMPARED = 2**28
"""Bytes up to which a layer is compared with its file pixel by pixel; of more, some slices are."""
_SAMPLES = 5


# -- beginning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder for a session, and what its file will say of the image.

    Parameters
    ----------
    folder : Path
        The folder.
    reference : ImageReference
        Hashed, and copied where it is to be.
    notice : str
        What a person should know; empty where there is nothing.
    """

    folder: Path
    reference: ImageReference
    notice: str = ""


def preparing(
    stack: ImageStack, source: Path | None = None, folder: Path | None = None, embed: bool | None = None
) -> Generator[float, None, Prepared]:
    """Find out what a new session must say about its image; for the ``"io"`` lane, as all pixels are read.

    Parameters
    ----------
    stack : ImageStack
        The image.
    source : Path, optional
        The file or folder that it was loaded from, see `source_of`. It is noted only if it opens as the same image:
        shape, type and pixels (of images over 256 MiB the pixels of 5 slices); ``stack`` then knows it, and its affine.
    folder : Path, optional
        Where the session will be; a `new_folder` by default.
    embed : bool, optional
        Whether the image is copied into the folder. By default it is if it comes from no known file and is not over
        512 MiB. An image of which some slices cannot be read is not: nothing can stand for them in a copy.

    Yields
    ------
    float
        The part that is done, 0 to 1. A generator that is closed leaves nothing behind.

    Returns
    -------
    Prepared
        For `keep`.

    Raises
    ------
    InputError
        If the image cannot be read, or the folder holds something or cannot be made.
    """
    if folder is not None:
        folder = folder.expanduser()
        check_empty(folder)
    unread: list[int] = []
    digest = yield from _portion(stack.fingerprint_steps(unread), len(stack), 0.0, 0.4)
    if stack.path is None and source is not None:
        yield from _confirmed(stack, source, digest)
    place = stack.path
    folder = new_folder(stack.name) if folder is None else folder
    reference = ImageReference.of(stack, folder, digest)
    notice = ""
    if unread:
        copied = "" if place is not None and not embed else ", and the image is not copied into it"
        notice = (
            f"{counted(len(unread), 'slice')} of {stack.name} cannot be read, slice {unread[0]} first; the session "
            f"is kept, but knows the image by the other slices{copied}"
        )
        embed = False
    if embed is None:
        small = _nbytes(stack) <= _COPIED
        embed = place is None and small
        if place is None and not small:
            notice = (
                f"it is not known which file {stack.name} comes from, and it is too large to be copied into the "
                f"session unasked; choose Save as… to keep a copy in it: without the image it cannot be opened"
            )
    if embed:
        fresh = not folder.exists()
        make_folder(folder)
        done = False
        try:
            reference = yield from _portion(reference.embedding(stack, folder), len(stack), 0.8, 1.0)
            done = True
        finally:
            if not done:
                remove_copies(folder, fresh)
    return Prepared(folder, reference, notice)


def keep(session: AnnotationSession, prepared: Prepared, view: Mapping[str, Any] | None = None) -> None:
    """Keep a session in its folder from now on: quick, for the main thread.

    Parameters
    ----------
    session : AnnotationSession
        In memory so far, or kept somewhere else.
    prepared : Prepared
        From `preparing`.
    view : mapping, optional
        How the image lies in the viewer, see `view_of`.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    session.save_as(prepared.folder, reference=prepared.reference)
    if view:
        write_view(prepared.folder, view)
    remember(prepared.folder)


def _portion(steps: Generator[int, None, T], count: int, begin: float, end: float) -> Generator[float, None, T]:
    """Pass on the progress of something that is done slice by slice."""
    try:
        while True:
            try:
                done = next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            yield begin + (end - begin) * done / max(1, count)
    finally:
        steps.close()


def recognise(stack: ImageStack, source: Path) -> None:
    """Let a layer's image know at once what `preparing` finds out about its file; reads both.

    Parameters
    ----------
    stack : ImageStack
        The image. If the file opens as the same one, it has the file's path and affine from then on.
    source : Path
        The file or folder that it was loaded from, see `source_of`.

    Raises
    ------
    InputError
        If the image cannot be read.
    """
    if stack.path is None:
        run_through(_confirmed(stack, source, stack.fingerprint()))


def _confirmed(stack: ImageStack, source: Path, digest: str) -> Generator[float, None, None]:
    """Give a layer's image the path and the affine of a file that opens as the same image."""
    window, channel = stack.display
    try:
        alone = find_images(source) is None
        axes = None if "N" in stack.axes and not alone else stack.axes
        other = ImageStack.open(source, axes=axes, window=window, channel=channel)
        if not _alike(stack, other):
            return
        if _nbytes(stack) <= _COMPARED:
            same = (yield from _portion(other.fingerprint_steps(), len(other), 0.4, 0.8)) == digest
        else:
            some = {round(i) for i in np.linspace(0, len(stack) - 1, _SAMPLES)}
            same = all(np.array_equal(stack.raw(i), other.raw(i), equal_nan=True) for i in some)
    except InputError:
        return
    if same:
        stack.placed(other.path, other.affine)


def _alike(stack: ImageStack, other: ImageStack) -> bool:
    if len(stack) != len(other) or stack.dtype != other.dtype or stack.uniform != other.uniform:
        return False
    return all(stack.slice_shape(i) == other.slice_shape(i) for i in range(1 if stack.uniform else len(stack)))


def _nbytes(stack: ImageStack) -> int:
    first = int(np.prod(stack.slice_shape(0))) * (stack._layout.channels(0) or 1)
    if stack.uniform:
        return first * len(stack) * stack.dtype.itemsize
    return sum(int(np.prod(stack.slice_shape(i))) for i in range(len(stack))) * stack.dtype.itemsize


# -- going on ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A session that was opened, with how its image is to be shown.

    Parameters
    ----------
    session : AnnotationSession
        The session.
    view : mapping
        What `write_view` has written; empty where there is nothing.
    """

    session: AnnotationSession
    view: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stack(self) -> ImageStack:
        """The image."""
        return self.session.stack


def open_session(folder: Path, backend: Backend, image: Path | None = None, changed: bool = False) -> Opened:
    """Open a session's folder; for the ``"io"`` lane, as the image is read to make sure that it is the same.

    Parameters
    ----------
    folder : Path
        The session's.
    backend : Backend
        The model to go on with.
    image : Path, optional
        Where the image is now, if it was moved.
    changed : bool
        Go on even if the pixels of the image have changed.

    Raises
    ------
    InputError
        As `AnnotationSession.open`.
    """
    session = AnnotationSession.open(folder, backend=backend, image=image, changed=changed)
    remember(folder)
    return Opened(session, read_view(folder))

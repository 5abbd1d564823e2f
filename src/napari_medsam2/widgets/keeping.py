"""Sessions that are kept by themselves: the image is hashed in a thread, then every step is on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.persist import Prepared, keep, preparing
from napari_medsam2.widgets.views_file import source_of, view_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.worker import Ticket, Worker

__all__ = ["Keeping"]


class Keeping:
    """Gives the open annotation a folder.

    Parameters
    ----------
    worker : Worker
        Whose ``"io"`` lane reads the image.
    saved : callable
        Called once the session is in its folder.
    trouble : callable
        Called with what went wrong, or should be known.
    """

    def __init__(self, worker: Worker, saved: Callable[[], None], trouble: Callable[[Exception], None]) -> None:
        self._worker, self._saved, self._trouble = worker, saved, trouble
        self._ticket: Ticket | None = None

    def begin(self, annotation: Annotation) -> None:
        """Prepare a folder, and keep the session there once it is ready."""
        session = annotation.session
        if session.folder is not None:
            return
        source = source_of(annotation.image)

        def done(prepared: Prepared) -> None:
            self._ticket = None
            if session.folder is None:
                self._keep(annotation, prepared)
                self._saved()

        self._ticket = self._worker.stream(lambda: preparing(session.stack, source), _ignore, done, lane="io")

    def end(self, annotation: Annotation) -> None:
        """Keep a session that is about to be closed and has no folder yet, if anything was done.

        Raises
        ------
        InputError
            If it cannot be kept.
        """
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()
        session = annotation.session
        if session.folder is not None or not session.history:
            return
        steps = preparing(session.stack, source_of(annotation.image))
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                self._keep(annotation, stop.value)
                return

    def _keep(self, annotation: Annotation, prepared: Prepared) -> None:
        keep(annotation.session, prepared, view_of(annotation.image, annotation.frame.spec.axes))
        if prepared.notice:
            self._trouble(InputError(prepared.notice))


def _ignore(_: float) -> None:
    return

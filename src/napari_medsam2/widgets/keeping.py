"""How what was done comes to the disk: the image is read in a thread, then every step is there at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError
from napari_medsam2.reading.hashing import run_through
from napari_medsam2.widgets.kept import remember
from napari_medsam2.widgets.persist import Prepared, keep, preparing
from napari_medsam2.widgets.reader import moved
from napari_medsam2.widgets.unanswered import ask_again, note_down
from napari_medsam2.widgets.views_file import source_of, view_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.workbench import Workbench
    from napari_medsam2.widgets.worker import Ticket, Worker

__all__ = ["Keeper", "Keeping"]


class Keeping:
    """Gives an annotation a folder, and sees to it that what was done is in one before it ends.

    Parameters
    ----------
    annotation : Annotation
        What is kept.
    worker : Worker
        Whose ``"io"`` lane reads the image.
    changed : callable
        Called when the session is in its folder, and while the image is read for it.
    trouble : callable
        Called with what went wrong, or should be known.
    """

    def __init__(
        self,
        annotation: Annotation,
        worker: Worker,
        changed: Callable[[], None],
        trouble: Callable[[Exception], None],
    ) -> None:
        self.annotation = annotation
        self._worker, self._changed, self._trouble = worker, changed, trouble
        self._ticket: Ticket | None = None
        self._percent: int | None = None
        # As it is now: what is copied must not depend on how soon the file of a layer is found out.
        self._in_memory = annotation.session.stack.path is None
        self._then: list[tuple[Callable[[], None], Callable[[Exception], None]]] = []
        # Whoever waits until all that was said is answered; then for the folder.
        self._ending: list[tuple[Callable[[], None], Callable[[Exception], None]]] = []

    @property
    def percent(self) -> int | None:
        """How much of the image was read for a folder that is being made; None where none is."""
        return self._percent

    def begin(self) -> None:
        """Prepare a folder, and keep the session there once it is ready."""
        if self.annotation.session.folder is None and self._ticket is None:
            self._prepare(None)

    def save_as(self, folder: Path, done: Callable[[], None]) -> None:
        """Prepare another folder, and keep the session there from then on; ``done`` is called when it is."""
        self._cancel()

        def failed(error: Exception) -> None:
            self._trouble(error)
            self.begin()

        self._then.append((done, failed))
        self._prepare(folder)

    def end(self, done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """See to it that what was done is in a folder, what the model has still to answer included.

        Parameters
        ----------
        done : callable
            Called once it is: at once where nothing has to be waited for.
        failed : callable
            Called with what went wrong; the session is then as it was.
        """
        self._ending.append((done, failed))
        self.annotation.prompting.when_idle(self._answered)

    def _answered(self) -> None:
        ending, self._ending = self._ending, []
        if not ending:
            return
        session = self.annotation.session
        if not session.history and session.folder is None:
            # Not `_cancel`: whoever waits for the end hears of it.
            self._stop()
        if self._ticket is None and (session.folder is not None or not session.history):
            then, self._then = [*self._then, *ending], []
            for call, _ in then:
                call()
            return
        self._then += ending
        if self._ticket is None:
            self._prepare(None)

    def end_now(self) -> None:
        """Do so at once, however long it takes: the window is closing.

        Raises
        ------
        InputError
            If it cannot be kept.
        """
        self._cancel()
        self.annotation.masks.take()
        session = self.annotation.session
        if session.folder is None and session.history:
            self._keep(run_through(preparing(session.stack, source_of(self.annotation.image))))
        note_down(self.annotation)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _prepare(self, folder: Path | None) -> None:
        stack, source = self.annotation.session.stack, source_of(self.annotation.image)
        # What is nowhere on the disk yet goes with a session that a person saves, or it could never be opened again.
        embed = None if folder is None else self._in_memory
        self._percent = 0
        self._ticket = self._worker.stream(
            lambda: preparing(stack, source, folder, embed), self._read, self._prepared, self._failed, lane="io"
        )
        self._changed()

    def _read(self, part: float) -> None:
        percent = int(100 * part)
        if percent != self._percent:
            self._percent = percent
            self._changed()

    def _prepared(self, prepared: Prepared) -> None:
        # What is raised here goes to `_failed`.
        self._keep(prepared)
        self._settle()
        self._changed()
        then, self._then = self._then, []
        for done, failed in then:
            # Meanwhile something else may have been said.
            self.end(done, failed)

    def _failed(self, error: Exception) -> None:
        self._settle()
        self._changed()
        then, self._then = self._then, []
        for _, failed in then:
            failed(error)
        if not then:
            self._trouble(error)

    def _settle(self) -> None:
        self._ticket = self._percent = None

    def _stop(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()
        self._settle()

    def _cancel(self) -> None:
        self._stop()
        self._then, self._ending = [], []

    def _keep(self, prepared: Prepared) -> None:
        annotation = self.annotation
        keep(annotation.session, prepared, view_of(annotation.image, annotation.frame.spec.axes))
        # Or it would be gone on with where it was before.
        moved(annotation.image, prepared.folder)
        if prepared.notice:
            self._trouble(InputError(prepared.notice))


class Keeper:
    """Begins, moves and ends the keeping of what a workbench has open.

    Parameters
    ----------
    bench : Workbench
        Whose annotation is kept.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._now: Keeping | None = None
        self._leaving: list[Keeping] = []
        self._finishing = False

    @property
    def percent(self) -> int | None:
        """How much of the image was read for a folder that is being made; None where none is."""
        return None if self._now is None else self._now.percent

    @property
    def finishing(self) -> bool:
        """Whether the annotation is closed as soon as it is saved."""
        return self._finishing

    def begin(self, annotation: Annotation) -> None:
        """Keep an annotation from now on."""
        bench = self._bench
        self._finishing = False
        self._now = Keeping(annotation, bench.worker, bench.events.saved.emit, bench.trouble)
        self._now.begin()
        bench.attempt(lambda: ask_again(annotation))

    def save_as(self, folder: Path) -> None:
        """Keep it in another folder from now on."""
        now, bench = self._now, self._bench
        if now is None or self._finishing:
            return

        def done() -> None:
            remember(folder)
            bench.say(f"kept in {folder}")

        now.save_as(folder, done)

    def finish(self, then: Callable[[], object], failed: Callable[[Exception], object]) -> None:
        """Save what was done and close it, then go on; where it cannot be saved it stays open."""
        now, bench = self._now, self._bench
        if now is None or bench.annotation is not now.annotation:
            then()
            return

        def done() -> None:
            if self._now is now:
                self._now, self._finishing = None, False
                bench.drop()
            then()

        def not_done(error: Exception) -> None:
            self._finishing = False
            bench.events.saved.emit()
            hint = "choose Save as… for another folder, or Export… for the masks, which needs no image"
            bench.trouble(InputError(f"{error}; it stays open: {hint}, or the work is lost"))
            failed(error)

        self._finishing = True
        now.end(done, not_done)
        if self._finishing:
            waits = now.annotation.prompting.busy
            what = "waiting for the model's answer" if waits else "saving what was done"
            bench.say(f"{what} before it is finished…")
            bench.events.saved.emit()

    def leave(self, what: str) -> None:
        """Save what was done although its layers are gone; ``what`` is what happened to them."""
        now, self._now, self._finishing = self._now, None, False
        if now is None:
            return
        bench, session = self._bench, now.annotation.session
        self._leaving.append(now)

        def done() -> None:
            self._leaving.remove(now)
            session.close()
            bench.say(f"the {what} removed; what was done is saved, and can be opened again")

        def failed(error: Exception) -> None:
            self._leaving.remove(now)
            bench.trouble(error)

        now.end(done, failed)

    def end_now(self) -> None:
        """Save what is open at once, however long it takes: nothing is left to wait for a thread.

        Raises
        ------
        InputError
            If it cannot be saved.
        """
        now = self._now
        if now is not None and self._bench.annotation is now.annotation:
            now.end_now()
        self._now, self._finishing = None, False

    def close(self) -> None:
        """Save everything, as the window is closing; what goes wrong becomes a notification."""
        self._bench.attempt(self.end_now)
        for one in self._leaving:
            self._bench.attempt(one.end_now)
            one.annotation.session.close()
        self._leaving = []

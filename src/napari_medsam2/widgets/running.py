"""Propagation in a window: started, followed, stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError
from napari_medsam2.propagation import run
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_medsam2.plan import Direction, Propagation
    from napari_medsam2.results import SliceResult
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.worker import Ticket, Worker

__all__ = ["Progress", "Reach", "Running"]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a propagation goes.

    Parameters
    ----------
    direction : str
        ``"both"``, ``"forward"``, ``"backward"``.
    start, stop : int or None
        The range of slices, ``stop`` excluded.
    labels : tuple of int or None
        The objects; all that have a prompt by default.
    part : bool
        Whether an object that narrows and widens again has ended at its waist.
    patience : int or None
        After how many slices without the object it has ended.
    """

    direction: Direction = "both"
    start: int | None = None
    stop: int | None = None
    labels: tuple[int, ...] | None = None
    part: bool = True
    patience: int | None = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a propagation is.

    Parameters
    ----------
    done, total : int
        Slices; the total is what is left to do if no object ends before.
    remaining : float or None
        Seconds, about; None while nothing can be said.
    """

    done: int
    total: int
    remaining: float | None


class Running:
    """At most one propagation, in the model's thread; its slices are taken over here as they come.

    Parameters
    ----------
    session : AnnotationSession
        What is propagated.
    worker : Worker
        Where the model works.
    progress : callable
        Called with a `Progress` after each slice, and with None at the end.
    ended : callable
        Called with a sentence for the status line at the end.
    trouble : callable
        Called with what went wrong.
    """

    def __init__(
        self,
        session: AnnotationSession,
        worker: Worker,
        progress: Callable[[Progress | None], None],
        ended: Callable[[str], None],
        trouble: Callable[[Exception], None],
    ) -> None:
        self._session, self._worker = session, worker
        self._progress, self._ended, self._trouble = progress, ended, trouble
        self._ticket: Ticket | None = None
        self._begun: Propagation | None = None
        self._seen: set[int] = set()
        self._total = 0
        self._since = 0.0

    @property
    def busy(self) -> bool:
        """Whether a propagation is under way."""
        return self._ticket is not None

    def propagate(self, reach: Reach) -> None:
        """Carry masks to the other slices.

        Raises
        ------
        InputError
            If there is nothing to start from, or a propagation is under way.
        """
        self._check()
        first, stop = reach.start, reach.stop
        if first is not None and stop is not None and first >= stop:
            # To a person the last one is included.
            noun = self._session.noun
            raise InputError(f"{noun}s {first} to {stop - 1}: the first comes after the last; exchange them")
        self._start(
            self._session.start(
                list(reach.labels) if reach.labels is not None else None,
                reach.direction,
                reach.start,
                reach.stop,
                reach.patience,
                reach.part,
            )
        )

    def repropagate(self, labels: Sequence[int] | None = None, part: bool = True) -> bool:
        """Compute again what corrections touch; False where nothing was corrected."""
        self._check()
        begun = self._session.start_again(labels, part=part)
        if begun is None:
            return False
        self._start(begun)
        return True

    def stop(self) -> None:
        """End it within a slice; what is computed stays."""
        if self._ticket is not None:
            self._ticket.cancel()

    def close(self) -> None:
        """End it, and hear nothing more."""
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = self._begun = None

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._ticket is not None:
            raise InputError("a propagation is under way; stop it first (Esc)")

    def _start(self, begun: Propagation) -> None:
        plan = begun.plan
        starts = {index for seeds in plan.seeds.values() for index in seeds}
        length = plan.stop - plan.start
        if plan.direction == "forward":
            length = plan.stop - max(plan.start, min(starts))
        elif plan.direction == "backward":
            length = min(plan.stop - 1, max(starts)) - plan.start + 1
        self._begun, self._seen, self._total = begun, set(), max(1, length)
        self._since = time.monotonic()
        self._ticket = self._worker.stream(
            lambda: run(plan), self._apply, self._finish, self._fail, cancelled=self._stopped
        )
        self._progress(Progress(0, self._total, None))

    def _apply(self, result: SliceResult) -> None:
        if self._begun is None:
            return
        if self._begun.withdrawn():
            self.stop()
            return
        self._begun.apply(result)
        self._seen.add(result.index)
        done = len(self._seen)
        pace = (time.monotonic() - self._since) / done
        self._progress(Progress(done, max(self._total, done), pace * max(self._total - done, 0)))

    def _finish(self, left: tuple[tuple[int, int], ...]) -> None:
        begun, before = self._begun, len(self._session.results)
        if begun is not None:
            begun.finish(left)
        gone = before - len(self._session.results)
        if gone and not self._seen:
            self._end(
                f"what came of prompts that were taken back is gone ({counted(gone, 'mask')}); undo brings it back"
            )
        else:
            self._end(f"propagated: {self._so_far()} in {time.monotonic() - self._since:.1f} s")

    def _stopped(self) -> None:
        if self._begun is not None and self._begun.withdrawn():
            seen = "it" if self._seen else "what it began with"
            self._end(f"the propagation ended, as {seen} was undone")
            return
        self._end(f"stopped after {self._so_far()}; they stay, undo takes them back")

    def _fail(self, error: Exception) -> None:
        self._end(f"ended by an error after {self._so_far()}")
        self._trouble(error)

    def _so_far(self) -> str:
        return counted(len(self._seen), self._session.noun)

    def _end(self, text: str) -> None:
        self._ticket = self._begun = None
        self._progress(None)
        self._ended(text)

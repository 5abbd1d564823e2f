"""The only threads: for what touches the model, for files, for downloads; replies come back to the main thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, TypeVar

from napari_medsam2.widgets._lanes import Job, LaneThread, Mailbox, Stream, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Lane", "Ticket", "Worker"]

Lane = Literal["model", "io", "net"]
T = TypeVar("T")
R = TypeVar("R")


class Worker:
    """Runs jobs and generators beside the main thread and calls back on it.

    There are three lanes with a thread each, started when they are first used: ``"model"`` for all that touches a
    model, ``"io"`` for loading, saving, exporting and hashing, ``"net"`` for downloads. In a lane one thing is done at
    a time: urgent jobs first, the others in the order in which they came. A generator (*stream*) is stepped one
    ``next()`` at a time, by turns with the jobs and other streams, so that a click is answered while a propagation
    runs. A stream is at most 4 items ahead of the main thread.

    Callbacks are called from Qt's event loop on the thread that made the worker, the main thread, in the order in which
    the replies were made; never after `Ticket.cancel` or `close`. What a callback raises is treated like what the
    job raised.

    Parameters
    ----------
    on_error : callable, optional
        Called with every exception that has no ``failed`` of its own; it can be assigned later. By default the
        exception goes to `sys.excepthook`, which napari shows.
    """

    def __init__(self, on_error: Callable[[Exception], None] | None = None) -> None:
        self.on_error = on_error or _to_hook
        self._mailbox = Mailbox()
        self._lanes: dict[Lane, LaneThread] = {
            name: LaneThread(f"napari-medsam2-{name}", self._mailbox.post) for name in ("model", "io", "net")
        }
        self._closed = False

    def submit(
        self,
        job: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
        *,
        lane: Lane = "model",
        urgent: bool = False,
    ) -> Ticket:
        """Run a function.

        Parameters
        ----------
        job : callable
            Called in the lane's thread, without arguments.
        done : callable
            Called with what it returned.
        failed : callable, optional
            Called with what it raised, out-of-memory errors of all kinds included; `on_error` by default.
        lane : {"model", "io", "net"}
            Where it runs.
        urgent : bool
            Before all that waits and is not urgent.

        Returns
        -------
        Ticket
            To cancel it: a job that has begun runs to its end, but nobody hears of it. After `close` nothing is run
            and the ticket is inactive.
        """
        home = self._lanes[lane]
        ticket = Job(job, home, done, failed, self._error)
        home.add(ticket, urgent)
        return ticket

    def stream(
        self,
        make: Callable[[], Generator[T, None, R]],
        each: Callable[[T], None],
        done: Callable[[R], None],
        failed: Callable[[Exception], None] | None = None,
        *,
        cancelled: Callable[[], None] | None = None,
        lane: Lane = "model",
    ) -> Ticket:
        """Run a generator.

        Parameters
        ----------
        make : callable
            Makes the generator, in the lane's thread, where it is stepped and closed as well.
        each : callable
            Called with each item. Where it raises, the generator is closed and ``failed`` called.
        done : callable
            Called with the generator's return value, after the last item.
        failed : callable, optional
            As for `submit`.
        cancelled : callable, optional
            Called once the generator was closed after `Ticket.cancel`.
        lane : {"model", "io", "net"}
            Where it runs.

        Returns
        -------
        Ticket
            To cancel it, within one step.
        """
        home = self._lanes[lane]
        ticket = Stream(make, each, cancelled, home, done, failed, self._error)
        home.add(ticket)
        return ticket

    def close(self, timeout: float | None = None) -> bool:
        """End: what runs is finished, generators are closed, and nothing is delivered any more. Main thread only.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for each thread; by default as long as its job or step takes.

        Returns
        -------
        bool
            Whether all threads have ended. A thread that has not does so after its job.
        """
        if not self._closed:
            self._closed = True
            self._mailbox.shut()
            for lane in self._lanes.values():
                lane.end()
        ended = [lane.join(timeout) for lane in self._lanes.values()]
        return all(ended)

    def _error(self, error: Exception) -> None:
        self.on_error(error)


def _to_hook(error: Exception) -> None:
    sys.excepthook(type(error), error, error.__traceback__)

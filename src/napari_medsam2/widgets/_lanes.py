"""Threads with their queues, and the way back to the main thread; see `worker`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Job", "LaneThread", "Mailbox", "Stream", "Ticket"]

_AHEAD = 4
"""Items of a stream that may wait for the main thread."""
_TURN = 0.008
"""Seconds of replies in one turn of the event loop; input and painting come between turns."""


class Ticket:
    """Something that was handed to the worker.

    Every ticket ends with exactly one of the callbacks ``done``, ``failed`` and, for a stream, ``cancelled``, unless
    the worker is closed before.
    """

    def __init__(
        self,
        lane: LaneThread,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None] | None,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._lane = lane
        self._done, self._failed, self._on_error = done, failed, on_error
        self._active = lane.open

    @property
    def active(self) -> bool:
        """Whether its last callback is still to come, and it was not cancelled."""
        return self._active

    def cancel(self) -> None:
        """Drop it: from now on no callback is called but a stream's ``cancelled``. Main thread only."""
        if self._active:
            self._active = False
            self._lane.wake()

    def step(self) -> bool:
        """Go on, in the lane's thread; returns whether to be called again."""
        raise NotImplementedError

    # What follows runs on the main thread.

    def _finish(self, value: Any) -> None:
        if self._active:
            self._active = False
            try:
                self._done(value)
            except Exception as error:  # noqa: BLE001 - reported
                self._report(error)

    def _fail(self, error: Exception) -> None:
        if self._active:
            self._active = False
            self._report(error)

    def _report(self, error: Exception) -> None:
        if self._failed is None:
            self._on_error(error)
            return
        try:
            self._failed(error)
        except Exception as again:  # noqa: BLE001 - reported
            self._on_error(again)


class Job(Ticket):
    def __init__(self, job: Callable[[], Any], lane: LaneThread, *callbacks: Any) -> None:
        super().__init__(lane, *callbacks)
        self._job: Callable[[], Any] | None = job

    def step(self) -> bool:
        job, self._job = self._job, None
        if not self._active or job is None:
            return False
        try:
            value = job()
        except BaseException as error:  # noqa: BLE001 - reported
            self._lane.post(partial(self._fail, _plain(error)))
        else:
            self._lane.post(partial(self._finish, value))
        return False


class Stream(Ticket):
    def __init__(
        self,
        make: Callable[[], Generator[Any, None, Any]],
        each: Callable[[Any], None],
        cancelled: Callable[[], None] | None,
        lane: LaneThread,
        *callbacks: Any,
    ) -> None:
        super().__init__(lane, *callbacks)
        self._make, self._each, self._cancelled = make, each, cancelled
        self._steps: Generator[Any, None, Any] | None = None
        self._withdrawn = False
        self.ahead = 0

    def cancel(self) -> None:
        """Drop it: the generator is closed within one step, then ``cancelled`` is called. Main thread only."""
        if self._active:
            self._withdrawn = True
            super().cancel()

    def step(self) -> bool:
        if not self._active:
            self.end()
            return False
        try:
            if self._steps is None:
                self._steps = self._make()
            steps = self._steps
        except BaseException as error:  # noqa: BLE001 - reported
            self._lane.post(partial(self._fail, _plain(error)))
            return False
        try:
            item = next(steps)
        except StopIteration as stop:
            self._lane.post(partial(self._finish, stop.value))
        except BaseException as error:  # noqa: BLE001 - reported
            self._lane.post(partial(self._fail, _plain(error)))
        else:
            self._lane.sent(self)
            self._lane.post(partial(self._deliver, item))
            return True
        self._steps = None
        return False

    def end(self) -> None:
        """Close the generator, in the lane's thread."""
        steps, self._steps = self._steps, None
        try:
            if steps is not None:
                steps.close()
        except BaseException as error:  # noqa: BLE001 - reported
            self._lane.post(partial(self._on_error, _plain(error)))
        if self._withdrawn:
            self._lane.post(self._withdraw)

    def _withdraw(self) -> None:
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            try:
                cancelled()
            except Exception as error:  # noqa: BLE001 - reported
                self._report(error)

    def _finish(self, value: Any) -> None:
        if self._withdrawn:
            # It had ended, but was cancelled before anyone was told.
            self._withdraw()
        super()._finish(value)

    def _fail(self, error: Exception) -> None:
        if self._withdrawn:
            self._withdraw()
        super()._fail(error)

    def _deliver(self, item: Any) -> None:
        try:
            if self._active:
                self._each(item)
        except Exception as error:  # noqa: BLE001 - reported
            if self._withdrawn:
                self._report(error)
            else:
                # Nobody can take the rest.
                self._fail(error)
        finally:
            self._lane.taken(self)


class LaneThread:
    """A thread and what it has to do. It is started by the first ticket."""

    def __init__(self, name: str, post: Callable[[Callable[[], None]], None]) -> None:
        self.post = post
        self._name = name
        self._changed = threading.Condition()
        self._urgent: deque[Ticket] = deque()
        self._queue: deque[Ticket] = deque()
        self._streams: deque[Stream] = deque()
        self._streams_turn = False
        self._ended = False
        self._thread: threading.Thread | None = None

    @property
    def open(self) -> bool:
        return not self._ended

    def add(self, ticket: Ticket, urgent: bool = False) -> None:
        with self._changed:
            if self._ended:
                return
            (self._urgent if urgent else self._queue).append(ticket)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def sent(self, stream: Stream) -> None:
        with self._changed:
            stream.ahead += 1

    def taken(self, stream: Stream) -> None:
        with self._changed:
            stream.ahead -= 1
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._urgent.clear()
            self._queue.clear()
            self._changed.notify_all()

    def join(self, timeout: float | None) -> bool:
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        while (ticket := self._next()) is not None:
            if ticket.step() and isinstance(ticket, Stream):
                with self._changed:
                    self._streams.append(ticket)
            # Nothing is kept alive while waiting.
            del ticket
        for stream in self._streams:
            stream.end()
        self._streams.clear()

    def _next(self) -> Ticket | None:
        """Wait for something to do: urgent jobs, then jobs and steps of streams by turns."""
        with self._changed:
            while not self._ended:
                for stream in self._streams:
                    if not stream.active:
                        self._streams.remove(stream)
                        return stream
                if self._urgent:
                    return self._urgent.popleft()
                ready = next((stream for stream in self._streams if stream.ahead < _AHEAD), None)
                if self._queue and not (ready is not None and self._streams_turn):
                    self._streams_turn = True
                    return self._queue.popleft()
                if ready is not None:
                    self._streams_turn = False
                    self._streams.remove(ready)
                    return ready
                self._changed.wait()
            return None


class Mailbox(QObject):
    """Takes replies from any thread and calls them on the thread that made it."""

    _arrived = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._replies: deque[Callable[[], None]] = deque()
        self._open, self._told = True, False
        # A timer lets the event loop see to input before it fires; a posted event would be handled at once.
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(0)
        self._again.timeout.connect(self._hand_over)
        self._arrived.connect(self._hand_over, Qt.ConnectionType.QueuedConnection)

    def post(self, reply: Callable[[], None]) -> None:
        if not self._open:
            return
        self._replies.append(reply)
        if not self._told:
            self._told = True
            # Qt's half is gone where the application ended first.
            with contextlib.suppress(RuntimeError):
                self._arrived.emit()

    def shut(self) -> None:
        self._open = False
        self._replies.clear()
        # Where the window is gone already, Qt's half is too.
        with contextlib.suppress(RuntimeError):
            self._again.stop()
            self.deleteLater()

    def _hand_over(self) -> None:
        self._told = False
        until = time.perf_counter() + _TURN
        try:
            while self._open and self._replies and time.perf_counter() < until:
                self._replies.popleft()()
        finally:
            if self._open and self._replies:
                self._again.start()


def _plain(error: BaseException) -> Exception:
    """Return an error that a callback may be given."""
    if isinstance(error, Exception):
        return error
    out = RuntimeError(f"the task ended with {type(error).__name__}")
    out.__cause__ = error
    return out

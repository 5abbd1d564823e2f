from __future__ import annotations

import gc
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from napari_medsam2.widgets.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pytestqt.qtbot import QtBot

_LIMIT = 10


class Gate:
    """Something that a job waits at until the test lets it through."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self._reached.set()
        assert self._open.wait(_LIMIT)

    def wait_for_arrival(self) -> None:
        assert self._reached.wait(_LIMIT)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def worker(qtbot: QtBot) -> Iterator[Worker]:
    made = Worker()
    yield made
    assert made.close(_LIMIT)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


def test_jobs_run_in_order_in_a_thread_and_answer_on_the_main_one(qtbot: QtBot, worker: Worker) -> None:
    main = threading.get_ident()
    ran: list[tuple[int, int]] = []
    told: list[int] = []

    def job(number: int) -> int:
        ran.append((number, threading.get_ident()))
        return number * number

    def done(value: int) -> None:
        assert threading.get_ident() == main
        told.append(value)

    tickets = [worker.submit(partial(job, n), done) for n in range(20)]
    assert all(ticket.active for ticket in tickets)
    qtbot.waitUntil(lambda: len(told) == 20)
    assert told == [n * n for n in range(20)]
    assert [n for n, _ in ran] == list(range(20))
    assert {thread for _, thread in ran} != {main}
    assert len({thread for _, thread in ran}) == 1
    assert not any(ticket.active for ticket in tickets)


def test_nothing_is_told_before_the_event_loop_turns(qtbot: QtBot, worker: Worker) -> None:
    ran = threading.Event()
    told: list[None] = []
    worker.submit(ran.set, told.append)
    assert ran.wait(_LIMIT)
    time.sleep(0.02)
    assert told == []
    qtbot.waitUntil(lambda: told == [None])


def test_urgent_jobs_go_first(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    told: list[str] = []
    worker.submit(gate.pass_through, lambda _: told.append("running"))
    gate.wait_for_arrival()
    for name in ("a", "b"):
        worker.submit(partial(str, name), told.append)
    for name in ("now 1", "now 2"):
        worker.submit(partial(str, name), told.append, urgent=True)
    gate.open()
    qtbot.waitUntil(lambda: len(told) == 5)
    assert told == ["running", "now 1", "now 2", "a", "b"]


def test_files_do_not_wait_for_the_model(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    told: list[str] = []
    worker.submit(gate.pass_through, lambda _: told.append("model"))
    gate.wait_for_arrival()
    worker.submit(lambda: threading.current_thread().name, told.append, lane="io")
    qtbot.waitUntil(lambda: told == ["napari-medsam2-io"])
    gate.open()
    qtbot.waitUntil(lambda: told[1:] == ["model"])


def test_a_stream_is_delivered_in_order_and_returns(qtbot: QtBot, worker: Worker) -> None:
    told: list[Any] = []

    def walk() -> Generator[int, None, str]:
        yield from range(50)
        return "end"

    ticket = worker.stream(walk, told.append, told.append)
    qtbot.waitUntil(lambda: not ticket.active)
    assert told == [*range(50), "end"]


def test_streams_take_turns_and_let_jobs_between(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    did: list[str] = []

    def walk(name: str) -> Generator[None, None, None]:
        for n in range(3):
            if name == "x" and n == 1:
                gate.pass_through()
            did.append(f"{name}{n}")
            yield

    ended: list[str] = []

    def end(name: str, _: object) -> None:
        ended.append(name)

    for name in ("x", "y"):
        worker.stream(partial(walk, name), lambda _: None, partial(end, name))
    gate.wait_for_arrival()
    # While x is in its second step.
    worker.submit(lambda: did.append("job 1"), lambda _: None)
    worker.submit(lambda: did.append("job 2"), lambda _: None)
    worker.submit(lambda: did.append("click"), lambda _: None, urgent=True)
    gate.open()
    qtbot.waitUntil(lambda: ended == ["x", "y"])
    assert did == ["x0", "x1", "click", "y0", "x2", "job 1", "y1", "job 2", "y2"]


def test_a_stream_starts_after_the_jobs_before_it(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    did: list[str] = []

    def walk() -> Generator[None, None, None]:
        did.append("walk")
        yield

    worker.submit(gate.pass_through, lambda _: None)
    gate.wait_for_arrival()
    worker.submit(lambda: did.append("load"), lambda _: None)
    worker.submit(lambda: did.append("embed"), lambda _: None)
    ticket = worker.stream(walk, lambda _: None, lambda _: None)
    gate.open()
    qtbot.waitUntil(lambda: not ticket.active)
    assert did == ["load", "embed", "walk"]


def test_a_stream_waits_for_the_main_thread(qtbot: QtBot, worker: Worker) -> None:
    made: list[int] = []
    told: list[int] = []
    ahead: list[int] = []

    def walk() -> Generator[int, None, None]:
        for n in range(40):
            made.append(n)
            yield n

    def each(n: int) -> None:
        ahead.append(len(made) - len(told))
        told.append(n)

    ticket = worker.stream(walk, each, lambda _: None)
    deadline = time.monotonic() + _LIMIT
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    # The main thread is busy; jobs are not held up by that.
    side = threading.Event()
    worker.submit(side.set, lambda _: None)
    assert side.wait(_LIMIT)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    qtbot.waitUntil(lambda: not ticket.active)
    assert told == list(range(40))
    assert max(ahead) <= 5  # 4 undelivered, and the one in the callback's hands.


def test_cancel_closes_the_generator_within_one_step(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    told: list[Any] = []
    closed: list[int] = []

    def walk() -> Generator[int, None, None]:
        try:
            yield 0
            gate.pass_through()
            yield 1
            yield 2
        finally:
            closed.append(threading.get_ident())

    ticket = worker.stream(walk, told.append, lambda _: told.append("done"), cancelled=lambda: told.append("cancelled"))
    gate.wait_for_arrival()
    ticket.cancel()
    assert not ticket.active
    ticket.cancel()
    gate.open()
    qtbot.waitUntil(lambda: "cancelled" in told)
    qtbot.wait(30)
    # Item 0 was not delivered before the cancellation, so it never is.
    assert told == ["cancelled"]
    assert closed
    assert closed != [threading.get_ident()]


def test_cancel_from_within_a_callback(qtbot: QtBot, worker: Worker) -> None:
    told: list[Any] = []

    def walk() -> Generator[int, None, None]:
        yield from range(100)

    def each(n: int) -> None:
        told.append(n)
        if n == 2:
            ticket.cancel()

    ticket = worker.stream(walk, each, lambda _: told.append("done"), cancelled=lambda: told.append("cancelled"))
    qtbot.waitUntil(lambda: "cancelled" in told)
    qtbot.wait(30)
    assert told == [0, 1, 2, "cancelled"]


def test_a_stream_that_had_ended_unheard_is_cancelled_all_the_same(qtbot: QtBot, worker: Worker) -> None:
    told: list[str] = []
    ended = threading.Event()

    def walk() -> Generator[int, None, None]:
        yield 1
        ended.set()

    ticket = worker.stream(
        walk, lambda _: told.append("each"), lambda _: told.append("done"), cancelled=lambda: told.append("cancelled")
    )
    assert ended.wait(_LIMIT)
    time.sleep(0.02)
    ticket.cancel()
    qtbot.waitUntil(lambda: told == ["cancelled"])
    qtbot.wait(30)
    assert told == ["cancelled"]


def test_a_stream_that_never_began_is_not_begun(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    told: list[str] = []
    made: list[int] = []

    def walk() -> Generator[int, None, None]:
        made.append(1)
        yield 1

    worker.submit(gate.pass_through, lambda _: None)
    gate.wait_for_arrival()
    ticket = worker.stream(walk, lambda _: None, lambda _: None, cancelled=lambda: told.append("cancelled"))
    ticket.cancel()
    gate.open()
    qtbot.waitUntil(lambda: told == ["cancelled"])
    assert made == []


def test_a_cancelled_job_is_not_heard_of(qtbot: QtBot, worker: Worker, gate: Gate) -> None:
    told: list[str] = []
    ran: list[str] = []
    running = worker.submit(gate.pass_through, lambda _: told.append("running"), lambda _: told.append("failed"))
    gate.wait_for_arrival()
    waiting = worker.submit(lambda: ran.append("waiting"), lambda _: told.append("waiting"))
    running.cancel()
    waiting.cancel()
    last = worker.submit(lambda: ran.append("last"), lambda _: told.append("last"))
    gate.open()
    qtbot.waitUntil(lambda: not last.active)
    assert (ran, told) == (["last"], ["last"])


def _torch_memory() -> Exception:
    torch = pytest.importorskip("torch")
    error: Exception = torch.OutOfMemoryError("CUDA out of memory.")
    return error


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, MemoryError, StopIteration, "torch"])
@pytest.mark.parametrize("where", ["job", "make", "first step", "later step"])
def test_what_a_job_raises_reaches_failed(qtbot: QtBot, worker: Worker, kind: Any, where: str) -> None:
    error = _torch_memory() if kind == "torch" else kind("no more room")
    told: list[Any] = []

    def job() -> None:
        raise error

    def walk() -> Generator[int, None, None]:
        if where == "later step":
            yield 1
        raise error

    def make() -> Generator[int, None, None]:
        raise error

    if where == "job":
        ticket = worker.submit(job, lambda _: told.append("done"), told.append)
    else:
        maker = make if where == "make" else walk
        ticket = worker.stream(maker, lambda _: None, lambda _: told.append("done"), told.append)
    qtbot.waitUntil(lambda: not ticket.active)
    if kind is StopIteration and "step" in where:
        # Python itself turns one that leaves a generator into a RuntimeError.
        assert isinstance(told[0], RuntimeError)
    else:
        assert told == [error]
    # The thread goes on.
    worker.submit(lambda: "alive", told.append)
    qtbot.waitUntil(lambda: told[1:] == ["alive"])


def test_an_exit_in_a_job_is_an_error_like_others(qtbot: QtBot, worker: Worker) -> None:
    told: list[Exception] = []

    def job() -> None:
        raise SystemExit(3)

    worker.submit(job, lambda _: None, told.append)
    qtbot.waitUntil(lambda: bool(told))
    assert "SystemExit" in str(told[0])
    worker.submit(lambda: ValueError("alive"), told.append)
    qtbot.waitUntil(lambda: len(told) == 2)


def test_errors_without_a_listener_go_to_on_error(qtbot: QtBot, worker: Worker) -> None:
    told: list[str] = []
    worker.on_error = lambda error: told.append(str(error))

    def fail(what: str) -> None:
        raise RuntimeError(what)

    def walk() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            raise RuntimeError("closing")

    worker.submit(lambda: fail("job"), lambda _: None)
    worker.submit(lambda: "done", fail)
    worker.submit(lambda: fail("again"), lambda _: None, lambda error: fail(f"failed({error})"))
    qtbot.waitUntil(lambda: len(told) == 3)
    assert told == ["job", "done", "failed(again)"]

    ticket = worker.stream(walk, lambda _: ticket.cancel(), lambda _: None, cancelled=lambda: told.append("cancelled"))
    qtbot.waitUntil(lambda: len(told) == 5)
    assert told[3:] == ["closing", "cancelled"]


def test_errors_of_callbacks_reach_failed_and_end_the_stream(qtbot: QtBot, worker: Worker) -> None:
    told: list[str] = []
    closed = threading.Event()

    def walk() -> Generator[int, None, None]:
        try:
            yield from range(100)
        finally:
            closed.set()

    def each(n: int) -> None:
        told.append(str(n))
        if n == 1:
            raise ValueError("cannot show 1")

    worker.stream(walk, each, lambda _: told.append("done"), lambda error: told.append(str(error)))
    qtbot.waitUntil(closed.is_set)
    qtbot.wait(30)
    assert told == ["0", "1", "cannot show 1"]


def test_a_long_queue_of_replies_does_not_hold_up_the_event_loop(qtbot: QtBot, worker: Worker) -> None:
    from qtpy.QtCore import QTimer

    told: list[int] = []
    turns: list[int] = []
    ready = threading.Event()

    def done(n: int) -> None:
        time.sleep(0.004)
        told.append(n)

    for n in range(30):
        worker.submit(partial(int, n), done)
    worker.submit(ready.set, lambda _: None)
    assert ready.wait(_LIMIT)
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(len(told)))
    timer.start(0)
    qtbot.waitUntil(lambda: len(told) == 30)
    timer.stop()
    # 30 × 4 ms are handed over in pieces, between which the loop sees to other things.
    assert len({n for n in turns if 0 < n < 30}) >= 5


def test_close_joins_drops_and_closes(qtbot: QtBot, gate: Gate) -> None:
    before = set(threading.enumerate())
    worker = Worker()
    told: list[Any] = []
    closed: list[str] = []
    begun = threading.Semaphore(0)

    def walk() -> Generator[int, None, None]:
        begun.release()
        try:
            while True:
                yield 1
        finally:
            closed.append("closed")

    first = worker.stream(walk, told.append, told.append, told.append, cancelled=lambda: told.append("cancelled"))
    second = worker.stream(walk, told.append, told.append, lane="io")
    worker.submit(lambda: told.append("ran"), lambda _: told.append("done"))
    running = worker.submit(gate.pass_through, told.append, lane="io")
    gate.wait_for_arrival()
    assert begun.acquire(timeout=_LIMIT)
    assert begun.acquire(timeout=_LIMIT)
    first.cancel()
    threading.Timer(0.05, gate.open).start()
    assert worker.close()
    after = {thread for thread in threading.enumerate() if "medsam2" in thread.name} - before
    assert after == set()
    assert closed == ["closed", "closed"]
    told.clear()
    qtbot.wait(50)
    assert told == []
    assert worker.close()
    # Whoever comes late is told nothing and breaks nothing.
    late = worker.submit(lambda: told.append("late"), told.append)
    later = worker.stream(walk, told.append, told.append)
    assert not late.active
    assert not later.active
    late.cancel()
    running.cancel()
    second.cancel()
    qtbot.wait(30)
    assert told == []


def test_close_can_give_up_waiting(qtbot: QtBot, gate: Gate) -> None:
    worker = Worker()
    told: list[Any] = []
    worker.submit(gate.pass_through, told.append)
    gate.wait_for_arrival()
    started = time.monotonic()
    assert not worker.close(0.05)
    assert time.monotonic() - started < 2
    gate.open()
    assert worker.close(_LIMIT)
    qtbot.wait(30)
    assert told == []


def test_no_thread_before_it_is_needed(qtbot: QtBot, worker: Worker) -> None:
    assert not [thread for thread in threading.enumerate() if "medsam2" in thread.name]
    told: list[int] = []
    worker.submit(lambda: 1, told.append, lane="io")
    qtbot.waitUntil(lambda: told == [1])
    assert [thread.name for thread in threading.enumerate() if "medsam2" in thread.name] == ["napari-medsam2-io"]


def test_results_are_not_kept_alive(qtbot: QtBot, worker: Worker) -> None:
    class Big:
        pass

    seen: list[weakref.ref[Big]] = []

    def make() -> Big:
        big = Big()
        seen.append(weakref.ref(big))
        return big

    def walk() -> Generator[Big, None, None]:
        yield make()

    tickets = [worker.submit(make, lambda _: None), worker.stream(walk, lambda _: None, lambda _: None)]
    qtbot.waitUntil(lambda: not any(ticket.active for ticket in tickets))
    qtbot.wait(10)
    gc.collect()
    assert [ref() for ref in seen] == [None, None]

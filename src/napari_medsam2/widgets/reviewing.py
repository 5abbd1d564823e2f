"""From one doubtful mask to the next, the most doubtful first."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medsam2.review import ReviewItem
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.worker import Worker

__all__ = ["Reviewing"]


class _Visit(Protocol):
    def __call__(self, label: int, index: int, drift: float | None = None, more: str | None = None) -> None: ...


class Reviewing:
    """The order of review, and where one was.

    Parameters
    ----------
    session : AnnotationSession
        Whose masks are reviewed.
    worker : Worker
        Which finds the order.
    here : callable
        Gives the object that is selected and the slice that is shown.
    visit : callable
        Called with ``(label, index)`` to show them, and for a mask to review with its drift and how much is left.
    say : callable
        Called with a sentence for the status line.
    trouble : callable
        Called with what went wrong.
    """

    def __init__(
        self,
        session: AnnotationSession,
        worker: Worker,
        here: Callable[[], tuple[int, int]],
        visit: _Visit,
        say: Callable[[str], None],
        trouble: Callable[[Exception], None],
    ) -> None:
        self._session, self._worker, self._here, self._visit = session, worker, here, visit
        self._say, self._trouble = say, trouble
        self._queue: list[ReviewItem] | None = None
        self._been: list[tuple[int, int]] = []
        self._asking = False

    @property
    def known(self) -> bool:
        """Whether the order is known."""
        return self._queue is not None

    def forget(self) -> None:
        """Masks changed: the order is another one."""
        self._queue, self._asking = None, False

    def next(self) -> None:
        """Go to the mask that is most likely wrong, once the order is known."""
        if self._queue is not None:
            self._go_on(self._queue)
            return
        frozen = self._session.frozen()
        self._asking = True

        def done(items: list[ReviewItem]) -> None:
            if self._asking:
                self._asking, self._queue = False, items
                self._go_on(items)

        self._worker.submit(frozen.review, done, self._trouble, lane="io")

    def _go_on(self, items: list[ReviewItem]) -> None:
        here = self._here()
        left = [item for item in items if item.label in self._session.objects]
        item = next((item for item in left if (item.label, item.index) != here), None)
        if item is None:
            self._say("this is the last one to review" if left else "nothing is left to review")
            return
        self._been.append(here)
        self._visit(item.label, item.index, item.drift, f"; {len(left)} left")

    @property
    def can_go_back(self) -> bool:
        """Whether there is a mask that was looked at before this one."""
        return bool(self._been)

    def go_back(self) -> None:
        """Go to where the last step of the review came from."""
        if self._been:
            self._visit(*self._been.pop())

    @contextmanager
    def judged(self, here: tuple[int, int], last: bool = False) -> Iterator[None]:
        """Give a verdict on a mask: it changes the order of the others in nothing, and what is known of it stays.

        ``last``: it comes last from now on, instead of no more.
        """
        queue = self._queue
        yield
        if queue is not None:
            rest = [item for item in queue if (item.label, item.index) != here]
            self._queue = rest + [item for item in queue if last and (item.label, item.index) == here]

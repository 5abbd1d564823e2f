"""What a click will ask, asked while the mouse button is still down."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.question import Answer, Question
    from napari_medsam2.results import PackedResult
    from napari_medsam2.widgets.worker import Ticket, Worker

__all__ = ["Guess", "Pace"]

_SLOW = 0.6
"""Seconds: a model that takes longer for an answer is not asked before it is certain what."""


@dataclass(slots=True)
class Pace:
    """How long the model takes.

    Parameters
    ----------
    seconds : float
        For its last answer.
    """

    seconds: float = 0.0

    @property
    def slow(self) -> bool:
        """Whether a box that is drawn would have to wait for an answer that nobody wants."""
        return self.seconds > _SLOW


class Guess:
    """A question whose answer may be wanted in a moment.

    Parameters
    ----------
    question : Question
        What is asked.
    known : PackedResult or None
        The mask so far, on which the answer depends.
    pace : Pace
        Told how long it took.
    """

    def __init__(self, question: Question, known: PackedResult | None, pace: Pace) -> None:
        self._question, self._known, self._pace = question, known, pace
        self._answer: Answer | None = None
        self._ticket: Ticket | None = None

    def ask(self, worker: Worker) -> None:
        """Have the model answer; what goes wrong is said when the answer is wanted."""
        self._ticket = worker.submit(self._think, lambda _: None, lambda _: None, urgent=True)

    def drop(self) -> None:
        """Do not ask, if it is not asked yet."""
        if self._ticket is not None:
            self._ticket.cancel()

    def fits(self, question: Question, known: PackedResult | None) -> bool:
        """Whether the answer to a question must be the same."""
        mine = self._question
        return (
            (mine.label, mine.index, mine.whole) == (question.label, question.index, question.whole)
            and mine.backend is question.backend
            and mine.before is question.before
            and self._known is known
            and mine.prompt.box == question.prompt.box
            and mine.prompt.painted == question.prompt.painted
            and np.array_equal(mine.prompt.points, question.prompt.points)
            and np.array_equal(mine.prompt.labels, question.prompt.labels)
        )

    def answer_to(self, question: Question) -> Callable[[], Answer]:
        """Return what gives the answer to a question that `fits`, for the model's thread."""

        def answer() -> Answer:
            return replace(self._answer or self._think(), question=question)

        return answer

    def _think(self) -> Answer:
        began = time.perf_counter()
        self._answer = self._question.answer()
        self._pace.seconds = time.perf_counter() - began
        return self._answer

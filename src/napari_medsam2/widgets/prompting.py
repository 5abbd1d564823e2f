"""Live prompting: what a person says goes to the model at once, in order, and the mask comes back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.guess import Guess, Pace
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_medsam2.geometry import Box
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.question import Answer, Question
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.state import Changes
    from napari_medsam2.widgets.prompt_layers import PromptLayers
    from napari_medsam2.widgets.worker import Ticket, Worker

__all__ = ["Prompting"]


@dataclass(slots=True, eq=False)
class _Intent:
    """Something said that is not answered yet."""

    kind: str
    label: int
    index: int
    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: Box | None = None
    content: SlicePrompt | None = None
    drawn: list[object] = field(default_factory=list)


class Prompting:
    """The queue between the mouse and the model.

    One question is with the model at a time. What is said meanwhile waits; clicks on the same object and slice that
    wait together become one question, and a new box takes the place of one that waits.

    Parameters
    ----------
    session : AnnotationSession
        What is asked.
    layers : PromptLayers
        Where prompts are drawn while they wait.
    worker : Worker
        Where the model works.
    answered : callable
        Called with ``(label, index)`` after each new mask.
    trouble : callable
        Called with what went wrong.
    """

    def __init__(
        self,
        session: AnnotationSession,
        layers: PromptLayers,
        worker: Worker,
        answered: Callable[[int, int], None],
        trouble: Callable[[Exception], None],
    ) -> None:
        self._session, self._layers, self._worker = session, layers, worker
        self._answered, self._trouble = answered, trouble
        self._waiting: deque[_Intent] = deque()
        self._asked: _Intent | None = None
        self._ticket: Ticket | None = None
        self._glance: Ticket | None = None
        self._guess: Guess | None = None
        self._pace = Pace()
        # What each object had on each slice before the first of what can be discarded there.
        self._before: dict[tuple[int, int], Changes] = {}

    @property
    def busy(self) -> bool:
        """Whether something waits for an answer."""
        return self._asked is not None or bool(self._waiting)

    # -- what is said ----------------------------------------------------------------------------------------------

    def points(self, label: int, index: int, points: list[tuple[float, float]], labels: list[int]) -> None:
        """Say that points belong to an object (1) or not (0)."""
        last = self._last("points", label, index)
        row = self._layers.wait(label, index, points, labels)
        if last is not None:
            last.points += points
            last.labels += labels
            last.drawn.append(row)
        else:
            self._waiting.append(_Intent("points", label, index, list(points), list(labels), drawn=[row]))
        self._go_on()

    def scribble(self, label: int, index: int, line: np.ndarray, positive: bool) -> None:
        """Say that a line lies on an object, or beside it."""
        from napari_medsam2.prompts import along

        samples = along(np.asarray(line, float))
        self.points(label, index, [(float(y), float(x)) for y, x in samples], [int(positive)] * len(samples))

    def box(self, label: int, index: int, box: Box) -> None:
        """Put a box around an object."""
        last = self._last("box", label, index)
        row = self._layers.wait(label, index, box=box)
        if last is not None:
            for old in last.drawn:
                self._layers.settle(old)
            last.box, last.drawn = box, [row]
        else:
            self._waiting.append(_Intent("box", label, index, box=box, drawn=[row]))
        self._go_on()

    def content(self, label: int, index: int, content: SlicePrompt) -> None:
        """Put prompts in place of what was said: something was moved, or deleted."""
        last = self._last("content", label, index)
        if last is not None:
            last.content = content
        else:
            self._waiting.append(_Intent("content", label, index, content=content))
        self._next()

    def paint(self, painted: Mapping[int, Mapping[int, np.ndarray]]) -> None:
        """Take over painted masks, ``index → label → mask``, as one step; they need no model."""
        session = self._session
        where = f"{session.noun} {min(painted)}" if len(painted) == 1 else counted(len(painted), session.noun)
        keys = [(label, index) for index, masks in painted.items() for label in masks]
        was = {key: session.there(*key) for key in keys}
        with session.step(f"paint on {where}"):
            for index, masks in painted.items():
                session.paint(index, masks)
        self._before = was | self._before
        for key in keys:
            self._answered(*key)

    def expect(self, label: int, index: int, point: tuple[float, float], positive: bool) -> None:
        """Ask already while the mouse button is down; nothing is changed. Let go there, it gives the mask sooner.

        A model that takes long is not asked twice: a box may be drawn instead, which would have to wait.
        """
        self.forget()
        if self.busy or self._pace.slow:
            return
        try:
            question = self._session.ask_points(label, index, [point], [int(positive)])
        except InputError:
            # It will be said when the button is let go.
            return
        self._guess = Guess(question, self._session.results.packed(label, index), self._pace)
        self._guess.ask(self._worker)

    def forget(self) -> None:
        """It is no click, but something that is drawn."""
        if self._guess is not None:
            self._guess.drop()
            self._guess = None

    # -- previews --------------------------------------------------------------------------------------------------

    def accept(self, label: int, index: int) -> None:
        """Say that the mask is right; what was prompted can no longer be discarded in one go."""
        self._session.accept(label, index)
        self._before.pop((label, index), None)

    def discard(self, label: int, index: int) -> bool:
        """Take back all that was said of an object on a slice since it was last accepted; the mask is as it was then.

        Returns
        -------
        bool
            Whether there was anything.
        """
        dropped = self._drop(label, index)
        if (label, index) not in self._before:
            return dropped
        self._session.put_back(self._before.pop((label, index)))
        return True

    def outline(self, label: int, index: int, inside: np.ndarray, positive: bool) -> None:
        """Take over what lies in an outline: several of them make one mask, which takes the place of the model's.

        Parameters
        ----------
        label, index : int
            The object and the slice.
        inside : ndarray
            ``(H, W)`` bool.
        positive : bool
            False: it is cut out of the mask that is there.
        """
        known, said = self._session.results.get(label, index), self._session.prompts.get((label, index))
        if not positive:
            if known is None or not (known.mask & inside).any():
                raise InputError("there is nothing to cut out; draw over the object's mask, or without Ctrl around it")
            inside = known.mask & ~inside
        elif known is not None and said is not None and said.painted is not None:
            inside = known.mask | inside
        self.paint({index: {label: inside}})

    def settled(self) -> None:
        """Forget what could be discarded: something else was done since."""
        self._before.clear()

    def forget_removed(self) -> None:
        """Forget what objects had that are gone: another one may get their number."""
        objects = self._session.objects
        self._before = {(label, index): was for (label, index), was in self._before.items() if label in objects}

    def glance(
        self, label: int, index: int, point: tuple[float, float], show: Callable[[np.ndarray | None], None]
    ) -> None:
        """Ask what a click would give, and show it; nothing is changed. A newer glance takes its place."""
        if self._glance is not None:
            self._glance.cancel()
            self._glance = None
        if self.busy:
            return
        try:
            question = self._session.ask_points(label, index, [point], [1])
        except InputError:
            show(None)
            return
        self._glance = self._worker.submit(
            question.answer, lambda answer: show(answer.result.mask), lambda _: show(None)
        )

    def close(self) -> None:
        """Ask nothing more, and hear nothing more."""
        self.forget()
        self._waiting.clear()
        for ticket in (self._ticket, self._glance):
            if ticket is not None:
                ticket.cancel()
        self._asked = self._ticket = self._glance = None

    # -- the queue -------------------------------------------------------------------------------------------------

    def _last(self, kind: str, label: int, index: int) -> _Intent | None:
        """What was said last, if it still waits and is of this kind, object and slice: more of it joins it."""
        last = self._waiting[-1] if self._waiting else None
        same = last is not None and (last.kind, last.label, last.index) == (kind, label, index)
        return last if same else None

    def _go_on(self) -> None:
        """Ask first, then draw what was said: the model works meanwhile."""
        self._next()
        self._layers.refresh()

    def _next(self) -> None:
        while self._asked is None and self._waiting:
            intent = self._waiting.popleft()
            try:
                question = self._question(intent)
            except InputError as error:
                self._settle(intent)
                self._layers.refresh()
                self._trouble(error)
                continue
            if question is None:
                self._settle(intent)
                self._layers.refresh()
                self._answered(intent.label, intent.index)
                continue
            self._asked = intent
            guess, known = self._guess, self._session.results.packed(question.label, question.index)
            if guess is None or not guess.fits(question, known):
                self.forget()
                guess = Guess(question, known, self._pace)
            self._guess = None
            self._ticket = self._worker.submit(guess.answer_to(question), self._take, self._fail, urgent=True)

    def _question(self, intent: _Intent) -> Question | None:
        session, label, index = self._session, intent.label, intent.index
        if intent.kind == "points":
            return session.ask_points(label, index, intent.points, intent.labels)
        if intent.kind == "box":
            return session.ask_box(label, index, intent.box or ())
        if intent.content is None or intent.content.empty:
            session.clear_prompts(label, index)
            return None
        return session.ask(label, index, intent.content)

    def _take(self, answer: Answer) -> None:
        intent, self._asked = self._asked, None
        if intent is None:
            return
        self._settle(intent)
        before = self._session.there(intent.label, intent.index)
        try:
            taken = self._session.take(answer)
        except InputError as error:
            self._layers.refresh()
            self._trouble(error)
        else:
            if taken is not None:
                self._before.setdefault((intent.label, intent.index), before)
            self._layers.refresh()
            self._answered(intent.label, intent.index)
        self._next()

    def _fail(self, error: Exception) -> None:
        intent, self._asked = self._asked, None
        if intent is not None:
            self._settle(intent)
        self._layers.refresh()
        self._trouble(error)
        self._next()

    def _drop(self, label: int, index: int) -> bool:
        """Forget what waits for an object on a slice."""
        stale = [one for one in self._waiting if (one.label, one.index) == (label, index)]
        if self._asked is not None and (self._asked.label, self._asked.index) == (label, index):
            stale.append(self._asked)
            if self._ticket is not None:
                self._ticket.cancel()
            self._asked = None
        for intent in stale:
            self._settle(intent)
        self._waiting = deque(one for one in self._waiting if one not in stale)
        if stale:
            self._layers.refresh()
        self._next()
        return bool(stale)

    def _settle(self, intent: _Intent) -> None:
        for row in intent.drawn:
            self._layers.settle(row)

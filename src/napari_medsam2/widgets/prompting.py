"""Live prompting: what a person says goes to the model at once, in order, and the mask comes back."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.guess import Guess, Pace
from napari_medsam2.widgets.intent import ALL, Intent, nothing
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_medsam2.geometry import Box
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.question import Answer
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.state import Changes
    from napari_medsam2.widgets.prompt_layers import PromptLayers
    from napari_medsam2.widgets.worker import Ticket, Worker

__all__ = ["Prompting"]


class Prompting:
    """The queue between the mouse and the model.

    One question is with the model at a time. What is said meanwhile waits; clicks on the same object and slice that
    wait together become one question, and a new box takes the place of one that waits. Commands wait in the same queue:
    what a person does after a click is done after it, however long the model takes.

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
        self._waiting: deque[Intent] = deque()
        self._asked: Intent | None = None
        self._ticket: Ticket | None = None
        self._glance: Ticket | None = None
        self._guess: Guess | None = None
        self._pace = Pace()
        # What each object had on each slice before the first of what can be discarded there.
        self._before: dict[tuple[int, int], Changes] = {}
        self._ending: list[Callable[[], object]] = []

    @property
    def busy(self) -> bool:
        """Whether something waits for an answer."""
        return self._asked is not None or bool(self._waiting)

    def waits(self, label: int) -> bool:
        """Whether something that was said of an object waits for an answer."""
        return any(one.label == label for one in self._said())

    def entries(self) -> list[dict[str, Any]]:
        """The clicks and boxes that wait for an answer, as a prompts file has them."""
        return [entry for one in self._said() if (entry := one.entry()) is not None]

    # -- what comes after it ---------------------------------------------------------------------------------------

    def in_turn(
        self, call: Callable[[], object], key: tuple[int, int] | None = None, withdrawn: Callable[[], object] = nothing
    ) -> bool:
        """Call something when all that was said so far is answered: at once where nothing waits.

        Parameters
        ----------
        call : callable
            What a command does. Where it has to wait, the InputError that it raises becomes a notification.
        key : (int, int), optional
            The object and the slice that it is for; else it is for all of them.
        withdrawn : callable
            Called instead of it where a person takes it back.

        Returns
        -------
        bool
            Whether it has to wait.
        """
        if not self.busy:
            call()
            return False
        self._waiting.append(Intent("call", *(key or ALL), call=call, withdrawn=withdrawn))
        return True

    def when_idle(self, call: Callable[[], object]) -> None:
        """Call something as soon as nothing waits; nobody can take it back, and nothing is called after `close`."""
        if self.busy:
            self._ending.append(call)
        else:
            call()

    def take_back(self) -> str:
        """Forget what was said last, if it waits.

        Returns
        -------
        str
            What it was, such as ``"click"``; empty where nothing waits.
        """
        said = self._said()
        if not said:
            return ""
        self._forget(said[-1:])
        return said[-1].word

    def withdraw(self, label: int, index: int) -> bool:
        """Forget the commands that wait, those for an object on a slice and those for all."""
        calls = [one for one in self._waiting if one.kind == "call" and one.key in ((label, index), ALL)]
        self._forget(calls)
        return bool(calls)

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
            self._waiting.append(Intent("points", label, index, list(points), list(labels), drawn=[row]))
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
            self._waiting.append(Intent("box", label, index, box=box, drawn=[row]))
        self._go_on()

    def content(self, label: int, index: int, content: SlicePrompt) -> None:
        """Put prompts in place of what was said: something was moved, or deleted."""
        last = self._last("content", label, index)
        if last is not None:
            last.content = content
        else:
            self._waiting.append(Intent("content", label, index, content=content))
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
        self.in_turn(lambda: self._outline(label, index, inside, positive), (label, index))

    def _outline(self, label: int, index: int, inside: np.ndarray, positive: bool) -> None:
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
        self._ending.clear()
        for ticket in (self._ticket, self._glance):
            if ticket is not None:
                ticket.cancel()
        self._asked = self._ticket = self._glance = None

    # -- the queue -------------------------------------------------------------------------------------------------

    def _last(self, kind: str, label: int, index: int) -> Intent | None:
        """What was said last, if it still waits and is of this kind, object and slice: more of it joins it."""
        last = self._waiting[-1] if self._waiting else None
        same = last is not None and (last.kind, last.key) == (kind, (label, index))
        return last if same else None

    def _said(self) -> list[Intent]:
        """All that waits, what was said last at the end."""
        return [*([] if self._asked is None else [self._asked]), *self._waiting]

    def _go_on(self) -> None:
        """Ask first, then draw what was said: the model works meanwhile."""
        self._next()
        self._layers.refresh()

    def _next(self) -> None:
        while self._asked is None and self._waiting:
            intent = self._waiting.popleft()
            try:
                if intent.kind == "call":
                    intent.call()
                    continue
                question = intent.question(self._session)
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
        while self._ending and not self.busy:
            self._ending.pop(0)()

    def _take(self, answer: Answer) -> None:
        intent, self._asked = self._asked, None
        if intent is None:
            return
        before = self._session.there(*intent.key)
        try:
            late = self._session.take(answer) is None
            if late and intent.label not in self._session.objects:
                raise InputError(f"the {intent.word} was not taken over: its object was removed meanwhile")
        except Exception as error:  # noqa: BLE001 - whatever it is, what comes after it must not wait for ever
            self._settle(intent)
            self._layers.refresh()
            self._trouble(error)
        else:
            if late:
                # Something else was done on the slice, which the answer knows nothing of.
                self._waiting.appendleft(intent)
            else:
                self._before.setdefault(intent.key, before)
                self._settle(intent)
                self._layers.refresh()
                self._answered(*intent.key)
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
        stale = [one for one in self._said() if one.key == (label, index)]
        self._forget(stale)
        return bool(stale)

    def _forget(self, stale: list[Intent]) -> None:
        if self._asked in stale:
            if self._ticket is not None:
                self._ticket.cancel()
            self._asked = None
        self._waiting = deque(one for one in self._waiting if one not in stale)
        for intent in stale:
            self._settle(intent)
            intent.withdrawn()
        if stale:
            self._layers.refresh()
        self._next()

    def _settle(self, intent: Intent) -> None:
        for row in intent.drawn:
            self._layers.settle(row)

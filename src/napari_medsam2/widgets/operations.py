"""Merging, splitting and mending objects: computed in a thread, taken over as one step."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.state import ObjectInfo
from napari_medsam2.widgets.takeover import numbered, take_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_medsam2.importing import LabelFile
    from napari_medsam2.objects import Changes
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.takeover import Use
    from napari_medsam2.widgets.worker import Worker

__all__ = ["Operations"]

_SMOOTH = 1.5
"""Pixels: about the steps of a mask that was drawn at half the image's resolution."""


class Operations:
    """What can be done with whole objects.

    Parameters
    ----------
    session : AnnotationSession
        Whose objects they are.
    worker : Worker
        Whose ``"io"`` lane computes.
    say : callable
        Told what was done.
    trouble : callable
        Called with what went wrong.
    taken : callable, optional
        Called once masks were taken over.
    """

    def __init__(
        self,
        session: AnnotationSession,
        worker: Worker,
        say: Callable[[str], None],
        trouble: Callable[[Exception], None],
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._session, self._worker, self._say, self._trouble = session, worker, say, trouble
        self._taken = taken

    def merge(self, labels: Sequence[int]) -> None:
        """Make the first of some objects of all of them."""
        from napari_medsam2.objects import merge

        if len(labels) < 2:
            raise InputError("select two objects or more to merge them")
        into = labels[0]
        self._run(f"merge into object {into}", lambda s: iter([merge(s.results, list(labels), into)]))

    def split(self, label: int, how: str) -> None:
        """Make several objects of one: ``"touching"``, ``"pieces"`` or ``"pieces-2d"``."""
        from napari_medsam2.objects import split_components, split_touching

        session = self._session
        name = session.objects[label].name
        deep = session.kind == "stack" and len(session.stack) > 1

        def compute(frozen: AnnotationSession) -> Iterator[Changes]:
            if how == "touching":
                changes = split_touching(
                    frozen.results, frozen.stack, label, 3 if deep else 2, taken=frozen.objects, name=name
                )
            else:
                flat = how == "pieces-2d" or not deep
                changes = split_components(
                    frozen.results, frozen.stack, label, 2 if flat else 3, taken=frozen.objects, name=name
                )
            # The masks layer shows at least what the session's type of labels holds.
            if max(changes.names) > np.iinfo(frozen.dtype).max:
                raise InputError(f"object {label} has more pieces than there are numbers left; delete objects first")
            yield changes

        self._run(f"split object {label}", compute)

    def mend(self, labels: Sequence[int], what: str, smallest: int = 20) -> None:
        """Do the same with each of some objects: ``"fill"``, ``"smooth"``, ``"remove-small"`` or ``"interpolate"``."""
        from napari_medsam2.objects import fill_holes, interpolate, remove_small, smooth
        from napari_medsam2.objects._masks import step

        # `smooth` takes lengths; where rows and columns differ, no side is smoothed by more pixels than meant.
        radius = _SMOOTH * min(step(self._session.stack)[1:])

        def compute(frozen: AnnotationSession) -> Iterator[Changes]:
            results, stack = frozen.results, frozen.stack
            for label in labels:
                if what == "fill":
                    yield fill_holes(results, stack, label)
                elif what == "smooth":
                    yield smooth(results, stack, label, radius)
                elif what == "remove-small":
                    yield remove_small(results, stack, label, smallest)
                else:
                    kept = {i for (of, i), mark in frozen.marks.items() if of == label and mark == "accepted"}
                    for first, last in _gaps(frozen, label):
                        yield interpolate(results, stack, label, first, last, kept)

        names = {"fill": "fill holes", "smooth": "smooth", "remove-small": "remove small pieces"}
        self._run(names.get(what, "fill in missing slices"), compute)

    def delete(self, labels: Sequence[int]) -> None:
        """Remove objects with all that is theirs."""
        name = "delete objects" if len(labels) > 1 else f"delete object {labels[0]}"
        self._session.edit(name, removed_objects=labels)

    def take_over(self, labels: LabelFile, use: Use, index: int, top: int) -> None:
        """Take over masks that were made elsewhere.

        Parameters
        ----------
        labels : LabelFile
            From `takeover.from_layer` or `importing.open_labels`.
        use : str
            What becomes of them; see `takeover.take_over`.
        index : int
            The slice that is shown, the only one that prompts are taken from.
        top : int
            The largest number that an object may have.
        """
        from napari_medsam2.importing import as_changes

        session = self._session
        session.check_writable()
        told = {label for label, _ in session.prompts} | {label for _, label, *_ in session.results.summary()}
        before, indices, name = session.revision, [index] if use == "prompts" else None, f"import {labels.name}"

        def compute() -> Changes:
            found, _ = numbered(labels, told, top, indices)
            return as_changes(found, indices)

        def done(changes: Changes) -> None:
            if session.revision != before:
                raise InputError("cannot import: something else was changed meanwhile; do it again")
            take_over(session, changes, use, name)
            self._taken()
            count = len(changes.names)
            self._say(f"imported {count} object{'' if count == 1 else 's'} of {labels.name}")

        self._say(f"reading {labels.name}…")
        self._worker.submit(compute, done, self._trouble, lane="io")

    def _run(self, name: str, compute: Callable[[AnnotationSession], Iterator[Changes]]) -> None:
        session = self._session
        session.check_writable()
        frozen, before = session.frozen(), session.revision

        def done(found: list[Changes]) -> None:
            # Not the history: what a propagation adds is of a command that was there.
            if session.revision != before:
                raise InputError(f"cannot {name}: something else was changed meanwhile; do it again")
            changed = [one for one in found if one]
            if not changed:
                self._say(f"{name}: there is nothing to change")
                return
            # At once, however many objects they are: each edit is synced to the disk, and drawn.
            session.edit(
                name,
                chain.from_iterable(one.packed() for one in changed),
                chain.from_iterable(one.cleared for one in changed),
                [ObjectInfo(n, text, one.colors.get(n)) for one in changed for n, text in one.names.items()],
                list(chain.from_iterable(one.removed for one in changed)),
                sources={at: labels for one in changed for at, labels in one.sources.items()},
            )
            self._taken()
            self._say(f"done: {name}")

        self._worker.submit(lambda: list(compute(frozen)), done, self._trouble, lane="io")


def _gaps(session: AnnotationSession, label: int) -> Iterator[tuple[int, int]]:
    """The neighbouring slices of an object, within a run, between which it is missing."""
    for stretch in session.stack.runs():
        known = [i for i in stretch if (found := session.results.get(label, i)) is not None and found.area]
        for first, last in pairwise(known):
            if stretch.index(last) - stretch.index(first) > 1:
                yield first, last

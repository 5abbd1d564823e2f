"""What the views show of the open annotation, kept up to date at the pace of the eye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal, SignalGroup
from qtpy.QtCore import QObject, QTimer

from napari_medsam2.widgets.rows.ledger import Ledger
from napari_medsam2.widgets.rows.strip import StripAxis, strip_axis

if TYPE_CHECKING:
    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["Board", "BoardEvents"]

_PACE = 60
"""Milliseconds between two updates: a propagation may give a hundred slices a second."""


class BoardEvents(SignalGroup):
    """What the panels listen to."""

    opened = Signal()
    """Another annotation, or none."""
    changed = Signal(object)
    """Masks, prompts, verdicts or objects: the slices as a set, or None for all."""
    moved = Signal()
    """Another slice or object is looked at."""


class Board:
    """One ledger of confidences and areas for all views of a dock.

    Parameters
    ----------
    bench : Workbench
        Whose annotation is followed.
    parent : QObject
        What the timer ends with.
    """

    def __init__(self, bench: Workbench, parent: QObject) -> None:
        self.bench = bench
        self.events = BoardEvents()
        self.ledger: Ledger | None = None
        self.axis = StripAxis(0)
        self._dirty: set[int] = set()
        self._objects = False
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PACE)
        self._timer.timeout.connect(self.flush)
        bench.events.annotation.connect(self._opened)

    @property
    def annotation(self) -> Annotation | None:
        """What is open."""
        return self.bench.annotation

    def close(self) -> None:
        """Hear nothing more."""
        self._timer.stop()
        self.bench.events.annotation.disconnect(self._opened)

    def color_of(self, label: int) -> str:
        """An object's colour."""
        annotation = self.annotation
        return "#808080" if annotation is None else annotation.masks.color_of(label)

    def flush(self) -> None:
        """Show now what has changed."""
        self._timer.stop()
        ledger = self.ledger
        if ledger is None or self.annotation is None:
            return
        dirty, objects = self._dirty, self._objects
        self._dirty, self._objects = set(), False
        if dirty or objects:
            ledger.refresh(dirty)
            self.events.changed.emit(None if objects else dirty)
        elif ledger.behind:
            ledger.measure()
            self.events.changed.emit(set())
        if ledger.behind:
            self._timer.start()

    def _opened(self) -> None:
        annotation = self.annotation
        self._dirty, self._objects = set(), False
        if annotation is None:
            self.ledger, self.axis = None, StripAxis(0)
        else:
            self.ledger = Ledger(annotation.session)
            self.axis = strip_axis(annotation.session.stack, annotation.session.kind)
            annotation.events.masks.connect(self._masks)
            annotation.events.objects.connect(self._objects_changed)
            annotation.events.shown.connect(self._moved)
        self.events.opened.emit()
        if self.ledger is not None and self.ledger.behind:
            self._timer.start()

    def _masks(self, index: int) -> None:
        self._dirty.add(index)
        if not self._timer.isActive():
            self._timer.start()

    def _objects_changed(self) -> None:
        self._objects = True
        self.events.moved.emit()
        if not self._timer.isActive():
            self._timer.start()

    def _moved(self, _: int) -> None:
        self.events.moved.emit()

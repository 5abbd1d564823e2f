"""The table of objects in the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QInputDialog, QSizePolicy, QWidget

from napari_medsam2.widgets.actions import tooltip
from napari_medsam2.widgets.import_dialog import ImportDialog
from napari_medsam2.widgets.object_table import ObjectTable
from napari_medsam2.widgets.sections.parts import MAC, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.board import Board

__all__ = ["ObjectsSection"]


class ObjectsSection(Section):
    """Objects: name, colour, shown, locked, slices, volume; merged, split, deleted, picked from the canvas."""

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__("Objects", parent)
        self._board = board
        self.table = ObjectTable()
        # The only part that takes what height the window has left.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.column.addWidget(self.table)
        bench, table = board.bench, self.table
        table.set_tip("add", tooltip("new", MAC))
        table.added.connect(bench.calls()["new"])
        table.selected.connect(lambda label: self._do(lambda a: a.select(label)))
        table.renamed.connect(lambda label, name: self._do(lambda a: a.session.rename_object(label, name)))
        table.recolored.connect(lambda label, color: self._do(lambda a: a.session.recolor_object(label, color)))
        table.visibility.connect(lambda labels, on: self._do(lambda a: a.visible(labels, on)))
        table.locked.connect(lambda label, on: self._do(lambda a: a.lock(label, on)))
        table.merge.connect(lambda labels: self._do(lambda a: a.operations.merge(labels)))
        table.split.connect(lambda label, how: self._do(lambda a: a.operations.split(label, how)))
        table.delete.connect(lambda labels: self._do(lambda a: a.operations.delete(labels)))
        table.operation.connect(lambda labels, what: self._do(lambda a: self._mend(a, labels, what)))
        table.jumped.connect(lambda label: self._do(lambda a: self._largest(a, label)))
        table.picking.connect(self._pick)
        table.importing.connect(lambda: bench.attempt(self._import))
        self._dialog: ImportDialog | None = None
        self._picking: Any = None
        board.events.opened.connect(self._opened)
        board.events.changed.connect(self._refresh)
        board.events.moved.connect(self._refresh)
        self._refresh()

    def close_section(self) -> None:
        """Hear nothing more of the board."""
        self._pick(False)
        if self._dialog is not None:
            self._dialog.close()
        self._board.events.opened.disconnect(self._opened)
        self._board.events.changed.disconnect(self._refresh)
        self._board.events.moved.disconnect(self._refresh)

    def _opened(self) -> None:
        self._pick(False)
        self._refresh()

    def _refresh(self, _: object = None) -> None:
        annotation, ledger = self._board.annotation, self._board.ledger
        if annotation is None or ledger is None:
            self.table.show_rows(())
            return
        hidden = [label for label in annotation.session.objects if annotation.masks.hidden(label)]
        rows = ledger.object_rows(self._board.color_of, hidden, annotation.masks.locked)
        self.table.show_rows(rows, annotation.label or None, ledger.measured_as)

    def _do(self, call: Any) -> None:
        annotation = self._board.annotation
        if annotation is not None:
            self._board.bench.attempt(lambda: call(annotation))

    def _import(self) -> None:
        if self._dialog is None:
            self._dialog = ImportDialog(self._board.bench, self)
        self._dialog.offer()

    def _mend(self, annotation: Annotation, labels: tuple[int, ...], what: str) -> None:
        if what != "remove-small":
            annotation.operations.mend(labels, what)
            return
        smallest, sure = QInputDialog.getInt(self, "Remove small pieces", "Pieces with fewer pixels go:", 20, 2, 10**6)
        if sure:
            annotation.operations.mend(labels, what, smallest)

    def _largest(self, annotation: Annotation, label: int) -> None:
        # An object that has just come may not be in the ledger yet.
        self._board.flush()
        ledger = self._board.ledger
        if ledger is not None and label in annotation.session.objects:
            annotation.select(label)
            areas = ledger.areas(label)
            if (areas > 0).any():
                annotation.show(int(np.argmax(areas)))

    def _pick(self, on: bool) -> None:
        """Let the next click in the image choose the object under it."""
        callbacks = self._board.bench.viewer.mouse_drag_callbacks
        if self._picking in callbacks:
            callbacks.remove(self._picking)
        self._picking = None
        annotation = self._board.annotation
        if annotation is not None:
            annotation.tools.paused = False
        if not on or annotation is None:
            self.table.set_picking(False)
            return
        if annotation.tools.tool in ("paint", "erase"):
            annotation.tools.choose("prompt")
        annotation.tools.paused = True

        def pick(_: Any, event: Any) -> Iterator[None]:
            if event.button == 1 and annotation is self._board.annotation:
                self._board.bench.attempt(lambda: annotation.pick(event.position))
            # The layer below gets the same press after this; it must not take it for a prompt.
            yield
            while event.type == "mouse_move":
                yield
            self._pick(False)

        self._picking = pick
        callbacks.append(pick)

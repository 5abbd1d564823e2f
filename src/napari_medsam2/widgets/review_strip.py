"""The review strip: a row for each object, a bar for each slice, coloured by confidence."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QHelpEvent, QKeyEvent, QMouseEvent, QPainter
from qtpy.QtWidgets import QAbstractScrollArea, QSizePolicy, QToolTip

from napari_medsam2.widgets.rows.strip import Mark, StripAxis, names_of
from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.rows.zoom import Zoom
from napari_medsam2.widgets.strip_painter import Scene, StripPainter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qtpy.QtGui import QPaintEvent, QResizeEvent, QWheelEvent
    from qtpy.QtWidgets import QWidget

    from napari_medsam2.widgets.rows.strip import StripRow

__all__ = ["ReviewStrip"]

_LOWEST, _HIGHEST = 15, 36
"""Pixels of a row, in a small font."""
_NAMES = 170
_STEPS = 64
"""Steps of the horizontal scroll bar to a slice."""

_KEYS = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_PageUp: (0, -10),
    Qt.Key.Key_PageDown: (0, 10),
}


class ReviewStrip(QAbstractScrollArea):
    """Shows where masks are doubtful, and goes there.

    A click or a drag on the bars goes to a slice, the arrow keys to its neighbours. The wheel zooms about the pointer
    (over the names it scrolls), with Shift it moves along; a drag on the ruler zooms into a range, a double click there
    shows all slices again. Where a pixel has several slices it shows, and goes to, the least confident.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    jumped = Signal(int, int)
    """``label, index``: a person wants to see this object on this slice."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = Scene()
        self._painter = StripPainter()
        self._dragged: int | None = None
        self._ruler: tuple[int, int] | None = None
        self.setMouseTracking(True)
        self.viewport().setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFrameShape(QAbstractScrollArea.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Review strip: confidence of every object on every slice")
        self.horizontalScrollBar().valueChanged.connect(self._scrolled)
        self.verticalScrollBar().valueChanged.connect(self.viewport().update)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def show_rows(self, rows: Sequence[StripRow], axis: StripAxis) -> None:
        """Show these objects; the zoom stays while the slices are the same."""
        scene = self._scene
        if axis.count != scene.axis.count:
            scene.zoom = Zoom.all_of(axis.count)
        same = [row.label for row in rows] == [row.label for row in scene.rows]
        scene.axis, scene.rows = axis, tuple(rows)
        self._painter.forget()
        self._lay_out()
        if not same:
            self._reveal()

    def set_current(self, label: int | None, index: int | None) -> None:
        """Put the cursor on a slice, and pick out an object; both come into view."""
        scene = self._scene
        if (label, index) == (scene.label, scene.index):
            return
        moved = label != scene.label
        scene.label, scene.index = label, index
        if index is not None and 0 <= index < scene.axis.count and self._ruler is None:
            self._set_zoom(scene.zoom.showing(index))
        if moved:
            self._reveal()
        self.viewport().update()

    def set_bank(self, bank: Mapping[int, Collection[int]]) -> None:
        """Frame the slices that the memory bank held, by label."""
        self._scene.bank = {label: frozenset(indices) for label, indices in bank.items()}
        self.viewport().update()

    @property
    def zoom(self) -> Zoom:
        """The slices that are shown."""
        return self._scene.zoom

    # -- places ----------------------------------------------------------------------------------------------------

    def place(self, label: int, index: int) -> QPoint:
        """Return the middle of a bar in the viewport's coordinates; it may lie outside of what is seen."""
        scene = self._scene
        row = scene.row_of(label)
        if row is None:
            raise KeyError(label)
        x = scene.names + scene.zoom.x(index + 0.5, self._pixels())
        y = self._ruler_height + (row + 0.5) * scene.row_height - self.verticalScrollBar().value()
        return QPoint(int(x), int(y))

    def at(self, point: QPoint | QPointF) -> tuple[int, int] | None:
        """Return ``(label, index)`` of the bar at a place of the viewport; None where there is none."""
        scene = self._scene
        row = self._row_at(point.y())
        x = point.x() - scene.names
        if row is None or not 0 <= x < scene.zoom.width(self._pixels()):
            return None
        return scene.rows[row].label, self._index_at(row, x)

    def _row_at(self, y: float) -> int | None:
        row = int(y - self._ruler_height + self.verticalScrollBar().value()) // self._scene.row_height
        return row if y >= self._ruler_height and 0 <= row < len(self._scene.rows) else None

    def _index_at(self, row: int, x: float) -> int:
        """Return the slice at a pixel; of several, the least confident, which gives the pixel its colour."""
        zoom, pixels = self._scene.zoom, self._pixels()
        first, last = zoom.index(int(x), pixels), zoom.index(int(x) + 1, pixels) - 1
        values = self._scene.rows[row].confidence[first : last + 1]
        if last <= first or np.isnan(values).all():
            return zoom.index(x, pixels)
        return first + int(np.nanargmin(values))

    def _reveal(self) -> None:
        """Scroll as little as shows the whole row of the object that is picked out."""
        scene = self._scene
        row = scene.row_of(scene.label)
        if row is None:
            return
        bar, top = self.verticalScrollBar(), row * scene.row_height
        page = self.viewport().height() - self._ruler_height
        if top < bar.value():
            bar.setValue(top)
        elif top + scene.row_height > bar.value() + page:
            bar.setValue(top + scene.row_height - page)

    def _pixels(self) -> int:
        return max(self.viewport().width() - self._scene.names, 1)

    # -- layout ----------------------------------------------------------------------------------------------------

    @property
    def _ruler_height(self) -> int:
        return self.fontMetrics().height() + 3

    def sizeHint(self) -> QSize:
        """Room for up to four objects."""
        return QSize(600, self._ruler_height + 4 + 22 * min(max(len(self._scene.rows), 2), 4))

    def minimumSizeHint(self) -> QSize:
        """Room for one object."""
        return QSize(200, self._ruler_height + _HIGHEST)

    def _lay_out(self) -> None:
        scene, view = self._scene, self.viewport()
        metrics = self.fontMetrics()
        longest = max((metrics.horizontalAdvance(row.name) for row in scene.rows), default=0)
        scene.names = min(longest + 30, _NAMES, max(view.width() * 3 // 10, 40)) if scene.rows else 0
        room = max(view.height() - self._ruler_height, 1)
        scene.row_height = min(max(room // max(len(scene.rows), 1), _LOWEST, metrics.height()), _HIGHEST)
        bar = self.verticalScrollBar()
        bar.setPageStep(room)
        bar.setSingleStep(scene.row_height)
        bar.setRange(0, max(len(scene.rows) * scene.row_height - room, 0))
        self._set_zoom(scene.zoom)

    def _set_zoom(self, zoom: Zoom) -> None:
        self._scene.zoom = zoom
        bar = self.horizontalScrollBar()
        bar.blockSignals(True)
        bar.setPageStep(max(round(zoom.span * _STEPS), 1))
        bar.setSingleStep(max(round(zoom.span * _STEPS / 20), 1))
        bar.setRange(0, max(round((zoom.count - zoom.span) * _STEPS), 0))
        bar.setValue(round(zoom.first * _STEPS))
        bar.blockSignals(False)
        self.viewport().update()

    def _scrolled(self, value: int) -> None:
        self._scene.zoom = self._scene.zoom.moved(value / _STEPS)
        self.viewport().update()

    # -- Qt --------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Lay out anew."""
        super().resizeEvent(event)
        self._lay_out()
        self._reveal()

    def changeEvent(self, event: QEvent) -> None:
        """Lay out anew in another font or theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._painter.forget()
            self._lay_out()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw what is seen."""
        painter = QPainter(self.viewport())
        selection = None
        if self._ruler is not None:
            zoom, (a, b) = self._scene.zoom, sorted(self._ruler)
            left, right = (self._scene.names + zoom.x(i, self._pixels()) for i in (a, b + 1))
            selection = QRectF(left, 0, right - left, self.viewport().height())
        area, scrolled = QRect(QPoint(0, 0), self.viewport().size()), self.verticalScrollBar().value()
        self._painter.paint(painter, self, self._scene, area, self._ruler_height, scrolled, selection)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to a slice, or begin to choose a range on the ruler."""
        if event.button() != Qt.MouseButton.LeftButton:
            return
        point, scene = event.position(), self._scene
        if point.y() < self._ruler_height and point.x() >= scene.names:
            index = scene.zoom.index(point.x() - scene.names, self._pixels())
            self._ruler = index, index
            self.viewport().update()
            return
        row = self._row_at(point.y())
        if row is None:
            return
        if point.x() < scene.names:
            self.jumped.emit(scene.rows[row].label, min(scene.index or 0, scene.axis.count - 1))
            return
        self._dragged = row
        self._go(row, point.x())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go along with the pointer, or widen the range."""
        x = event.position().x() - self._scene.names
        if self._ruler is not None:
            self._ruler = self._ruler[0], self._scene.zoom.index(x, self._pixels())
            self.viewport().update()
        elif self._dragged is not None and self._dragged < len(self._scene.rows):
            self._go(self._dragged, event.position().x())
        over = event.position().y() < self._ruler_height and x >= 0
        self.viewport().setCursor(Qt.CursorShape.SplitHCursor if over else Qt.CursorShape.ArrowCursor)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End a drag; a range becomes the zoom."""
        self._dragged = None
        if self._ruler is not None:
            (first, last), self._ruler = self._ruler, None
            if first != last:
                self._set_zoom(self._scene.zoom.between(first, last))
            elif self._scene.rows and first < self._scene.axis.count:
                self.jumped.emit(self._scene.rows[self._scene.row_of(self._scene.label) or 0].label, first)
            self.viewport().update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show all slices."""
        if event.position().y() < self._ruler_height:
            self._set_zoom(Zoom.all_of(self._scene.axis.count))
        else:
            self.mousePressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom; over the names scroll; with Shift, or sideways, move along."""
        scene, delta = self._scene, event.angleDelta()
        sideways = delta.x() or (event.modifiers() & Qt.KeyboardModifier.ShiftModifier and delta.y())
        if sideways:
            self._set_zoom(scene.zoom.moved(scene.zoom.first - sideways / 120 * scene.zoom.span / 10))
        elif event.position().x() < scene.names:
            bar = self.verticalScrollBar()
            bar.setValue(bar.value() - round(delta.y() / 120 * scene.row_height * 2))
        elif scene.axis.count:
            x = event.position().x() - scene.names
            at = scene.zoom.first + x / scene.zoom.cell(self._pixels())
            self._set_zoom(scene.zoom.around(at, 0.8 ** (delta.y() / 120)))
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to a neighbour with the arrows; + and − zoom, 0 shows all slices."""
        scene, count = self._scene, self._scene.axis.count
        key = event.key()
        if not scene.rows or not count:
            super().keyPressEvent(event)
            return
        middle = scene.zoom.first + scene.zoom.span / 2 if scene.index is None else scene.index + 0.5
        if key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal, Qt.Key.Key_Minus):
            self._set_zoom(scene.zoom.around(middle, 1.6 if key == Qt.Key.Key_Minus else 1 / 1.6))
        elif key == Qt.Key.Key_0:
            self._set_zoom(Zoom.all_of(count))
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self.jumped.emit(
                scene.rows[scene.row_of(scene.label) or 0].label, 0 if key == Qt.Key.Key_Home else count - 1
            )
        elif key in _KEYS:
            down, right = _KEYS[Qt.Key(key)]
            row = min(max((scene.row_of(scene.label) or 0) + down, 0), len(scene.rows) - 1)
            self.jumped.emit(scene.rows[row].label, min(max((scene.index or 0) + right, 0), count - 1))
        else:
            super().keyPressEvent(event)

    def viewportEvent(self, event: QEvent) -> bool:
        """Say what is under the pointer."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            text = self.describe(event.pos())
            if text:
                QToolTip.showText(event.globalPos(), text, self)
            else:
                QToolTip.hideText()
            return True
        return super().viewportEvent(event)

    def describe(self, point: QPoint) -> str:
        """Return the tooltip of a place of the viewport, as rich text."""
        scene = self._scene
        if point.y() < self._ruler_height:
            return (
                "Drag to zoom into a range; double click to see all slices. The wheel zooms too." if scene.rows else ""
            )
        number, found = self._row_at(point.y()), self.at(point)
        if number is None:
            return ""
        row = scene.rows[number]
        if found is None:
            return literal(row.name)
        label, index = found
        lines = [f"<b>{html.escape(row.name)}</b>, {html.escape(scene.axis.title(index))}"]
        value = float(row.confidence[index])
        if not np.isnan(value):
            absent = bool(row.marks[index] & Mark.ABSENT)
            lines.append(f"{'not there, ' if absent else ''}confidence {value:.2f}")
        else:
            lines.append("no mask yet")
        words = [word for word in names_of(row.marks[index]) if word != "not there"]
        if words:
            lines.append(", ".join(words))
        if index in scene.bank.get(label, ()):
            lines.append("in the memory bank of the slice that you see")
        return "<br>".join(lines)

    def _go(self, row: int, x: float) -> None:
        scene = self._scene
        place = scene.rows[row].label, self._index_at(row, x - scene.names)
        if place != (scene.label, scene.index):
            self.jumped.emit(*place)

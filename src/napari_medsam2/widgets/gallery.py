"""The gallery: a picture for each slice or image, with its masks, confidence and state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QPoint, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPen, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QFrame, QListView, QStyle, QStyledItemDelegate

from napari_medsam2.widgets.icons import draw
from napari_medsam2.widgets.keys import is_shortcut
from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.theme import mix, ramp_color, shades, to_pixmap

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    from qtpy.QtGui import QHideEvent, QKeyEvent, QPaintEvent, QResizeEvent
    from qtpy.QtWidgets import QStyleOptionViewItem, QWidget

    from napari_medsam2.widgets.rows.gallery import Tile
    from napari_medsam2.widgets.theme import Shades

__all__ = ["Gallery"]

_Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()
_PAD = 4
_KEPT, _SPARE = 500, 100
"""Pictures that are kept at least and how many more at most; the oldest that are out of sight go first."""

_STATES = {
    "prompted": ("triangle", "text"),
    "corrected": ("diamond", "note"),
    "accepted": ("check", "good"),
    "rejected": ("cross", "bad"),
    "skipped": ("ring", "faint"),
}
"""Icon and colour of `Shades` for the states that have one."""


class Gallery(QListView):
    """A grid of pictures, in the order that they are given in; pictures are asked for when they come into sight.

    Parameters
    ----------
    side : int
        Pixels of a picture's longer side.
    parent : QWidget, optional
        Its parent.
    """

    jumped = Signal(int)
    """A slice that a person wants to see."""
    wanted = Signal(int)
    """A slice whose picture is to be given to `set_thumbnail`."""
    unwanted = Signal(int)
    """A slice whose picture was asked for and is out of sight, or would be stale."""

    def __init__(self, side: int = 112, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tiles = _Model(self)
        self._pictures: dict[int, QPixmap] = {}
        self._asked: set[int] = set()
        self._delegate = _Delegate(self, side)
        self.setModel(self._tiles)
        self.setItemDelegate(self._delegate)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMouseTracking(True)
        # napari colours lists as it colours open menus.
        self.setStyleSheet("QListView { background: transparent }")
        self.setAccessibleName("Gallery of slices")
        self.clicked.connect(self._on_click)
        self.activated.connect(self._on_click)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def show_rows(self, tiles: Sequence[Tile], current: int | None = None) -> None:
        """Show these tiles in this order, the slice ``current`` picked out."""
        self._tiles.set_tiles(tiles)
        self.set_current(current)

    def set_current(self, index: int | None) -> None:
        """Pick out a slice and bring it into view; emits nothing."""
        row = self._tiles.row_of(index)
        if row is None:
            self.clearSelection()
            return
        place = self._tiles.index(row)
        if self.currentIndex().row() != row:
            self.setCurrentIndex(place)
            self.scrollTo(place)

    def show_first(self) -> None:
        """Scroll to where the order begins."""
        self.scrollToTop()

    def set_thumbnail(self, index: int, rgb: np.ndarray) -> None:
        """Show ``(h, w, 3)`` uint8 as the picture of a slice, from now on."""
        self._asked.discard(index)
        self._pictures.pop(index, None)
        self._pictures[index] = to_pixmap(rgb)
        if len(self._pictures) > _KEPT + _SPARE:
            seen = self._in_sight()
            for old in [one for one in self._pictures if one not in seen][: len(self._pictures) - _KEPT]:
                del self._pictures[old]
        row = self._tiles.row_of(index)
        if row is not None:
            self.update(self._tiles.index(row))

    def forget_thumbnails(self, indices: Collection[int] | None = None) -> None:
        """Drop pictures, of all slices by default, since their masks or colours changed; those seen are asked for."""
        for index in list(self._pictures) + list(self._asked) if indices is None else indices:
            self._pictures.pop(index, None)
            self._withdraw(index)
        self.viewport().update()

    @property
    def order(self) -> tuple[int, ...]:
        """The slices from first to last."""
        return tuple(tile.index for tile in self._tiles.tiles)

    def place(self, index: int) -> QPoint:
        """Return the middle of a tile in the viewport's coordinates."""
        row = self._tiles.row_of(index)
        if row is None:
            raise KeyError(index)
        return self.visualRect(self._tiles.index(row)).center()

    # -- inside ----------------------------------------------------------------------------------------------------

    def picture(self, index: int) -> QPixmap | None:
        """Return a picture, or ask for it."""
        known = self._pictures.get(index)
        if known is None and index not in self._asked:
            self._asked.add(index)
            self.wanted.emit(index)
        return known

    @property
    def tint(self) -> Shades:
        """The colours of what it lies on."""
        return shades(self.parentWidget() or self)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the width out among the columns."""
        super().resizeEvent(event)
        # Qt fills lines as if the scroll bar were there.
        width = self.width() - self.verticalScrollBar().sizeHint().width() - 4
        least = self._delegate.side + 2 * _PAD
        columns = max(width // least, 1)
        self.setGridSize(QSize(max(width // columns, least), self._delegate.height(self)))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go where the arrows lead, and leave what is typed to the viewer."""
        if is_shortcut(event):
            event.ignore()
            return
        before = self.currentIndex()
        super().keyPressEvent(event)
        if self.currentIndex() != before:
            self._on_click(self.currentIndex())

    def keyboardSearch(self, search: str) -> None:
        """Pick out no other picture by what an input method writes."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Ask for the pictures that came into sight, and no longer for those that left it."""
        super().paintEvent(event)
        sight = self.viewport().rect()
        for index in list(self._asked):
            row = self._tiles.row_of(index)
            if row is None or not self.visualRect(self._tiles.index(row)).intersects(sight):
                self._withdraw(index)

    def hideEvent(self, event: QHideEvent) -> None:
        """Behind another tab nothing is in sight."""
        super().hideEvent(event)
        for index in list(self._asked):
            self._withdraw(index)

    def _withdraw(self, index: int) -> None:
        if index in self._asked:
            self._asked.discard(index)
            self.unwanted.emit(index)

    def _in_sight(self) -> set[int]:
        high, across = self.gridSize().height(), max(self.viewport().width() // self.gridSize().width(), 1)
        first = self.verticalOffset() // high * across
        lines = self.viewport().height() // high + 2
        return {tile.index for tile in self._tiles.tiles[first : first + lines * across]}

    def _on_click(self, place: _Index) -> None:
        if 0 <= place.row() < len(self._tiles.tiles):
            self.jumped.emit(self._tiles.tiles[place.row()].index)


class _Model(QAbstractListModel):
    """The tiles as Qt's item model."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.tiles: tuple[Tile, ...] = ()
        self._places: dict[int, int] = {}

    def set_tiles(self, tiles: Sequence[Tile]) -> None:
        """Show these; only what differs is drawn anew where the order is the same."""
        new = tuple(tiles)
        if [tile.index for tile in new] != [tile.index for tile in self.tiles]:
            self.beginResetModel()
            self.tiles, self._places = new, {tile.index: i for i, tile in enumerate(new)}
            self.endResetModel()
            return
        old, self.tiles = self.tiles, new
        for row, (before, after) in enumerate(zip(old, new, strict=True)):
            if before != after:
                self.dataChanged.emit(self.index(row), self.index(row))

    def row_of(self, index: int | None) -> int | None:
        """Return a slice's place."""
        return None if index is None else self._places.get(index)

    def rowCount(self, parent: _Index = _NONE) -> int:
        """How many tiles there are."""
        return 0 if parent.isValid() else len(self.tiles)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a tile's name or tooltip."""
        if not index.isValid() or index.row() >= len(self.tiles):
            return None
        tile = self.tiles[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return tile.name
        if role == Qt.ItemDataRole.ToolTipRole:
            lines = [tile.name, {"empty": "no masks yet"}.get(tile.state, tile.state)]
            if tile.confidence is not None:
                what = "1 object" if tile.objects == 1 else f"{tile.objects} objects"
                lines.append(f"{what}, lowest confidence {tile.confidence:.2f}")
            return literal("\n".join(lines))
        return None


class _Delegate(QStyledItemDelegate):
    """Draws a tile."""

    def __init__(self, parent: Gallery, side: int) -> None:
        super().__init__(parent)
        self._gallery, self.side = parent, side

    def height(self, widget: QWidget) -> int:
        """Pixels of a tile with its name."""
        return self.side + widget.fontMetrics().height() + 3 * _PAD + 2

    def sizeHint(self, option: QStyleOptionViewItem, index: _Index) -> QSize:
        """Return the grid's cell."""
        return self._gallery.gridSize()

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _Index) -> None:
        """Draw picture, name, confidence and state."""
        model = index.model()
        if not isinstance(model, _Model):
            return
        tile, tint = model.tiles[index.row()], self._gallery.tint
        box, state = QRectF(option.rect), option.state
        metrics = self._gallery.fontMetrics()
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        over = bool(state & QStyle.StateFlag.State_MouseOver)
        inner = box.adjusted(2, 2, -2, -2)
        painter.setPen(QPen(tint.accent, 2) if chosen else Qt.PenStyle.NoPen)
        painter.setBrush(mix(tint.back, tint.text, 0.16 if chosen else 0.10 if over else 0.04))
        painter.drawRoundedRect(inner, 4, 4)
        frame = QRectF(inner.center().x() - self.side / 2, inner.top() + _PAD, self.side, self.side)
        picture = self._gallery.picture(tile.index)
        if picture is None:
            painter.fillRect(frame, tint.empty)
        else:
            size = picture.size().scaled(self.side, self.side, Qt.AspectRatioMode.KeepAspectRatio)
            x, y = frame.center().x() - size.width() / 2, frame.center().y() - size.height() / 2
            frame = QRectF(x, y, size.width(), size.height())
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(frame.toRect(), picture)
        line = metrics.height()
        foot = QRectF(inner.left() + 5, inner.bottom() - line - 3, inner.width() - 10, line)
        if tile.confidence is not None:
            text = f"{tile.confidence:.2f}"
            width = metrics.horizontalAdvance(text)
            painter.setPen(tint.faint)
            painter.drawText(foot, (Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter).value, text)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(ramp_color(tile.confidence, tint.dark))
            painter.drawRoundedRect(QRectF(foot.right() - width - 13, foot.center().y() - 4.5, 9, 9), 2, 2)
            foot.setRight(foot.right() - width - 18)
        if tile.state in _STATES:
            name, colour = _STATES[tile.state]
            painter.save()
            painter.translate(foot.left(), foot.center().y() - 5)
            draw(painter, name, getattr(tint, colour), 10)
            painter.restore()
            foot.setLeft(foot.left() + 14)
        painter.setPen(tint.text)
        name = metrics.elidedText(tile.name, Qt.TextElideMode.ElideMiddle, int(foot.width()))
        painter.drawText(foot, Qt.AlignmentFlag.AlignVCenter.value, name)
        painter.restore()

"""The objects as Qt's item model."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QEvent, QModelIndex, QPersistentModelIndex, QRect, Qt, Signal
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLineEdit, QStyledItemDelegate, QWidget

from napari_medsam2.widgets.rows.numbers import format_size, short_unit
from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.theme import icon, shades, swatch_icon
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import QObject
    from qtpy.QtWidgets import QStyleOptionViewItem

    from napari_medsam2.widgets.rows.objects import Measure, ObjectRow

__all__ = ["Column", "NameDelegate", "ObjectModel"]

_Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()


class Column(enum.IntEnum):
    """The table's columns."""

    VISIBLE = 0
    LOCKED = 1
    NAME = 2
    SLICES = 3
    SIZE = 4


class ObjectModel(QAbstractTableModel):
    """Rows of the table; what a person changes is announced, not kept: the next rows say what came of it."""

    renamed = Signal(int, str)
    visibility = Signal(tuple, bool)
    locked = Signal(int, bool)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._widget = parent
        self.rows: tuple[ObjectRow, ...] = ()
        self._measure: Measure | None = None
        self._places: dict[int, int] = {}

    def set_rows(self, rows: Sequence[ObjectRow], measure: Measure | None = None) -> None:
        """Show these rows, or, above none of them, titles for what is measured; only what differs is drawn anew."""
        new = tuple(rows)
        measure = new[0].measure if new else measure
        if measure != self._measure:
            self._measure = measure
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, len(Column) - 1)
        if [row.label for row in new] != [row.label for row in self.rows]:
            self.beginResetModel()
            self.rows, self._places = new, {row.label: i for i, row in enumerate(new)}
            self.endResetModel()
            return
        old, self.rows = self.rows, new
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            if before != after:
                self.dataChanged.emit(self.index(place, 0), self.index(place, len(Column) - 1))

    def row_of(self, label: int) -> int | None:
        """Return an object's row."""
        return self._places.get(label)

    def rowCount(self, parent: _Index = _NONE) -> int:
        """How many objects there are."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = _NONE) -> int:
        """How many columns there are."""
        return 0 if parent.isValid() else len(Column)

    def flags(self, index: _Index) -> Qt.ItemFlag:
        """What can be done with a cell."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() == Column.NAME else flags

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's title or its explanation."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        measure = self._measure
        size = "Volume" if measure is None else measure.name
        word = "slice" if measure is None else measure.word
        unit = "" if measure is None else f" in {short_unit(measure.unit, measure.power)}"
        if role == Qt.ItemDataRole.DisplayRole:
            return ("", "", "Name", f"{word.capitalize()}s", _heading(measure))[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            mean = measure is not None and measure.mean
            per = {"Volume": "; the mean of the time points", "Area": f"; the mean of the {word}s that show it"}[size]
            return (
                "Shown or hidden (Space)",
                "Locked objects are not painted over",
                "Double click or F2: another name",
                f"{word.capitalize()}s that show the object; double click to go where it is largest",
                f"{size}{unit}{per if mean else ''}",
            )[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section).value
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if not index.isValid() or index.row() >= len(self.rows):
            return None
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(row, column)
        if role == Qt.ItemDataRole.EditRole and column == Column.NAME:
            return row.name
        if role == Qt.ItemDataRole.DecorationRole:
            return self._picture(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tip(row, column)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column).value
        if role == Qt.ItemDataRole.ForegroundRole and not row.visible:
            return shades(self._widget).faint
        return None

    def setData(self, index: _Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Announce a new name."""
        if role != Qt.ItemDataRole.EditRole or index.column() != Column.NAME:
            return False
        row, name = self.rows[index.row()], str(value).strip()
        if not name or name == row.name:
            return False
        self.renamed.emit(row.label, name)
        return True

    def toggle(self, row: int, column: int) -> None:
        """Announce that an object is to be shown, hidden, locked or unlocked."""
        one = self.rows[row]
        if column == Column.VISIBLE:
            self.visibility.emit((one.label,), not one.visible)
        elif column == Column.LOCKED:
            self.locked.emit(one.label, not one.locked)

    def _picture(self, row: ObjectRow, column: int) -> Any:
        color = self._widget.palette().color(QPalette.ColorRole.WindowText)
        if column == Column.VISIBLE:
            return icon("eye" if row.visible else "eye-off", color)
        if column == Column.LOCKED:
            return icon("lock" if row.locked else "lock-open", color)
        return swatch_icon(row.color, 14) if column == Column.NAME else None


class NameDelegate(QStyledItemDelegate):
    """The editor of names: it begins with the whole name selected and fills the cell."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)

    def updateEditorGeometry(self, editor: QWidget, option: QStyleOptionViewItem, index: _Index) -> None:
        """Leave the swatch in sight."""
        box: QRect = option.rect
        editor.setGeometry(box.adjusted(20, 0, 0, 0))

    def setEditorData(self, editor: QWidget, index: _Index) -> None:
        """Fill the editor, but not again once something was typed: rows change while results come in."""
        if not (isinstance(editor, QLineEdit) and editor.isModified()):
            super().setEditorData(editor, index)

    def eventFilter(self, editor: QObject, event: QEvent) -> bool:
        """Keep keys that mean something to the viewer from it while a name is typed."""
        if event.type() == QEvent.Type.ShortcutOverride:
            event.accept()
            return True
        return super().eventFilter(editor, event)


def _text(row: ObjectRow, column: int) -> str | None:
    if column == Column.NAME:
        return row.name
    if column == Column.SLICES:
        return f"{row.slices:,}"
    if column == Column.SIZE:
        return "…" if row.size is None else format_size(row.size, whole=row.measure.unit == "pixel")
    return None


def _tip(row: ObjectRow, column: int) -> str:
    if column == Column.VISIBLE:
        return "Shown; click to hide (Space)" if row.visible else "Hidden; click to show (Space)"
    if column == Column.LOCKED:
        return "Locked; click to unlock" if row.locked else "Click to lock, so that nothing paints over it"
    if column == Column.NAME:
        return literal(f"{row.name} (label {row.label})")
    if column == Column.SLICES:
        return f"Seen on {counted(row.slices, row.measure.word)}"
    if row.size is None:
        return "Being counted"
    unit = short_unit(row.measure.unit, row.measure.power)
    # Radiologists report organs in millilitres.
    fluid = f" ({row.size / 1000:,.4g} ml)" if unit == "mm³" else ""
    return f"{row.measure.name}{', mean' if row.measure.mean else ''}: {row.size:,.6g} {unit}{fluid}"


def _heading(measure: Measure | None) -> str:
    if measure is None:
        return "Volume"
    unit = short_unit(measure.unit, measure.power)
    if measure.mean:
        return f"Mean {'px' if measure.unit == 'pixel' else unit}"
    return unit.capitalize() if measure.unit == "pixel" else f"{'Vol.' if measure.power == 3 else 'Area'} {unit}"


def _alignment(column: int) -> Qt.AlignmentFlag:
    right = column in (Column.SLICES, Column.SIZE)
    across = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
    if column in (Column.VISIBLE, Column.LOCKED):
        across = Qt.AlignmentFlag.AlignHCenter
    return across | Qt.AlignmentFlag.AlignVCenter

"""The table of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QItemSelection, QItemSelectionModel, QPoint, QSize, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_medsam2.widgets.keys import is_shortcut
from napari_medsam2.widgets.object_model import Column, NameDelegate, ObjectModel
from napari_medsam2.widgets.theme import IconButton, shades

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qtpy.QtGui import QPaintEvent, QResizeEvent

    from napari_medsam2.widgets.rows.objects import Measure, ObjectRow

__all__ = ["OPERATIONS", "SPLITS", "ObjectTable"]

SPLITS = {
    "touching": "Cut where it narrows",
    "pieces": "Into pieces that do not touch",
    "pieces-2d": "Into pieces on each slice",
}
"""What `ObjectTable.split` may say, and how the menu says it."""

OPERATIONS = {
    "fill": "Fill holes",
    "smooth": "Smooth outline",
    "remove-small": "Remove small pieces…",
    "interpolate": "Fill in missing slices",
}
"""What `ObjectTable.operation` may say, and how the menu says it."""

_NOTHING = "No objects yet. A click in the image begins the first."

_TIPS = {
    "add": "New object",
    "pick": "Pick the object under the pointer in the image",
    "import": "Take over masks that were made elsewhere, from a labels layer or a file: to correct, or to carry on",
    "merge": "Merge the selected objects into the first of them",
    "delete": "Delete the selected objects, with their prompts and masks",
    "more": "What else can be done with the selected objects",
}


class ObjectTable(QWidget):
    """Lists the objects; names are edited in place, everything else goes out as signals.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    selected = Signal(int)
    """A person chose this object to work on."""
    renamed = Signal(int, str)
    recolored = Signal(int, object)
    """A label and ``"#rrggbb"``, or None for the viewer's own choice."""
    visibility = Signal(tuple, bool)
    """Labels, and whether they are to be shown."""
    locked = Signal(int, bool)
    added = Signal()
    picking = Signal(bool)
    importing = Signal()
    merge = Signal(tuple)
    """Labels; the first is the one that stays."""
    split = Signal(int, str)
    """A label and a key of `SPLITS`."""
    delete = Signal(tuple)
    operation = Signal(tuple, str)
    """Labels of objects that have masks, and a key of `OPERATIONS`."""
    jumped = Signal(int)
    """A double click on an object's number of slices: show it where it is seen best."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = ObjectModel(self)
        self._view = _View(self)
        self._quiet = False
        self._chosen: int | None = None
        self._buttons = {
            "add": IconButton("add", _TIPS["add"], "New"),
            "pick": IconButton("pick", _TIPS["pick"], "Pick", checked_name="pick"),
            "import": IconButton("download", _TIPS["import"], "Import…"),
            "merge": IconButton("merge", _TIPS["merge"]),
            "delete": IconButton("delete", _TIPS["delete"]),
            "more": IconButton("more", _TIPS["more"]),
        }
        bar = QHBoxLayout()
        bar.setContentsMargins(0, 0, 0, 0)
        bar.setSpacing(4)
        for name, button in self._buttons.items():
            bar.addWidget(button)
            if name == "import":
                bar.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._view)
        layout.addLayout(bar)
        self._view.setModel(self._model)
        self._view.lay_out()
        self._connect()
        self._follow_selection()

    def _connect(self) -> None:
        self._model.renamed.connect(self.renamed)
        self._model.visibility.connect(self.visibility)
        self._model.locked.connect(self.locked)
        self._view.selectionModel().selectionChanged.connect(self._on_selection)
        self._view.selectionModel().currentRowChanged.connect(self._on_current)
        self._view.customContextMenuRequested.connect(self._open_menu)
        self._view.pressed_key.connect(self._on_key)
        self._view.doubleClicked.connect(self._on_double_click)
        self._buttons["add"].clicked.connect(self.added)
        self._buttons["pick"].toggled.connect(self.picking)
        self._buttons["import"].clicked.connect(self.importing)
        self._buttons["merge"].clicked.connect(lambda: self.merge.emit(self.selection))
        self._buttons["delete"].clicked.connect(lambda: self.delete.emit(self.selection))
        more = self._buttons["more"]
        more.clicked.connect(lambda: self._menu_at(more.mapToGlobal(more.rect().bottomLeft())))

    # -- what is shown ---------------------------------------------------------------------------------------------

    def show_rows(self, rows: Sequence[ObjectRow], current: int | None = None, measure: Measure | None = None) -> None:
        """Show these objects, ``current`` chosen; a selection of several stays while they exist.

        ``measure`` says what their sizes are while there is none of them.
        """
        kept = self.selection
        self._quiet = True
        try:
            self._model.set_rows(rows, measure)
            if self._view.editing:
                # A change of the current row would end it.
                return
            kept = tuple(label for label in kept if self._model.row_of(label) is not None)
            # What a person takes out of the selection becomes the current object, and is to stay out.
            if current is not None and current not in kept and (current != self._chosen or not kept):
                kept = (current,)
            self._chosen = current
            self._select(kept, current)
        finally:
            self._quiet = False
        self._follow_selection()

    def set_picking(self, on: bool) -> None:
        """Show whether a click in the image picks an object; emits nothing."""
        button = self._buttons["pick"]
        button.blockSignals(True)
        button.setChecked(on)
        button.blockSignals(False)

    def set_tip(self, name: str, tip: str) -> None:
        """Set the tooltip of one of `buttons`."""
        self._buttons[name].set_tip(tip)

    @property
    def selection(self) -> tuple[int, ...]:
        """The selected labels, the current one first."""
        model = self._view.selectionModel()
        rows = sorted({index.row() for index in model.selectedRows()})
        current = model.currentIndex().row()
        ordered = sorted(rows, key=lambda row: (row != current, row))
        return tuple(self._model.rows[row].label for row in ordered if row < len(self._model.rows))

    @property
    def buttons(self) -> dict[str, IconButton]:
        """The buttons ``"add"``, ``"pick"``, ``"import"``, ``"merge"``, ``"delete"`` and ``"more"``."""
        return dict(self._buttons)

    @property
    def view(self) -> QTableView:
        """The table itself, to give it the focus."""
        return self._view

    def edit_name(self, label: int) -> None:
        """Let a person type a name."""
        row = self._model.row_of(label)
        if row is not None:
            self._view.edit(self._model.index(row, Column.NAME))

    # -- selection -------------------------------------------------------------------------------------------------

    def _select(self, labels: Iterable[int], current: int | None) -> None:
        model, selection = self._view.selectionModel(), QItemSelection()
        for label in labels:
            row = self._model.row_of(label)
            if row is not None:
                selection.select(self._model.index(row, 0), self._model.index(row, len(Column) - 1))
        model.select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        row = None if current is None else self._model.row_of(current)
        if row is not None:
            index = self._model.index(row, Column.NAME)
            if model.currentIndex().row() != row:
                model.setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
                self._view.scrollTo(index)

    def _on_selection(self) -> None:
        if not self._quiet:
            self._follow_selection()

    def _on_current(self) -> None:
        row = self._view.currentIndex().row()
        if not self._quiet and 0 <= row < len(self._model.rows):
            self._chosen = self._model.rows[row].label
            self.selected.emit(self._chosen)

    def _follow_selection(self) -> None:
        count = len(self.selection)
        self._buttons["merge"].setEnabled(count > 1)
        self._buttons["delete"].setEnabled(count > 0)
        self._buttons["more"].setEnabled(count > 0)

    def _on_double_click(self) -> None:
        index = self._view.currentIndex()
        if index.column() in (Column.SLICES, Column.SIZE):
            self.jumped.emit(self._model.rows[index.row()].label)

    # -- what can be done ------------------------------------------------------------------------------------------

    def menu(self) -> QMenu:
        """Make the menu of what can be done with the selected objects."""
        menu, labels = QMenu(self), self.selection
        rows = [self._model.rows[self._model.row_of(label) or 0] for label in labels]
        first, row = labels[0], rows[0]
        seen = tuple(one.label for one in rows if one.slices)

        def add(where: QMenu, text: str, do: Callable[[], object], enabled: bool = True) -> None:
            action = where.addAction(text)
            action.triggered.connect(lambda *_: do())
            action.setEnabled(enabled)

        one = len(labels) == 1
        add(menu, "Rename", lambda: self.edit_name(first), one)
        add(menu, "Colour…", lambda: self._choose_color(row), one)
        add(menu, "Default colour", lambda: self.recolored.emit(first, None), one and row.own_color)
        add(menu, "Show where it is largest", lambda: self.jumped.emit(first), one and row.slices > 0)
        menu.addSeparator()
        add(menu, "Merge" if one else f"Merge {len(labels)} objects", lambda: self.merge.emit(labels), not one)
        parts = menu.addMenu("Split")
        parts.setEnabled(one and row.slices > 0)
        for key, text in SPLITS.items():
            add(parts, text, lambda key=key: self.split.emit(first, key))  # type: ignore[misc]
        for key, text in OPERATIONS.items():
            add(menu, text, lambda key=key: self.operation.emit(seen, key), bool(seen))  # type: ignore[misc]
        menu.addSeparator()
        add(menu, "Delete" if one else f"Delete {len(labels)} objects", lambda: self.delete.emit(labels))
        return menu

    def _open_menu(self, point: QPoint) -> None:
        if self.selection:
            self._menu_at(self._view.viewport().mapToGlobal(point))

    def _menu_at(self, point: QPoint) -> None:
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(point)

    def _choose_color(self, row: ObjectRow) -> None:
        color = QColorDialog.getColor(QColor(row.color), self, f"Colour of {row.name}")
        if color.isValid():
            self.recolored.emit(row.label, color.name())

    def _on_key(self, key: int) -> None:
        labels = self.selection
        if not labels:
            return
        if key == Qt.Key.Key_Delete:
            self.delete.emit(labels)
        elif key == Qt.Key.Key_F2:
            self.edit_name(labels[0])
        elif key == Qt.Key.Key_Space:
            shown = not all(self._model.rows[self._model.row_of(label) or 0].visible for label in labels)
            self.visibility.emit(labels, shown)


class _View(QTableView):
    """The table, with the keys that belong to it."""

    pressed_key = Signal(int)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setItemDelegateForColumn(Column.NAME, NameDelegate(self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setTabKeyNavigation(False)
        self.setIconSize(QSize(16, 16))
        self.setAccessibleName("Objects")
        rows = self.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setMinimumSectionSize(20)
        # Its own wish, 192 pixels whatever is in it, would push what lies below out of a small window.
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)

    @property
    def editing(self) -> bool:
        """Whether a name is being typed."""
        return self.state() == QAbstractItemView.State.EditingState

    def lay_out(self) -> None:
        """Make the rows as high as the font asks, and give the name what width is left."""
        header, metrics = self.horizontalHeader(), self.fontMetrics()
        high = max(24, metrics.height() + 8)
        self.verticalHeader().setDefaultSectionSize(high)
        self.setMinimumHeight(4 * high)
        if not header.count():
            return
        fixed = {
            Column.VISIBLE: 23,
            Column.LOCKED: 23,
            Column.SLICES: metrics.horizontalAdvance("Slices") + 14,
            Column.SIZE: metrics.horizontalAdvance("2.50×10⁷") + 16,
        }
        for column in Column:
            stretch = column == Column.NAME
            mode = QHeaderView.ResizeMode.Stretch if stretch else QHeaderView.ResizeMode.Fixed
            header.setSectionResizeMode(column, mode)
            if not stretch:
                header.resizeSection(column, fixed[column])

    def paintEvent(self, event: QPaintEvent) -> None:
        """Say what to do where there is nothing."""
        super().paintEvent(event)
        if not self.model().rowCount():
            painter = QPainter(self.viewport())
            painter.setPen(shades(self).faint)
            flags = Qt.AlignmentFlag.AlignCenter.value | Qt.TextFlag.TextWordWrap.value
            painter.drawText(self.viewport().rect().adjusted(16, 8, -16, -8), flags, _NOTHING)
            painter.end()

    def changeEvent(self, event: QEvent) -> None:
        """Lay out anew in another font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.lay_out()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the number of slices out where names would have no room."""
        super().resizeEvent(event)
        self.setColumnHidden(Column.SLICES, self.viewport().width() < 235)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Show, hide or lock without a change of the selection."""
        index = self.indexAt(event.position().toPoint())
        model = self.model()
        toggles = index.isValid() and index.column() in (Column.VISIBLE, Column.LOCKED)
        if toggles and event.button() == Qt.MouseButton.LeftButton and isinstance(model, ObjectModel):
            model.toggle(index.row(), index.column())
        else:
            super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Take a fast second click on an eye or a lock for a click."""
        if self.indexAt(event.position().toPoint()).column() in (Column.VISIBLE, Column.LOCKED):
            self.mousePressEvent(event)
        else:
            super().mouseDoubleClickEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Hand on the keys that are the table's own, and leave those that are typed to the viewer."""
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_F2, Qt.Key.Key_Space):
            self.pressed_key.emit(event.key())
            event.accept()
        elif is_shortcut(event):
            event.ignore()
        else:
            super().keyPressEvent(event)

    def keyboardSearch(self, search: str) -> None:
        """Choose no other object by what an input method writes."""

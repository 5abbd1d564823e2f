"""Small things that the sections share: buttons of the table of actions, headings, rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_medsam2.widgets.actions import ACTIONS, key_text, tooltip
from napari_medsam2.widgets.rows.words import literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QKeyEvent

__all__ = ["MAC", "Docked", "Section", "action_button", "elided", "row", "set_progress"]

MAC = sys.platform == "darwin"

_ENTER = (Qt.Key.Key_Enter, Qt.Key.Key_Return)


class Docked(QWidget):
    """Something in a dock of napari, which hands on to the viewer what keys nobody here has taken."""

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Keep what is typed into a field, and Enter in a list, from the viewer, where they accept or discard masks.

        Qt's fields and lists heed Enter and pass it on all the same.
        """
        focus, key = self.focusWidget(), event.key()
        if isinstance(focus, QAbstractSpinBox | QLineEdit | QComboBox):
            kept = bool(event.text()) or key in (*_ENTER, Qt.Key.Key_Escape)
        else:
            kept = isinstance(focus, QAbstractItemView) and key in _ENTER
        if kept:
            event.accept()
        else:
            super().keyPressEvent(event)


class Section(QGroupBox):
    """A part of the dock with a heading."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(6, 4, 6, 5)
        self.column.setSpacing(4)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)


class _ActionButton(QPushButton):
    """Never narrower than its text, in whatever font: that of napari's style sheet comes after it was made."""

    def minimumSizeHint(self) -> QSize:
        """As wide as its text."""
        return QSize(self.fontMetrics().horizontalAdvance(self.text()) + 10, super().minimumSizeHint().height())


def action_button(name: str, call: Callable[[], None], checkable: bool = False, key: bool = False) -> QPushButton:
    """Make a button of an action: its title, its tooltip with the shortcut, what it does.

    Parameters
    ----------
    name : str
        The action's.
    call : callable
        What it does.
    checkable : bool
        Whether it stays down.
    key : bool
        Whether the shortcut stands on the button.
    """
    button = _ActionButton()
    action = ACTIONS[name]
    button.setText(f"{action.title}  {key_text(name, MAC)}" if key and action.key else action.title)
    button.setToolTip(tooltip(name, MAC))
    button.setAccessibleName(action.title)
    button.setObjectName(f"medsam2-{name}")
    button.setCheckable(checkable)
    button.setStyleSheet("QPushButton { padding: 3px 2px; }")
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    # The keys belong to the canvas: a button that took the focus would swallow them.
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.clicked.connect(lambda *_: call())
    return button


def row(*widgets: QWidget, stretch: int = -1) -> QWidget:
    """Put widgets beside each other; the one with the number ``stretch`` takes what is left."""
    holder = QWidget()
    line = QHBoxLayout(holder)
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(4)
    for number, widget in enumerate(widgets):
        line.addWidget(widget, 1 if number == stretch else 0)
    return holder


def set_progress(bar: QProgressBar, done: int, total: int) -> None:
    """Move a progress bar; it is drawn with the next frame.

    Qt's ``setValue`` repaints the bar at once, and with it the whole window, canvas included.
    """
    bar.setUpdatesEnabled(False)
    bar.setRange(0, total)
    bar.setValue(done)
    bar.setUpdatesEnabled(True)


class _Elided(QLabel):
    """A line of text that is cut with … where it does not fit, and whole in its tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def setText(self, text: str | None) -> None:
        """Show a text."""
        self._whole = text or ""
        self.setToolTip(literal(self._whole))
        self._fit()

    def whole(self) -> str:
        """The text, uncut."""
        return self._whole

    def resizeEvent(self, event: object) -> None:
        """Cut anew."""
        super().resizeEvent(event)  # type: ignore[arg-type]
        self._fit()

    def _fit(self) -> None:
        cut = self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideRight, max(self.width(), 20))
        super().setText(cut)


def elided(text: str = "") -> _Elided:
    """Make a line of text that never widens the dock."""
    label = _Elided()
    label.setText(text)
    return label

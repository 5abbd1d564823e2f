"""The panel that shows all shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_medsam2.widgets.actions import ACTIONS, key_text
from napari_medsam2.widgets.sections.parts import MAC

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

__all__ = ["HelpPanel"]

_SHARE = 0.9
"""Of the screen, at most: the window has a frame."""
_BORDER = 2
"""Pixels that napari's style sheet may put around it."""


class HelpPanel(QDialog):
    """Every command, its key and what it does."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Medical SAM 2: shortcuts")
        self._words: list[QLabel] = []
        self._inner = QWidget()
        whole = QVBoxLayout(self._inner)
        whole.setContentsMargins(16, 12, 16, 14)
        grid = QGridLayout()
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(2, 1)
        whole.addLayout(grid)
        group, line = "", 0
        for name, action in ACTIONS.items():
            if not action.key:
                continue
            if action.group != group:
                group = action.group
                heading = QLabel(f"<b>{group}</b>")
                grid.addWidget(heading, line, 0, 1, 3)
                line += 1
            key = QLabel(key_text(name, MAC))
            key.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            key.setStyleSheet("font-family: monospace;")
            grid.addWidget(key, line, 0)
            grid.addWidget(QLabel(action.title), line, 1)
            words = QLabel(action.help)
            self._words.append(words)
            grid.addWidget(words, line, 2)
            line += 1
        note = QLabel(
            "The keys work while the image has the focus: click into it once. "
            "Alt-drag: zoom to the region; Alt-double-click: zoom out."
        )
        self._words.append(note)
        whole.addSpacing(6)
        whole.addWidget(note)
        self._area = QScrollArea()
        self._area.setWidget(self._inner)
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QScrollArea.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self._area)

    def showEvent(self, event: QShowEvent) -> None:
        """Take as much of the screen as it needs in the font of now; lines that are too long for it are broken."""
        super().showEvent(event)
        for words in self._words:
            words.setWordWrap(False)
        whole = self._inner.layout()
        if whole is not None:
            # In it is another layout, which knows nothing yet of another font.
            whole.activate()
        bar = self._area.verticalScrollBar().sizeHint().width()
        needed = self._inner.sizeHint() + QSize(bar + 2 * _BORDER, 2 * _BORDER)
        room = self.screen().availableSize() * _SHARE
        for words in self._words:
            words.setWordWrap(needed.width() > room.width())
        self.resize(needed.boundedTo(room))
        self._center()

    def _center(self) -> None:
        """Lie in the middle of the window, and wholly on the screen: Qt chose the place for the size before."""
        screen, place, owner = self.screen().availableGeometry(), self.frameGeometry(), self.parentWidget()
        place.moveCenter(screen.center() if owner is None else owner.window().frameGeometry().center())
        place.moveRight(min(place.right(), screen.right()))
        place.moveBottom(min(place.bottom(), screen.bottom()))
        place.moveTopLeft(QPoint(max(place.left(), screen.left()), max(place.top(), screen.top())))
        self.move(place.topLeft())

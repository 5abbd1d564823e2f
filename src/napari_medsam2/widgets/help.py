"""The panel that shows all shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QVBoxLayout

from napari_medsam2.widgets.actions import ACTIONS, key_text
from napari_medsam2.widgets.sections.parts import MAC

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

__all__ = ["HelpPanel"]


class HelpPanel(QDialog):
    """Every command, its key and what it does."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Medical SAM 2: shortcuts")
        whole = QVBoxLayout(self)
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
            grid.addWidget(QLabel(action.help), line, 2)
            line += 1
        note = QLabel("The keys work while the image has the focus: click into it once.")
        note.setWordWrap(True)
        whole.addSpacing(6)
        whole.addWidget(note)

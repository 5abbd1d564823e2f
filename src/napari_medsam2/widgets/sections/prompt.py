"""The tools with which a person says what belongs to the object, and what becomes of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from qtpy.QtWidgets import QCheckBox, QWidget

from napari_medsam2.widgets.actions import tooltip
from napari_medsam2.widgets.sections.parts import MAC, Section, action_button, row
from napari_medsam2.widgets.tools import Tool

if TYPE_CHECKING:
    from napari_medsam2.widgets.hover import Hover
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["PromptSection"]


class PromptSection(Section):
    """Tools, polarity, and accept, discard, undo, redo."""

    def __init__(self, bench: Workbench, hover: Hover, parent: QWidget | None = None) -> None:
        super().__init__("Prompt", parent)
        self._bench = bench
        calls = bench.calls()
        self.tools = {name: action_button(name, calls[name], checkable=True) for name in get_args(Tool)}
        self.negative = action_button("polarity", calls["polarity"], checkable=True)
        self.accept = action_button("accept", calls["accept"])
        self.discard = action_button("discard", calls["discard"])
        self.undo = action_button("undo", calls["undo"])
        self.redo = action_button("redo", calls["redo"])
        self.hover = QCheckBox("Preview under the mouse")
        self.hover.setToolTip(tooltip("hover", MAC))
        self.hover.toggled.connect(hover.switch)
        self.column.addWidget(row(*self.tools.values()))
        self.column.addWidget(row(self.accept, self.discard, self.undo, self.redo))
        self.column.addWidget(row(self.negative, self.hover, stretch=1))
        bench.events.annotation.connect(self._opened)
        self._opened()

    def toggle_hover(self) -> None:
        """Turn the preview under the mouse on or off."""
        self.hover.setChecked(not self.hover.isChecked())

    def close_section(self) -> None:
        """Hear nothing more of the workbench."""
        self._bench.events.annotation.disconnect(self._opened)

    def _opened(self) -> None:
        annotation = self._bench.annotation
        if annotation is not None:
            annotation.events.tool.connect(self.refresh)
            annotation.events.history.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show which tool is in hand and what can be undone."""
        annotation = self._bench.annotation
        tool = None if annotation is None else annotation.tools.tool
        for name, button in self.tools.items():
            button.setChecked(name == tool)
        self.negative.setChecked(annotation is not None and annotation.tools.negative)
        for button in (self.negative, self.accept, self.discard):
            button.setEnabled(annotation is not None)
        session = None if annotation is None else annotation.session
        self.undo.setEnabled(session is not None and session.can_undo)
        self.redo.setEnabled(session is not None and session.can_redo)

"""Which model works, where, and whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton, QWidget

from napari_medsam2.widgets.sections.parts import Section, elided, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["ModelSection"]


class ModelSection(Section):
    """One line, and the button that opens the list of models."""

    def __init__(self, bench: Workbench, choose: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__("Model", parent)
        self._bench = bench
        self.about = elided()
        self.choose = QPushButton("Models…")
        self.choose.setToolTip("The list of models: what each is good for, its size and licence; download, device.")
        self.choose.clicked.connect(lambda *_: bench.attempt(choose))
        self.column.addWidget(row(self.about, self.choose, stretch=0))
        bench.events.model.connect(self.refresh)
        self.refresh()

    def close_section(self) -> None:
        """Hear nothing more of the workbench."""
        self._bench.events.model.disconnect(self.refresh)

    def refresh(self) -> None:
        """Say which model it is, and how it stands."""
        bench = self._bench
        if bench.model_error:
            self.about.setText(f"{bench.model}: {bench.model_error}")
        elif bench.backend.loaded:
            self.about.setText(f"{bench.backend.name}, ready on {bench.backend.device}")
        else:
            self.about.setText(f"{bench.model}, loading…")

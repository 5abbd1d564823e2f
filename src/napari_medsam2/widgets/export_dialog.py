"""The dialog in which a format and a file are chosen for what leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medsam2.errors import InputError
from napari_medsam2.export import FORMATS
from napari_medsam2.widgets.rows.words import short_path
from napari_medsam2.widgets.sections.parts import row

if TYPE_CHECKING:
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["ExportDialog"]


class ExportDialog(QDialog):
    """Format and file.

    Parameters
    ----------
    bench : Workbench
        Whose annotation is exported.
    """

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self._name = ""
        self._folder = Path.home()
        self.setWindowTitle("Medical SAM 2: export")
        self.form = QComboBox()
        self.form.setToolTip("What other programs read; see docs/export.md for what survives in each.")
        for name, form in FORMATS.items():
            self.form.addItem(form.about[0].upper() + form.about[1:], name)
        self.path = QLineEdit()
        self.path.setToolTip("The file that is written; some formats are folders.")
        browse = QPushButton("…")
        browse.setToolTip("Choose the file.")
        browse.setFixedWidth(30)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.go = self.buttons.addButton("Export", QDialogButtonBox.ButtonRole.AcceptRole)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(14, 12, 14, 12)
        whole.setSpacing(8)
        whole.addWidget(QLabel("<b>Export what is annotated</b>"))
        form_layout = QFormLayout()
        form_layout.addRow("Format", self.form)
        form_layout.addRow("File", row(self.path, browse, stretch=0))
        whole.addLayout(form_layout)
        whole.addWidget(self.note)
        whole.addWidget(self.buttons)
        self.form.currentIndexChanged.connect(self._suggest)
        self.path.textChanged.connect(self._look)
        browse.clicked.connect(self._browse)
        self.buttons.accepted.connect(lambda: bench.attempt(self._export))
        self.buttons.rejected.connect(self.reject)
        self.resize(520, self.sizeHint().height())

    def offer(self) -> None:
        """Suggest a file for what is annotated, and show the dialog."""
        annotation = self._bench.need()
        source = annotation.image.source.path
        if source and Path(source).parent.is_dir():
            self._folder = Path(source).parent
        self._name = "".join("_" if letter in '/\\:*?"<>|' else letter for letter in annotation.image.name)
        self._suggest()
        self.show()
        self.raise_()

    def _suggest(self, _: int = 0) -> None:
        form: str = self.form.currentData()
        what = {"csv": " objects", "csv-slices": " slices", "confidence": " confidence"}.get(form, " labels")
        self.path.setText(short_path(self._folder / f"{self._name}{what}{FORMATS[form].suffix}"))

    def _look(self, text: str) -> None:
        there = bool(text.strip()) and Path(text).expanduser().exists()
        self.note.setText("It is there already, and will be replaced." if there else "")
        self.go.setText("Replace" if there else "Export")

    def _browse(self, _: bool = False) -> None:
        form = FORMATS[self.form.currentData()]
        path, _chosen = QFileDialog.getSaveFileName(
            self, f"Export {form.about}", str(Path(self.path.text()).expanduser())
        )
        if path:
            self._folder = Path(path).parent
            self.path.setText(short_path(Path(path if path.endswith(form.suffix) else path + form.suffix)))

    def _export(self) -> None:
        text = self.path.text().strip()
        if not text:
            raise InputError("there is no file to write; give its name, or press … to choose one")
        path = Path(text).expanduser()
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {path.parent}; choose another one")
        self.accept()
        self._bench.export(path, self.form.currentData())

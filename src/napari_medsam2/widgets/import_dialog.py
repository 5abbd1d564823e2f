"""The dialog in which masks that were made elsewhere are chosen, and what is to become of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_medsam2.widgets.sections.parts import row
from napari_medsam2.widgets.takeover import begin, candidates

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medsam2.widgets.takeover import Use
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["ImportDialog"]

_USES: tuple[tuple[Use, str, str], ...] = (
    (
        "review",
        "To be reviewed",
        "W goes through them, the likeliest wrong first; a correction is carried on over its neighbours.",
    ),
    (
        "accepted",
        "Accepted as they are",
        "Nothing overwrites them. Prompt the object on one of them, and propagation fills in what is missing.",
    ),
    (
        "prompts",
        "Prompts, on the slice that is shown",
        "Only this slice's masks are taken, and can be carried on to all others.",
    ),
)
_FILE = "A file…"
# What `open_labels` reads.
_FILES = "Labels (*.tif *.tiff *.nii *.nii.gz *.mgz *.png *.npy *.json *.zip *.roi);;All files (*)"


class ImportDialog(QDialog):
    """Which labels, and as what.

    Parameters
    ----------
    bench : Workbench
        Whose annotation takes them over.
    """

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self._layers: list[Labels] = []
        self.setWindowTitle("Medical SAM 2: import masks")
        self.source = QComboBox()
        self.source.setToolTip("A labels layer of the image's shape, or a file of labels that belongs to the image.")
        self.group = QButtonGroup(self)
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(6)
        column.addWidget(QLabel("<b>Import masks that were made elsewhere</b>"))
        column.addWidget(row(QLabel("Masks from"), self.source, stretch=1))
        for number, (_, title, words) in enumerate(_USES):
            button = QRadioButton(title)
            self.group.addButton(button, number)
            button.setChecked(number == 0)
            note = QLabel(words)
            note.setWordWrap(True)
            note.setIndent(24)
            column.addWidget(button)
            column.addWidget(note)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.take = self.buttons.addButton("Import", QDialogButtonBox.ButtonRole.AcceptRole)
        column.addSpacing(4)
        column.addWidget(self.buttons)
        self.buttons.accepted.connect(lambda: bench.attempt(self._take))
        self.buttons.rejected.connect(self.reject)
        self.resize(430, self.sizeHint().height())

    def offer(self) -> None:
        """List what there is now, and show the dialog."""
        annotation = self._bench.need()
        self._layers = candidates(self._bench.viewer, annotation)
        self.source.clear()
        for layer in self._layers:
            self.source.addItem(layer.name)
        self.source.addItem(_FILE)
        self.show()
        self.raise_()

    @property
    def use(self) -> Use:
        """What is to become of the masks."""
        return _USES[self.group.checkedId()][0]

    def _take(self) -> None:
        number = self.source.currentIndex()
        source: Labels | Path
        if number < len(self._layers):
            source = self._layers[number]
        else:
            path, _ = QFileDialog.getOpenFileName(self, "Labels of this image", str(Path.home()), _FILES)
            if not path:
                return
            source = Path(path)
        self.accept()
        begin(self._bench.need(), source, self.use)

"""The models: what there is, what each is good for, and getting them."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QPainter, QPen
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_medsam2.widgets.rows.numbers import format_bytes
from napari_medsam2.widgets.theme import IconButton, mix, shades

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QColor, QPaintEvent

    from napari_medsam2.widgets.rows.models import ModelRow

__all__ = ["ModelTable"]


class ModelTable(QWidget):
    """Lists the models with a button each, and lets a person choose the device.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    get = Signal(str)
    """Download this model."""
    cancel = Signal(str)
    """Stop the download of this model."""
    use = Signal(str)
    """Work with this model from now on."""
    device_changed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._cards: dict[str, _Card] = {}
        self._device = QComboBox()
        self._device.setToolTip("Where the model runs")
        self._device.setAccessibleName("Device")
        self._device.currentIndexChanged.connect(self._on_device)
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 4, 0)
        top.addWidget(QLabel("Runs on"))
        top.addWidget(self._device, 1)
        inner = QWidget()
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 4, 0)
        self._column.setSpacing(6)
        self._column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(inner)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(top)
        layout.addWidget(scroll, 1)

    def show_rows(self, rows: Sequence[ModelRow]) -> None:
        """Show these models; cards stay where the models are the same, so that a bar moves smoothly."""
        keys = [row.key for row in rows]
        if keys != list(self._cards):
            for card in self._cards.values():
                self._column.removeWidget(card)
                card.hide()
                card.deleteLater()
            self._cards = {}
            for number, key in enumerate(keys):
                card = self._cards[key] = _Card(key)
                card.get.connect(self.get)
                card.cancel.connect(self.cancel)
                card.use.connect(self.use)
                self._column.insertWidget(number, card)
        for row in rows:
            self._cards[row.key].show_row(row)

    def show_devices(self, devices: Mapping[str, str], chosen: str) -> None:
        """Offer devices: what `load_backend` takes, and what a person reads; emits nothing."""
        self._device.blockSignals(True)
        self._device.clear()
        for key, text in devices.items():
            self._device.addItem(text, key)
        self._device.setEnabled(len(devices) > 1)
        self._device.blockSignals(False)
        self.show_device(chosen)

    def show_device(self, chosen: str) -> None:
        """Show which device is used; emits nothing."""
        self._device.blockSignals(True)
        self._device.setCurrentIndex(self._device.findData(chosen))
        self._device.blockSignals(False)

    def button(self, key: str) -> QPushButton:
        """Return the button of a model's card."""
        return self._cards[key].button

    def _on_device(self) -> None:
        if self._device.currentIndex() >= 0:
            self.device_changed.emit(str(self._device.currentData()))


class _Card(QFrame):
    """One model."""

    get = Signal(str)
    cancel = Signal(str)
    use = Signal(str)

    def __init__(self, key: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._key = key
        self._row: ModelRow | None = None
        self._name = _label(bold=True)
        self._facts, self._good_for, self._note = _label(), _label(), _label()
        for label in (self._facts, self._note):
            label.setTextFormat(Qt.TextFormat.RichText)
        self._bar = QProgressBar()
        self._bar.setRange(0, 1000)
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(6)
        self._buttons = {
            "get": IconButton("download", "Download this model", "Get"),
            "cancel": IconButton("cross", "Stop the download", "Cancel"),
            "use": IconButton("next", "Work with this model from now on", "Use"),
            "used": IconButton("check", "The session works with this model", "In use"),
        }
        self._buttons["used"].setEnabled(False)
        self._buttons["get"].clicked.connect(lambda: self.get.emit(key))
        self._buttons["cancel"].clicked.connect(lambda: self.cancel.emit(key))
        self._buttons["use"].clicked.connect(lambda: self.use.emit(key))
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 6, 8, 6)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(0, 1)
        grid.addWidget(self._name, 0, 0)
        grid.addWidget(self._facts, 1, 0)
        for button in self._buttons.values():
            grid.addWidget(button, 0, 1, 2, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self._good_for, 2, 0, 1, 2)
        grid.addWidget(self._bar, 3, 0, 1, 2)
        grid.addWidget(self._note, 4, 0, 1, 2)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.setObjectName("model-card")

    @property
    def button(self) -> QPushButton:
        """The button that is seen."""
        return self._buttons[self._action()]

    def show_row(self, row: ModelRow) -> None:
        """Show a model as it is now."""
        if row == self._row:
            return
        self._row = row
        size = _size(row)
        self._name.setText(row.name)
        self._good_for.setText(row.good_for[:1].upper() + row.good_for[1:])
        self._note.setVisible(bool(row.note))
        busy = row.state in ("downloading", "waiting")
        self._bar.setVisible(busy)
        known = row.progress is not None
        # A bar without an end moves by itself.
        self._bar.setRange(0, 1000 if known or row.state == "waiting" else 0)
        self._bar.setValue(round((row.progress or 0.0) * 1000))
        action = self._action()
        for name, button in self._buttons.items():
            button.setVisible(name == action)
        self._buttons["get"].setText("Retry" if row.state == "failed" else "Get")
        self._buttons["get"].set_tip(f"Download {row.name}{f' ({size})' if size else ''}")
        self._paint()

    def changeEvent(self, event: QEvent) -> None:
        """Take the theme's colours."""
        super().changeEvent(event)
        if event.type() in (event.Type.PaletteChange, event.Type.StyleChange):
            self._paint()

    def _action(self) -> str:
        row = self._row
        if row is None or row.state in ("absent", "failed"):
            return "get"
        if row.state in ("downloading", "waiting"):
            return "cancel"
        return "used" if row.in_use else "use"

    def _paint(self) -> None:
        tint, row = shades(self), self._row
        if row is None:
            return
        # A label under a style sheet does not heed its palette.
        facts = [_together(part) for part in (_size(row), row.licence, row.speed) if part]
        self._facts.setText(_colored(" · ".join(facts), tint.faint))
        self._note.setText(_colored(row.note, tint.bad if row.state == "failed" else tint.faint))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the card."""
        tint = shades(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        used = self._row is not None and self._row.in_use
        painter.setPen(QPen(tint.accent, 1.5) if used else Qt.PenStyle.NoPen)
        painter.setBrush(mix(tint.back, tint.text, 0.05))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.75, 0.75, -0.75, -0.75), 4, 4)
        painter.end()


def _size(row: ModelRow) -> str:
    return "" if row.size is None else format_bytes(row.size)


def _together(text: str) -> str:
    """Keep a short text on one line; a long one has to break in a narrow dock."""
    return text if len(text) > 20 else text.replace(" ", "\N{NO-BREAK SPACE}")


def _colored(text: str, color: QColor) -> str:
    return f'<span style="color: {color.name()}">{html.escape(text)}</span>'


def _label(bold: bool = False) -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setIndent(0)
    # The text of a registry must not make the dock wider.
    label.setMinimumWidth(1)
    if bold:
        font = label.font()
        font.setBold(True)
        label.setFont(font)
    return label

"""The memory bank: what the slice that is seen read, and what a person wants of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPoint, QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent, QMouseEvent, QPainter, QPen, QPixmap
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_medsam2.widgets.bank_settings import BankSettings
from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.theme import IconButton, mix, ramp_color, shades, to_pixmap

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from qtpy.QtGui import QPaintEvent

    from napari_medsam2.memory import BankConfig
    from napari_medsam2.widgets.rows.bank import BankCard

__all__ = ["BankView"]

_REASON_TIPS = {
    "prompted": "A person prompted this slice",
    "corrected": "A person corrected this slice",
    "pinned": "A person pinned this slice",
    "admitted": "The model was sure of this slice, so the bank took it",
    "dropped": "A person dropped this slice; the next propagation leaves it out",
}
_SIDE = 48
"""Pixels of a card's picture."""
_KEPT = 200
"""Pictures that are kept at most."""
_NOBODY = "No memories to show: this slice was prompted, or has not been propagated yet."
_WISHES = "This slice read no memories. Pinned and dropped ones:"


class BankView(QWidget):
    """Lists the memories that the slice read, the heaviest first; they are pinned, dropped and looked at from here.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    jumped = Signal(int)
    """A slice that a person wants to see."""
    pinned = Signal(int, bool)
    """A slice, and whether it is to be pinned; False takes that back."""
    dropped = Signal(int, bool)
    """A slice, and whether it is to be dropped; False takes that back."""
    wanted = Signal(int)
    """A slice whose picture is to be given to `set_thumbnail`."""
    unwanted = Signal(int)
    """A slice whose picture was asked for and is not shown any more, or would be stale."""
    config_changed = Signal(object)
    """The new `BankConfig`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # napari pushes up what does not want the height that there is.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._cards: list[_Card] = []
        self._pictures: dict[int, QPixmap] = {}
        self._asked: set[int] = set()
        self._summary = QLabel(_NOBODY)
        self._summary.setWordWrap(True)
        self._summary.setTextFormat(Qt.TextFormat.PlainText)
        self._list = QWidget()
        self._column = QVBoxLayout(self._list)
        self._column.setContentsMargins(0, 0, 4, 0)
        self._column.setSpacing(2)
        self._column.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidget(self._list)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setMinimumHeight(_SIDE + 8)
        self._settings = BankSettings()
        self._toggle = IconButton("right", "How the bank chooses its memories", "Advanced")
        self._toggle.clicked.connect(lambda: self.set_advanced(self._settings.isHidden()))
        self._settings.setVisible(False)
        self._settings.changed.connect(self.config_changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._summary)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(self._toggle, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self._settings)

    def show_rows(
        self, cards: Sequence[BankCard], config: BankConfig, title: str = "", suited: BankConfig | None = None
    ) -> None:
        """Show these memories.

        Parameters
        ----------
        cards : sequence of BankCard
            From `bank_cards`.
        config : BankConfig
            The session's.
        title : str
            What read them, such as ``"nucleus 1, slice 12"``.
        suited : BankConfig, optional
            What holds where the session's says nothing; that of a stack if not given.
        """
        self._settings.show_config(config, suited)
        read = sum(card.weight is not None for card in cards)
        memories = "1 memory" if read == 1 else f"{read} memories"
        if read:
            self._summary.setText(f"{title or 'This slice'} read {memories}")
        else:
            self._summary.setText(_WISHES if cards else _NOBODY)
        while len(self._cards) > len(cards):
            spare = self._cards.pop()
            spare.hide()
            spare.deleteLater()
        while len(self._cards) < len(cards):
            self._add_card()
        for index in self._asked - {card.index for card in cards}:
            self._withdraw(index)
        for widget, card in zip(self._cards, cards, strict=True):
            widget.show_card(card, self._pictures.get(card.index))
            if card.index not in self._pictures and card.index not in self._asked:
                self._asked.add(card.index)
                self.wanted.emit(card.index)

    def set_thumbnail(self, index: int, rgb: np.ndarray) -> None:
        """Show ``(h, w, 3)`` uint8 as the picture of a slice, from now on."""
        self._asked.discard(index)
        self._pictures.pop(index, None)
        pixmap = self._pictures[index] = to_pixmap(rgb)
        if len(self._pictures) > _KEPT:
            seen = {widget.card.index for widget in self._cards if widget.card is not None}
            for old in [one for one in self._pictures if one not in seen][: len(self._pictures) - _KEPT]:
                del self._pictures[old]
        for widget in self._cards:
            if widget.card is not None and widget.card.index == index:
                widget.set_picture(pixmap)

    def forget_thumbnails(self, indices: Sequence[int] | None = None) -> None:
        """Drop pictures, of all slices by default, since their masks or colours changed; those seen are asked for."""
        gone = set(self._pictures) | self._asked if indices is None else set(indices)
        for index in gone:
            self._pictures.pop(index, None)
            self._withdraw(index)
        for widget in self._cards:
            if widget.card is not None and widget.card.index in gone and widget.card.index not in self._asked:
                self._asked.add(widget.card.index)
                self.wanted.emit(widget.card.index)

    def set_advanced(self, on: bool) -> None:
        """Show or hide how the bank chooses."""
        self._settings.setVisible(on)
        self._toggle.set_icon("down" if on else "right")

    @property
    def cards(self) -> tuple[QWidget, ...]:
        """The cards from top to bottom."""
        return tuple(self._cards)

    def _withdraw(self, index: int) -> None:
        if index in self._asked:
            self._asked.discard(index)
            self.unwanted.emit(index)

    def _add_card(self) -> None:
        card = _Card()
        card.jumped.connect(self.jumped)
        card.pinned.connect(self.pinned)
        card.dropped.connect(self.dropped)
        card.moved.connect(self._move_focus)
        self._column.insertWidget(len(self._cards), card)
        self._cards.append(card)

    def _move_focus(self, step: int) -> None:
        places = [i for i, card in enumerate(self._cards) if card.hasFocus()]
        if places:
            card = self._cards[min(max(places[0] + step, 0), len(self._cards) - 1)]
            card.setFocus(Qt.FocusReason.TabFocusReason)
            self._scroll.ensureWidgetVisible(card, 0, 4)


class _Card(QFrame):
    """One memory: a picture, what it is, how much it weighs, and two buttons."""

    jumped = Signal(int)
    pinned = Signal(int, bool)
    dropped = Signal(int, bool)
    moved = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.card: BankCard | None = None
        self._picture: QPixmap | None = None
        self._over = False
        self._pin = IconButton("pin", "Pin: the bank keeps this memory (P)", checked_name="pinned")
        self._drop = IconButton("cross", "Drop: the bank does without this memory (Delete)", checked_name="back")
        self._pin.clicked.connect(self._on_pin)
        self._drop.clicked.connect(self._on_drop)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 4, 0)
        row.setSpacing(4)
        row.addStretch(1)
        row.addWidget(self._pin)
        row.addWidget(self._drop)
        self.setFixedHeight(_SIDE + 6)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_card(self, card: BankCard, picture: QPixmap | None) -> None:
        """Show a memory."""
        if card == self.card and picture is self._picture:
            return
        self.card, self._picture = card, picture
        self._pin.setChecked(card.pinned)
        self._pin.set_tip(
            "Unpin: the bank may replace this memory (P)" if card.pinned else "Pin: the bank keeps this memory (P)"
        )
        self._drop.setChecked(card.dropped)
        self._drop.set_tip(
            "Take the memory back (Delete)" if card.dropped else "Drop: the bank does without this memory (Delete)"
        )
        lines = [card.title, _REASON_TIPS.get(card.reason, card.reason)]
        if card.confidence is not None:
            lines.append(f"Confidence {card.confidence:.2f}")
        if card.weight is not None:
            lines.append(f"Weight {card.weight:.2f} of the heaviest")
        self.setToolTip(literal("\n".join([*lines, "Click to go there"])))
        self.setAccessibleName(", ".join(lines))
        self.update()

    def set_picture(self, picture: QPixmap) -> None:
        """Show its picture."""
        self._picture = picture
        self.update()

    def sizeHint(self) -> QSize:
        """As high as its picture."""
        return QSize(240, _SIDE + 6)

    def _on_pin(self) -> None:
        if self.card is not None:
            self.pinned.emit(self.card.index, not self.card.pinned)
            self._pin.setChecked(self.card.pinned)

    def _on_drop(self) -> None:
        if self.card is not None:
            self.dropped.emit(self.card.index, not self.card.dropped)
            self._drop.setChecked(self.card.dropped)

    # -- Qt --------------------------------------------------------------------------------------------------------

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Go to its slice."""
        inside = self.rect().contains(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and inside and self.card is not None:
            self.jumped.emit(self.card.index)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter goes there, P pins, Delete drops, the arrows go on."""
        key = event.key()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space) and self.card is not None:
            self.jumped.emit(self.card.index)
        elif key == Qt.Key.Key_P:
            self._on_pin()
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._on_drop()
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self.moved.emit(1 if key == Qt.Key.Key_Down else -1)
        else:
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        """Light up under the pointer."""
        if event.type() in (QEvent.Type.Enter, QEvent.Type.Leave):
            self._over = event.type() == QEvent.Type.Enter
            self.update()
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the picture and the words."""
        card = self.card
        if card is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tint, metrics = shades(self), self.fontMetrics()
        lit = 0.12 if self._over else 0.05
        painter.setPen(QPen(tint.accent, 1.5) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.setBrush(mix(tint.back, tint.text, lit))
        painter.drawRoundedRect(QRectF(0.75, 0.75, self.width() - 1.5, self.height() - 1.5), 3, 3)
        painter.setOpacity(0.5 if card.dropped else 1.0)
        frame = QRectF(3, 3, _SIDE, _SIDE)
        painter.fillRect(frame, tint.empty)
        if self._picture is not None:
            size = self._picture.size().scaled(_SIDE, _SIDE, Qt.AspectRatioMode.KeepAspectRatio)
            corner = QPoint(3 + (_SIDE - size.width()) // 2, 3 + (_SIDE - size.height()) // 2)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(QRect(corner, size), self._picture)
        left = _SIDE + 11
        room = self._pin.x() - left - 4
        bold = painter.font()
        bold.setBold(True)
        painter.setFont(bold)
        painter.setPen(tint.text)
        line = metrics.height()
        top = (self.height() - 2 * line - 9) / 2
        title = painter.fontMetrics().elidedText(card.title, Qt.TextElideMode.ElideMiddle, room)
        painter.drawText(QRectF(left, top, room, line), Qt.AlignmentFlag.AlignVCenter.value, title)
        painter.setFont(self.font())
        painter.setPen(tint.faint)
        words = card.reason if card.confidence is None else f"{card.reason}, {card.confidence:.2f}"
        words = metrics.elidedText(words, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QRectF(left, top + line, room, line), Qt.AlignmentFlag.AlignVCenter.value, words)
        bar = QRectF(left, top + 2 * line + 4, room, 4)
        painter.fillRect(bar, tint.line)
        if card.weight is not None:
            color = tint.accent if card.confidence is None else ramp_color(card.confidence, tint.dark)
            painter.fillRect(QRectF(bar.left(), bar.top(), bar.width() * card.weight, bar.height()), color)
        painter.end()

"""The buttons of the review, and the key to the strip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPen
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from napari_medsam2.widgets.icons import draw
from napari_medsam2.widgets.theme import IconButton, ramp_color, shades

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent, QResizeEvent

__all__ = ["Legend", "ReviewBar"]

_TIPS = {
    "next": "Go to the mask that is most likely wrong",
    "accept": "Accept this mask, so that nothing overwrites it, and go to the next",
    "reject": "Take this mask away; then prompt the slice, or accept that the object is not there",
    "skip": "Look at this mask later, and go to the next",
    "back": "Go back to the mask before",
}


class ReviewBar(QWidget):
    """Next worst, accept, reject, skip, and how much is left.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    next_worst = Signal()
    accepted = Signal()
    rejected = Signal()
    skipped = Signal()
    back = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._buttons = {
            "next": IconButton("next", _TIPS["next"], "Next worst"),
            "accept": IconButton("check", _TIPS["accept"], "Accept"),
            "reject": IconButton("cross", _TIPS["reject"], "Reject"),
            "skip": IconButton("skip", _TIPS["skip"], "Skip"),
            "back": IconButton("back", _TIPS["back"]),
        }
        self._status = QLabel()
        self._status.setTextFormat(Qt.TextFormat.PlainText)
        self._legend = Legend()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for button in self._buttons.values():
            layout.addWidget(button)
        layout.addSpacing(6)
        layout.addWidget(self._status)
        layout.addStretch(1)
        layout.addWidget(self._legend)
        for name, signal in (
            ("next", self.next_worst), ("accept", self.accepted), ("reject", self.rejected), ("skip", self.skipped),
            ("back", self.back),
        ):  # fmt: skip
            self._buttons[name].clicked.connect(signal)
        self.show_state(0, 0)

    def show_state(
        self,
        left: int,
        total: int,
        confidence: float | None = None,
        has_mask: bool = False,
        has_back: bool = False,
        was_rejected: bool = False,
    ) -> None:
        """Show how far the review is.

        Parameters
        ----------
        left, total : int
            Masks that nobody has looked at, and all that are to be looked at.
        confidence : float, optional
            Of the mask that is seen.
        has_mask : bool
            Whether there is one, which can be accepted, rejected or skipped.
        has_back : bool
            Whether there is a mask to go back to.
        was_rejected : bool
            Whether the mask that was there is, so that it can be accepted that the object is not.
        """
        self._buttons["next"].setEnabled(left > 0)
        self._buttons["back"].setEnabled(has_back)
        self._buttons["accept"].setEnabled(has_mask or was_rejected)
        for name in ("reject", "skip"):
            self._buttons[name].setEnabled(has_mask)
        if not total:
            text = "Nothing to review yet"
        elif not left:
            text = f"All {total:,} reviewed"
        else:
            text = f"{left:,} of {total:,} to review"
        if confidence is not None:
            text += f"; this one: {confidence:.2f}"
        self._status.setText(text)

    @property
    def buttons(self) -> dict[str, IconButton]:
        """The buttons ``"next"``, ``"accept"``, ``"reject"``, ``"skip"`` and ``"back"``."""
        return dict(self._buttons)

    @property
    def status(self) -> str:
        """What is said of how far the review is."""
        return self._status.text()

    def set_tip(self, name: str, tip: str) -> None:
        """Set the tooltip of ``"next"``, ``"accept"``, ``"reject"``, ``"skip"`` or ``"back"``."""
        self._buttons[name].set_tip(tip)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Shorten the key to the strip, or leave it out, where there is no room for it."""
        super().resizeEvent(event)
        others = sum(button.sizeHint().width() + 4 for button in self._buttons.values())
        words = self.fontMetrics().horizontalAdvance("1,870 of 2,000 to review; this one: 0.43")
        room = self.width() - others - words - 30
        self._legend.set_short(room < self._legend.width_of(short=False))
        self._legend.setVisible(room >= self._legend.width_of(short=True))


class Legend(QWidget):
    """The key to the strip's colours and marks."""

    _MARKS = (
        ("triangle", "text", "prompted"),
        ("diamond", "note", "corrected"),
        ("line", "good", "accepted"),
        ("cross", "bad", "rejected"),
        ("frame", "bank", "in memory"),
    )
    _RAMP = 64

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Key to the review strip")
        self._short = False
        self.setToolTip(
            "<b>Bars</b>: the model's confidence in each mask; a low bar: the object is not there.<br>"
            "<b>Triangle</b>: prompted. <b>Diamond</b>: corrected; a grey one: edited.<br>"
            "<b>Line below</b>: accepted. <b>Cross</b>: rejected. <b>Ring</b>: skipped.<br>"
            "<b>Frame</b>: in the memory bank of the slice that you see."
        )

    def set_short(self, short: bool) -> None:
        """Leave the marks to the tooltip, or not."""
        if short != self._short:
            self._short = short
            self.updateGeometry()
            self.update()

    def width_of(self, short: bool) -> int:
        """Return how many pixels it takes."""
        metrics = self.fontMetrics()
        ends = metrics.horizontalAdvance("doubtful") + metrics.horizontalAdvance("sure") + self._RAMP + 18
        return ends if short else ends + 6 + sum(metrics.horizontalAdvance(word) + 26 for *_, word in self._MARKS)

    def sizeHint(self) -> QSize:
        """As wide as its words."""
        return QSize(self.width_of(self._short), self.fontMetrics().height() + 4)

    def minimumSizeHint(self) -> QSize:
        """None: it is left out where it does not fit."""
        return QSize(0, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it."""
        painter = QPainter(self)
        tint, metrics, middle = shades(self), self.fontMetrics(), self.height() / 2
        x = 2.0

        def word(text: str) -> None:
            nonlocal x
            painter.setPen(tint.faint)
            width = metrics.horizontalAdvance(text)
            painter.drawText(QRectF(x, 0, width + 2, self.height()), Qt.AlignmentFlag.AlignVCenter.value, text)
            x += width

        word("doubtful")
        x += 6
        gradient = QLinearGradient(x, 0, x + self._RAMP, 0)
        for step in range(9):
            gradient.setColorAt(step / 8, ramp_color(step / 8, tint.dark))
        painter.fillRect(QRectF(x, middle - 4, self._RAMP, 8), gradient)
        x += self._RAMP + 6
        word("sure")
        for name, colour_name, text in () if self._short else self._MARKS:
            x += 12
            colour: QColor = getattr(tint, colour_name)
            if name == "line":
                painter.fillRect(QRectF(x, middle - 1, 9, 2), colour)
            elif name == "frame":
                painter.setPen(QPen(colour, 2))
                painter.drawRect(QRectF(x + 1, middle - 4, 7, 8))
            else:
                painter.save()
                painter.translate(QPointF(x, middle - 4.5))
                draw(painter, name, colour, 9)
                painter.restore()
            x += 14
            word(text)
        painter.end()

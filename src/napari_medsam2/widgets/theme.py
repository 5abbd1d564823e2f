"""Colours from the Qt palette, the colours of confidence, and drawn icons.

napari sets its colours with a style sheet, which Qt hands on to each widget's palette; so what is asked of a palette
follows the theme.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPalette, QPixmap
from qtpy.QtWidgets import QPushButton

from napari_medsam2.widgets.icons import draw
from napari_medsam2.widgets.rows.words import literal

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

__all__ = [
    "IconButton",
    "Shades",
    "glyph",
    "icon",
    "mix",
    "ramp",
    "ramp_color",
    "shades",
    "swatch",
    "swatch_icon",
    "to_pixmap",
]

# Orange for doubt and blue for certainty, told apart by the colour-blind; and of steady lightness, told apart without
# any colour. What is doubtful stands out from the background most, in either theme.
_DARK = ((0.0, "#ffd23e"), (0.35, "#f39a4b"), (0.6, "#b98a86"), (0.8, "#6f85ab"), (1.0, "#37628f"))
_LIGHT = ((0.0, "#a33a00"), (0.35, "#d4691b"), (0.6, "#b99a90"), (0.8, "#93aed0"), (1.0, "#a9cdec"))


@dataclass(frozen=True, slots=True)
class Shades:
    """The colours of a widget's theme.

    Parameters
    ----------
    dark : bool
        Whether its background is.
    back, text, select : QColor
        Background, text and selection, from the palette.
    faint : QColor
        Text of less weight; still readable.
    line : QColor
        Lines and frames.
    empty : QColor
        The ground of a bar or a picture that has nothing.
    accent : QColor
        What a person chose or what is going on.
    good, bad, note, bank : QColor
        Accepted; rejected or failed; corrected; in the memory bank. Told apart by the colour-blind.
    """

    dark: bool
    back: QColor
    text: QColor
    select: QColor
    faint: QColor
    line: QColor
    empty: QColor
    accent: QColor
    good: QColor
    bad: QColor
    note: QColor
    bank: QColor


def shades(widget: QWidget) -> Shades:
    """Return the colours of a widget's theme as it is now."""
    palette = widget.palette()
    return _shades(
        palette.color(QPalette.ColorRole.Window).name(),
        palette.color(QPalette.ColorRole.WindowText).name(),
        palette.color(QPalette.ColorRole.Highlight).name(),
    )


@lru_cache(maxsize=16)
def _shades(back_name: str, text_name: str, select_name: str) -> Shades:
    back, text, select = QColor(back_name), QColor(text_name), QColor(select_name)
    dark = back.lightness() < 128
    return Shades(
        dark,
        back,
        text,
        select,
        mix(text, back, 0.32),
        mix(text, back, 0.78),
        mix(text, back, 0.91 if dark else 0.88),
        QColor("#6d9cff" if dark else "#2f5fd0"),
        QColor("#4cc38a" if dark else "#00794f"),
        QColor("#ff7a62" if dark else "#b3261e"),
        QColor("#d69cf0" if dark else "#7b2d9b"),
        QColor("#6ff2e6" if dark else "#00576b"),
    )


def mix(a: QColor, b: QColor, share: float) -> QColor:
    """Return ``a`` with a share of ``b`` in [0, 1]."""
    parts = zip((a.red(), a.green(), a.blue()), (b.red(), b.green(), b.blue()), strict=True)
    return QColor(*(round(one + share * (other - one)) for one, other in parts))


@lru_cache(maxsize=2)
def ramp(dark: bool) -> np.ndarray:
    """Return the colours of confidences 0 to 1, ``(256,)`` uint32 as ``0xffrrggbb``."""
    stops = _DARK if dark else _LIGHT
    at = np.linspace(0, 1, 256)
    places = [place for place, _ in stops]
    planes = []
    for channel in (1, 3, 5):
        values = [int(colour[channel : channel + 2], 16) for _, colour in stops]
        planes.append(np.rint(np.interp(at, places, values)).astype(np.uint32))
    return np.uint32(0xFF000000) | planes[0] << np.uint32(16) | planes[1] << np.uint32(8) | planes[2]


def ramp_color(confidence: float, dark: bool) -> QColor:
    """Return the colour of a confidence in [0, 1]."""
    return QColor.fromRgb(int(ramp(dark)[min(max(round(confidence * 255), 0), 255)]))


def icon(name: str, color: QColor, size: int = 16) -> QIcon:
    """Return a drawn icon; see `napari_medsam2.widgets.icons` for the names."""
    out = QIcon()
    for ratio in (1, 2):
        for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
            out.addPixmap(_pixmap(name, color.name(), size, ratio), mode)
        out.addPixmap(_pixmap(name, color.name(QColor.NameFormat.HexArgb), size, ratio, 0.35), QIcon.Mode.Disabled)
    return out


@lru_cache(maxsize=256)
def _pixmap(name: str, color: str, size: int, ratio: int, opacity: float = 1.0) -> QPixmap:
    pixmap = QPixmap(size * ratio, size * ratio)
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setOpacity(opacity)
    draw(painter, name, QColor(color), size)
    painter.end()
    return pixmap


def glyph(name: str, color: QColor, size: int, ground: QColor | None = None, ratio: float = 1.0) -> QPixmap:
    """Return an icon for a screen of this pixel ratio, on a disc of another colour if there is one; it is kept."""
    return _glyph(name, color.name(), size, None if ground is None else ground.name(), ratio)


@lru_cache(maxsize=128)
def _glyph(name: str, color: str, size: int, ground: str | None, ratio: float) -> QPixmap:
    pixmap = QPixmap(round(size * ratio), round(size * ratio))
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    inner = float(size)
    if ground is not None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(ground))
        painter.drawEllipse(0, 0, size, size)
        inner = size * 0.64
        painter.translate((size - inner) / 2, (size - inner) / 2)
    draw(painter, name, QColor(color), inner)
    painter.end()
    return pixmap


def swatch(color: str, size: int = 12) -> QPixmap:
    """Return a rounded square of a colour."""
    return _swatch(color, size)


def swatch_icon(color: str, size: int = 12) -> QIcon:
    """Return a rounded square of a colour that stays what it is where it is selected."""
    out = QIcon(_swatch(color, size))
    out.addPixmap(_swatch(color, size), QIcon.Mode.Selected)
    return out


@lru_cache(maxsize=512)
def _swatch(color: str, size: int) -> QPixmap:
    pixmap = QPixmap(size * 2, size * 2)
    pixmap.setDevicePixelRatio(2)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QColor(128, 128, 128, 140))
    painter.setBrush(QColor(color))
    painter.drawRoundedRect(1, 1, size - 2, size - 2, 2.5, 2.5)
    painter.end()
    return pixmap


def to_pixmap(rgb: np.ndarray) -> QPixmap:
    """Make a pixmap of ``(h, w, 3)`` uint8."""
    data = np.ascontiguousarray(rgb, np.uint8)
    h, w = data.shape[:2]
    # Copied, since a QImage shares its bytes.
    return QPixmap.fromImage(QImage(data.tobytes(), w, h, w * 3, QImage.Format.Format_RGB888).copy())


class IconButton(QPushButton):
    """A small button with a drawn icon that follows the theme.

    Parameters
    ----------
    name : str
        The icon; see `napari_medsam2.widgets.icons`.
    tip : str
        The tooltip, which is also what a screen reader says.
    text : str
        Beside the icon; none by default.
    checked_name : str, optional
        The icon while it is checked; makes it checkable.
    """

    def __init__(
        self, name: str, tip: str, text: str = "", checked_name: str | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(text, parent)
        self._names = name, checked_name or name
        self.setCheckable(checked_name is not None)
        self.setIconSize(QSize(16, 16))
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.set_tip(tip)
        if not text:
            self.setFixedSize(26, 26)
        self.toggled.connect(self._redraw)
        self._redraw()

    def set_tip(self, tip: str) -> None:
        """Set the tooltip and the accessible name."""
        self.setToolTip(literal(tip))
        self.setAccessibleName(tip.partition(" (")[0])

    def set_icon(self, name: str, checked_name: str | None = None) -> None:
        """Draw another icon."""
        self._names = name, checked_name or name
        self._redraw()

    def changeEvent(self, event: QEvent | None) -> None:
        """Draw the icon anew in another theme's colour."""
        if event is not None:
            super().changeEvent(event)
            if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
                self._redraw()

    def _redraw(self) -> None:
        self.setIcon(icon(self._names[self.isChecked()], self.palette().color(QPalette.ColorRole.ButtonText)))

"""Icons drawn with a painter on a grid of 16, so that they take any colour and need no font or file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QBrush, QPainter, QPainterPath, QPen, QPolygonF

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QColor

__all__ = ["NAMES", "draw"]


def draw(painter: QPainter, name: str, color: QColor, size: float) -> None:
    """Draw an icon into the square of ``size`` at the painter's origin.

    Raises
    ------
    KeyError
        If there is none of that name; see `NAMES`.
    """
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / 16, size / 16)
    pen = QPen(color, 1.5)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    _ICONS[name](painter, color)
    painter.restore()


def _line(painter: QPainter, *points: tuple[float, float]) -> None:
    painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in points]))


def _solid(painter: QPainter, color: QColor, *points: tuple[float, float]) -> None:
    painter.setBrush(QBrush(color))
    painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in points]))
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _dot(painter: QPainter, color: QColor, x: float, y: float, radius: float) -> None:
    painter.setBrush(QBrush(color))
    painter.drawEllipse(QPointF(x, y), radius, radius)
    painter.setBrush(Qt.BrushStyle.NoBrush)


def _lid(painter: QPainter) -> None:
    path = QPainterPath(QPointF(1.5, 8))
    path.quadTo(8, 0.5, 14.5, 8)
    path.quadTo(8, 15.5, 1.5, 8)
    painter.drawPath(path)


def _eye(painter: QPainter, color: QColor) -> None:
    _lid(painter)
    _dot(painter, color, 8, 8, 1.6)


def _eye_off(painter: QPainter, color: QColor) -> None:
    painter.setOpacity(painter.opacity() * 0.55)
    _lid(painter)
    _line(painter, (3, 13.5), (13, 2.5))


def _lock(painter: QPainter, color: QColor) -> None:
    painter.drawArc(QRectF(5, 1.5, 6, 8), 0, 180 * 16)
    painter.setBrush(QBrush(color))
    painter.drawRoundedRect(QRectF(3.5, 7, 9, 7), 1, 1)


def _lock_open(painter: QPainter, color: QColor) -> None:
    painter.setOpacity(painter.opacity() * 0.45)
    painter.drawArc(QRectF(7, 1.5, 6, 8), 0, 180 * 16)
    painter.drawRoundedRect(QRectF(3, 7, 9, 7), 1, 1)


_PIN = ((5.5, 2), (10.5, 2), (10, 6), (12.5, 9.5), (3.5, 9.5), (6, 6), (5.5, 2))


def _pin(painter: QPainter, color: QColor) -> None:
    _line(painter, *_PIN)
    _line(painter, (8, 9.5), (8, 14.5))


def _pinned(painter: QPainter, color: QColor) -> None:
    _solid(painter, color, *_PIN)
    _line(painter, (8, 9.5), (8, 14.5))


def _cross(painter: QPainter, color: QColor) -> None:
    _line(painter, (3.5, 3.5), (12.5, 12.5))
    _line(painter, (12.5, 3.5), (3.5, 12.5))


def _back(painter: QPainter, color: QColor) -> None:
    painter.drawArc(QRectF(3.5, 4.5, 9, 9), -120 * 16, 270 * 16)
    _line(painter, (6.8, 1.6), (7.4, 4.6), (4.4, 6.2))


def _add(painter: QPainter, color: QColor) -> None:
    _line(painter, (8, 3), (8, 13))
    _line(painter, (3, 8), (13, 8))


def _check(painter: QPainter, color: QColor) -> None:
    _line(painter, (2.5, 8.5), (6.5, 12.5), (13.5, 4))


def _next(painter: QPainter, color: QColor) -> None:
    _line(painter, (3, 8), (12, 8))
    _line(painter, (8.5, 4), (12.8, 8), (8.5, 12))


def _skip(painter: QPainter, color: QColor) -> None:
    _line(painter, (3, 4), (7, 8), (3, 12))
    _line(painter, (8, 4), (12, 8), (8, 12))


def _merge(painter: QPainter, color: QColor) -> None:
    _line(painter, (3, 2.5), (3, 5), (8, 9.5), (8, 13.5))
    _line(painter, (13, 2.5), (13, 5), (8, 9.5))


def _split(painter: QPainter, color: QColor) -> None:
    _line(painter, (8, 2.5), (8, 6.5), (3, 11), (3, 13.5))
    _line(painter, (8, 6.5), (13, 11), (13, 13.5))


def _delete(painter: QPainter, color: QColor) -> None:
    _line(painter, (2.5, 4), (13.5, 4))
    _line(painter, (6, 4), (6.3, 2), (9.7, 2), (10, 4))
    _line(painter, (4, 4), (4.7, 14), (11.3, 14), (12, 4))
    _line(painter, (8, 6.8), (8, 11.2))


def _pick(painter: QPainter, color: QColor) -> None:
    painter.drawEllipse(QPointF(8, 8), 4.2, 4.2)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        _line(painter, (8 + 4.2 * x, 8 + 4.2 * y), (8 + 6.8 * x, 8 + 6.8 * y))
    _dot(painter, color, 8, 8, 0.4)


def _more(painter: QPainter, color: QColor) -> None:
    for x in (3, 8, 13):
        _dot(painter, color, x, 8, 0.7)


def _download(painter: QPainter, color: QColor) -> None:
    _line(painter, (8, 2), (8, 10))
    _line(painter, (4.5, 6.8), (8, 10.3), (11.5, 6.8))
    _line(painter, (2.5, 13.5), (13.5, 13.5))


def _right(painter: QPainter, color: QColor) -> None:
    _line(painter, (6, 4), (10, 8), (6, 12))


def _down(painter: QPainter, color: QColor) -> None:
    _line(painter, (4, 6), (8, 10), (12, 6))


def _triangle(painter: QPainter, color: QColor) -> None:
    _solid(painter, color, (2.5, 4), (13.5, 4), (8, 13))


def _diamond(painter: QPainter, color: QColor) -> None:
    _solid(painter, color, (8, 1.5), (14.5, 8), (8, 14.5), (1.5, 8))


def _ring(painter: QPainter, color: QColor) -> None:
    painter.drawEllipse(QPointF(8, 8), 4.6, 4.6)


def _square(painter: QPainter, color: QColor) -> None:
    painter.drawRect(QRectF(3, 3, 10, 10))


_ICONS: dict[str, Callable[[QPainter, QColor], None]] = {
    "add": _add,
    "back": _back,
    "check": _check,
    "cross": _cross,
    "delete": _delete,
    "diamond": _diamond,
    "down": _down,
    "download": _download,
    "eye": _eye,
    "eye-off": _eye_off,
    "lock": _lock,
    "lock-open": _lock_open,
    "merge": _merge,
    "more": _more,
    "next": _next,
    "pick": _pick,
    "pin": _pin,
    "pinned": _pinned,
    "right": _right,
    "ring": _ring,
    "skip": _skip,
    "split": _split,
    "square": _square,
    "triangle": _triangle,
}
NAMES = tuple(_ICONS)
"""All icons."""

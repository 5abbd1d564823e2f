"""Views as napari dresses them, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt import get_stylesheet
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QWheelEvent
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


def dress(qtbot: QtBot, view: QWidget, theme: str, width: int, height: int) -> QWidget:
    """Show a view in a window of this size with one of napari's style sheets."""
    window = QWidget()
    window.setStyleSheet(get_stylesheet(theme))
    layout = QVBoxLayout(window)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(view)
    window.resize(width, height)
    # qtbot only has a weak reference; what it calls at the end keeps the window until then.
    qtbot.addWidget(window, before_close_func=lambda _: window.setParent(None))
    with qtbot.waitExposed(window):
        window.show()
    return window


def pixels(view: QWidget) -> np.ndarray:
    """What a view looks like: ``(H, W, 3)`` uint8."""
    image = view.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    h, w, stride = image.height(), image.width(), image.bytesPerLine()
    data: Any = image.constBits()
    raw = np.frombuffer(data.asarray(h * stride) if hasattr(data, "asarray") else data, np.uint8)
    return raw[: h * stride].reshape(h, stride)[:, : w * 3].reshape(h, w, 3).copy()


def turn(
    widget: QWidget, at: QPoint, steps: int, modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    """Turn the wheel over a place of a widget; up is positive."""
    event = QWheelEvent(
        QPointF(at), QPointF(widget.mapToGlobal(at)), QPoint(), QPoint(0, 120 * steps), Qt.MouseButton.NoButton,
        modifiers, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)

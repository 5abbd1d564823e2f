from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("napari")
from napari.qt import get_stylesheet
from qtpy.QtGui import QColor, QImage, QTextDocument
from qtpy.QtWidgets import QHBoxLayout, QLabel, QScrollArea, QWidget
from tests.widgets.looks import dress, pixels

from napari_medsam2.widgets.help import HelpPanel
from napari_medsam2.widgets.icons import NAMES
from napari_medsam2.widgets.review_strip import ReviewStrip
from napari_medsam2.widgets.rows import StripAxis, StripRow
from napari_medsam2.widgets.sections.next_step import Sentence
from napari_medsam2.widgets.sections.parts import action_button
from napari_medsam2.widgets.theme import IconButton, icon, ramp, shades

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

# Viénot, Brettel and Mollon 1999: what a person without one kind of cone sees, of linear RGB.
_BLIND = {
    "protan": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deutan": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


def _linear(dark: bool) -> np.ndarray:
    """The ramp as linear RGB, ``(256, 3)``."""
    colors = ramp(dark)
    rgb = np.stack([(colors >> np.uint32(shift)) & np.uint32(255) for shift in (16, 8, 0)], 1) / 255
    return np.asarray(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4))


def _lightness(linear: np.ndarray) -> np.ndarray:
    """CIE L*."""
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.asarray(116 * np.cbrt(luminance) - 16)


@pytest.mark.parametrize("dark", [True, False])
def test_confidence_is_read_from_lightness_alone(dark: bool) -> None:
    lightness = _lightness(_linear(dark))
    steps = np.diff(lightness[::15])  # 8 bits a colour are too coarse for single steps
    assert (steps < -0.5).all() if dark else (steps > 0.5).all()
    assert abs(lightness[-1] - lightness[0]) > 35


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_the_colour_blind_tell_doubt_from_certainty(dark: bool, kind: str) -> None:
    seen = _linear(dark) @ _BLIND[kind].T
    low, middle, high = seen[[25, 128, 242]]
    for a, b in ((low, middle), (middle, high), (low, high)):
        assert np.abs(np.cbrt(a.clip(0)) - np.cbrt(b.clip(0))).max() > 0.12
    # Doubt is yellow, certainty blue: a hue that both see.
    assert low[:2].mean() > low[2]
    assert high[2] > high[:2].mean()


@pytest.mark.parametrize("name", NAMES)
def test_every_icon_draws_something_of_its_own(qtbot: QtBot, name: str) -> None:
    def mask(which: str) -> np.ndarray:
        image = icon(which, QColor("#ff0000")).pixmap(16, 16).toImage().convertToFormat(QImage.Format.Format_ARGB32)
        pixels = [[image.pixelColor(x, y).alpha() for x in range(16)] for y in range(16)]
        return np.array(pixels)

    drawn = mask(name) > 60
    assert 6 < drawn.sum() < 180
    assert not any(np.array_equal(drawn, mask(other) > 60) for other in NAMES if other != name)


def test_views_follow_a_change_of_the_theme(qtbot: QtBot) -> None:
    strip, button = ReviewStrip(), IconButton("check", "Accept")
    window = dress(qtbot, strip, "dark", 400, 80)
    button.setParent(window)
    button.show()
    strip.show_rows([StripRow(1, "a", "#00ff00", np.ones(3, np.float32), np.zeros(3, np.uint8))], StripAxis(3))

    def looks() -> tuple[bool, float, float]:
        image = button.icon().pixmap(16, 16).toImage()
        drawn = [image.pixelColor(x, y) for x in range(16) for y in range(16)]
        ink = [color.lightnessF() for color in drawn if color.alpha()]
        return shades(strip).dark, float(pixels(strip.viewport())[-2, -2].mean()), float(np.mean(ink))

    dark, back, ink = looks()
    assert dark
    assert back < 80
    assert ink > 0.7
    window.setStyleSheet(get_stylesheet("light"))
    qtbot.wait(5)
    dark, back, ink = looks()
    assert not dark
    assert back > 200
    assert ink < 0.3


def _in_font(window: QWidget, size: int) -> None:
    # As napari sets it.
    window.setStyleSheet(get_stylesheet("dark") + f"QWidget {{ font-size: {size}pt; }}")


def test_buttons_have_room_for_their_words_in_any_font(qtbot: QtBot) -> None:
    holder = QWidget()
    line = QHBoxLayout(holder)
    buttons = [action_button(name, lambda: None) for name in ("polarity", "scribble", "repropagate")]
    for button in buttons:
        line.addWidget(button)
    window = dress(qtbot, holder, "dark", 10, 40)
    for size in (9, 14, 18, 9):
        _in_font(window, size)
        qtbot.wait(5)
        window.resize(10, 40)
        assert window.width() < 60 * size, "nor much more"
        for button in buttons:
            assert button.width() >= button.fontMetrics().horizontalAdvance(button.text()) + 4


def test_the_next_step_is_read_to_its_end_in_any_font(qtbot: QtBot) -> None:
    text = "Wrong? Ctrl-click what does not belong. Right? G carries it through the stack, N: next object."
    sentence = Sentence()
    window = dress(qtbot, sentence, "dark", 360, 200)
    written = QTextDocument()
    written.setDocumentMargin(0)
    heights = {}
    for size in (9, 14, 18):
        _in_font(window, size)
        for shown in (text, "Press W."):
            sentence.setText(f"<b>Next:</b> {shown}")
            qtbot.wait(5)
            heights[size, shown] = sentence.height()
        written.setDefaultFont(sentence.font())
        written.setHtml(f"<b>Next:</b> {text}")
        written.setTextWidth(sentence.width())
        assert heights[size, text] >= written.size().height()
    assert heights[9, text] == heights[9, "Press W."], "what is below it stays where it is"
    assert heights[18, text] > heights[18, "Press W."]


def test_the_shortcuts_fit_on_the_screen_in_any_font(qtbot: QtBot) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    window.setGeometry(700, 300, 600, 400)
    window.show()
    panel = HelpPanel(window)
    for size in (9, 14, 18, 24, 9):
        _in_font(window, size)
        panel.show()
        qtbot.wait(20)
        room = panel.screen().availableSize()
        assert panel.width() <= room.width()
        assert panel.height() <= room.height()
        assert panel.screen().availableGeometry().contains(panel.frameGeometry())
        area = panel.findChild(QScrollArea)
        assert area is not None
        for label in panel.findChildren(QLabel):
            assert label.mapTo(area, label.rect().topRight()).x() <= area.viewport().width(), "no line is cut"
            assert label.height() >= label.heightForWidth(label.width())
        panel.hide()

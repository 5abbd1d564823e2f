from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("napari")
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QLabel, QSpinBox
from tests.widgets.looks import dress, pixels

from napari_medsam2.memory import BankConfig
from napari_medsam2.widgets.bank_view import BankView
from napari_medsam2.widgets.rows import BankCard

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QWidget

_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
_CARDS = (
    BankCard(3, "slice 3", "prompted", 0.95, 1.0),
    BankCard(9, "slice 9", "admitted", 0.7, 0.5, pinned=True),
    BankCard(11, "slice 11", "dropped", None, None, dropped=True),
)


def _view(qtbot: QtBot, cards: tuple[BankCard, ...] = _CARDS, config: BankConfig | None = None) -> BankView:
    view = BankView()
    dress(qtbot, view, "dark", 300, 420)
    view.show_rows(cards, config or BankConfig(), "cell 1, slice 12")
    qtbot.wait(1)
    return view


def _heard(view: BankView) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for name in ("jumped", "pinned", "dropped", "config_changed", "wanted", "unwanted"):
        getattr(view, name).connect(lambda *values, name=name: out.append((name, *values)))
    return out


def _buttons(card: QWidget) -> list[QWidget]:
    from napari_medsam2.widgets.theme import IconButton

    return list(card.findChildren(IconButton))


def test_a_click_on_a_card_goes_there(qtbot: QtBot) -> None:
    view = _view(qtbot)
    heard = _heard(view)
    for card in view.cards:
        QTest.mouseClick(card, _LEFT, _NONE, QPoint(60, 20))
    assert heard == [("jumped", 3), ("jumped", 9), ("jumped", 11)]


def test_pins_and_drops_are_asked_for_and_taken_back(qtbot: QtBot) -> None:
    view = _view(qtbot)
    heard = _heard(view)
    for card in view.cards:
        for button in _buttons(card):
            QTest.mouseClick(button, _LEFT)
    assert heard == [
        ("pinned", 3, True), ("dropped", 3, True), ("pinned", 9, False), ("dropped", 9, True), ("pinned", 11, True),
        ("dropped", 11, False),
    ]  # fmt: skip
    # A button shows what is so, not what was asked for.
    assert [button.isChecked() for button in _buttons(view.cards[0])] == [False, False]  # type: ignore[attr-defined]


def test_cards_are_used_with_the_keyboard(qtbot: QtBot) -> None:
    view = _view(qtbot)
    heard = _heard(view)
    view.activateWindow()
    view.cards[0].setFocus()
    QTest.keyClick(view.cards[0], Qt.Key.Key_Return)
    QTest.keyClick(view.cards[0], Qt.Key.Key_P)
    QTest.keyClick(view.cards[0], Qt.Key.Key_Delete)
    assert heard == [("jumped", 3), ("pinned", 3, True), ("dropped", 3, True)]


def test_pictures_are_asked_for_once_and_again_when_they_are_stale(qtbot: QtBot) -> None:
    view = BankView()
    dress(qtbot, view, "light", 300, 420)
    heard = _heard(view)
    view.show_rows(_CARDS, BankConfig())
    view.show_rows(_CARDS[:2], BankConfig())
    assert heard == [("wanted", 3), ("wanted", 9), ("wanted", 11), ("unwanted", 11)]
    red = np.zeros((20, 48, 3), np.uint8)
    red[..., 0] = 255
    view.set_thumbnail(9, red)
    qtbot.wait(1)
    assert tuple(pixels(view.cards[1])[27, 27]) == (255, 0, 0)
    heard.clear()
    view.forget_thumbnails([9])
    assert heard == [("wanted", 9)]
    view.forget_thumbnails()
    assert sorted(heard[1:]) == [("unwanted", 3), ("unwanted", 9), ("wanted", 3), ("wanted", 9)]


def test_the_summary_says_who_read_what(qtbot: QtBot) -> None:
    view = _view(qtbot)
    label = view.findChild(QLabel)
    assert label is not None
    assert label.text() == "cell 1, slice 12 read 2 memories"
    view.show_rows((), BankConfig())
    assert "No memories" in label.text()
    assert view.cards == ()


def _settings(view: BankView) -> tuple[QComboBox, QSpinBox, QDoubleSpinBox, QDoubleSpinBox]:
    view.set_advanced(True)
    policy, size = view.findChild(QComboBox), view.findChild(QSpinBox)
    threshold, trust = view.findChildren(QDoubleSpinBox)
    assert policy is not None
    assert size is not None
    return policy, size, threshold, trust


def test_settings_are_shown_and_changed(qtbot: QtBot) -> None:
    view = _view(qtbot, config=BankConfig(size=5, draws=True))
    policy, size, threshold, trust = _settings(view)
    heard = _heard(view)
    assert (size.value(), threshold.value(), trust.value()) == (5, 0.6, 1.0)
    QTest.keyClick(size, Qt.Key.Key_Up)
    assert heard.pop() == ("config_changed", BankConfig(size=6, draws=True))
    QTest.keyClick(threshold, Qt.Key.Key_Down)
    assert heard.pop() == ("config_changed", BankConfig(size=6, threshold=0.55, draws=True))
    QTest.keyClick(policy, Qt.Key.Key_End)
    (_, config) = heard.pop()
    assert config == BankConfig("fifo", threshold=0.55, draws=True)
    assert size.value() == config.capacity == 6
    assert not threshold.isEnabled()
    assert not trust.isEnabled()
    view.show_rows(_CARDS, BankConfig("released"))
    assert (policy.currentData(), size.value()) == ("released", 16)
    assert heard == []


def test_what_nobody_chose_is_shown_as_it_holds_and_stays_unchosen(qtbot: QtBot) -> None:
    view = _view(qtbot)
    view.show_rows(_CARDS, BankConfig(), "cells", BankConfig(threshold=0.3, trust=0.003))
    _, size, threshold, trust = _settings(view)
    heard = _heard(view)
    assert (threshold.value(), trust.value()) == (0.3, 0.01)
    QTest.keyClick(size, Qt.Key.Key_Up)
    assert heard.pop() == ("config_changed", BankConfig(size=9))
    assert (threshold.value(), trust.value()) == (0.3, 0.01)
    QTest.keyClick(trust, Qt.Key.Key_Up)
    assert heard.pop() == ("config_changed", BankConfig(size=9, trust=0.06))
    assert (threshold.value(), trust.value()) == (0.3, 0.06)
    assert heard == []


@pytest.mark.parametrize("count", [0, 1, 24, 60])
def test_cards_come_and_go(qtbot: QtBot, count: int) -> None:
    view = _view(qtbot)
    for number in (count, 2, count):
        cards = tuple(BankCard(i, f"slice {i}", "admitted", 0.5, 1.0) for i in range(number))
        view.show_rows(cards, BankConfig())
        qtbot.wait(1)
        assert len(view.cards) == number
        tops = [card.y() for card in view.cards]
        assert tops == sorted(set(tops))

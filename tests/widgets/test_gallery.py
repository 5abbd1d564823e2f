from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("napari")
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.widgets.looks import dress, pixels

from napari_medsam2.widgets.gallery import Gallery
from napari_medsam2.widgets.rows import Tile

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


def _tiles(count: int) -> list[Tile]:
    states = ("empty", "prompted", "corrected", "accepted", "rejected", "skipped", "propagated")
    confidences = (None, 0.9, 0.8, 0.7, None, 0.5, 0.4)
    return [Tile(i, f"a long name of a picture {i}.png", confidences[i % 7], states[i % 7], 1) for i in range(count)]


def _gallery(qtbot: QtBot, count: int, width: int = 320, height: int = 420) -> tuple[Gallery, list[int]]:
    gallery = Gallery(side=96)
    wanted: list[int] = []
    gallery.wanted.connect(wanted.append)
    dress(qtbot, gallery, "dark", width, height)
    gallery.show_rows(_tiles(count))
    qtbot.waitUntil(lambda: bool(wanted) or not count)
    return gallery, wanted


def test_a_click_the_arrows_and_enter_go_there(qtbot: QtBot) -> None:
    gallery, _ = _gallery(qtbot, 51)
    jumped: list[int] = []
    gallery.jumped.connect(jumped.append)
    QTest.mouseClick(gallery.viewport(), _LEFT, _NONE, gallery.place(3))
    assert jumped == [3]
    QTest.keyClick(gallery, Qt.Key.Key_Right)
    assert jumped == [3, 4]
    QTest.keyClick(gallery, Qt.Key.Key_Down)
    across = [gallery.place(i).y() for i in range(12)].count(gallery.place(0).y())
    assert jumped == [3, 4, 4 + across]
    QTest.keyClick(gallery, Qt.Key.Key_End)
    QTest.keyClick(gallery, Qt.Key.Key_Right)
    assert jumped == [3, 4, 4 + across, 50], "there is nothing behind the last"
    QTest.keyClick(gallery, Qt.Key.Key_Home)
    gallery.set_current(7)
    QTest.keyClick(gallery, Qt.Key.Key_Return)
    assert jumped[-2:] == [0, 7]


def test_what_is_typed_picks_out_no_picture(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, _ = _gallery(qtbot, 12)
    gallery.set_current(3)
    jumped: list[int] = []
    gallery.jumped.connect(jumped.append)
    handed_on: list[str] = []
    monkeypatch.setattr(gallery.window(), "keyPressEvent", lambda event: handed_on.append(event.text()))
    QTest.keyClicks(gallery, "a5 ")
    gallery.keyboardSearch("a")
    assert gallery.currentIndex().row() == 3
    assert handed_on == ["a", "5", " "]
    assert not jumped


def test_only_what_is_seen_is_asked_for_and_only_once(qtbot: QtBot) -> None:
    gallery, wanted = _gallery(qtbot, 2000)
    assert 0 < len(wanted) < 20
    before = list(wanted)
    gallery.viewport().repaint()
    assert wanted == before
    for index in before:
        gallery.set_thumbnail(index, np.zeros((40, 96, 3), np.uint8))
    gallery.set_current(1500)
    qtbot.waitUntil(lambda: 1500 in wanted)
    assert len(wanted) < 50
    wanted.clear()
    gallery.forget_thumbnails([1500])
    qtbot.waitUntil(lambda: 1500 in wanted)
    assert wanted == [1500]


def test_what_is_out_of_sight_or_stale_is_no_longer_wanted(qtbot: QtBot) -> None:
    gallery, wanted = _gallery(qtbot, 2000)
    unwanted: list[int] = []
    gallery.unwanted.connect(unwanted.append)
    first = list(wanted)
    gallery.set_thumbnail(0, np.zeros((8, 8, 3), np.uint8))
    gallery.set_current(1500)
    qtbot.waitUntil(lambda: 1500 in wanted)
    gallery.viewport().repaint()
    assert sorted(unwanted) == first[1:], "the first is there"
    unwanted.clear()
    gallery.forget_thumbnails([0, 1500])
    assert unwanted == [1500]
    seen = set(wanted[len(first) :]) - {1500}
    gallery.hide()
    assert seen <= set(unwanted)


def test_pictures_are_shown_in_their_proportions(qtbot: QtBot) -> None:
    gallery, wanted = _gallery(qtbot, 4)
    wide, tall = np.zeros((24, 96, 3), np.uint8), np.zeros((96, 24, 3), np.uint8)
    wide[..., 0] = tall[..., 0] = 255
    gallery.set_thumbnail(0, wide)
    gallery.set_thumbnail(1, tall)
    qtbot.wait(1)
    red = (pixels(gallery.viewport()) == (255, 0, 0)).all(-1)
    middle = (gallery.place(0).x() + gallery.place(1).x()) // 2
    sizes = [(int(part.any(1).sum()), int(part.any(0).sum())) for part in (red[:, :middle], red[:, middle:])]
    assert sizes == [(24, 96), (96, 24)]
    assert set(wanted) == {0, 1, 2, 3}


def test_the_order_is_the_one_given(qtbot: QtBot) -> None:
    gallery, _ = _gallery(qtbot, 5)
    gallery.show_rows(list(reversed(_tiles(5))), 2)
    assert gallery.order == (4, 3, 2, 1, 0)
    assert gallery.place(4).x() < gallery.place(3).x()
    assert gallery.currentIndex().row() == 2
    jumped: list[int] = []
    gallery.jumped.connect(jumped.append)
    gallery.show_rows([])
    assert list(gallery.order) == []
    gallery.set_current(3)
    assert jumped == []


@pytest.mark.parametrize(("width", "columns"), [(240, 2), (320, 2), (345, 3), (900, 8)])
def test_the_width_is_used(qtbot: QtBot, width: int, columns: int) -> None:
    gallery, _ = _gallery(qtbot, 60, width)
    tops = [gallery.place(i).y() for i in range(12)]
    assert tops.count(tops[0]) == columns
    assert gallery.horizontalScrollBar().maximum() == 0


def test_pictures_do_not_pile_up(qtbot: QtBot) -> None:
    gallery, wanted = _gallery(qtbot, 2000)
    for index in range(2000):
        gallery.set_thumbnail(index, np.zeros((8, 8, 3), np.uint8))
    wanted.clear()
    kept = [index for index in range(2000) if gallery.picture(index) is not None]
    assert len(kept) <= 600
    assert kept[0] == 0  # what is seen stays
    assert len(wanted) == 2000 - len(kept)


def test_two_thousand_tiles_are_shown_at_once(qtbot: QtBot) -> None:
    gallery, _ = _gallery(qtbot, 2000)
    tiles = _tiles(2000)
    tiles[700] = Tile(700, "x", 0.1, "rejected")
    start = time.process_time()
    gallery.show_rows(tiles)
    gallery.viewport().repaint()
    assert time.process_time() - start < 0.2

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("napari")
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtTest import QTest
from tests.widgets.looks import dress, pixels, turn

from napari_medsam2.widgets.review_bar import Legend, ReviewBar
from napari_medsam2.widgets.review_strip import ReviewStrip
from napari_medsam2.widgets.rows import Mark, StripAxis, StripRow
from napari_medsam2.widgets.theme import ramp_color, shades

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


def _rows(objects: int, slices: int) -> list[StripRow]:
    rng = np.random.default_rng(0)
    rows = []
    for label in range(1, objects + 1):
        confidence = rng.uniform(0.6, 1, slices).astype(np.float32)
        rows.append(StripRow(label, f"object {label}", "#ff8800", confidence, np.zeros(slices, np.uint8)))
    return rows


def _strip(qtbot: QtBot, objects: int, slices: int, theme: str = "dark") -> ReviewStrip:
    strip = ReviewStrip()
    dress(qtbot, strip, theme, 1366, 110)
    strip.show_rows(_rows(objects, slices), StripAxis(slices))
    return strip


def _click(strip: ReviewStrip, at: QPoint) -> None:
    QTest.mouseClick(strip.viewport(), _LEFT, _NONE, at)


def _jumps(strip: ReviewStrip) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []

    def jumped(label: int, index: int) -> None:
        out.append((label, index))
        strip.set_current(label, index)

    strip.jumped.connect(jumped)
    return out


@pytest.mark.parametrize(("objects", "slices"), [(1, 1), (3, 3), (3, 51), (3, 200), (3, 1000)])
def test_a_click_goes_to_the_slice_under_the_pointer(qtbot: QtBot, objects: int, slices: int) -> None:
    strip = _strip(qtbot, objects, slices)
    jumps = _jumps(strip)
    expected = [(label, index) for label in (1, objects) for index in (0, slices // 2, slices - 1)]
    expected = list(dict.fromkeys(expected))
    for place in expected:
        _click(strip, strip.place(*place))
    assert jumps == expected


def test_a_pixel_of_many_slices_goes_to_the_least_confident(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 1, 20000)
    rows = _rows(1, 20000)
    rows[0].confidence[12345] = 0.1
    strip.show_rows(rows, StripAxis(20000))
    jumps = _jumps(strip)
    _click(strip, strip.place(1, 12345))
    assert jumps == [(1, 12345)]


def test_a_drag_scrubs_through_one_object(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 3, 51)
    jumps = _jumps(strip)
    view = strip.viewport()
    QTest.mousePress(view, _LEFT, _NONE, strip.place(2, 10))
    for index in (11, 12, 14):
        at = strip.place(2, index)
        QTest.mouseMove(view, QPoint(at.x(), at.y() + 25))  # the pointer may leave the row
        qtbot.wait(1)
    QTest.mouseRelease(view, _LEFT, _NONE, strip.place(2, 14))
    assert jumps == [(2, 10), (2, 11), (2, 12), (2, 14)]


def test_arrows_go_to_neighbours_and_stop_at_the_ends(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 3, 5)
    jumps = _jumps(strip)
    strip.set_current(1, 0)
    for key in ("Right", "Down", "End", "Right", "Up", "Up", "Home", "Left"):
        QTest.keyClick(strip, getattr(Qt.Key, f"Key_{key}"))
    assert jumps == [(1, 1), (2, 1), (2, 4), (2, 4), (1, 4), (1, 4), (1, 0), (1, 0)]


def test_the_wheel_zooms_about_the_pointer(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 3, 2000)
    jumps = _jumps(strip)
    for _ in range(40):
        at = strip.place(2, 1234)
        turn(strip.viewport(), at, 1)
    assert strip.zoom.span < 20
    _click(strip, strip.place(2, 1234))
    assert jumps == [(2, 1234)]
    turn(strip.viewport(), strip.place(2, 1234), -1, Qt.KeyboardModifier.ShiftModifier)
    assert strip.zoom.first > 1234 - 20
    QTest.keyClick(strip, Qt.Key.Key_0)
    assert strip.zoom.full


def test_a_drag_on_the_ruler_zooms_into_a_range_and_a_double_click_back(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 3, 1000)
    view = strip.viewport()
    start, end = QPoint(strip.place(1, 100).x(), 6), QPoint(strip.place(1, 300).x(), 6)
    QTest.mousePress(view, _LEFT, _NONE, start)
    QTest.mouseMove(view, end)
    qtbot.wait(1)
    QTest.mouseRelease(view, _LEFT, _NONE, end)
    assert strip.zoom.first == pytest.approx(100, abs=2)
    assert strip.zoom.span == pytest.approx(201, abs=3)
    QTest.mouseDClick(view, _LEFT, _NONE, start)
    assert strip.zoom.full


def test_the_current_slice_and_object_come_into_view(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 60, 2000)
    turn(strip.viewport(), strip.place(1, 50), 20)
    assert strip.zoom.first < 100
    strip.set_current(55, 1700)
    at = strip.place(55, 1700)
    assert strip.viewport().rect().contains(at)
    assert strip.at(at) == (55, 1700)
    strip.set_current(2, 3)
    assert strip.viewport().rect().contains(strip.place(2, 3))


def test_an_object_that_gets_its_row_after_it_was_chosen_comes_into_view(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 3, 31)
    strip.set_current(9, 15)
    strip.show_rows(_rows(9, 31), StripAxis(31))
    whole = QRect(0, strip.place(9, 15).y() - 5, 1, 10)
    assert strip.viewport().rect().contains(whole)
    strip.set_current(5, 15)
    strip.resize(strip.width(), strip.height() - 30)
    assert strip.viewport().rect().contains(strip.place(5, 15))


def test_the_wheel_over_names_scrolls(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 60, 20)
    before = strip.place(20, 3).y()
    turn(strip.viewport(), QPoint(10, 60), -3)
    assert strip.place(20, 3).y() < before
    assert strip.zoom.full


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_bars_have_the_colour_of_their_confidence(qtbot: QtBot, theme: str) -> None:
    strip = _strip(qtbot, 2, 51, theme)
    rows = _rows(2, 51)
    rows[0].confidence[[5, 20, 30]] = (0.1, 0.99, np.nan)
    rows[1].marks[7] = Mark.ABSENT
    strip.show_rows(rows, StripAxis(51))
    picture = pixels(strip.viewport())

    def color(label: int, index: int, below: int = 0) -> tuple[int, ...]:
        at = strip.place(label, index)
        return tuple(int(v) for v in picture[at.y() + below, at.x()])

    dark = theme == "dark"
    for index, confidence in ((5, 0.1), (20, 0.99)):
        expected = ramp_color(confidence, dark)
        assert color(1, index) == (expected.red(), expected.green(), expected.blue())
    empty = shades(strip).empty
    assert color(1, 30) == (empty.red(), empty.green(), empty.blue())
    assert color(2, 7) == color(1, 30)  # what is not there has a low bar
    # What is doubtful stands out from the background more than what is sure.
    back = picture[-1, -1].astype(int)
    assert np.abs(np.array(color(1, 5)) - back).sum() > np.abs(np.array(color(1, 20)) - back).sum()


def test_marks_and_the_bank_can_be_seen(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 2, 51)
    plain = pixels(strip.viewport()).astype(int)

    def change(index: int) -> int:
        now = pixels(strip.viewport()).astype(int)
        half = 12
        x = strip.place(1, index).x()
        return int((now != plain)[:, x - half : x + half].any(-1).sum())

    rows = _rows(2, 51)
    for index, mark in (
        (5, Mark.PROMPTED),
        (10, Mark.CORRECTED),
        (15, Mark.ACCEPTED),
        (20, Mark.REJECTED),
        (25, Mark.SKIPPED),
    ):
        rows[0].marks[index] = mark
    strip.show_rows(rows, StripAxis(51))
    strip.set_bank({1: [40]})
    for index in (5, 10, 15, 20, 25, 40):
        assert change(index) > 8, index
    assert change(30) == 0


def test_tooltips_say_what_is_there(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 2, 30)
    rows = _rows(2, 30)
    rows[0].confidence[4], rows[0].marks[4] = 0.25, Mark.PROMPTED | Mark.ACCEPTED
    rows[1].confidence[6] = np.nan
    strip.show_rows(rows, StripAxis(30, titles=tuple(f"<{i}>.png" for i in range(30))))
    strip.set_bank({1: [4]})
    text = strip.describe(strip.place(1, 4))
    for part in ("object 1", "&lt;4&gt;.png", "confidence 0.25", "prompted, accepted", "memory bank"):
        assert part in text
    assert "no mask yet" in strip.describe(strip.place(2, 6))
    assert "Drag" in strip.describe(QPoint(600, 4))
    assert strip.describe(QPoint(600, 108)) == ""
    strip.show_rows([replace(rows[0], name="R&D"), rows[1]], StripAxis(30))
    assert strip.describe(QPoint(2, strip.place(1, 4).y())) == "R&D"


def test_painting_is_fast(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 50, 200)
    strip.resize(1366, 900)
    rows = _rows(50, 200)
    for row in rows:
        row.marks[::10] = Mark.ACCEPTED
        row.marks[5] = Mark.PROMPTED
    seconds = []
    for index in range(10):
        strip.show_rows(rows, StripAxis(200))
        strip.set_current(index + 1, index)
        start = time.process_time()
        strip.viewport().repaint()
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.03


def test_no_objects_no_slices_and_other_ones_later(qtbot: QtBot) -> None:
    strip = _strip(qtbot, 3, 40)
    jumps = _jumps(strip)
    strip.set_current(3, 39)
    strip.show_rows([], StripAxis(40))
    _click(strip, QPoint(300, 50))
    QTest.keyClick(strip, Qt.Key.Key_Right)
    turn(strip.viewport(), QPoint(300, 50), 3)
    pixels(strip)
    strip.show_rows(_rows(1, 2), StripAxis(2))
    pixels(strip)
    assert jumps == []
    _click(strip, strip.place(1, 1))
    assert jumps == [(1, 1)]


def test_the_bar_says_what_is_left_and_offers_what_can_be_done(qtbot: QtBot) -> None:
    bar = ReviewBar()
    dress(qtbot, bar, "dark", 1200, 30)
    asked: list[str] = []
    for name in ("next_worst", "accepted", "rejected", "skipped", "back"):
        getattr(bar, name).connect(lambda name=name: asked.append(name))
    buttons = [button for name, button in bar.buttons.items() if name != "back"]
    assert not any(button.isEnabled() for button in buttons)
    bar.show_state(3, 10, 0.42, has_mask=True)
    assert "3 of 10" in bar.status
    assert "0.42" in bar.status
    for button in buttons:
        QTest.mouseClick(button, _LEFT)
    QTest.mouseClick(bar.buttons["back"], _LEFT)
    assert asked == ["next_worst", "accepted", "rejected", "skipped"]
    bar.show_state(0, 10, has_mask=True)
    assert not bar.buttons["next"].isEnabled()
    assert "All 10" in bar.status
    bar.show_state(1, 10, was_rejected=True)
    assert [name for name, button in bar.buttons.items() if button.isEnabled()] == ["next", "accept"]
    bar.set_tip("next", "Next worst (W)")
    assert bar.buttons["next"].toolTip() == "Next worst (W)"
    assert bar.buttons["next"].accessibleName() == "Next worst"


@pytest.mark.parametrize("height", [60, 110])
def test_marks_are_icons_in_low_rows_too(qtbot: QtBot, height: int) -> None:
    strip = ReviewStrip()
    dress(qtbot, strip, "dark", 1000, height)
    rows = _rows(8, 30)
    strip.show_rows(rows, StripAxis(30))
    plain = pixels(strip.viewport()).astype(int)
    rows[1].marks[12] = Mark.PROMPTED
    strip.show_rows(rows, StripAxis(30))
    at = strip.place(2, 12)
    changed = (pixels(strip.viewport()).astype(int) != plain).any(-1)
    assert changed.sum() > 25
    assert changed[at.y() - 9 : at.y() + 10, at.x() - 7 : at.x() + 8].sum() == changed.sum()


@pytest.mark.parametrize(("width", "marks", "ramp"), [(1360, True, True), (1000, False, True), (640, False, False)])
def test_the_key_takes_the_room_that_there_is(qtbot: QtBot, width: int, marks: bool, ramp: bool) -> None:
    bar = ReviewBar()
    window = dress(qtbot, bar, "dark", width, 30)
    bar.show_state(1870, 2000, 0.42, has_mask=True)
    qtbot.wait(1)
    assert window.width() == width  # nothing makes the dock wider
    legend = bar.findChild(Legend)
    assert legend is not None
    assert legend.isVisible() == ramp
    if ramp:
        assert (legend.width() > 300) == marks
        assert legend.x() + legend.width() <= width


def test_random_events_and_rows_do_no_harm(qtbot: QtBot) -> None:
    """Whatever is done, the strip shows part of the slices, names existing bars only, and paints."""
    strip = ReviewStrip()
    dress(qtbot, strip, "dark", 700, 110)
    rng = np.random.default_rng(5)
    objects = slices = 0
    jumps: list[tuple[int, int]] = []
    strip.jumped.connect(lambda label, index: jumps.append((label, index)))
    keys = [
        getattr(Qt.Key, f"Key_{name}") for name in ("Left", "Right", "Up", "Down", "Home", "End", "Plus", "Minus", "0")
    ]
    view = strip.viewport()
    for _ in range(600):
        at = QPoint(int(rng.integers(-5, 720)), int(rng.integers(-5, 120)))
        match int(rng.integers(9)):
            case 0:
                objects, slices = int(rng.integers(0, 40)), int(rng.choice([1, 2, 7, 51, 3000]))
                rows = _rows(objects, slices)
                for row in rows:
                    row.confidence[rng.random(slices) < 0.3] = np.nan
                    row.marks[:] = rng.integers(0, 128, slices)
                groups = tuple(range(10, slices, 10)) if slices == 51 else ()
                titles = tuple(f"t {i // 10}, z {i % 10}" for i in range(slices)) if groups else None
                strip.show_rows(rows, StripAxis(slices, groups, titles))
            case 1 | 2:
                shift = Qt.KeyboardModifier.ShiftModifier if rng.random() < 0.5 else _NONE
                turn(view, at, int(rng.integers(-6, 7)), shift)
            case 3:
                QTest.keyClick(strip, keys[int(rng.integers(len(keys)))])
            case 4:
                strip.set_current(int(rng.integers(0, 45)) or None, int(rng.integers(0, 3100)))
            case 5:
                strip.set_bank({int(rng.integers(1, 40)): rng.integers(0, 3100, 5).tolist()})
            case 6:
                QTest.mousePress(view, _LEFT, _NONE, at)
                QTest.mouseMove(view, QPoint(int(rng.integers(0, 700)), at.y()))
            case 7:
                QTest.mouseRelease(view, _LEFT, _NONE, at)
            case _:
                QTest.mouseDClick(view, _LEFT, _NONE, at)
        strip.describe(at)
        if rng.random() < 0.2:
            view.repaint()
        zoom = strip.zoom
        assert 0 <= zoom.first <= zoom.first + zoom.span <= max(slices, 1)
        assert all(1 <= label <= objects and 0 <= index < slices for label, index in jumps), jumps
        jumps.clear()

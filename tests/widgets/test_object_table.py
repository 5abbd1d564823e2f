from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("napari")
from napari.qt import get_stylesheet
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QMenu
from tests.dummy import DummyBackend
from tests.widgets.looks import dress, pixels

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.widgets.object_model import Column
from napari_medsam2.widgets.object_table import OPERATIONS, SPLITS, ObjectTable
from napari_medsam2.widgets.operations import Operations
from napari_medsam2.widgets.rows import Measure, ObjectRow

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
_CTRL = Qt.KeyboardModifier.ControlModifier
_VOLUME = Measure("Volume", "um", 3, 1.0, False, ())


def _row(label: int, **changes: Any) -> ObjectRow:
    row = ObjectRow(label, f"cell {label}", "#ff8800", False, True, False, 12, 1234.0 * label, _VOLUME)
    return replace(row, **changes)


def _table(qtbot: QtBot, count: int = 3, width: int = 300) -> ObjectTable:
    table = ObjectTable()
    dress(qtbot, table, "dark", width, 300)
    table.show_rows([_row(label) for label in range(1, count + 1)], 1 if count else None)
    return table


def _heard(table: ObjectTable) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for name in (
        "selected", "renamed", "recolored", "visibility", "locked", "added", "picking", "merge", "split", "delete",
        "operation", "jumped",
    ):  # fmt: skip
        getattr(table, name).connect(lambda *values, name=name: out.append((name, *values)))
    return out


def _cell(table: ObjectTable, label: int, column: Column) -> QPoint:
    view = table.view
    return view.visualRect(view.model().index(label - 1, column)).center()


def _click(table: ObjectTable, label: int, column: Column = Column.NAME, keys: Qt.KeyboardModifier = _NONE) -> None:
    QTest.mouseClick(table.view.viewport(), _LEFT, keys, _cell(table, label, column))


def _double_click(table: ObjectTable, label: int, column: Column) -> None:
    _click(table, label, column)
    QTest.mouseDClick(table.view.viewport(), _LEFT, _NONE, _cell(table, label, column))


def _text(table: ObjectTable, label: int, column: Column) -> str:
    return str(table.view.model().index(label - 1, column).data())


def test_a_click_chooses_an_object(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    _click(table, 3)
    assert heard == [("selected", 3)]
    QTest.keyClick(table.view, Qt.Key.Key_Up)
    assert heard[-1] == ("selected", 2)
    assert table.selection == (2,)


def test_showing_rows_says_nothing(qtbot: QtBot) -> None:
    table = _table(qtbot)
    _click(table, 2)
    _click(table, 3, keys=_CTRL)
    heard = _heard(table)
    table.show_rows([_row(label, slices=99) for label in range(1, 4)], 3)
    assert table.selection == (3, 2)  # a selection of several is kept while one works
    assert _text(table, 2, Column.SLICES) == "99"
    table.show_rows([_row(label) for label in range(1, 6)], 5)
    assert list(table.selection) == [5]
    table.show_rows([], None)
    assert list(table.selection) == []
    assert heard == []


def test_eye_and_lock_leave_the_selection_alone(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    _click(table, 3, Column.VISIBLE)
    _click(table, 2, Column.LOCKED)
    table.show_rows([_row(1), _row(2, locked=True), _row(3, visible=False)], 1)
    _click(table, 3, Column.VISIBLE)
    _click(table, 2, Column.LOCKED)
    assert heard == [("visibility", (3,), False), ("locked", 2, True), ("visibility", (3,), True), ("locked", 2, False)]
    assert table.selection == (1,)


def test_names_are_edited_in_place(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    _double_click(table, 1, Column.NAME)
    editor = table.view.findChild(QLineEdit)
    assert editor is not None
    QTest.keyClicks(editor, "left kidney")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: heard == [("renamed", 1, "left kidney")])  # Qt takes it over a little later
    assert _text(table, 1, Column.NAME) == "cell 1"  # until the session says so
    heard.clear()
    for name, key in (("   ", Qt.Key.Key_Return), ("other", Qt.Key.Key_Escape)):
        QTest.keyClick(table.view, Qt.Key.Key_F2)
        line = QApplication.focusWidget() or table.view.findChild(QLineEdit)
        assert isinstance(line, QLineEdit)
        line.setText(name)
        QTest.keyClick(line, key)
        qtbot.wait(5)
    assert [one for one in heard if one[0] == "renamed"] == []


def test_what_is_typed_outlives_the_results_that_come_in(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    table.edit_name(2)
    editor = table.view.findChild(QLineEdit)
    assert editor is not None
    QTest.keyClicks(editor, "liv")
    for slices in range(20, 30):
        table.show_rows([_row(label, slices=slices, size=10.0 * slices) for label in range(1, 4)], 1)
    QTest.keyClicks(editor, "er")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: ("renamed", 2, "liver") in heard)


def test_keys_delete_and_hide(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    _click(table, 1)
    _click(table, 3, keys=_CTRL)
    heard.clear()
    QTest.keyClick(table.view, Qt.Key.Key_Space)
    QTest.keyClick(table.view, Qt.Key.Key_Delete)
    assert heard == [("visibility", (3, 1), False), ("delete", (3, 1))]
    table.show_rows([_row(1, visible=False), _row(2), _row(3)], 3)
    heard.clear()
    QTest.keyClick(table.view, Qt.Key.Key_Space)
    assert heard == [("visibility", (3, 1), True)]


def _actions(menu: QMenu) -> dict[str, Any]:
    out = {}
    for action in menu.actions():
        sub = action.menu()
        if isinstance(sub, QMenu):
            out.update({f"{action.text()}/{text}": one for text, one in _actions(sub).items()})
        elif action.text():
            out[action.text()] = action
    return out


def test_the_menu_offers_what_fits_the_selection(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    one = _actions(table.menu())
    assert not one["Merge"].isEnabled()
    assert not one["Default colour"].isEnabled()
    for text, key in ((f"Split/{text}", key) for key, text in SPLITS.items()):
        one[text].trigger()
        assert heard.pop() == ("split", 1, key)
    for key, text in OPERATIONS.items():
        one[text].trigger()
        assert heard.pop() == ("operation", (1,), key)
    one["Show where it is largest"].trigger()
    assert heard.pop() == ("jumped", 1)
    _click(table, 3, keys=_CTRL)
    several = _actions(table.menu())
    heard.clear()
    several["Merge 2 objects"].trigger()
    several["Delete 2 objects"].trigger()
    assert heard == [("merge", (3, 1)), ("delete", (3, 1))]
    assert not several["Rename"].isEnabled()
    table.show_rows([_row(1, own_color=True, slices=0)], 1)
    _click(table, 1)
    heard.clear()
    bare = _actions(table.menu())
    bare["Default colour"].trigger()
    assert heard == [("recolored", 1, None)]
    assert not bare["Fill holes"].isEnabled()


def test_empty_objects_in_the_selection_are_passed_over(qtbot: QtBot) -> None:
    table = _table(qtbot)
    table.show_rows([_row(1, slices=0), _row(2), _row(3)], 1)
    table.view.selectAll()
    heard = _heard(table)
    mixed = _actions(table.menu())
    for key, text in OPERATIONS.items():
        mixed[text].trigger()
        assert heard.pop() == ("operation", (2, 3), key)
    table.show_rows([_row(label, slices=0) for label in (1, 2, 3)], 1)
    assert not any(_actions(table.menu())[text].isEnabled() for text in OPERATIONS.values())


def test_buttons_are_enabled_where_they_do_something(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    buttons = table.buttons
    assert [buttons[name].isEnabled() for name in ("merge", "delete", "more")] == [False, True, True]
    QTest.mouseClick(buttons["add"], _LEFT)
    QTest.mouseClick(buttons["pick"], _LEFT)
    table.set_picking(False)
    _click(table, 2, keys=_CTRL)
    heard_before = len(heard)
    QTest.mouseClick(buttons["merge"], _LEFT)
    assert heard[:2] == [("added",), ("picking", True)]
    assert heard[heard_before:] == [("merge", (2, 1))]
    table.show_rows([], None)
    assert [buttons[name].isEnabled() for name in ("merge", "delete", "more")] == [False, False, False]


def test_a_double_click_on_the_slices_goes_there(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    _double_click(table, 2, Column.SLICES)
    assert ("jumped", 2) in heard


def _headings(table: ObjectTable) -> list[str]:
    model = table.view.model()
    return [str(model.headerData(column, Qt.Orientation.Horizontal)) for column in (Column.SLICES, Column.SIZE)]


def test_sizes_have_their_unit_in_the_heading(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heading = table.view.model().headerData(Column.SIZE, Qt.Orientation.Horizontal)
    assert heading == "Vol. µm³"
    assert _text(table, 1, Column.SIZE) == "1230"
    pixel = Measure("Area", "pixel", 2, 1.0, True, ())
    table.show_rows([_row(1, size=None, measure=pixel)], 1)
    # A mean that is called a sum would be believed.
    assert _headings(table) == ["Slices", "Mean px"]
    table.show_rows([_row(1, size=5.0, measure=Measure("Area", "um", 2, 1.0, True, (), "image"))], 1)
    assert _headings(table) == ["Images", "Mean µm²"]
    table.show_rows([_row(1, size=None, measure=Measure("Area", "pixel", 2, 1.0, False, ()))], 1)
    assert _headings(table) == ["Slices", "Pixels"]
    assert _text(table, 1, Column.SIZE) == "…"


def test_volumes_of_scans_are_said_in_millilitres_too(qtbot: QtBot) -> None:
    table = _table(qtbot)

    def tip(unit: str, power: int) -> str:
        measure = Measure("Volume" if power == 3 else "Area", unit, power, 1.0, False, ())
        table.show_rows([_row(1, size=152_340.5, measure=measure)], 1)
        model = table.view.model()
        return str(model.data(model.index(0, Column.SIZE), Qt.ItemDataRole.ToolTipRole))

    assert tip("mm", 3) == "Volume: 152,340 mm³ (152.3 ml)"
    assert tip("um", 3) == "Volume: 152,340 µm³"
    assert tip("mm", 2) == "Area: 152,340 mm²"


@pytest.mark.parametrize("width", [230, 280, 340])
def test_names_have_room_in_a_narrow_dock(qtbot: QtBot, width: int) -> None:
    table = _table(qtbot, 60, width)
    view = table.view
    assert view.visualRect(view.model().index(0, Column.NAME)).width() >= 95
    assert view.horizontalHeader().length() <= view.viewport().width()


def test_rows_grow_and_shrink_with_napari_s_font(qtbot: QtBot) -> None:
    table = _table(qtbot, 8)
    view, heights = table.view, []
    for size in (9, 14, 18, 9):
        table.window().setStyleSheet(get_stylesheet("dark") + f"QWidget {{ font-size: {size}pt }}")
        QApplication.processEvents()
        heights.append(view.rowHeight(0))
        assert heights[-1] >= view.fontMetrics().height() + 4, "letters are not cut off"
        assert view.rowHeight(7) == heights[-1]
        assert view.minimumHeight() == 4 * heights[-1], "three rows and the heading have room in any window"
    assert heights[0] == heights[3]
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_swatch_has_the_object_s_colour_even_where_it_is_selected(qtbot: QtBot, theme: str) -> None:
    table = ObjectTable()
    dress(qtbot, table, theme, 300, 300)
    table.show_rows([_row(1, color="#0000ff"), _row(2, color="#ff0000")], 1)
    picture = pixels(table.view.viewport())
    for label, color in ((1, (0, 0, 255)), (2, (255, 0, 0))):
        row = picture[_cell(table, label, Column.NAME).y() - 3]
        assert (row == color).all(-1).sum() >= 8


class _AtOnce:
    """A worker without threads."""

    def submit(self, job: Any, done: Any, failed: Any, lane: str) -> None:
        done(job())


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (0.1, 0.1), (40.0, 40.0), (0.1, 0.3)])
def test_an_outline_is_smoothed_by_pixels_whatever_their_size(sizes: tuple[float, float]) -> None:
    spacing = {"z": 0.5, "y": sizes[0], "x": sizes[1], "unit": "um"}
    stack = ImageStack(np.zeros((2, 40, 40), np.uint8), "ZYX", spacing=spacing)
    session = AnnotationSession(stack, backend=DummyBackend())
    label = session.add_object()
    y, x = np.ogrid[:40, :40]
    disc = (y - 20) ** 2 + (x - 20) ** 2 <= 81
    notched = disc.copy()
    # A tooth of one pixel and a nick of one pixel, as a coarse mask has them.
    notched[20, 30], notched[11, 20] = True, False
    session.add_mask(label, 1, notched)
    worker: Any = _AtOnce()
    Operations(session, worker, print, print).mend([label], "smooth")
    after = session.slice_labels(1) == label
    assert not after[20, 30]
    assert np.count_nonzero(after ^ disc) < 0.1 * np.count_nonzero(disc)


def test_a_merged_object_keeps_what_was_painted_of_either() -> None:
    session = AnnotationSession(ImageStack(np.zeros((4, 40, 40), np.uint8), "ZYX"), backend=DummyBackend())
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:20] = True
    for label, index in ((session.add_object(), 1), (session.add_object(), 2)):
        session.add_mask(label, index, mask)
    worker: Any = _AtOnce()
    Operations(session, worker, print, print).merge([1, 2])
    assert list(session.objects) == [1]
    assert sorted(session.prompts) == [(1, 1), (1, 2)], "no propagation writes over either"

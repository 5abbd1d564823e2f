from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("napari")
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QLabel, QProgressBar, QScrollArea
from tests.widgets.looks import dress

from napari_medsam2.widgets.model_table import ModelTable
from napari_medsam2.widgets.rows import ModelRow, model_rows

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

_LEFT = Qt.MouseButton.LeftButton
_ROWS = (
    ModelRow("compact", "Compact", None, "Apache-2.0", "Everything.", "ready", in_use=True),
    ModelRow("a", "Model <A>", 323_000_000, "Apache-2.0", "CT & MR.", "absent"),
    ModelRow("b", "Model B", 1_000_000, "MIT", "Cells.", "downloading", 0.4, "400 kB of 1 MB"),
    ModelRow("c", "Model C", 1_000_000, "MIT", "Cells.", "failed", note="No connection; connect and press Retry."),
    ModelRow("d", "Model D", 1_000_000, "MIT", "Cells.", "ready"),
)


def _table(qtbot: QtBot, theme: str = "dark", width: int = 300) -> ModelTable:
    table = ModelTable()
    dress(qtbot, table, theme, width, 620)
    table.show_rows(_ROWS)
    qtbot.wait(1)
    return table


def _heard(table: ModelTable) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for name in ("get", "cancel", "use", "device_changed"):
        getattr(table, name).connect(lambda *values, name=name: out.append((name, *values)))
    return out


def test_each_model_has_the_button_that_it_needs(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    assert [table.button(row.key).text() for row in _ROWS] == ["In use", "Get", "Cancel", "Retry", "Use"]
    for row in _ROWS:
        QTest.mouseClick(table.button(row.key), _LEFT)
    assert heard == [("get", "a"), ("cancel", "b"), ("get", "c"), ("use", "d")]


def test_a_download_moves_its_bar_and_ends(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    button = table.button("b")

    def bars() -> list[QProgressBar]:
        return [bar for bar in table.findChildren(QProgressBar) if bar.isVisible()]

    (bar,) = bars()
    assert bar.value() / bar.maximum() == pytest.approx(0.4)
    rows = list(_ROWS)
    rows[2] = replace(_ROWS[2], progress=0.9)
    table.show_rows(rows)
    assert bars() == [bar]
    assert bar.value() / bar.maximum() == pytest.approx(0.9)
    assert table.button("b") is button
    rows[2] = replace(_ROWS[2], progress=None)
    table.show_rows(rows)
    assert bar.maximum() == 0  # how long is not known
    rows[2] = replace(_ROWS[2], state="ready", progress=None, note="")
    table.show_rows(rows)
    assert bars() == []
    QTest.mouseClick(table.button("b"), _LEFT)
    assert heard == [("use", "b")]


def test_texts_are_texts(qtbot: QtBot) -> None:
    table = _table(qtbot)
    texts = [label.text() for label in table.findChildren(QLabel)]
    assert "Model <A>" in texts
    assert "CT & MR." in texts
    facts = next(text for text in texts if "323" in text)
    assert "MB" in facts
    assert "Apache-2.0" in facts


def test_the_device_is_chosen(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    table.show_devices({"cpu": "Processor", "cuda": "Graphics card"}, "cpu")
    box = table.findChild(QComboBox)
    assert box is not None
    assert box.isEnabled()
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert heard == [("device_changed", "cuda")]
    table.show_devices({"cpu": "Processor"}, "cpu")
    assert not box.isEnabled()
    assert len(heard) == 1


@pytest.mark.parametrize("width", [280, 340, 560])
def test_nothing_is_wider_than_the_dock(qtbot: QtBot, width: int) -> None:
    table = _table(qtbot, width=width)
    scroll = table.findChild(QScrollArea)
    assert scroll is not None
    inner = scroll.widget()
    assert inner is not None
    assert inner.width() <= scroll.viewport().width()
    for label in table.findChildren(QLabel):
        if label.isVisible() and label.wordWrap():
            assert label.height() >= label.heightForWidth(label.width())


def test_the_registry_fits_into_a_dock(qtbot: QtBot) -> None:
    from napari_medsam2.backend.registry import entries

    table = _table(qtbot, width=290)
    known = entries()
    table.show_rows(model_rows(known, ()))
    qtbot.wait(5)
    for one in known:
        button = table.button(one.name)
        corner = button.mapTo(table, button.rect().bottomRight())
        assert corner.x() < table.width() - 10, one.name


def test_other_models_take_the_place_of_these(qtbot: QtBot) -> None:
    table = _table(qtbot)
    heard = _heard(table)
    table.show_rows(_ROWS[3:])
    QTest.mouseClick(table.button("d"), _LEFT)
    assert heard == [("use", "d")]
    with pytest.raises(KeyError):
        table.button("a")


def test_rows_of_the_registry_say_what_is_here_and_what_is_going_on() -> None:
    from napari_medsam2.backend.registry import entries

    known = entries()
    names = [one.name for one in known]
    sized = next(one for one in known if one.size)
    here, later, lost = [name for name in names if name != sized.name][:3]
    going = {sized.name: (sized.size or 0) // 4, later: None}
    rows = {row.key: row for row in model_rows(known, {here}, here, going, {lost: "No network."})}
    assert list(rows) == names
    assert (rows[here].state, rows[here].in_use) == ("ready", True)
    assert rows[sized.name].state == "downloading"
    assert rows[sized.name].progress == pytest.approx(0.25, abs=0.001)
    assert " of " in rows[sized.name].note
    assert rows[later].state == "waiting"
    assert (rows[lost].state, rows[lost].note) == ("failed", "No network.")
    assert all(row.licence and row.good_for and row.name for row in rows.values())

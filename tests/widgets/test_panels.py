"""The panels show what the session knows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDoubleSpinBox, QSpinBox
from tests.widgets.docking import settle
from tests.widgets.driving import click, key, wait_until
from tests.widgets.test_dock import begin, dock, world

from napari_medsam2.memory import BankConfig
from napari_medsam2.widgets.panels import BankPanel, GalleryPanel, Panel, ReviewPanel

if TYPE_CHECKING:
    from napari_medsam2.widgets.dock import MedSam2Dock

__all__ = ["dock"]

P = TypeVar("P", bound=Panel)


def test_the_bank_shows_what_a_propagated_slice_read(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    viewer = dock.bench.viewer
    click(viewer, world(dock, 28, 28))
    settle(annotation)
    key(viewer, "G")
    settle(annotation)
    bank = next(panel for panel in dock._panels if isinstance(panel, BankPanel))
    review = next(panel for panel in dock._panels if isinstance(panel, ReviewPanel))
    assert not bank.view.cards, "the prompted slice read nothing"
    viewer.dims.set_current_step(0, 7)
    wait_until(lambda: bool(bank.view.cards))
    left = len(annotation.session.review())
    wait_until(lambda: review.bar.status.startswith(f"{left} of {left} to review"))


def in_front(dock: MedSam2Dock, kind: type[P]) -> P:
    """A panel, its tab chosen."""
    panel = next(panel for panel in dock._panels if isinstance(panel, kind))
    around = panel.parentWidget()
    assert around is not None
    around.raise_()
    wait_until(panel.isVisible)
    return panel


def test_keys_that_end_a_number_neither_accept_nor_discard_a_mask(dock: MedSam2Dock) -> None:
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    bank = in_front(dock, BankPanel)
    bank.view.set_advanced(True)
    dock.propagate.ranged.setChecked(True)
    before = annotation.session.slice_labels(5)
    assert before.any()
    keys = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Escape, Qt.Key.Key_G, Qt.Key.Key_A, Qt.Key.Key_W)
    for box in (dock.propagate.first, bank.view.findChildren(QSpinBox)[0], dock.propagate.direction):
        for code in keys:
            box.setFocus()
            QTest.keyClick(box, code)
            settle(annotation)
            assert not annotation.session.marks, "nothing was accepted"
            assert annotation.session.results.indices(1) == [5], "nothing was carried on or discarded"
            np.testing.assert_array_equal(annotation.session.slice_labels(5), before)


def test_enter_in_the_gallery_goes_to_an_image_and_accepts_nothing(dock: MedSam2Dock) -> None:
    dock.image.kind.setCurrentText("Collection")
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    gallery = in_front(dock, GalleryPanel).view
    gallery.setFocus()
    for code in (Qt.Key.Key_Right, Qt.Key.Key_Left, Qt.Key.Key_Return):
        QTest.keyClick(gallery, code)
    assert annotation.index == 5
    assert not annotation.session.marks


@pytest.mark.parametrize(("kind", "suited"), [("Collection", (0.3, 0.05)), ("Stack", (0.6, 1.0))])
def test_the_bank_shows_the_settings_that_hold_and_what_is_changed_holds(
    dock: MedSam2Dock, kind: str, suited: tuple[float, float]
) -> None:
    dock.image.kind.setCurrentText(kind)
    annotation = begin(dock)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    bank = in_front(dock, BankPanel)
    bank.view.set_advanced(True)
    threshold, trust = bank.view.findChildren(QDoubleSpinBox)
    assert (threshold.value(), trust.value()) == suited
    assert annotation.session.plan().bank == BankConfig(threshold=suited[0], trust=suited[1])
    trust.setFocus()
    QTest.keyClick(trust, Qt.Key.Key_Down)
    assert annotation.session.bank == BankConfig(trust=trust.value())
    assert annotation.session.plan().bank == BankConfig(threshold=suited[0], trust=trust.value())
    assert trust.value() < suited[1]


def test_the_gallery_s_pictures_are_made_of_what_is_seen_as_it_is(
    dock: MedSam2Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, drawn = threading.Event(), []

    def draw(_: object, index: int, results: list[object], *__: object) -> np.ndarray:
        gate.wait(20)
        drawn.append(index)
        return np.full((8, 8, 3), 255 if results else 0, np.uint8)

    monkeypatch.setattr("napari_medsam2.widgets.panels._draw", draw)
    dock.image.kind.setCurrentText("Collection")
    annotation = begin(dock)
    gallery = in_front(dock, GalleryPanel).view
    gallery.setFixedHeight(130)
    gallery.viewport().repaint()
    gallery.scrollToBottom()
    gallery.viewport().repaint()
    in_front(dock, BankPanel)
    click(dock.bench.viewer, world(dock, 28, 28))
    settle(annotation)
    dock.board.flush()
    gate.set()
    done: list[None] = []
    dock.bench.worker.submit(lambda: None, done.append, lane="io")
    wait_until(lambda: bool(done))
    assert len(drawn) <= 1, "but for the one that was under way nobody sees them"
    in_front(dock, GalleryPanel)
    gallery.set_current(5)
    wait_until(lambda: gallery.picture(5) is not None)
    shown = gallery.picture(5)
    assert shown is not None
    assert shown.toImage().pixelColor(4, 4).lightness() == 255, "with the mask"

"""The panels show what the session knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.widgets.docking import settle
from tests.widgets.driving import click, key, wait_until
from tests.widgets.test_dock import begin, dock, world

from napari_medsam2.widgets.panels import BankPanel, ReviewPanel

if TYPE_CHECKING:
    from napari_medsam2.widgets.dock import MedSam2Dock

__all__ = ["dock"]


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

"""The panels beside and below the image: review, memory bank, gallery."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_medsam2.widgets.actions import tooltip
from napari_medsam2.widgets.bank_view import BankView
from napari_medsam2.widgets.gallery import Gallery
from napari_medsam2.widgets.review_bar import ReviewBar
from napari_medsam2.widgets.review_strip import ReviewStrip
from napari_medsam2.widgets.rows.bank import bank_cards
from napari_medsam2.widgets.rows.gallery import gallery_tiles
from napari_medsam2.widgets.rows.thumbnail import surroundings, thumbnail
from napari_medsam2.widgets.sections.parts import MAC, Docked, row

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from napari_medsam2.memory import BankConfig
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.board import Board
    from napari_medsam2.widgets.worker import Ticket

__all__ = ["BankPanel", "GalleryPanel", "Panel", "ReviewPanel"]

_SIDE = 112
"""Pixels of a picture in the gallery and the bank."""


class Panel(Docked):
    """Something that listens to the board and notices when it is taken out of its dock."""

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._board = board
        self._docked = self._deaf = False
        self.taken_out: Callable[[], None] = _nothing

    def changeEvent(self, event: QEvent) -> None:
        """Tell when the cross in the title bar was pressed."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked and not self._deaf:
                QTimer.singleShot(0, self.taken_out)

    def listen(self) -> None:
        """Follow the board."""
        events = self._board.events
        events.opened.connect(self._opened)
        events.changed.connect(self._changed)
        events.moved.connect(self._moved)
        self._opened()

    def close_panel(self) -> None:
        """Hear nothing more of the board."""
        if not self._deaf:
            self._deaf = True
            events = self._board.events
            events.opened.disconnect(self._opened)
            events.changed.disconnect(self._changed)
            events.moved.disconnect(self._moved)

    def _opened(self) -> None:
        raise NotImplementedError

    def _changed(self, indices: set[int] | None = None) -> None:
        raise NotImplementedError

    def _moved(self) -> None:
        raise NotImplementedError


class ReviewPanel(Panel):
    """The strip of all slices, and the buttons with which a person goes through them."""

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(board, parent)
        self.bar, self.strip = ReviewBar(), ReviewStrip()
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 2, 6, 2)
        column.setSpacing(2)
        column.addWidget(self.bar)
        column.addWidget(self.strip, 1)
        self.setMinimumHeight(96)
        calls = board.bench.calls()
        for signal, tip, name in (
            (self.bar.next_worst, "next", "next"),
            (self.bar.accepted, "accept", "approve"),
            (self.bar.rejected, "reject", "reject"),
            (self.bar.skipped, "skip", "skip"),
        ):
            signal.connect(calls[name])
            self.bar.set_tip(tip, tooltip(name, MAC))
        self.bar.back.connect(lambda: board.bench.attempt(self._back))
        self.strip.jumped.connect(lambda label, index: board.bench.attempt(lambda: self._jump(label, index)))
        self.listen()

    def _opened(self) -> None:
        self._changed(None)

    def _changed(self, indices: set[int] | None = None) -> None:
        ledger = self._board.ledger
        rows = () if ledger is None else ledger.strip_rows(self._board.color_of)
        self.strip.show_rows(rows, self._board.axis)
        self._moved()

    def _moved(self) -> None:
        annotation, ledger = self._board.annotation, self._board.ledger
        if annotation is None or ledger is None:
            self.strip.set_current(None, None)
            self.bar.show_state(0, 0)
            return
        label, index = annotation.label, annotation.index
        self.strip.set_current(label or None, index)
        packed = annotation.session.results.packed(label, index)
        read = () if packed is None else packed.read
        self.strip.set_bank({label: [one.index for one in read]})
        left, total = ledger.to_review()
        # That of a mask that was painted or imported is 1 by definition.
        confidence = None if packed is None or packed.bare.source == "mask" else packed.bare.confidence
        rejected = packed is None and annotation.session.marks.get((label, index)) == "rejected"
        self.bar.show_state(left, total, confidence, packed is not None, annotation.reviewing.can_go_back, rejected)

    def _jump(self, label: int, index: int) -> None:
        annotation = self._board.annotation
        if annotation is not None:
            annotation.select(label)
            annotation.show(index)

    def _back(self) -> None:
        annotation = self._board.annotation
        if annotation is not None:
            annotation.reviewing.go_back()


class BankPanel(Panel):
    """What the memory bank held for the selected object on the slice that is shown."""

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(board, parent)
        self.view = BankView()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.view)
        attempt = board.bench.attempt
        self.view.jumped.connect(lambda index: attempt(lambda: board.bench.need().show(index)))
        self.view.pinned.connect(lambda index, on: attempt(lambda: self._wish(index, "pin_memory" if on else "")))
        self.view.dropped.connect(lambda index, on: attempt(lambda: self._wish(index, "drop_memory" if on else "")))
        self.view.config_changed.connect(lambda config: attempt(lambda: self._configure(config)))
        self.view.wanted.connect(self._picture)
        self._pictures = _Pictures(board, self.view)
        self._label = 0
        self.listen()

    def _opened(self) -> None:
        self.view.forget_thumbnails()
        self._moved()

    def _changed(self, indices: set[int] | None = None) -> None:
        self.view.forget_thumbnails(None if indices is None else list(indices))
        self._moved()

    def _moved(self) -> None:
        annotation = self._board.annotation
        self.setEnabled(annotation is not None)
        if annotation is None:
            from napari_medsam2.memory import BankConfig

            self.view.show_rows((), BankConfig())
            return
        session, label, index = annotation.session, annotation.label, annotation.index
        if label != self._label:
            self._label = label
            self.view.forget_thumbnails()
        packed = session.results.packed(label, index)
        pins = {at: wish for (one, at), wish in session.pins.items() if one == label}
        known = {at: found.bare.confidence for at in pins if (found := session.results.packed(label, at)) is not None}
        cards = bank_cards(() if packed is None else packed.read, pins, self._board.axis, known)
        name = session.objects[label].name if label in session.objects else ""
        title = f"{name}, {self._board.axis.title(index)}" if name else ""
        self.view.show_rows(cards, session.bank, title, session.bank.suited(session.kind, session.backend.name))

    def _wish(self, index: int, verb: str) -> None:
        annotation = self._board.bench.need()
        getattr(annotation.session, verb or "release_memory")(annotation.label, index)

    def _configure(self, config: BankConfig) -> None:
        self._board.bench.need().session.configure(config)
        self._moved()

    def _picture(self, index: int) -> None:
        annotation = self._board.annotation
        if annotation is not None:
            self._pictures.ask(annotation, index, (annotation.label,))


class GalleryPanel(Panel):
    """The images of a collection at a glance."""

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(board, parent)
        self.view = Gallery(_SIDE)
        self.order = QComboBox()
        self.order.setToolTip("In which order the images are listed.")
        self.order.addItem("As they are numbered", "slice")
        self.order.addItem("Most doubtful first", "worst")
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(row(QLabel("Order"), self.order, stretch=1))
        column.addWidget(self.view, 1)
        self.order.currentIndexChanged.connect(self._order_chosen)
        self.view.jumped.connect(lambda index: board.bench.attempt(lambda: board.bench.need().show(index)))
        self.view.wanted.connect(self._picture)
        self._pictures = _Pictures(board, self.view)
        self.listen()

    def _opened(self) -> None:
        self.view.forget_thumbnails()
        self._changed(set())

    def _changed(self, indices: set[int] | None = None) -> None:
        board = self._board
        if board.ledger is None or board.annotation is None:
            self.view.show_rows(())
            return
        self.view.forget_thumbnails(indices)
        rows = board.ledger.strip_rows(board.color_of)
        tiles = gallery_tiles(rows, board.axis, self.order.currentData())
        self.view.show_rows(tiles, board.annotation.index)

    def _moved(self) -> None:
        if self._board.annotation is not None:
            self.view.set_current(self._board.annotation.index)

    def _order_chosen(self, _: int) -> None:
        self._changed(set())
        self.view.show_first()

    def _picture(self, index: int) -> None:
        annotation = self._board.annotation
        if annotation is not None:
            labels = tuple(annotation.session.objects)
            self._pictures.ask(annotation, index, labels, whole=True)


class _Pictures:
    """Pictures that are made in a thread; what is not wanted any more is not made, and holds up nothing else there."""

    def __init__(self, board: Board, view: BankView | Gallery) -> None:
        self._board, self._view = board, view
        self._tickets: dict[int, Ticket] = {}
        view.unwanted.connect(self._give_up)
        view.destroyed.connect(self._close)

    def ask(self, annotation: Annotation, index: int, labels: tuple[int, ...], whole: bool = False) -> None:
        """Have a picture of a slice made, with the outlines of objects; ``whole``: all of the slice."""
        session, color_of = annotation.session, self._board.color_of
        found = [(label, packed) for label in labels if (packed := session.results.packed(label, index)) is not None]
        colors = [color_of(label) for label, _ in found]

        def make() -> np.ndarray:
            return _draw(session, index, [packed.unpack() for _, packed in found], colors, whole)

        # Pictures that fail are left empty: the slice itself will say why when it is shown.
        deliver = partial(self._view.set_thumbnail, index)
        self._tickets[index] = self._board.bench.worker.submit(make, deliver, lambda _: None, lane="io")

    def _give_up(self, index: int) -> None:
        # What is under way is made to the end, but of a mask that has changed: nobody gets it.
        ticket = self._tickets.pop(index, None)
        if ticket is not None:
            ticket.cancel()

    def _close(self) -> None:
        for ticket in self._tickets.values():
            ticket.cancel()


def _draw(
    session: AnnotationSession, index: int, results: list[ObjectResult], colors: list[str], whole: bool
) -> np.ndarray:
    box = None if whole else next((one.box for one in results if one.area), None)
    window = surroundings(box, session.stack.slice_shape(index))
    return thumbnail(session.stack.pixels(index), [one.mask for one in results], colors, _SIDE, window)


def _nothing() -> None:
    return

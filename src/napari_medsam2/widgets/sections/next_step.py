"""The lines at the top of the dock: what to do next, and what has just happened."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_medsam2.widgets.rows.next_step import Situation, next_step
from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.sections.parts import elided
from napari_medsam2.widgets.takeover import candidates

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.board import Board

__all__ = ["NextStep", "Sentence"]


class Sentence(QLabel):
    """As high as two lines, in whatever font, so that nothing below jumps; higher only where words would be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def setText(self, text: str) -> None:
        """Show a text."""
        super().setText(text)
        self.updateGeometry()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width, other lines."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Two lines, where they are enough."""
        line, needed = self.fontMetrics().lineSpacing(), super().heightForWidth(self.width())
        # Rich text takes a few pixels more than its lines.
        return QSize(200, needed if needed > 2.5 * line + 8 else 2 * line + 8)

    def minimumSizeHint(self) -> QSize:
        """All lines."""
        return self.sizeHint()

    def hasHeightForWidth(self) -> bool:
        """No: beside it the table of objects would take all the height that it wishes for."""
        return False


class NextStep(QWidget):
    """What to do next, from how the work stands.

    Parameters
    ----------
    board : Board
        What is looked at.
    """

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._board = board
        self.text = Sentence()
        self.text.setObjectName("medsam2-next-step")
        self.said = elided()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        column.setSpacing(0)
        column.addWidget(self.text)
        column.addWidget(self.said)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        # What happens together is told once.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.refresh)
        bench = board.bench
        self._sources = [
            board.events.opened, board.events.changed, board.events.moved, bench.events.model, bench.events.annotation,
        ]  # fmt: skip
        viewer = bench.viewer
        self._viewer_events = [
            viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.selection.events.active,
            viewer.dims.events.ndisplay, viewer.dims.events.order,
        ]  # fmt: skip
        for source in (*self._sources, *self._viewer_events):
            source.connect(self._later)
        bench.events.annotation.connect(self._opened)
        bench.events.said.connect(self._say)
        self._opened()

    def close_section(self) -> None:
        """Hear nothing more."""
        self._timer.stop()
        for source in (*self._sources, *self._viewer_events):
            source.disconnect(self._later)
        self._board.bench.events.annotation.disconnect(self._opened)
        self._board.bench.events.said.disconnect(self._say)

    def refresh(self) -> None:
        """Say it."""
        text = next_step(self.situation())
        self.text.setText(f"<b>Next:</b> {html.escape(text)}")
        self.text.setToolTip(literal(text))

    def situation(self) -> Situation:
        """How the work stands."""
        bench, ledger = self._board.bench, self._board.ledger
        annotation = bench.annotation
        if annotation is None:
            image = bench.candidate()
            return Situation(image.name if image is not None else "", ready=bench.backend.loaded)
        session, label, index = annotation.session, annotation.label, annotation.index
        said, packed = session.prompts, session.results.packed(label, index)
        left, total = (0, 0) if ledger is None else ledger.to_review()
        carried = any((label, at) not in said for at in session.results.indices(label)) if label else total > 0
        takeable = candidates(bench.viewer, annotation) if not said and not total else []
        return Situation(
            annotation.image.name,
            True,
            bench.backend.loaded,
            session.kind == "collection",
            len(session.stack),
            annotation.tools.tool,
            annotation.tools.negative,
            annotation.frame.displayed(bench.viewer.dims),
            annotation.running.busy,
            session.objects[label].name if label in session.objects else "",
            (label, index) in said,
            packed is not None,
            session.marks.get((label, index)),
            bool(said),
            carried,
            label in {one for one, _ in session.pending} & {one for one, _ in said},
            label in session.objects and session.unfinished(label),
            label in session.objects and session.orphaned(label),
            left,
            total,
            takeable[0].name if takeable else "",
            session.kind == "collection" and carried and _missed(session, label),
        )

    def _opened(self) -> None:
        annotation = self._board.bench.annotation
        if annotation is not None:
            annotation.events.tool.connect(self._later)
            annotation.events.progress.connect(self._later)
        self._later()

    def _say(self, text: str) -> None:
        """What has just happened."""
        self.said.setText(text[:1].upper() + text[1:])

    def _later(self, _: Any = None) -> None:
        self._timer.start()


def _missed(session: AnnotationSession, label: int) -> bool:
    """Whether most images that nobody has looked at were left without a mask."""
    known = {(label, at) for at in session.results.indices(label)} - set(session.prompts) - set(session.marks)
    packed = [session.results.packed(*key) for key in known]
    return 2 * sum(one is not None and 0 in one.size for one in packed) > len(packed)

"""Where the work is kept, and how it leaves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QPushButton, QSizePolicy, QWidget

from napari_medsam2.widgets.export_dialog import ExportDialog
from napari_medsam2.widgets.kept import Entry, last_session, prune, sessions_folder
from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.sections.parts import Section, elided, row

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["SaveSection"]


class SaveSection(Section):
    """The session's folder; open, save elsewhere, export."""

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__("Save", parent)
        self._bench = bench
        self.where = elided()
        self.open = QPushButton("Open…")
        self.open.setToolTip("Go on with a session that was saved before.")
        self.keep = QPushButton("Save as…")
        self.keep.setToolTip("Keep this session in another folder from now on. It is saved after every step anyway.")
        self.export = QPushButton("Export…")
        self.export.setToolTip("Write labels, measurements or confidences for other programs.")
        self.open.clicked.connect(lambda *_: bench.attempt(self._open))
        self.keep.clicked.connect(lambda *_: bench.attempt(self._keep))
        self.export.clicked.connect(lambda *_: bench.attempt(self._export))
        self.resume = _Shortened()
        self.resume.setVisible(False)
        self.resume.clicked.connect(lambda *_: bench.attempt(self._resume))
        self._last: Entry | None = None
        self._dialog: ExportDialog | None = None
        self.column.addWidget(row(self.open, self.resume, self.keep, self.export, stretch=1))
        self.column.addWidget(self.where)
        bench.events.annotation.connect(self._opened)
        bench.events.saved.connect(self.refresh)
        self.look()
        self.refresh()

    def close_section(self) -> None:
        """Hear nothing more of the workbench."""
        if self._dialog is not None:
            self._dialog.close()
        self._bench.events.annotation.disconnect(self._opened)
        self._bench.events.saved.disconnect(self.refresh)

    def look(self) -> None:
        """Look for the last session, in a thread: folders take their time on a network drive."""
        self._bench.worker.submit(_look, self._offer, lambda _: None, lane="io")

    def refresh(self) -> None:
        """Say where the work is."""
        annotation = self._bench.annotation
        # On a small screen there is no room for what cannot be used: either the one or the other.
        self.resume.setVisible(annotation is None and self._last is not None)
        for button in (self.keep, self.export):
            button.setVisible(annotation is not None)
        self.where.setVisible(annotation is not None)
        percent = self._bench.keeper.percent
        self.keep.setEnabled(annotation is not None and not self._bench.keeper.finishing)
        self.export.setEnabled(annotation is not None)
        if annotation is None:
            self.where.setText("")
        elif percent is not None:
            self.where.setText(f"Reading the image to save it: {percent} %")
            self.where.setToolTip("The work is in memory until the image has been read; you can go on meanwhile.")
        elif annotation.session.folder is None:
            self.where.setText("Not saved yet: choose Save as…")
        else:
            read_only = " (read-only)" if annotation.session.read_only else ""
            self.where.setText(f"Saved after every step: {annotation.session.folder.name}{read_only}")
            self.where.setToolTip(literal(f"Saved after every step in {annotation.session.folder}"))

    def _opened(self) -> None:
        if self._bench.annotation is None:
            # The one that has just been finished can be gone on with as well.
            self.look()
        self.refresh()

    def _offer(self, last: Entry | None) -> None:
        self._last = last
        if last is not None:
            day = time.strftime("%d %b %H:%M", time.localtime(last.changed))
            self.resume.show_text(f"Go on with {last.name}")
            self.resume.setToolTip(literal(f"The last session, of {day}: {last.folder}"))
        self.refresh()

    def _resume(self) -> None:
        if self._last is not None:
            self._bench.open_folder(self._last.folder)

    def _open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a session", str(sessions_folder()))
        if folder:
            self._bench.open_folder(Path(folder))

    def _keep(self) -> None:
        session = self._bench.need().session
        name = session.stack.name if session.folder is None else session.folder.name
        folder, _ = QFileDialog.getSaveFileName(self, "Keep the session in a new folder", str(Path.home() / name))
        if folder:
            self._bench.save_as(Path(folder))

    def _export(self) -> None:
        if self._dialog is None:
            self._dialog = ExportDialog(self._bench, self)
        self._dialog.offer()


class _Shortened(QPushButton):
    """Takes what is left of a row; its text is cut in the middle where it does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_text(self, text: str) -> None:
        """Show a text, as much of it as fits."""
        self._whole = text
        self.setAccessibleName(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Cut anew."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        room = max(self.width() - 16, 20)
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, room))


def _look() -> Entry | None:
    """Remove kept sessions in which nothing was done, and find the last one in which something was."""
    prune()
    return last_session()

"""The dock: image, model, objects, prompt, propagate, review, save, from top to bottom as the work goes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_medsam2.widgets import docks
from napari_medsam2.widgets.actions import bind, unbind
from napari_medsam2.widgets.board import Board
from napari_medsam2.widgets.help import HelpPanel
from napari_medsam2.widgets.hover import Hover
from napari_medsam2.widgets.models import ModelsDialog
from napari_medsam2.widgets.panels import BankPanel, GalleryPanel, Panel, ReviewPanel
from napari_medsam2.widgets.sections.image import ImageSection
from napari_medsam2.widgets.sections.model import ModelSection
from napari_medsam2.widgets.sections.next_step import NextStep
from napari_medsam2.widgets.sections.objects import ObjectsSection
from napari_medsam2.widgets.sections.parts import Docked
from napari_medsam2.widgets.sections.prompt import PromptSection
from napari_medsam2.widgets.sections.propagate import PropagateSection
from napari_medsam2.widgets.sections.save import SaveSection
from napari_medsam2.widgets.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from qtpy.QtGui import QCloseEvent

__all__ = ["MedSam2Dock"]


class _Scrolled(QScrollArea):
    """Scrolls up and down only: never narrower than what is in it."""

    def minimumSizeHint(self) -> QSize:
        """As wide as the sections and the bar beside them."""
        inner, bar = self.widget(), self.verticalScrollBar()
        wide = inner.minimumSizeHint().width() if inner is not None else 0
        return QSize(max(wide + bar.sizeHint().width(), _WIDTH), 200)


_WIDTH = 310
"""Pixels, at least."""
_LAID_OUT = 60
"""Milliseconds until new panels have their place."""


_PANELS: tuple[tuple[type[Panel], str, str], ...] = (
    (ReviewPanel, "Review", "bottom"),
    (BankPanel, "Memory bank", "right"),
    (GalleryPanel, "Images", "right"),
)


class MedSam2Dock(Docked):
    """Medical SAM 2 in a viewer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        The viewer, or napari's proxy of it; napari gives it by this name.
    """

    def __init__(self, napari_viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shut = self._docked = False
        self.bench = Workbench(docks.bare(napari_viewer))
        docks.register(self.bench.viewer, self)
        self.hover = Hover(self.bench, self)
        self.image = ImageSection(self.bench)
        self.model = ModelSection(self.bench, self._models)
        self.board = Board(self.bench, self)
        self.objects = ObjectsSection(self.board)
        self.prompt = PromptSection(self.bench, self.hover)
        self.propagate = PropagateSection(self.bench)
        self.save = SaveSection(self.bench)
        self.next_step = NextStep(self.board)
        self.sections = (self.next_step, self.image, self.model, self.objects, self.prompt, self.propagate, self.save)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(4)
        for section in self.sections:
            column.addWidget(section)
        self.reopen = QPushButton("Show the closed panels again")
        self.reopen.setToolTip("Review, memory bank and images: those of them that were closed.")
        self.reopen.setVisible(False)
        self.reopen.clicked.connect(self.show_panels)
        column.addWidget(self.reopen)
        area = _Scrolled()
        area.setObjectName("medsam2-sections")
        area.setWidget(inner)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(area)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        bench = self.bench
        self.destroyed.connect(lambda *_: bench.close())
        self._dialog: ModelsDialog | None = None
        self._help: HelpPanel | None = None
        self._panels: list[Panel] = []
        self.bind_keys()
        bench.events.annotation.connect(self._opened)
        bench.load_model()
        bench.adopting.look()

    def closeEvent(self, event: QCloseEvent) -> None:
        """End with the window."""
        self.shut()
        super().closeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """End when the dock was taken out of its window, as the cross in its title bar does."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked and not self._shut:
                # Not in the midst of what takes it out.
                QTimer.singleShot(0, self._taken_out)

    def _taken_out(self) -> None:
        if not self._shut and self.parent() is None:
            self.bench.attempt(self.bench.finish)
            self.shut()
            self.deleteLater()

    def shut(self) -> None:
        """End threads, let go of the viewer; nothing where the window has ended them already."""
        if self._shut or self.bench.closed:
            return
        self._shut = True
        self.hover.switch(False)
        self.bench.events.annotation.disconnect(self._opened)
        for section in self.sections:
            section.close_section()
        self._close_panels()
        self.board.close()
        if self._dialog is not None:
            self._dialog.close_dialog()
        docks.forget(self)
        self.bench.close()
        viewer = self.bench.viewer
        unbind(viewer)
        for other in docks.docks_of(viewer):
            other.bind_keys()

    # -- panels and dialogs ----------------------------------------------------------------------------------------

    def show_panels(self) -> None:
        """Open the panels of an annotation, those that are not there: review below, memory bank and gallery beside."""
        window = getattr(self.bench.viewer, "window", None)
        annotation = self.bench.annotation
        if window is None or annotation is None:
            return
        missing = [kind for kind, *_ in _PANELS if not any(type(panel) is kind for panel in self._panels)]
        if annotation.session.kind != "collection" and GalleryPanel in missing:
            missing.remove(GalleryPanel)
        self.reopen.setVisible(False)
        if not missing:
            return
        canvas = getattr(getattr(window, "_qt_viewer", None), "canvas", None)
        before = canvas.native.size() if canvas is not None else QSize()
        main = getattr(window, "_qt_window", None)
        if main is not None:
            # The column on the right keeps its height: the review strip lies under image and layers only.
            main.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
        for kind, name, area in _PANELS:
            if kind in missing:
                panel = kind(self.board)
                self._panels.append(panel)
                panel.taken_out = partial(self._panel_taken_out, panel)
                right = area == "right"
                window.add_dock_widget(panel, name=name, area=area, tabify=right, add_vertical_stretch=not right)
        parent = self.parentWidget()
        if parent is not None:
            parent.raise_()
        if canvas is not None:
            _later(self, _LAID_OUT, lambda: self._shrink(before, canvas.native.size()))

    def _shrink(self, before: QSize, after: QSize) -> None:
        """Show as much of the image as before the panels took some of the canvas."""
        if not self._shut and before.height() > 0 and before.width() > 0:
            share = min(after.height() / before.height(), after.width() / before.width())
            if share < 1:
                self.bench.viewer.scene.camera.zoom *= share

    def _panel_taken_out(self, panel: Panel) -> None:
        if panel in self._panels:
            self._panels.remove(panel)
            panel.close_panel()
            panel.deleteLater()
            self.reopen.setVisible(self.bench.annotation is not None)

    def _close_panels(self) -> None:
        panels, self._panels = self._panels, []
        for panel in panels:
            panel.close_panel()

    def bind_keys(self) -> None:
        """Let the viewer's keys be this dock's."""
        bind([self.bench.viewer], {**self.bench.calls(), **self._own_calls()})

    def _bind_layers(self) -> None:
        if self.bench.annotation is not None:
            bind(self.bench.annotation.own_layers(), self._own_calls())

    def _opened(self) -> None:
        if self.bench.annotation is None:
            self.reopen.setVisible(False)
        if self.bench.annotation is not None:
            self._bind_layers()
            self.bench.annotation.events.layers.connect(self._bind_layers)
            self.show_panels()

    def _own_calls(self) -> dict[str, Callable[[], None]]:
        return {"hover": self.prompt.toggle_hover, "help": self.show_help}

    def show_help(self) -> None:
        """Show all shortcuts."""
        if self._help is None:
            self._help = HelpPanel(self)
        self._help.show()
        self._help.raise_()

    def _models(self) -> None:
        if self._dialog is None:
            self._dialog = ModelsDialog(self.bench, self)
        self._dialog.show()
        self._dialog.raise_()


def _later(owner: QWidget, milliseconds: int, call: Callable[[], None]) -> None:
    """Call something once, unless the owner is gone by then: PyQt's ``singleShot`` takes no owner."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(call)
    timer.timeout.connect(timer.deleteLater)
    timer.start(milliseconds)

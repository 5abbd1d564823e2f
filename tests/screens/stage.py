"""A window on a small screen, the hands of a person that are counted, and a camera."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from qtpy.QtCore import QBuffer, QIODevice, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QTabBar
from tests.widgets import driving

from napari_medsam2.widgets.start import open_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from qtpy.QtWidgets import QComboBox, QWidget

    from napari_medsam2.widgets.annotation import Annotation

__all__ = ["HEIGHT", "WIDTH", "Stage"]

WIDTH, HEIGHT = 1366, 768
"""Pixels of the screen: those of a small laptop."""
_LARGEST = 90_000
"""Bytes of a picture in all its colours."""


class Stage:
    """napari and the dock, as ``make run`` opens them, and what a person does with them.

    Parameters
    ----------
    folder : Path or None
        Where pictures are written; None: none are taken.
    sample : str
        Which sample is opened.
    theme : str
        napari's theme.
    files : sequence of Path
        What is opened in place of a sample.
    """

    def __init__(
        self, folder: Path | None, sample: str = "nuclei-3d", theme: str = "dark", files: Sequence[Path] = ()
    ) -> None:
        self.folder = folder
        self.clicks = self.drags = self.keys = 0
        self.viewer: Any
        self.viewer, self.dock = open_window(files, sample)
        self.window = self.viewer.window._qt_window
        self.viewer.theme = theme
        self.window.setGeometry(0, 0, WIDTH, HEIGHT)
        self.until(lambda: self.dock.bench.backend.loaded)
        self.rest()
        self.viewer.reset_view()
        self.rest()
        self.since = time.monotonic()

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def annotation(self) -> Annotation:
        """What is annotated."""
        return self.dock.bench.need()

    @property
    def bank(self) -> Any:
        """The memory bank's panel."""
        return self._panel("BankPanel")

    @property
    def review(self) -> Any:
        """The review panel."""
        return self._panel("ReviewPanel")

    @property
    def gallery(self) -> Any:
        """The panel of a collection's images."""
        return self._panel("GalleryPanel")

    def _panel(self, kind: str) -> Any:
        return next(panel for panel in self.dock._panels if type(panel).__name__ == kind)

    @property
    def seconds(self) -> float:
        """Since the window was there."""
        return time.monotonic() - self.since

    def said(self) -> str:
        """What was done, in numbers."""
        return f"{self.clicks} clicks, {self.drags} drags, {self.keys} keys, {self.seconds:.0f} s"

    # -- hands -----------------------------------------------------------------------------------------------------

    def place(self, y: float, x: float) -> tuple[float, ...]:
        """A place of the slice that is shown, in world coordinates."""
        return tuple(self.annotation.frame.to_world(self.annotation.index, y, x))

    def click(self, y: float, x: float, modifiers: Iterable[str] = ()) -> None:
        """Click into the image."""
        self.clicks += 1
        driving.click(self.viewer, self.place(y, x), modifiers)
        self.settle()

    def drag(self, line: Sequence[tuple[float, float]], modifiers: Iterable[str] = ()) -> None:
        """Draw on the image."""
        self.drags += 1
        driving.drag(self.viewer, [self.place(y, x) for y, x in line], modifiers)
        self.settle()

    def key(self, keys: str, settle: bool = True) -> None:
        """Press a key over the image."""
        self.keys += 1
        driving.key(self.viewer, keys)
        if settle:
            self.settle()

    def press(self, widget: QWidget, at: QPoint | None = None, right: bool = False) -> None:
        """Click on a widget; AssertionError if it cannot be seen or clicked."""
        assert widget.isVisible(), f"{widget!r} is not there"
        assert widget.isEnabled(), f"{widget!r} cannot be pressed"
        self.clicks += 1
        button = Qt.MouseButton.RightButton if right else Qt.MouseButton.LeftButton
        QTest.mouseClick(widget, button, Qt.KeyboardModifier.NoModifier, at or widget.rect().center())
        self.settle()

    def tab(self, name: str) -> None:
        """Bring a docked panel to the front, with a click on its tab."""
        for bar in self.window.findChildren(QTabBar):
            for number in range(bar.count()):
                if bar.isVisible() and bar.tabText(number) == name:
                    self.press(bar, bar.tabRect(number).center())
                    self.rest()
                    return
        raise AssertionError(f"there is no tab {name}")

    def choose(self, box: QComboBox, text: str) -> None:
        """Open a list and click on the entry that begins like this."""
        self.press(box)
        self.rest()
        entry = next(box.model().index(i, 0) for i in range(box.count()) if box.itemText(i).startswith(text))
        rows: Any = box.view()
        self.press(rows.viewport(), rows.visualRect(entry).center())
        assert box.currentText().startswith(text), f"{box.currentText()!r} was chosen"

    def jump(self, label: int, index: int) -> None:
        """Click on a bar of the review strip."""
        strip = self.review.strip
        self.press(strip.viewport(), strip.place(label, index))
        self.rest()
        assert (self.annotation.label, self.annotation.index) == (label, index)

    # -- time ------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], seconds: float = 240.0) -> None:
        """Wait for something."""
        driving.wait_until(condition, seconds)

    def settle(self) -> None:
        """Wait until the model has answered."""
        annotation = self.dock.bench.annotation
        if annotation is not None:
            self.until(lambda: not annotation.prompting.busy and not annotation.running.busy)
        self.rest(0.1)

    def rest(self, seconds: float = 0.4) -> None:
        """Let the window draw."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)

    # -- the camera ------------------------------------------------------------------------------------------------

    def shot(self, name: str) -> None:
        """Take a picture of the screen."""
        if self.folder is None:
            return
        self.rest(0.6)
        grabbed = self.window.screen().grabWindow(0)
        buffer = QBuffer()
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        grabbed.save(buffer, "PNG")
        picture = Image.open(io.BytesIO(bytes(buffer.data().data()))).convert("RGB")
        assert np.asarray(picture).std() > 1, "the screen is empty"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.png"
        picture.save(file, optimize=True)
        if file.stat().st_size > _LARGEST:
            # Small areas of strong colour, such as prompts, keep it: they are what the pictures are about.
            picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3).save(file, optimize=True)

    def close(self) -> None:
        """End it."""
        self.dock.shut()
        self.viewer.close()
        self.rest(0.2)

"""Carrying masks to the other slices: how far, started, followed, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QProgressBar, QSpinBox, QWidget

from napari_medsam2.widgets.actions import tooltip
from napari_medsam2.widgets.running import Progress, Reach
from napari_medsam2.widgets.sections.parts import MAC, Section, action_button, row, set_progress
from napari_medsam2.words import noun

if TYPE_CHECKING:
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["PropagateSection"]


class PropagateSection(Section):
    """Direction, range, objects; the buttons; the bar."""

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__("Propagate", parent)
        self._bench = bench
        calls = bench.calls()
        self.direction = QComboBox()
        self.direction.setToolTip("Which way masks are carried from the prompted slices.")
        for text, value in (("Both ways", "both"), ("Forward", "forward"), ("Backward", "backward")):
            self.direction.addItem(text, value)
        self.objects = QComboBox()
        self.objects.setToolTip("Which objects are carried on: all that have a prompt, or the selected one.")
        self.objects.addItem("All objects", False)
        self.objects.addItem("This object", True)
        self.ranged = QCheckBox("Slices")
        self.first, self.last = QSpinBox(), QSpinBox()
        for box in (self.first, self.last):
            box.setEnabled(False)
            self.ranged.toggled.connect(box.setEnabled)
        self.part = QCheckBox("Part at waists")
        self.part.setChecked(True)
        self.part.setToolTip(
            "An object that narrows and then widens again has ended at its waist: right for nuclei that touch, "
            "wrong for a thing that is waisted itself."
        )
        self.go = action_button("propagate", calls["propagate"])
        self.again = action_button("repropagate", calls["repropagate"])
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.stop = action_button("stop", calls["stop"])
        self.running = row(self.bar, self.stop, stretch=0)
        self.idle = row(self.go, self.again)
        self.column.addWidget(row(self.direction, self.objects))
        self.column.addWidget(row(self.ranged, self.first, QLabel("–"), self.last, stretch=1))
        self.column.addWidget(self.part)
        self.column.addWidget(self.idle)
        self.column.addWidget(self.running)
        self.running.setVisible(False)
        bench.events.annotation.connect(self._opened)
        bench.reach = self.reach
        self._opened()

    def reach(self) -> Reach:
        """How far to go, as chosen."""
        annotation = self._bench.need()
        ranged = self.ranged.isChecked()
        return Reach(
            direction=self.direction.currentData() if self.direction.isEnabled() else "both",
            start=self.first.value() if ranged else None,
            stop=self.last.value() + 1 if ranged else None,
            labels=(annotation.label,) if self.objects.currentData() else None,
            part=self.part.isChecked(),
        )

    def close_section(self) -> None:
        """Hear nothing more of the workbench."""
        self._bench.events.annotation.disconnect(self._opened)
        self._bench.reach = Reach

    def _opened(self) -> None:
        annotation = self._bench.annotation
        for widget in (self.direction, self.objects, self.ranged, self.part, self.go, self.again):
            widget.setEnabled(annotation is not None)
        self._follow(None)
        word = noun("stack" if annotation is None else annotation.session.kind)
        self.ranged.setText(f"{word.capitalize()}s")
        self.ranged.setToolTip(f"Only within these {word}s, the last one included.")
        for box, which in ((self.first, "first"), (self.last, "last")):
            box.setToolTip(f"The {which} {word}.")
        if annotation is None:
            return
        last = len(annotation.session.stack) - 1
        for box in (self.first, self.last):
            box.setRange(0, last)
        self.first.setValue(0)
        self.last.setValue(last)
        collection = annotation.session.kind == "collection"
        self.direction.setEnabled(not collection)
        self.part.setEnabled(not collection)
        annotation.events.progress.connect(self._follow)

    def _follow(self, progress: Progress | None) -> None:
        busy = progress is not None
        self.running.setVisible(busy)
        self.idle.setVisible(not busy)
        if progress is None:
            return
        left = "" if progress.remaining is None else f", {_time(progress.remaining)} left"
        self.bar.setFormat(f"{progress.done} of {progress.total}{left}")
        self.bar.setToolTip(tooltip("stop", MAC) + " [Esc]")
        set_progress(self.bar, progress.done, progress.total)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

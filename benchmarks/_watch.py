"""Watches the main thread: how long the event loop did not turn, and in whose code it was meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Stall", "Watch"]

_PACKAGE = str(Path("src") / "napari_medsam2")
_INSTALLED = "napari_medsam2"
_SAMPLE = 0.004


@dataclass(slots=True)
class Stall:
    """A time in which the event loop did not turn.

    Parameters
    ----------
    wall : float
        Seconds by the clock, in which other programs may have had the processor.
    busy : float
        Seconds of the processor that the main thread had meanwhile.
    samples, ours : int
        How often the main thread was looked at, and how often a function of this package was on its stack.
    where : Counter
        The innermost functions of this package, or what else it did.
    """

    wall: float
    busy: float
    samples: int = 0
    ours: int = 0
    where: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """The part that was spent in this package, or in what it called."""
        return self.ours / self.samples if self.samples else 0.0


class Watch:
    """Counts from ``with`` to its end.

    Attributes
    ----------
    stalls : list of Stall
        Those longer than ``least``.
    """

    def __init__(self, least: float = 0.02) -> None:
        self._least = least
        self.stalls: list[Stall] = []
        self._main = threading.get_ident()
        self._beat = QTimer()
        self._beat.setInterval(0)
        self._beat.timeout.connect(self._turned)
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self._samples: list[tuple[bool, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self._beat.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beat.stop()
        self._stop.set()
        self._thread.join()

    def worst(self, count: int = 8) -> list[Stall]:
        """The stalls in which this package had the processor longest."""
        return sorted(self.stalls, key=lambda stall: -stall.busy * stall.share)[:count]

    def _turned(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        samples, self._samples = self._samples, []
        if wall - self._wall > self._least:
            stall = Stall(wall - self._wall, cpu - self._cpu, len(samples), sum(ours for ours, _ in samples))
            stall.where.update(name for _, name in samples)
            self.stalls.append(stall)
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def _look(self) -> None:
        while not self._stop.wait(_SAMPLE):
            if time.perf_counter() - self._wall > self._least / 2:
                frame = sys._current_frames().get(self._main)
                if frame is not None:
                    self._samples.append(_place(frame))


def _place(frame: FrameType | None) -> tuple[bool, str]:
    """Whether a function of the package is on the stack; the innermost one, else the innermost of all."""
    innermost = "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
    while frame is not None:
        path = frame.f_code.co_filename
        if _PACKAGE in path or f"site-packages/{_INSTALLED}" in path:
            return True, f"{Path(path).name}:{frame.f_lineno} {frame.f_code.co_name} → {innermost}"
        frame = frame.f_back
    return False, innermost

"""Clicks on one large picture: how long until the mask is there, and how long the window stood still.

Run: ``python -m benchmarks.slide [--side 8192] [--objects 30]``, on a screen (or under ``xvfb-run -a``). Bright discs
of 40 pixels in noise are clicked one after the other with the embedded model; the last ten are measured. A stall is
the processor's time that the window's thread needed without turning the event loop (`benchmarks._watch`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._machine import machine
from benchmarks._watch import Watch
from napari_medsam2.widgets.kept import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = 40
_MEASURED = 10


def slide(side: int, objects: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return a picture ``(side, side)`` uint8 of bright discs, and where they are."""
    rng = np.random.default_rng(0)
    out = rng.integers(20, 60, (side, side), dtype=np.uint8)
    y, x = np.ogrid[:_SIZE, :_SIZE]
    disc = (y - _SIZE / 2) ** 2 + (x - _SIZE / 2) ** 2 < (0.43 * _SIZE) ** 2
    places = []
    for top, left in rng.integers(0, side - _SIZE, (objects, 2)).tolist():
        out[top : top + _SIZE, left : left + _SIZE][disc] = 200
        places.append((top + _SIZE / 2, left + _SIZE / 2))
    return out, places


def measure(viewer: Any, side: int, objects: int) -> tuple[list[float], list[float]]:
    """Click all; return the seconds from click to mask, and the longest stall after each, of the last ones."""
    from qtpy.QtWidgets import QApplication

    from napari_medsam2.widgets.dock import MedSam2Dock

    def wait(condition: Callable[[], bool]) -> None:
        while not condition():
            QApplication.processEvents()
            time.sleep(0.0005)

    image, places = slide(side, objects)
    viewer.add_image(image, name="slide", contrast_limits=(0, 255))
    dock = MedSam2Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Medical SAM 2", area="right")
    wait(lambda: dock.bench.backend.loaded)
    clicks, stalls = [], []
    try:
        annotation = dock.bench.annotate(viewer.layers["slide"])
        annotation.show(0)
        for place in places:
            label = annotation.new_object()
            with Watch() as watch:
                began = time.perf_counter()
                annotation.prompting.points(label, 0, [place], [1])
                wait(lambda: not annotation.prompting.busy)
                clicks.append(time.perf_counter() - began)
                later = time.monotonic() + 0.3
                wait(lambda later=later: time.monotonic() > later)  # type: ignore[misc]
            stalls.append(max((stall.busy for stall in watch.stalls), default=0.0))
    finally:
        dock.shut()
    return clicks[-_MEASURED:], stalls[-_MEASURED:]


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192, help="rows and columns")
    parser.add_argument("--objects", type=int, default=30, help="how many discs are clicked")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Not among the sessions of whoever runs this.
        os.environ[FOLDER_VARIABLE] = folder
        import napari

        viewer = napari.Viewer(show=True)
        viewer.window.resize(1300, 760)
        clicks, stalls = measure(viewer, given.side, given.objects)
        viewer.close()
    sys.stdout.write(f"{machine()}\n{given.side} x {given.side} pixels, {given.objects} objects\n")
    for what, found in (("click to mask", clicks), ("longest stall of the window", stalls)):
        sys.stdout.write(f"{what}: median {np.median(found) * 1e3:.0f} ms, longest {max(found) * 1e3:.0f} ms\n")


if __name__ == "__main__":
    main()

"""Whether the window freezes: stalls of the event loop during a propagation, and how long a click takes.

Run: ``python -m benchmarks.stalls [--slices 200] [--side 512] [--objects 3] [--json FILE]``, on a screen (or under
``xvfb-run -a``). A stack of noise with bright tubes is annotated with the embedded model: each tube is clicked, then
all are propagated while the slider goes up and down. A stall is a time in which the event loop did not turn. Beside the
time by the clock it is said how long the main thread had the processor, since on a busy machine it waits for it, and
how much of that was spent in this package or in what it called. With ``--steps`` everything is done that concerns a
whole stack at once: export, fill, smooth, merge, split, undo, labels that are taken over, save, finish, open.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._machine import machine
from benchmarks._steps import Step, carry_out
from benchmarks._watch import Watch
from napari_medsam2.widgets.kept import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._watch import Stall

__all__ = ["Measured", "measure", "tubes"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run gave; seconds.

    Parameters
    ----------
    opening : float
        Until the dock is in the window.
    loading : float
        From there until the model is loaded.
    clicks : tuple of float
        From each click on a slice that was encoded before until its mask is in the Labels layer.
    propagation : float
        The whole of it.
    slices : int
        Masks that it gave.
    stalls : tuple of Stall
        All over 20 ms, during the propagation.
    steps : tuple of Step
        What was done to the whole stack afterwards.
    """

    opening: float
    loading: float
    clicks: tuple[float, ...]
    propagation: float
    slices: int
    stalls: tuple[Stall, ...]
    steps: tuple[Step, ...] = ()

    @property
    def worst(self) -> float:
        """The longest time in which this package held the main thread's processor within one stall."""
        return max((stall.busy * stall.share for stall in self.stalls), default=0.0)


def tubes(slices: int, side: int, count: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A stack ``(slices, side, side)`` uint8 with bright tubes, and where they are on each slice's middle row."""
    rng = np.random.default_rng(0)
    out = rng.integers(20, 60, (slices, side, side), dtype=np.uint8)
    y, x = np.ogrid[:side, :side]
    middles = [(side / 2, side * (k + 0.5) / count) for k in range(count)]
    for index in range(slices):
        for k, (my, mx) in enumerate(middles):
            r = side / (3.2 * count) * (1 + 0.15 * np.sin(index / 9 + k))
            out[index][(y - my - 6 * np.sin(index / 15)) ** 2 + (x - mx) ** 2 < r * r] += 140
    return out, middles


def measure(
    viewer: Any, slices: int = 200, side: int = 512, objects: int = 3, pace: int = 150, steps: bool = False
) -> Measured:
    """Carry it out in a viewer that is shown; ``pace``: milliseconds between two moves of the slider."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from napari_medsam2.widgets.dock import MedSam2Dock

    def wait(condition: Callable[[], bool], seconds: float = 1800) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("it takes too long")
            QApplication.processEvents()
            time.sleep(0.0005)

    image, middles = tubes(slices, side, objects)
    viewer.add_image(image, name="tubes", contrast_limits=(0, 255))
    QApplication.processEvents()
    began = time.perf_counter()
    dock = MedSam2Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Medical SAM 2", area="right")
    QApplication.processEvents()
    opening = time.perf_counter() - began
    wait(lambda: dock.bench.backend.loaded)
    loading = time.perf_counter() - began - opening
    try:
        annotation = dock.bench.annotate(viewer.layers["tubes"])
        annotation.show(slices // 2)
        here = slices // 2
        clicks = []
        for my, mx in middles:
            label = annotation.new_object()
            # The first question encodes the slice; another object's finds it encoded.
            for _ in range(2):
                began = time.perf_counter()
                annotation.prompting.points(label, here, [(my, mx)], [1])
                wait(lambda: not annotation.prompting.busy)
                np.asarray(annotation.masks.layer.data[here])
                clicks.append(time.perf_counter() - began)
        wait(lambda: annotation.session.folder is not None)
        turn = QTimer()
        turn.setInterval(pace)
        # As napari's slider does: what napari itself needs for another slice is not ours.
        turn.timeout.connect(lambda: viewer.dims.set_current_step(0, (annotation.index + 7) % slices))
        began = time.perf_counter()
        with Watch() as watch:
            annotation.propagate()
            turn.start()
            wait(lambda: not annotation.running.busy)
            annotation.reviewing.next()
            wait(lambda: annotation.reviewing.known)
            turn.stop()
        took = time.perf_counter() - began
        results = annotation.session.results
        count = sum(len(results.indices(label)) for label in annotation.session.objects)
        done = carry_out(dock.bench, wait) if steps else ()
    finally:
        dock.shut()
    return Measured(opening, loading, tuple(clicks[1:]), took, count, tuple(watch.stalls), tuple(done))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _report(found: Measured, slices: int, side: int, objects: int) -> None:
    print(machine())
    what = f"{slices} slices of {side}×{side}, {objects} objects"
    print(f"{what}: {found.slices} masks in {found.propagation:.1f} s")
    print(f"dock open after {found.opening:.2f} s, model loaded {found.loading:.2f} s later")
    middle = float(np.median(found.clicks))
    print(f"click to mask on an encoded slice: median {_ms(middle)}, longest {_ms(max(found.clicks))}")
    over = [stall for stall in found.stalls if stall.busy > 0.05]
    ours = sum(stall.busy * stall.share > 0.05 for stall in over)
    print(f"stalls of over 50 ms: {len(over)}, of this package: {ours}; its longest {_ms(found.worst)}")
    for stall in sorted(found.stalls, key=lambda one: -one.busy * one.share)[:8]:
        times = f"{_ms(stall.wall)} by the clock, {_ms(stall.busy)} busy"
        print(f"  {times}, {stall.share:.0%} of it ours ({stall.samples} samples)")
        for name, times_seen in stall.where.most_common(4):
            print(f"      {times_seen:3d} {name}")
    for step in found.steps:
        worst = step.longest
        what = "" if worst is None else f"; {worst.where.most_common(2)}"
        print(f"  {step.name}: longest stall of this package {_ms(step.worst)}{what}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="do everything that concerns a whole stack as well")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Not among the sessions of whoever runs this.
        os.environ[FOLDER_VARIABLE] = folder
        _run(given)


def _run(given: argparse.Namespace) -> None:
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1300, 760)
    found = measure(viewer, given.slices, given.side, given.objects, steps=given.steps)
    _report(found, given.slices, given.side, given.objects)
    if given.json:
        data = {
            "machine": machine(), "opening": found.opening, "loading": found.loading, "clicks": found.clicks,
            "propagation": found.propagation, "masks": found.slices, "worst": found.worst,
            "stalls": [(s.wall, s.busy, s.share) for s in found.stalls],
            "steps": {step.name: step.worst for step in found.steps},
        }  # fmt: skip
        given.json.write_text(json.dumps(data, indent=1))
    viewer.close()


if __name__ == "__main__":
    main()

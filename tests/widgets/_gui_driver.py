"""A person's session in a process of its own, which is killed in the midst of a propagation."""

from __future__ import annotations

import sys
import time

import napari
import numpy as np
from tests.widgets.driving import click, wait_until
from tests.widgets.monkey import SlowDummy

import napari_medsam2.backend
from napari_medsam2.widgets.dock import MedSam2Dock


def main() -> None:
    napari_medsam2.backend.load_backend = lambda *_, **__: SlowDummy(side=24)
    image = np.full((400, 40, 48), 20, np.uint8)
    image[:, 8:24, 10:30] = 210
    viewer = napari.Viewer(show=True)
    viewer.add_image(image, name="cells", contrast_limits=(0, 255))
    dock = MedSam2Dock(viewer)
    viewer.window.add_dock_widget(dock, area="right")
    wait_until(lambda: dock.bench.backend.loaded, 60)
    annotation = dock.bench.annotate(viewer.layers["cells"])
    viewer.dims.set_point(0, 3)
    wait_until(lambda: annotation.session.folder is not None, 60)
    click(viewer, (3.0, 15.0, 20.0))
    wait_until(lambda: not annotation.prompting.busy, 60)
    dock.propagate.go.click()
    wait_until(lambda: len(annotation.session.results.indices(annotation.label)) > 12, 60)
    sys.stdout.write("here\n")
    sys.stdout.flush()
    # Until it is killed.
    wait_until(lambda: not annotation.running.busy, 60)
    time.sleep(60)


if __name__ == "__main__":
    main()

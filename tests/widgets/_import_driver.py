"""A fresh napari in which Annotate is pressed once the dock is at rest: prints what was imported by that."""

from __future__ import annotations

import sys

import napari
import numpy as np
from tests.dummy import DummyBackend
from tests.widgets.driving import wait_until

import napari_medsam2.backend
from napari_medsam2.widgets.dock import MedSam2Dock

_HEAVY = {"pandas", "scipy", "skimage", "torch", "dask", "zarr"}


def main() -> None:
    napari_medsam2.backend.load_backend = lambda *_, **__: DummyBackend(side=24)
    viewer = napari.Viewer(show=True)
    viewer.add_image(np.full((6, 40, 48), 20, np.uint8), name="cells")
    dock = MedSam2Dock(viewer)
    viewer.window.add_dock_widget(dock, area="right")
    wait_until(lambda: "pandas" in sys.modules, 60)
    rested: list[object] = []
    dock.bench.worker.submit(object, rested.append, lane="io")
    wait_until(lambda: bool(rested), 60)
    before = set(sys.modules)
    dock.image.start.click()
    assert dock.bench.annotation is not None
    late = {name for name in set(sys.modules) - before if name.split(".")[0] in _HEAVY}
    sys.stdout.write(f"late: {sorted(late)}\n")
    dock.shut()
    viewer.close()


if __name__ == "__main__":
    main()

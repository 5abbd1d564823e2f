"""Objects merged, split, mended, interpolated and tracked: pure functions that return what changes.

Each takes `Results` and gives `Changes`, which ``session.edit`` makes one step that can be undone. Where only one slice
or its neighbours matter, only those are in memory.
"""

from __future__ import annotations

from napari_medsam2.objects._between import between, interpolate
from napari_medsam2.objects._changes import Changes, in_window
from napari_medsam2.objects._shape import fill_holes, remove_small, smooth
from napari_medsam2.objects._split import instances, merge, split_components, split_touching
from napari_medsam2.objects._track import link, track

__all__ = [
    "Changes",
    "between",
    "fill_holes",
    "in_window",
    "instances",
    "interpolate",
    "link",
    "merge",
    "remove_small",
    "smooth",
    "split_components",
    "split_touching",
    "track",
]

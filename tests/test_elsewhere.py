"""The benchmark that changes images: image and reference must still be of the same place afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.elsewhere import CHANGES, View

SIZES = {"a third as large": 1 / 3, "half as large": 1 / 2, "twice as large": 2, "four times as large": 4}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_objects_stay_where_the_image_shows_them(name: str, channels: int) -> None:
    y, x = np.ogrid[:90, :120]
    labels = np.zeros((90, 120), np.uint16)
    labels[(y - 30) ** 2 + (x - 40) ** 2 < 18**2] = 3
    labels[70:90, 90:115] = 4  # cut by the edge
    shown = np.where(labels > 0, 0.8, 0.2).astype(np.float32)
    view = CHANGES[name](View(np.repeat(shown[None], channels, 0), labels))

    assert view.pixels.shape[1:] == view.labels.shape
    assert view.pixels.min() >= 0
    assert view.pixels.max() <= 1
    inside = view.labels == 3
    around = np.zeros_like(inside)
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    margin = max(2, len(rows) // 4)
    around[rows[0] - margin : rows[-1] + margin + 1, columns[0] - margin : columns[-1] + margin + 1] = True
    grey = view.pixels.mean(0)
    # The object is told from what is around it, to within a pixel of its outline, by a threshold half way.
    halfway = (grey[inside].mean() + grey[around & ~inside].mean()) / 2
    found = (grey > halfway) if name != "inverted" else (grey < halfway)
    wrong = np.count_nonzero((found != inside) & around)
    assert wrong < 0.08 * np.count_nonzero(inside), (wrong, np.count_nonzero(inside))

    expected = np.count_nonzero(labels == 3) * SIZES.get(name, 1) ** 2
    assert np.count_nonzero(inside) == pytest.approx(expected, rel=0.05)
    cut = np.count_nonzero(view.labels == 4)
    assert cut == (0 if name == "part of a larger picture" else pytest.approx(500 * SIZES.get(name, 1) ** 2, rel=0.05))

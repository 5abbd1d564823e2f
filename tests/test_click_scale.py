from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage
from tests.conftest import dice

from napari_medsam2 import AnnotationSession, ImageStack

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend


def _colony(degrees: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fifty dark rods side by side, a pixel apart, as bacteria grow: the image ``(256, 256)`` and its labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256] - 128.0
    angle = np.deg2rad(degrees)
    across = rows * np.cos(angle) + columns * np.sin(angle)
    along = columns * np.cos(angle) - rows * np.sin(angle)
    labels = np.zeros((256, 256), np.int32)
    for i in range(10):
        shift = rng.uniform(-8, 8)
        for j in range(5):
            beyond = np.maximum(np.abs(along - (j - 2) * 27 - shift) - 9, 0)
            labels[np.hypot(across - (i - 4.5) * 9, beyond) <= 4] = 5 * i + j + 1
    image = ndimage.gaussian_filter(np.where(labels > 0, 90.0, 150.0), 1) + rng.normal(0, 4, labels.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def test_a_click_among_packed_cells_gives_the_cell_and_not_the_colony(backend: Backend) -> None:
    asked = right = 0
    for degrees, seed in ((45, 1), (60, 2)):
        image, labels = _colony(degrees, seed)
        session = AnnotationSession(ImageStack(image, "YX"), backend=backend)
        for value in range(1, 51, 3):
            y, x = np.argwhere(labels == value).mean(0)
            result = session.add_points(session.add_object(), 0, [(y, x)], [1])
            asked += 1
            right += dice(result.mask, labels == value) > 0.5
    assert asked == 34
    assert right >= 32


@pytest.mark.parametrize("radius", [12, 60, 250])
def test_a_click_in_the_middle_of_a_large_even_object_gives_all_of_it(backend: Backend, radius: int) -> None:
    rows, columns = np.mgrid[:1024, :1024]
    disc = (rows - 500) ** 2 + (columns - 530) ** 2 <= radius**2
    session = AnnotationSession(ImageStack(np.where(disc, 160, 60).astype(np.uint8), "YX"), backend=backend)
    result = session.add_points(session.add_object(), 0, [(500, 530)], [1])
    assert dice(result.mask, disc) > 0.95

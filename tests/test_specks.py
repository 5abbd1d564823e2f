from __future__ import annotations

import numpy as np
import pytest
from skimage.morphology import remove_small_holes, remove_small_objects

from napari_medsam2.specks import without_specks


def logits_of(mask: np.ndarray) -> np.ndarray:
    """Logits of a mask, no two alike."""
    size = 1 + np.random.default_rng(0).random(mask.shape, np.float32)
    return np.where(mask, size, -size)


def disc(radius: float, y: float = 30, x: float = 40) -> np.ndarray:
    rows, columns = np.ogrid[:60, :90]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def test_crumbs_and_pinholes_go_and_the_rest_stays() -> None:
    body = disc(15)
    mask = body.copy()
    mask[5:7, 80] = True
    mask[0, 0] = mask[59, 89] = True
    mask[28, 40:43] = False
    logits = logits_of(mask)
    out = without_specks(logits)
    np.testing.assert_array_equal(out > 0, body)
    np.testing.assert_array_equal(np.abs(out), np.abs(logits))


def test_pieces_and_holes_that_are_large_enough_stay() -> None:
    mask = disc(12) | disc(1, 10, 75)
    mask &= ~disc(1)
    logits = logits_of(mask)
    assert without_specks(logits) is logits


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_scikit_image_makes_of_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = disc(20) ^ (rng.random((60, 90)) < 0.04)
    crumbs = mask & ~remove_small_objects(mask, max_size=3, connectivity=2)
    holes = remove_small_holes(mask, max_size=3, connectivity=1) & ~mask
    np.testing.assert_array_equal(without_specks(logits_of(mask)) > 0, (mask & ~crumbs) | holes)


def test_what_was_clicked_is_meant() -> None:
    mask = disc(15)
    mask[5:7, 80] = True
    mask[29:31, 40] = False
    logits = logits_of(mask)
    points = np.array([[5.4, 80.4], [29.6, 40.4], [-3.0, 500.0]])
    assert without_specks(logits, points) is logits
    np.testing.assert_array_equal(without_specks(logits, points[:1]) > 0, disc(15) | mask)


def test_of_a_mask_of_few_pixels_none_is_a_speck() -> None:
    for mask in (
        disc(0) | disc(0, 10, 75),
        disc(1) | disc(1, 10, 75),
        np.zeros((60, 90), bool),
        np.ones((60, 90), bool),
    ):
        logits = logits_of(mask)
        assert without_specks(logits) is logits
    mask = disc(3)
    mask[3, 3] = True
    np.testing.assert_array_equal(without_specks(logits_of(mask)) > 0, disc(3))

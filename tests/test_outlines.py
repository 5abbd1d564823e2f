from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_medsam2 import _rle
from napari_medsam2._outlines import crops, fill_window, is_hole, outlines, polygons

if TYPE_CHECKING:
    from collections.abc import Iterable

_MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def fill(paths: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The polygons on a whole slice."""
    out = np.zeros(shape, bool)
    window, mask = fill_window(paths, shape)
    out[window] = mask
    return out


@given(_MASKS)
def test_outlines_give_the_mask_back(mask: np.ndarray) -> None:
    paths = outlines(mask)
    np.testing.assert_array_equal(fill(paths, mask.shape), mask)
    for path in paths:
        steps = np.abs(np.diff(np.concatenate([path, path[:1]]), axis=0))
        assert ((steps == 0).sum(1) == 1).all(), "along the edges of pixels, with a corner at every point"


@given(_MASKS)
def test_polygons_cover_the_mask_once_and_have_no_holes(mask: np.ndarray) -> None:
    total = np.zeros(mask.shape, int)
    for path in polygons(mask):
        assert not is_hole(path)
        total += fill([path], mask.shape)
    np.testing.assert_array_equal(total, mask)


@given(_MASKS)
def test_outlines_count_pieces_and_holes(mask: np.ndarray) -> None:
    from scipy.ndimage import label

    paths = outlines(mask)
    pieces = label(mask)[1]
    gaps = label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))[1] - 1
    assert sum(not is_hole(path) for path in paths) == pieces
    assert sum(is_hole(path) for path in paths) == gaps


@given(_MASKS, st.integers(0, 3), st.integers(0, 3))
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray, top: int, left: int) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    whole = np.pad(mask, ((top, 2), (left, 1)))
    counts = _rle.encode(mask, top, left, whole.shape)
    assert _rle.pack(counts) == coco.encode(np.asfortranarray(whole.astype(np.uint8)))["counts"].decode()
    assert _rle.unpack(_rle.pack(counts)) == counts
    window, found = _rle.decode(counts, whole.shape)
    again = np.zeros_like(whole)
    again[window] = found
    np.testing.assert_array_equal(again, whole)
    if whole.any():
        assert found[0].any()
        assert found[-1].any()
        assert found[:, 0].any()
        assert found[:, -1].any()


def test_windows_of_objects_with_large_labels() -> None:
    labels = np.zeros((9, 12), np.uint32)
    labels[2:4, 3:9], labels[5, 5], labels[8, 0] = 2**31 - 1, 7, 7
    found = {label: (top, left, mask) for label, top, left, mask in crops(labels)}
    assert list(found) == [7, 2**31 - 1]
    assert found[2**31 - 1][:2] == (2, 3)
    assert found[2**31 - 1][2].all()
    assert found[2**31 - 1][2].shape == (2, 6)
    top, left, mask = found[7]
    assert (top, left, mask.shape, mask.sum()) == (5, 0, (4, 6), 2)
    assert list(crops(np.zeros((3, 3), np.uint16))) == []
    ((label, *_, full),) = crops(np.full((3, 3), 4, np.uint16))
    assert label == 4
    assert full.all()


def test_slanted_polygons_take_the_pixels_whose_centres_they_hold() -> None:
    triangle = np.array([(0, 0), (0, 10), (10, 0)])
    y, x = np.mgrid[:10, :12]
    np.testing.assert_array_equal(fill([triangle], (10, 12)), x + 0.5 + y + 0.5 < 10)
    # What lies beyond the slice is cut off.
    np.testing.assert_array_equal(
        fill([np.array([(-5, -5), (-5, 3), (20, 3), (20, -5)])], (4, 6)), np.mgrid[:4, :6][1] < 3
    )


@given(st.lists(st.lists(st.tuples(st.integers(-5, 25), st.integers(-5, 25)), min_size=3, max_size=8), max_size=3))
def test_polygons_are_drawn_in_their_window_as_pixel_by_pixel(polygons: list[list[tuple[int, int]]]) -> None:
    # At tenths of pixels no centre lies on a border, where it is anybody's.
    paths = [np.array([(y + 0.13, x + 0.27) for y, x in polygon]) for polygon in polygons]
    shape = (17, 20)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for path in paths:
        for (y0, x0), (y1, x1) in zip(path, np.roll(path, -1, 0), strict=True):
            if y0 != y1:
                inside ^= ((y0 <= y) != (y1 <= y)) & (x >= x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    (rows, columns), mask = fill_window(paths, shape)
    drawn = np.zeros(shape, bool)
    drawn[rows, columns] = mask
    np.testing.assert_array_equal(drawn, inside)
    np.testing.assert_array_equal(fill(paths, shape), inside)
    for sides, axis in ((rows, 0), (columns, 1)):
        reach = [edge for path in paths for edge in path[:, axis].clip(0, shape[axis])]
        assert sides.stop - sides.start <= (max(reach) - min(reach) + 2 if reach else 0)

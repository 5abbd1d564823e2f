from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_medsam2.geometry import View, ViewSpec, mask_box, plan_region, whole_slice

views = st.builds(
    View,
    top=st.integers(-40, 200),
    left=st.integers(-40, 200),
    height=st.integers(8, 300),
    width=st.integers(8, 300),
    side=st.sampled_from([64, 192, 256]),
)


@given(views, st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=1, max_size=5))
def test_points_come_back_exactly(view: View, points: list[tuple[float, float]]) -> None:
    np.testing.assert_allclose(view.to_slice(view.to_view(points)), points, atol=1e-9)


@given(views)
def test_the_windows_edges_are_the_views_edges(view: View) -> None:
    box = (view.top - 0.5, view.left - 0.5, view.top + view.height - 0.5, view.left + view.width - 0.5)
    np.testing.assert_allclose(view.box_to_view(box), (-0.5, -0.5, view.side - 0.5, view.side - 0.5), atol=1e-9)


@pytest.mark.parametrize("view", [View(10, 20, 64, 64, 128), View(10, 20, 60, 30, 128), View(0, 0, 100, 100, 64)])
def test_what_is_cut_lies_where_the_map_says(view: View) -> None:
    """Bilinear interpolation keeps linear functions, so a ramp's values tell where each view pixel was taken."""
    rows, columns = np.mgrid[:120, :130].astype(np.float32)
    seen = view.cut(np.stack([rows, columns, rows])).numpy()
    inner = slice(4, view.side - 4)
    at = np.stack(np.meshgrid(np.arange(view.side), np.arange(view.side), indexing="ij"), -1)
    expected = view.to_slice(at)
    np.testing.assert_allclose(seen[0][inner, inner], expected[inner, inner, 0], atol=0.06)
    np.testing.assert_allclose(seen[1][inner, inner], expected[inner, inner, 1], atol=0.06)


@given(views)
def test_what_is_cut_in_parts_is_what_is_cut_at_once(view: View) -> None:
    pixels = np.random.default_rng(0).random((3, 1100, 230), np.float32)
    tall = View(view.top, view.left, view.height * 4, view.width, view.side)
    assume(tall.top + tall.height > 0 and tall.left + tall.width > 0)
    seen = tall.cut_parts(lambda rows, columns: pixels[:, rows, columns], (1100, 230))
    torch.testing.assert_close(seen, tall.cut(pixels), atol=1e-5, rtol=0)


def test_a_view_of_the_same_size_is_the_image() -> None:
    image = np.random.default_rng(0).random((3, 50, 60), dtype=np.float32)
    np.testing.assert_array_equal(View(5, 7, 32, 32, 32).cut(image).numpy(), image[:, 5:37, 7:39])


def test_beyond_the_slice_the_view_is_black() -> None:
    view = View(-16, -8, 64, 64, 64)
    seen = view.cut(np.ones((3, 40, 200), np.float32)).numpy()
    assert seen[:, :16].max() == 0
    assert seen[:, 56:].max() == 0
    assert seen[:, :, :8].max() == 0
    assert seen[:, 16:56, 8:].min() == 1


@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_logits_come_back_to_where_they_were_seen(resolution: int) -> None:
    view, shape = View(-6, 30, 80, 80, 256), (60, 90)
    centres = (np.arange(resolution) + 0.5) * 256 / resolution - 0.5
    grid = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1)
    ramp = view.to_slice(grid)[..., 0] * 2 + view.to_slice(grid)[..., 1]
    top, left, placed = view.paste(torch.from_numpy(ramp), shape)
    assert (top, left) == (0, 30)
    assert placed.shape == (60, 60)
    rows, columns = np.mgrid[0:60, 30:90]
    inner = (slice(4, -4), slice(4, -4))
    # Averaging where it shrinks moves a ramp of slope 2 by at most this: a twentieth of a pixel.
    np.testing.assert_allclose(placed[inner], (rows * 2 + columns)[inner], atol=0.12)


def test_a_mask_seen_and_placed_back_is_the_same_mask() -> None:
    mask = np.zeros((90, 70), bool)
    mask[20:50, 31:66] = True
    view = plan_region(mask.shape, (19.5, 30.5, 49.5, 65.5), ViewSpec(256))
    top, left, placed = view.paste(view.cut_mask(mask) - 0.5, mask.shape)
    back = np.zeros_like(mask)
    back[top : top + placed.shape[0], left : left + placed.shape[1]] = placed > 0
    np.testing.assert_array_equal(back, mask)


@given(
    st.integers(40, 2000), st.integers(40, 2000), st.floats(0, 1), st.floats(0, 1), st.floats(2, 300), st.floats(2, 300)
)
def test_regions_show_the_object_inside_the_slice(h: int, w: int, fy: float, fx: float, bh: float, bw: float) -> None:
    bh, bw = min(bh, h), min(bw, w)
    y, x = fy * (h - bh) - 0.5, fx * (w - bw) - 0.5
    box = (y, x, y + bh, x + bw)
    spec = ViewSpec(256)
    view = plan_region((h, w), box, spec)
    assert view.contains(box)
    assert view.height == view.width
    if view != whole_slice((h, w), spec) and view.height <= min(h, w):
        assert view.top >= 0
        assert view.left >= 0
        assert view.top + view.height <= h
        assert view.left + view.width <= w
    if spec.smallest < max(bh, bw) / spec.fraction < 0.6 * max(h, w):
        assert 0.25 <= view.fill(box) <= 0.5


def test_neighbours_share_a_view() -> None:
    spec = ViewSpec(256)
    boxes = [(100 + dy, 100 + dx, 120 + dy, 121 + dx) for dy in (0.0, 1.0) for dx in (0.0, 1.0)]
    assert len({plan_region((512, 512), b, spec) for b in boxes}) < len(boxes)


def test_whole_slices_are_letterboxed_or_stretched() -> None:
    assert whole_slice((100, 61), ViewSpec(256)) == View(0, -19, 100, 100, 256)
    assert whole_slice((100, 61), ViewSpec(1024, stretch=True)) == View(0, 0, 100, 61, 1024)
    assert plan_region((2000, 2000), (5, 5, 9, 9), ViewSpec(1024, regions=False)) == whole_slice(
        (2000, 2000), ViewSpec(1024, regions=False)
    )


def test_mask_box() -> None:
    mask = np.zeros((9, 9), bool)
    assert mask_box(mask) is None
    mask[2:5, 3] = True
    assert mask_box(mask) == (1.5, 2.5, 4.5, 3.5)

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points

from napari_medsam2 import ImageStack, InputError
from napari_medsam2.widgets.coordinates import Frame, LayerSpec, choices, guess_axes, spacing_of, stack_of
from napari_medsam2.widgets.stack_array import StackArray


def _shown(layer: Any) -> Any:
    """What napari has sliced for display."""
    return np.asarray(layer._slice.image.raw)


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    """An image whose pixels say which slice they are of."""
    outer = int(np.prod(shape[:-2], dtype=int))
    return np.broadcast_to(np.arange(outer, dtype=np.float32).reshape(*shape[:-2], 1, 1), shape).copy()


def _viewer(data: Any, **kwargs: Any) -> tuple[ViewerModel, Image]:
    viewer = ViewerModel()
    return viewer, viewer.add_image(data, contrast_limits=(0, 1), **kwargs)


# -- what a layer is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kwargs", "axes"),
    [
        ((20, 30), {}, "YX"),
        ((20, 30, 3), {"rgb": True}, "YX"),
        ((9, 20, 30), {}, "ZYX"),
        ((3, 20, 30), {}, "CYX"),
        ((3, 20, 30), {"scale": (4, 1, 1)}, "ZYX"),
        ((9, 20, 30, 3), {"rgb": True}, "NYX"),
        ((7, 9, 20, 30), {}, "TZYX"),
        ((2, 9, 20, 30), {}, "CZYX"),
        ((9, 2, 20, 30), {}, "ZCYX"),
        ((7, 9, 20, 30, 3), {"rgb": True}, "TZYX"),
        ((7, 9, 2, 20, 30), {}, "TZCYX"),
        ((7, 2, 9, 20, 30), {}, "TCZYX"),
        ((5, 7, 9, 20, 30), {}, "NTZYX"),
        ((9, 20, 30), {"axis_labels": ("t", "y", "x")}, "TYX"),
        ((3, 20, 30), {"axis_labels": ("Depth", "row", "column")}, "ZYX"),
        ((20, 30, 9), {"axis_labels": ("y", "x", "z")}, "YXZ"),
        ((9, 20, 30), {"axis_labels": ("foo", "y", "x")}, "ZYX"),
        ((9, 20, 30), {"metadata": {"axes": "NYX"}}, "NYX"),
        ((9, 20, 30, 3), {"rgb": True, "metadata": {"axes": "TYXC"}}, "TYX"),
        ((9, 20, 30), {"metadata": {"axes": "TZYX"}}, "ZYX"),
    ],
)
def test_the_axes_are_guessed_and_come_first(shape: tuple[int, ...], kwargs: dict[str, Any], axes: str) -> None:
    layer = Image(np.zeros(shape, np.uint8), **kwargs)
    assert guess_axes(layer) == axes
    offered = choices(layer)
    assert offered[0] == axes
    assert len(set(offered)) == len(offered)
    for each in offered:
        assert stack_of(layer, each).raw(0).ndim in (2, 3)
    if layer.ndim == 4 and not layer.rgb:
        assert {"TZYX", "ZCYX", "CZYX", "NCYX", "TCYX"} <= set(offered)


def test_too_many_axes_are_refused() -> None:
    layer = Image(np.zeros((1,) * 7))
    with pytest.raises(InputError, match="7 axes; only images with 2 to 6"):
        guess_axes(layer)
    with pytest.raises(InputError, match="leave out the C"):
        LayerSpec.of(Image(np.zeros((4, 5, 6, 3), np.uint8), rgb=True, name="he"), "CYX")
    with pytest.raises(InputError, match="names 2 axes but he has 3"):
        Frame(Image(np.zeros((4, 5, 6)), name="he"), "YX", ViewerModel().dims)


def test_a_stack_of_each_kind_of_layer() -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 255, (4, 5, 2, 12, 14)).astype(np.uint16)
    stack = stack_of(Image(data), "TZCYX", channel=1, window=(0, 255))
    assert (stack.axes, stack.shape, stack.display) == ("TZCYX", (4, 5, 12, 14), ((0, 255), (1,)))
    np.testing.assert_array_equal(stack.raw(7), np.moveaxis(data[1, 2], 0, -1))
    np.testing.assert_allclose(stack.pixels(7)[0], data[1, 2, 1] / 255, atol=1e-6)

    colour = rng.integers(0, 255, (4, 12, 14, 3)).astype(np.uint8)
    stack = stack_of(Image(colour, rgb=True, name="he"), "NYX")
    assert (stack.name, stack.axes, stack.is_collection) == ("he", "NYXC", True)
    np.testing.assert_array_equal(stack.raw(3), colour[3])

    stack = stack_of(Image([data, data[..., ::2, ::2]], multiscale=True), "TZCYX", name="pyramid")
    assert (stack.name, stack.shape) == ("pyramid", (4, 5, 12, 14))
    assert stack.fingerprint() == stack_of(Image(data), "TZCYX").fingerprint()


def test_dask_and_zarr_stay_unread() -> None:
    import dask.array as da
    import zarr

    reads: list[int] = []

    def block(block_info: Any = None) -> np.ndarray:
        index = block_info[None]["array-location"][0][0]
        reads.append(index)
        return np.full((1, 16, 16), index, np.uint8)

    lazy = da.map_blocks(  # type: ignore[no-untyped-call]
        block, chunks=((1,) * 9, (16,), (16,)), dtype=np.uint8, meta=np.empty((0,) * 3, np.uint8)
    )
    layer = Image(lazy, contrast_limits=(0, 9))
    reads.clear()
    stack = stack_of(layer, "ZYX")
    assert reads == []
    assert stack.raw(5)[3, 3] == 5
    assert reads == [5]
    stored = zarr.create_array({}, shape=(6, 8, 9), chunks=(1, 8, 9), dtype="uint16")
    stored[:] = np.arange(6, dtype=np.uint16)[:, None, None]
    stack = stack_of(Image(stored, contrast_limits=(0, 9)), "ZYX")
    assert stack.raw(4)[0, 0] == 4


@pytest.mark.parametrize(
    ("kwargs", "spacing"),
    [
        ({}, None),
        ({"scale": (5, 0.5, 0.5), "units": ("um", "um", "um")}, {"z": 5, "y": 0.5, "x": 0.5, "unit": "um"}),
        ({"scale": (2, 500, 500), "units": ("um", "nm", "nm")}, {"z": 2000, "y": 500, "x": 500, "unit": "nm"}),
        ({"scale": (2, -1, 1)}, {"z": 2, "y": 1, "x": 1, "unit": "pixel"}),
        ({"rotate": 30, "scale": (2, 2, 2), "units": ("mm",) * 3}, {"z": 2, "y": 2, "x": 2, "unit": "mm"}),
        ({"affine": np.diag([3, 2, 2, 1]), "units": ("mm",) * 3}, {"z": 3, "y": 2, "x": 2, "unit": "mm"}),
    ],
)
def test_spacing(kwargs: dict[str, Any], spacing: dict[str, Any] | None) -> None:
    layer = Image(np.zeros((5, 6, 7)), **kwargs)
    found = spacing_of(layer, "ZYX")
    assert found == (spacing if spacing is None else pytest.approx(spacing))
    assert stack_of(layer, "ZYX").spacing == found


def test_the_spacing_of_a_film_is_that_of_its_pixels() -> None:
    layer = Image(np.zeros((5, 6, 7)), scale=(30, 2, 2), units=("s", "um", "um"), axis_labels=("t", "y", "x"))
    assert spacing_of(layer, "TYX") == {"y": 2, "x": 2, "unit": "um"}


# -- places ------------------------------------------------------------------------------------------------------------

_SMALL = st.floats(-50, 50, allow_nan=False)
_SCALE = st.floats(0.05, 20).flatmap(lambda size: st.sampled_from([size, -size]))


@st.composite
def _layers(draw: st.DrawFn) -> tuple[np.ndarray, str, dict[str, Any]]:
    axes, shape = draw(
        st.sampled_from(
            [
                ("YX", (20, 30)),
                ("ZYX", (7, 20, 30)),
                ("NYX", (7, 20, 30)),
                ("TZYX", (3, 5, 20, 30)),
                ("ZCYX", (5, 3, 20, 30)),
                ("TCZYX", (3, 2, 5, 20, 30)),
            ]
        )
    )
    n = len(axes)
    kwargs: dict[str, Any] = {
        "scale": [draw(_SCALE) for _ in range(n)],
        "translate": [draw(_SMALL) for _ in range(n)],
    }
    plane = np.eye(n + 1)
    if draw(st.booleans()):
        angle = draw(st.floats(-180, 180))
        turn = np.eye(n)
        turn[-2:, -2:] = [
            [np.cos(np.radians(angle)), -np.sin(np.radians(angle))],
            [np.sin(np.radians(angle)), np.cos(np.radians(angle))],
        ]
        kwargs["rotate"] = turn
    if draw(st.booleans()):
        shear = np.eye(n)
        shear[-2, -1] = draw(st.floats(-2, 2))
        kwargs["shear"] = shear
    if draw(st.booleans()):
        plane[n - 2 : n, n - 2 : n] = [[draw(st.floats(0.2, 3)), draw(st.floats(-1, 1))], [0, draw(st.floats(0.2, 3))]]
        plane[:n, n] = [draw(_SMALL) for _ in range(n)]
        kwargs["affine"] = plane
    return np.zeros(shape, np.uint8), axes, kwargs


@settings(max_examples=40)
@given(_layers(), st.data(), st.integers(0, 2))
def test_there_and_back(made: tuple[np.ndarray, str, dict[str, Any]], data: st.DataObject, extra: int) -> None:
    image, axes, kwargs = made
    viewer, layer = _viewer(image, **kwargs)
    if extra:
        # Another layer with more axes than the image.
        viewer.add_points(np.full((1, image.ndim + extra), 400.0))
    frame = Frame(layer, axes, viewer.dims)
    index = data.draw(st.integers(0, frame.spec.length - 1))
    y, x = data.draw(st.floats(-0.49, 19.49)), data.draw(st.floats(-0.49, 29.49))
    world = frame.to_world(index, y, x)
    assert world.shape == (viewer.dims.ndim,)
    assert frame.to_stack(world) == pytest.approx((index, y, x), abs=1e-6)
    # Napari agrees.
    coordinates = frame.to_layer(index, y, x)
    np.testing.assert_allclose(layer.data_to_world(coordinates), world[extra:], atol=1e-6)
    np.testing.assert_allclose(layer.world_to_data(world), coordinates, atol=1e-5)
    assert frame.from_layer(coordinates) == pytest.approx((index, y, x))
    assert frame.index_at(world) == index


@settings(max_examples=25)
@given(_layers(), st.data())
def test_layers_like_the_image_lie_where_it_lies(
    made: tuple[np.ndarray, str, dict[str, Any]], data: st.DataObject
) -> None:
    image, axes, kwargs = made
    viewer, layer = _viewer(image, **kwargs)
    frame = Frame(layer, axes, viewer.dims)
    for other in (Labels(image, **frame.like()), Points(np.zeros((1, image.ndim)), **frame.like())):
        place = [data.draw(_SMALL) for _ in range(image.ndim)]
        np.testing.assert_allclose(other.data_to_world(place), layer.data_to_world(place), atol=1e-9)


def test_like_carries_labels_and_units() -> None:
    viewer, layer = _viewer(
        np.zeros((4, 5, 6)), scale=(3, 2, 1), units=("um",) * 3, axis_labels=("z", "y", "x"), rotate=20
    )
    labels = Labels(np.zeros((4, 5, 6), np.uint8), **Frame(layer, "ZYX", viewer.dims).like())
    assert labels.axis_labels == ("z", "y", "x")
    assert labels.units == layer.units


@pytest.mark.parametrize("axes", ["ZYX", "TZYX", "ZCYX", "TCZYX"])
@pytest.mark.parametrize("scale", [1.0, 0.37, -2.5])
def test_the_slice_is_the_one_that_napari_shows(axes: str, scale: float) -> None:
    shape = {"T": 3, "Z": 5, "C": 2, "Y": 4, "X": 6}
    image = _numbered(tuple(shape[letter] for letter in axes))
    viewer, layer = _viewer(
        image, scale=[scale] * (len(axes) - 2) + [2, 2], translate=[11.3] * len(axes), units=["um"] * len(axes)
    )
    stack = stack_of(layer, axes)
    frame = Frame(layer, axes, viewer.dims)
    for index in itertools.chain(range(len(stack)), [2, 0, 4]):
        viewer.dims.current_step = frame.step_to(index)
        assert frame.index == frame.index_at(viewer.dims.point) == index
        raw = stack.raw(index)
        assert _shown(layer)[0, 0] in np.atleast_1d(raw[0, 0])
        viewer.dims.point = tuple(bounds.start for bounds in viewer.dims.range)
        frame.show(index)
        assert frame.index == index
        assert _shown(layer)[0, 0] in np.atleast_1d(raw[0, 0])
        np.testing.assert_array_equal(image[frame.key(index)].reshape(-1, 4, 6)[0], np.atleast_3d(raw)[..., 0])


def test_the_channel_slider_does_not_change_the_slice() -> None:
    viewer, layer = _viewer(_numbered((5, 3, 8, 8)))
    frame = Frame(layer, "ZCYX", viewer.dims)
    viewer.dims.current_step = (2, 2, 0, 0)
    assert frame.index == 2
    # What is shown stays on that channel.
    assert frame.to_layer(4, 1, 1).tolist() == [4, 2, 1, 1]
    assert frame.to_layer(4, 1, 1, channel=0).tolist() == [4, 0, 1, 1]
    assert frame.step_to(4) == (4, 2, *viewer.dims.current_step[2:])
    assert frame.key(3) == (3, slice(None), slice(None), slice(None))


def test_colours_and_pictures() -> None:
    viewer, layer = _viewer(np.zeros((5, 20, 30, 3), np.uint8), rgb=True)
    frame = Frame(layer, "NYX", viewer.dims)
    assert frame.spec.stack_axes == "NYXC"
    assert frame.to_stack((3, 4, 5)) == (3, 4, 5)
    viewer, layer = _viewer(np.zeros((20, 30), np.uint8))
    frame = Frame(layer, "YX", viewer.dims)
    assert (frame.index, frame.to_stack((4.25, 5)), frame.step_to(0)) == (0, (0, 4.25, 5), viewer.dims.current_step)


def test_rows_and_columns_in_front() -> None:
    image = np.zeros((8, 9, 5))
    viewer, layer = _viewer(image)
    frame = Frame(layer, "YXZ", viewer.dims)
    assert frame.displayed(viewer.dims) is not None
    viewer.dims.order = (2, 0, 1)
    assert frame.displayed(viewer.dims) is None
    viewer.dims.current_step = frame.step_to(3)
    assert viewer.dims.current_step[2] == 3
    assert frame.to_stack((2, 7, 3)) == (3, 2, 7)
    assert frame.key(3) == (slice(None), slice(None), 3)


def test_multiscale_is_measured_in_the_largest_level() -> None:
    levels = [np.zeros((5, 64, 64)), np.zeros((5, 32, 32))]
    viewer, layer = _viewer(levels, multiscale=True, scale=(2, 0.5, 0.5))
    frame = Frame(layer, "ZYX", viewer.dims)
    assert frame.slice_shape(2) == (64, 64)
    assert frame.to_stack((4, 16, 20)) == (2, 32, 40)


def test_units_of_the_viewer_are_not_those_of_the_layer() -> None:
    viewer, layer = _viewer(_numbered((6, 20, 30)), scale=(0.002, 0.001, 0.001), units=("mm",) * 3)
    frame = Frame(layer, "ZYX", viewer.dims)
    assert frame.to_stack((0.004, 0.005, 0.006)) == pytest.approx((2, 5, 6))
    # With a layer in micrometres beside it, napari's world is in micrometres.
    viewer.add_image(np.zeros((6, 20, 30)), scale=(2, 1, 1), units=("um",) * 3, contrast_limits=(0, 1))
    if getattr(viewer.dims, "units", None) is None:
        pytest.skip("this napari has no units of the world")
    assert frame.to_stack((4, 5, 6)) == pytest.approx((2, 5, 6))
    np.testing.assert_allclose(frame.to_world(2, 5, 6), (4, 5, 6))
    for index in (3, 0, 5):
        frame.show(index)
        assert frame.index == index
        assert _shown(layer)[0, 0] == index
        viewer.dims.current_step = frame.step_to(index)
        assert _shown(layer)[0, 0] == index


def test_other_layers_with_other_scales() -> None:
    viewer, layer = _viewer(_numbered((7, 20, 30)), scale=(2, 1, 1))
    viewer.add_image(np.zeros((9, 20, 30)), scale=(2, 1, 1), translate=(-1, 0, 0), contrast_limits=(0, 1))
    viewer.add_image(np.zeros((2, 3, 9, 20, 30)), scale=(1, 1, 3, 1, 1), contrast_limits=(0, 1))
    frame = Frame(layer, "ZYX", viewer.dims)
    viewer.dims.current_step = (1, 2, 0, 0, 0)
    for index in range(7):
        frame.show(index)
        assert frame.index == index
        assert _shown(layer)[0, 0] == index
        assert viewer.dims.current_step[:2] == (1, 2)
        assert frame.to_stack(frame.to_world(index, 3, 4)) == (index, 3, 4)
    finer = ViewerModel()
    layer = finer.add_image(_numbered((7, 20, 30)), scale=(2, 1, 1), contrast_limits=(0, 1))
    finer.add_image(np.zeros((30, 20, 30)), scale=(0.5, 1, 1), contrast_limits=(0, 1))
    frame = Frame(layer, "ZYX", finer.dims)
    for index in range(7):
        finer.dims.current_step = frame.step_to(index)
        assert _shown(layer)[0, 0] == index


def test_a_rotation_out_of_the_plane_is_drawn_as_napari_draws_it() -> None:
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    with warnings.catch_warnings():
        # "Non-orthogonal slicing is being requested".
        warnings.simplefilter("ignore", UserWarning)
        viewer, layer = _viewer(_numbered((9, 20, 30)), affine=turn, scale=(2, 1, 1))
        frame = Frame(layer, "ZYX", viewer.dims)
        # Napari's slider does not reach those at the ends.
        for index in (2, 3, 6):
            world = frame.to_world(index, 7, 11)
            assert frame.to_stack(world) == pytest.approx((index, 7, 11))
            frame.show(index)
            assert _shown(layer)[0, 0] == index
            # Where VispyBaseLayer._on_matrix_change draws row 7 and column 11.
            drawn = layer._data_to_world.set_slice([1, 2])([7, 11])
            assert frame.to_stack((viewer.dims.point[0], *drawn)) == pytest.approx((index, 7, 11))


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ((2, 25, 5), "row 25 is outside the image, which has 20"),
        ((2, -0.6, 5), "row -1 is outside"),
        ((2, 5, 29.6), "column 30 is outside the image, which has 30"),
        ((9, 5, 5), "depth 9 is outside the image, which has 7, numbered from 0; move the slider"),
        ((-1, 5, 5), "depth -1 is outside"),
        ((5, 5), "the position has 2 numbers, but the image has 3 axes"),
    ],
)
def test_places_outside_are_named(world: tuple[float, ...], message: str) -> None:
    viewer, layer = _viewer(np.zeros((7, 20, 30)))
    frame = Frame(layer, "ZYX", viewer.dims)
    with pytest.raises(InputError, match=message):
        frame.to_stack(world)


def test_places_beside_the_slice_can_be_moved_to_its_edge() -> None:
    viewer, layer = _viewer(np.zeros((7, 20, 30)))
    frame = Frame(layer, "ZYX", viewer.dims)
    assert frame.to_stack((2, -7, 44), clip=True) == (2, -0.5, 29.5)
    assert frame.to_stack((2, 3, 4), clip=True) == (2, 3, 4)
    assert frame.to_stack((2, -0.5, 29.49)) == (2, -0.5, 29.49)
    with pytest.raises(InputError, match="depth 8"):
        frame.to_stack((8, 3, 4), clip=True)
    assert frame.index_at((8, 3, 4)) is None


def test_views_in_which_prompts_make_no_sense() -> None:
    viewer, layer = _viewer(np.zeros((3, 7, 20, 30)))
    frame = Frame(layer, "TZYX", viewer.dims)
    assert frame.displayed(viewer.dims) is None
    viewer.dims.ndisplay = 3
    assert "switch to 2-D" in str(frame.displayed(viewer.dims))
    viewer.dims.ndisplay = 2
    viewer.dims.transpose()
    assert "rows and columns swapped" in str(frame.displayed(viewer.dims))
    viewer.dims.transpose()
    viewer.dims.roll()
    assert "shows depth and row instead of row and column" in str(frame.displayed(viewer.dims))
    viewer.dims.order = (0, 2, 1, 3)
    assert frame.displayed(viewer.dims) == (
        "the viewer shows depth and column instead of row and column; press the button that changes the order of the "
        "axes, below the layer list, until the slices are back to prompt them"
    )
    viewer.dims.order = (1, 0, 2, 3)
    assert frame.displayed(viewer.dims) is None
    # A layer with more axes comes in front.
    viewer.add_image(np.zeros((2, 3, 7, 20, 30)), contrast_limits=(0, 1))
    assert frame.displayed(viewer.dims) is None


@settings(max_examples=25)
@given(st.permutations(range(4)), st.integers(0, 20), st.floats(0, 19), st.floats(0, 29))
def test_whatever_the_order_of_the_axes_places_are_right(order: list[int], index: int, y: float, x: float) -> None:
    """A view that is refused would not misplace anything either."""
    viewer, layer = _viewer(np.zeros((3, 7, 20, 30)), scale=(1, 3, 2, 2), translate=(0, 5, 6, 7))
    frame = Frame(layer, "TZYX", viewer.dims)
    viewer.dims.order = order
    assert frame.to_stack(frame.to_world(index, y, x)) == pytest.approx((index, y, x))


# -- pictures of different sizes ---------------------------------------------------------------------------------------


def _pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(1, 255, size).astype(np.uint8) for size in ((20, 30), (12, 44), (33, 9))]


def test_padded_pictures_are_an_array() -> None:
    pictures = _pictures()
    padded = StackArray(ImageStack(pictures, names=["a", "b", "c"]))
    whole = np.zeros((3, 33, 44), np.uint8)
    for row, picture in zip(whole, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    assert (padded.shape, padded.ndim, padded.dtype, padded.rgb, len(padded)) == (
        whole.shape,
        3,
        np.dtype(np.uint8),
        False,
        3,
    )
    assert (padded.size, padded.nbytes) == (whole.size, whole.nbytes)
    np.testing.assert_array_equal(np.asarray(padded), whole)
    keys: list[Any] = [
        1, -1, np.int64(2), slice(None), slice(0, 2), slice(None, None, -1), (1, slice(3, 9)), (1, slice(None), 4),
        (slice(1, None), slice(None, None, 2), slice(5)), (Ellipsis, 3), ([0, 2], 5), (np.array([True, False, True]),),
        (slice(None), 3, 4), Ellipsis, (2, 3, 4), (np.array([], int),),
    ]  # fmt: skip
    for key in keys:
        np.testing.assert_array_equal(padded[key], whole[key], err_msg=str(key))
    with pytest.raises(IndexError, match="no slice 3"):
        padded[3]


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TZYX", "ZCYX", "CTZYX", "ZYXC"])
def test_a_stack_as_an_array(axes: str) -> None:
    sizes = {"T": 3, "Z": 4, "C": 2, "Y": 5, "X": 6}
    data = np.random.default_rng(0).integers(0, 999, [sizes[letter] for letter in axes]).astype(np.uint16)
    array = StackArray(ImageStack(data, axes))
    own = array.axes
    assert sorted(own) == sorted(axes)
    assert own.endswith("CYX" if "C" in axes else "YX")
    whole = data.transpose([axes.index(letter) for letter in own])
    assert (array.shape, array.dtype, array.rgb) == (whole.shape, whole.dtype, False)
    keys: list[Any] = [
        0, -1, slice(None), slice(1, None), (0, slice(None)), Ellipsis, (Ellipsis, 2), (Ellipsis, slice(1, 3), 0),
        (slice(None), 0), slice(0, 0), [0, 1], None, (0, Ellipsis, slice(None, None, 2)), tuple([1] * whole.ndim),
    ]  # fmt: skip
    for key in keys:
        np.testing.assert_array_equal(array[key], whole[key], err_msg=f"{key}")
    layer = Image(array, contrast_limits=(0, 999))
    assert guess_axes(layer) == own
    assert stack_of(layer, own).axes == axes
    assert stack_of(layer, own, window=(0, 99)).fingerprint() == ImageStack(whole, own).fingerprint()


def test_padded_colours_and_types() -> None:
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 255, (10, 12, 3)).astype(np.uint8)
    opaque = np.concatenate([colour, np.full((10, 12, 1), 255, np.uint8)], axis=2)[:8]
    grey = colour[..., 0]
    padded = StackArray(ImageStack([colour, opaque, grey]))
    assert (padded.shape, padded.rgb, padded.dtype) == ((3, 10, 12, 3), True, np.dtype(np.uint8))
    np.testing.assert_array_equal(padded[0], colour)
    np.testing.assert_array_equal(padded[1, :8], colour[:8])
    np.testing.assert_array_equal(padded[2], np.repeat(grey[..., None], 3, axis=2))
    mixed = ImageStack([grey, (grey[:5].astype(np.uint16) * 100)])
    padded = StackArray(mixed)
    assert (padded.dtype, padded.shape) == (np.dtype(np.float32), (2, 10, 12))
    np.testing.assert_array_equal(padded[1, :5], mixed.pixels(1)[0])


def test_only_what_is_shown_is_read() -> None:
    reads: list[int] = []

    class Lazy:
        dtype = np.dtype(np.uint8)

        def __init__(self, number: int) -> None:
            self.number, self.shape = number, (10 + number, 20)

        def __getitem__(self, key: Any) -> np.ndarray:
            reads.append(self.number)
            part: np.ndarray = np.full(self.shape, self.number, np.uint8)[key]
            return part

    padded = StackArray(ImageStack([Lazy(n) for n in range(50)]))
    assert reads == []
    for _ in range(3):
        assert padded[7, 0, 0] == 7
    assert reads == [7]
    reads.clear()
    viewer = ViewerModel()
    layer = viewer.add_image(padded, contrast_limits=(0, 50))
    assert layer.data is padded
    assert len(set(reads)) <= 2
    reads.clear()
    viewer.dims.current_step = (31, 0, 0)
    assert set(reads) == {31}
    assert _shown(layer).shape == (59, 20)


def test_a_padded_layer_is_a_collection() -> None:
    pictures = _pictures()
    stack = ImageStack(pictures, names=["a", "b", "c"])
    viewer = ViewerModel()
    layer = viewer.add_image(StackArray(stack), contrast_limits=(0, 255))
    assert guess_axes(layer) == "NYX"
    assert choices(layer) == ["NYX"]
    assert stack_of(layer, "NYX") is stack
    windowed = stack_of(layer, "NYX", window=(0, 100))
    assert (windowed.window, windowed.names, windowed.fingerprint()) == ((0, 100), stack.names, stack.fingerprint())
    frame = Frame(layer, "NYX", viewer.dims)
    assert frame.slice_shape(1) == (12, 44)
    assert frame.to_stack((1, 11, 43)) == (1, 11, 43)
    with pytest.raises(InputError, match="row 12 is outside the image, which has 12"):
        frame.to_stack((1, 12, 3))
    assert frame.to_stack((2, 30, 40), clip=True) == (2, 30, 8.5)


def test_a_layer_that_is_moved_is_followed() -> None:
    viewer, layer = _viewer(np.zeros((7, 20, 30)))
    frame = Frame(layer, "ZYX", viewer.dims)
    for change, value in [
        ("scale", (2, 3, 4)), ("translate", (1, 2, 3)), ("rotate", 30), ("shear", (0, 0, 0.5)),
        ("affine", np.diag([1, 2, 2, 1])), ("scale", (1, 1, 1)),
    ]:  # fmt: skip
        setattr(layer, change, value)
        assert frame.to_stack(layer.data_to_world((3, 4, 5))) == pytest.approx((3, 4, 5)), change

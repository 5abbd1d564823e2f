from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_medsam2 import ImageStack, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RNG = np.random.default_rng(0)
SIZES = {"T": 2, "Z": 3, "N": 4, "Y": 6, "X": 5, "C": 3}


def array(axes: str, dtype: str = "uint16") -> NDArray[Any]:
    shape = tuple(SIZES[letter] for letter in axes)
    return RNG.integers(0, 200, shape).astype(dtype)


def expected(data: NDArray[Any], axes: str, coords: dict[str, int]) -> NDArray[Any]:
    """One slice, by einsum's reading of the axes instead of the stack's."""
    order = [letter for letter in axes if letter not in "YXC"] + [letter for letter in "YXC" if letter in axes]
    moved = np.einsum(f"{axes}->{''.join(order)}", data)
    found: NDArray[Any] = moved[tuple(coords[letter] for letter in order if letter not in "YXC")]
    return found


@pytest.mark.parametrize(
    "axes",
    [
        "YX",
        "YXC",
        "CYX",
        "ZYX",
        "TYX",
        "NYX",
        "ZYXC",
        "ZCYX",
        "CZYX",
        "TZYX",
        "TZCYX",
        "TZYXC",
        "NTZYX",
        "ZTYX",
        "YXZ",
        "XYZ",
    ],
)
def test_every_slice_of_every_axis_order(axes: str) -> None:
    data = array(axes)
    stack = ImageStack(data, axes=axes)
    letters = [letter for letter in axes if letter not in "YXC"]
    assert stack.axes == axes
    assert stack.shape == (*tuple(SIZES[letter] for letter in letters), 6, 5)
    assert len(stack) == np.prod([SIZES[letter] for letter in letters], dtype=int)
    for index in range(len(stack)):
        coords = stack.unravel(index)
        assert stack.ravel(coords) == index
        assert stack.slice_shape(index) == (6, 5)
        raw = stack.raw(index)
        assert raw.dtype == data.dtype
        assert raw.flags.c_contiguous
        np.testing.assert_array_equal(raw, expected(data, axes, dict(zip(letters, coords, strict=True))))


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((6, 5), "uint16", "YX"),
        ((6, 5, 3), "uint8", "YXC"),
        ((6, 5, 4), "uint8", "YXC"),
        ((6, 5, 3), "uint16", "ZYX"),
        ((3, 6, 5), "uint8", "ZYX"),
        ((2, 6, 5, 3), "uint8", "ZYXC"),
        ((2, 6, 5, 4), "float32", "ZYXC"),
        ((2, 3, 6, 5), "uint8", "TZYX"),
        ((2, 3, 2, 6, 5), "uint16", "TZCYX"),
        ((2, 3, 6, 5, 3), "uint8", "TZYXC"),
    ],
)
def test_axes_are_guessed(shape: tuple[int, ...], dtype: str, axes: str) -> None:
    assert ImageStack(np.ones(shape, dtype)).axes == axes


def test_lower_case_axes() -> None:
    assert ImageStack(array("ZYX"), axes="zyx").axes == "ZYX"


def test_a_picture_and_a_stack_of_one_slice() -> None:
    picture, stack = ImageStack(array("YX")), ImageStack(array("YX")[None], axes="ZYX")
    assert (len(picture), picture.shape, picture.unravel(0), picture.runs()) == (1, (6, 5), (), (range(1),))
    assert (len(stack), stack.shape, stack.unravel(0), stack.runs()) == (1, (1, 6, 5), (0,), (range(1),))
    assert picture.ravel(()) == 0


@pytest.mark.parametrize(
    ("axes", "runs"),
    [
        ("ZYX", [[0, 1, 2]]),
        ("TYX", [[0, 1]]),
        ("NYX", [[0, 1, 2, 3]]),
        ("TZYX", [[0, 1, 2], [3, 4, 5]]),
        ("ZTYX", [[0, 2, 4], [1, 3, 5]]),
        ("NTYX", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("TZYXC", [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_runs(axes: str, runs: list[list[int]]) -> None:
    assert [list(run) for run in ImageStack(array(axes), axes=axes).runs()] == runs


@pytest.mark.parametrize(
    ("axes", "shape", "runs"),
    [
        ("TZYX", (3, 1), [[0, 1, 2]]),
        ("ZTYX", (1, 3), [[0, 1, 2]]),
        ("TCZYX", (3, 2, 1), [[0, 1, 2]]),
        ("NTZYX", (2, 3, 1), [[0, 1, 2], [3, 4, 5]]),
        ("NZYX", (2, 1), [[0, 1]]),
        ("TZYX", (1, 3), [[0, 1, 2]]),
        ("TZYX", (1, 1), [[0]]),
    ],
)
def test_runs_pass_over_axes_of_one_slice(axes: str, shape: tuple[int, ...], runs: list[list[int]]) -> None:
    stack = ImageStack(np.zeros((*shape, 4, 5), np.uint8), axes)
    assert [list(run) for run in stack.runs()] == runs


@given(st.permutations("TZN"), st.integers(0, 3))
def test_runs_cover_every_slice_once(letters: list[str], count: int) -> None:
    stack = ImageStack(array("".join(letters[:count]) + "YX"), axes="".join(letters[:count]) + "YX")
    assert sorted(index for run in stack.runs() for index in run) == list(range(len(stack)))
    for run in stack.runs():
        moving = {axis for i in run for axis, c in enumerate(stack.unravel(i)) if c != stack.unravel(run[0])[axis]}
        assert len(moving) <= 1


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "uint64", "float16", "float32", "float64"]
)
def test_pixels_of_every_type(dtype: str) -> None:
    data = RNG.integers(0, 2 if dtype == "bool" else 100, (4, 32, 32)).astype(dtype)
    pixels = ImageStack(data, axes="ZYX").pixels(1)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.float32
    assert pixels.min() == 0
    assert pixels.max() == 1
    np.testing.assert_array_equal(pixels[0], pixels[2])
    # The order of the grey values is kept.
    flat, shown = data[1].astype(float).ravel(), pixels[0].ravel()
    assert np.all(np.diff(shown[np.argsort(flat, kind="stable")]) >= 0)


def test_big_endian_arrays_come_in_native_order() -> None:
    data = array("ZYX").astype(">u2")
    raw = ImageStack(data, axes="ZYX").raw(1)
    assert raw.dtype.isnative
    np.testing.assert_array_equal(raw, data[1])


def test_raw_is_a_copy() -> None:
    data = array("ZYX")
    before = data.copy()
    ImageStack(data, axes="ZYX").raw(0)[:] = 0
    np.testing.assert_array_equal(data, before)


def test_8_bit_colour_is_shown_as_it_is() -> None:
    data = array("ZYXC", "uint8")
    np.testing.assert_allclose(ImageStack(data).pixels(2), data[2].transpose(2, 0, 1) / 255, atol=1e-7)


def test_opacity_is_dropped() -> None:
    colour = array("ZYXC", "uint8")
    data = np.concatenate([colour, np.full_like(colour[..., :1], 7)], axis=3)
    np.testing.assert_array_equal(ImageStack(data).pixels(0), ImageStack(colour).pixels(0))
    assert ImageStack(data).raw(0).shape == (6, 5, 4)


def test_deep_colour_keeps_its_hue() -> None:
    data = np.zeros((1, 64, 64, 3), "uint16")
    data[..., 0] = np.arange(64 * 64).reshape(64, 64)
    data[..., 1] = data[..., 0] // 2
    stack = ImageStack(data)
    assert stack.window is not None
    red, green, blue = stack.pixels(0)
    inside = (red > 0) & (red < 1)
    np.testing.assert_allclose(green[inside], red[inside] / 2, atol=2e-3)
    assert blue.max() == 0


def test_channels_are_windowed_and_mixed() -> None:
    dim, bright = np.zeros((40, 40), "uint16"), np.zeros((40, 40), "uint16")
    dim[5:15, 5:15], bright[20:30, 20:30] = 50, 5000
    two = ImageStack(np.stack([dim, bright])[None], axes="ZCYX")
    pixels = two.pixels(0)
    # Both objects are seen in grey, however different their exposures.
    assert pixels[:, 10, 10].tolist() == [1, 1, 1]
    assert pixels[:, 25, 25].tolist() == [1, 1, 1]
    assert pixels[:, 35, 35].tolist() == [0, 0, 0]
    assert two.window is None
    assert len(two.windows(0)) == 2
    three = ImageStack(np.stack([dim, bright, dim * 0])[None], axes="ZCYX").pixels(0)
    assert three[:, 10, 10].tolist() == [1, 0, 0]
    assert three[:, 25, 25].tolist() == [0, 1, 0]


def test_channels_are_chosen() -> None:
    data = RNG.integers(0, 999, (2, 5, 30, 30)).astype("uint16")
    alone = ImageStack(data[:, 4], axes="ZYX").pixels(1)
    np.testing.assert_array_equal(ImageStack(data, axes="ZCYX", channel=4).pixels(1), alone)
    chosen = ImageStack(data, axes="ZCYX", channel=[4, 0, 1]).pixels(1)
    np.testing.assert_array_equal(chosen[0], alone[0])
    np.testing.assert_array_equal(chosen[1], ImageStack(data[:, 0], axes="ZYX").pixels(1)[0])


def test_one_channel_of_colour() -> None:
    data = array("ZYXC", "uint8")
    np.testing.assert_allclose(ImageStack(data, channel=1).pixels(0)[2], data[0, ..., 1] / 255, atol=1e-7)


class Counting:
    """An array that counts how many pixels were asked of it, and can be told to fail."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data, self.read = data, 0
        self.shape, self.dtype = data.shape, data.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        part: NDArray[Any] = self.data[key]
        self.read += part.size
        return part


def test_exactly_one_slice_is_read() -> None:
    lazy = Counting(array("TZCYX"))
    stack = ImageStack(lazy, axes="TZCYX")
    assert (stack.shape, stack.slice_shape(3), lazy.read) == ((2, 3, 6, 5), (6, 5), 0)
    stack.raw(4)
    assert lazy.read == 3 * 6 * 5


@pytest.mark.parametrize(("side", "slices"), [(8, 64), (1024, 32)])
def test_the_window_looks_at_some_slices_once(side: int, slices: int) -> None:
    lazy = Counting(np.broadcast_to(RNG.integers(0, 99, (side, side), dtype=np.uint8), (500, side, side)))
    stack = ImageStack(lazy, axes="ZYX")
    assert stack.window is not None
    assert lazy.read == slices * side**2
    stack.pixels(0)
    stack.pixels(499)
    assert lazy.read == (slices + 2) * side**2


def test_a_picture_of_a_collection_is_read_once_for_window_and_pixels() -> None:
    lazy = Counting(RNG.integers(0, 99, (50, 8, 8)))
    stack = ImageStack(lazy, axes="NYX")
    assert stack.window is None
    stack.pixels(7)
    assert lazy.read == 64


def test_threads_find_the_window_once() -> None:
    lazy = Counting(RNG.integers(0, 99, (500, 8, 8)))
    stack = ImageStack(lazy, axes="ZYX")
    threads = [threading.Thread(target=stack.windows, args=(0,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lazy.read == 64 * 64


def test_dask_arrays_are_computed_slice_by_slice() -> None:
    import dask
    import dask.array as da

    data = array("TZYX")
    seen: list[Any] = []

    def block(block_info: Any = None) -> NDArray[Any]:
        (t, z), seen_at = block_info[None]["chunk-location"][:2], seen
        seen_at.append((t, z))
        found: NDArray[Any] = data[t : t + 1, z : z + 1]
        return found

    lazy = da.map_blocks(  # type: ignore[no-untyped-call]
        block, chunks=((1, 1), (1, 1, 1), (6,), (5,)), dtype=data.dtype, meta=np.zeros((0,) * 4, data.dtype)
    )
    stack = ImageStack(lazy, axes="TZYX")
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(stack.raw(4), data[1, 1])
    assert seen == [(1, 1)]


def test_dask_arrays_are_read_while_another_thread_draws_them() -> None:
    """As a propagation and napari's slider do; napari draws with a cache that listens to what dask computes."""
    pytest.importorskip("cachey")
    dask: Any = pytest.importorskip("dask")
    da: Any = pytest.importorskip("dask.array")
    cache: Any = pytest.importorskip("dask.cache").Cache(1e6)

    began, let_go = threading.Event(), threading.Event()

    def load(index: int) -> Any:
        if index == 0:
            began.set()
            assert let_go.wait(10)
        elif index == 2:
            let_go.set()
            reading.join(10)
        return np.full((4, 5), index, np.uint8)

    planes = [da.from_delayed(dask.delayed(load)(i), (4, 5), np.uint8) for i in range(3)]
    image = da.stack(planes)
    stack, read = ImageStack(image, "ZYX"), []
    reading = threading.Thread(target=lambda: read.append(stack.raw(0)))
    with cache:
        reading.start()
        assert began.wait(10)
        np.asarray(image[1])
    with cache:
        np.testing.assert_array_equal(image[2], np.full((4, 5), 2))
    assert not reading.is_alive()
    np.testing.assert_array_equal(read, np.zeros((1, 4, 5)))


def test_zarr_arrays() -> None:
    import zarr

    data = array("ZYX")
    stack = ImageStack(zarr.array(data, chunks=(1, 6, 5)), axes="ZYX")
    np.testing.assert_array_equal(stack.raw(2), data[2])


def test_a_list_of_pictures_of_different_sizes() -> None:
    grey, colour = array("YX", "uint8"), RNG.integers(0, 255, (9, 7, 3)).astype("uint8")
    stack = ImageStack([grey, colour], names=["grey.png", "colour.png"], name="mixed")
    assert (len(stack), stack.axes, stack.is_collection, stack.uniform) == (2, "NYX", True, False)
    assert (stack.slice_shape(0), stack.slice_shape(1)) == ((6, 5), (9, 7))
    np.testing.assert_array_equal(stack.raw(1), colour)
    assert stack.pixels(0).shape == (3, 6, 5)
    np.testing.assert_allclose(stack.pixels(1), colour.transpose(2, 0, 1) / 255, atol=1e-7)
    assert stack.runs() == (range(2),)
    assert stack.index_of("colour.png") == 1
    with pytest.raises(InputError, match="mixed differ in size"):
        _ = stack.shape
    with pytest.raises(InputError, match="differ in size"):
        stack.require_uniform()


def test_a_list_of_pictures_of_one_size() -> None:
    data = array("NYXC", "uint8")
    stack = ImageStack(list(data))
    assert (stack.axes, stack.shape, stack.uniform, stack.is_collection) == ("NYXC", (4, 6, 5), True, True)
    assert stack.fingerprint() == ImageStack(data, axes="NYXC").fingerprint()
    ordered = ImageStack(list(array("ZYX")), axes="ZYX")
    assert (ordered.axes, ordered.is_collection) == ("ZYX", False)


def test_pictures_of_different_types_keep_them() -> None:
    stack = ImageStack([array("YX", "uint8"), array("YX", "uint16")])
    assert [str(found) for found in (stack.dtype, stack.raw(0).dtype, stack.raw(1).dtype)] == [
        "uint16",
        "uint8",
        "uint16",
    ]


@pytest.mark.parametrize(
    ("axes", "collection"), [("ZYX", False), ("TYX", False), ("NYX", True), ("TZYX", False), ("YX", False)]
)
def test_is_collection(axes: str, collection: bool) -> None:
    assert ImageStack(array(axes), axes=axes).is_collection is collection


def test_index_of_names_what_is_alike() -> None:
    stack = ImageStack(
        array("NYX"), axes="NYX", names=["cell_1.png", "cell_2.png", "tissue.png", "other.png"], name="set"
    )
    assert stack.index_of("tissue.png") == 2
    with pytest.raises(InputError, match=r"no picture 'tisue.png' in set; did you mean tissue.png"):
        stack.index_of("tisue.png")
    with pytest.raises(InputError, match="has no picture names"):
        ImageStack(array("NYX"), axes="NYX").index_of("a.png")


def test_spacing_is_checked_and_copied() -> None:
    given_spacing = {"z": 2, "y": 0.5, "x": 0.5, "unit": "um"}
    stack = ImageStack(array("ZYX"), axes="ZYX", spacing=given_spacing)
    assert stack.spacing == {"z": 2.0, "y": 0.5, "x": 0.5, "unit": "um"}
    stack.spacing["z"] = 7
    assert stack.spacing["z"] == 2
    assert ImageStack(array("ZYX"), axes="ZYX").spacing is None


def test_the_fingerprint_knows_content_shape_and_type() -> None:
    data = array("ZYX")
    base = ImageStack(data, axes="ZYX").fingerprint()
    changed = data.copy()
    changed[2, 5, 4] += 1
    assert len(base) == 64
    assert ImageStack(data.astype(">u2"), axes="ZYX").fingerprint() == base
    assert ImageStack(data.copy(), axes="TYX").fingerprint() == base
    others = [
        ImageStack(changed, axes="ZYX"),
        ImageStack(data.astype("int16"), axes="ZYX"),
        ImageStack(data.reshape(3, 5, 6), axes="ZYX"),
        ImageStack(data[None], axes="TZYX"),
    ]
    assert len({base, *(other.fingerprint() for other in others)}) == 5


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.zeros(5), {}, r"shape \(5,\).*rows and columns"),
        (np.zeros((2,) * 6), {}, "6 axes.*say what they are with axes"),
        (np.zeros((0, 4, 4)), {}, "no pixel"),
        (np.zeros((4, 4), complex), {}, "complex128.*magnitude"),
        (np.zeros((4, 4), object), {}, "object.*convert"),
        (np.full((4, 4), "a"), {}, "convert"),
        (np.zeros((4, 4), "datetime64[s]"), {}, "datetime64"),
        (np.full((3, 4, 4), np.nan), {}, "no finite pixel"),
        (np.full((3, 4, 4), np.inf), {}, "no finite pixel"),
        (np.zeros((3, 4, 4)), {"axes": "ZYQ"}, "unknown letter 'Q'.*Z \\(depth\\)"),
        (np.zeros((3, 4, 4)), {"axes": "ZZX"}, "'Z' twice"),
        (np.zeros((3, 4, 4)), {"axes": "TZX"}, "must have both Y"),
        (np.zeros((3, 4, 4)), {"axes": ""}, "one letter for each axis"),
        (np.zeros((3, 4, 4)), {"axes": 3}, "one letter for each axis"),
        (np.zeros((2, 3, 4, 4)), {"axes": "ZYX"}, r"names 3 axes but the image has 4, with shape \(2, 3, 4, 4\).*TZYX"),
        (np.zeros((4, 4)), {"window": (5, 5)}, "must rise"),
        (np.zeros((4, 4)), {"window": (1, np.inf)}, "must rise"),
        (np.zeros((4, 4)), {"window": 3}, "two numbers"),
        (np.zeros((4, 4)), {"channel": 1}, "no channel 1; the image has 1"),
        (np.zeros((4, 4, 3), "uint8"), {"channel": (0, 3)}, "no channel 3; the image has 3"),
        (np.zeros((4, 4, 3), "uint8"), {"channel": -1}, "no channel -1"),
        (np.zeros((4, 4, 3), "uint8"), {"channel": ()}, "one to three"),
        (np.zeros((4, 4, 3), "uint8"), {"channel": 0.5}, "whole number"),
        (np.zeros((4, 4)), {"spacing": {"z": 0}}, "spacing along z must be a positive"),
        (np.zeros((4, 4)), {"spacing": {"x": "wide"}}, "spacing along x must be a positive"),
        (np.zeros((4, 4)), {"spacing": {"width": 1}}, "unknown key 'width'"),
        (np.zeros((2, 4, 4)), {"axes": "NYX", "names": ["a"]}, "1 names for 2"),
        (np.zeros((2, 4, 4)), {"axes": "NYX", "names": ["a", "a"]}, "name 'a'"),
        ("image.tif", {}, "ImageStack.open"),
        (None, {}, "NoneType"),
        ([], {}, "empty list"),
        ([[1, 2], [3, 4]], {}, "not an array"),
        ([np.zeros((4, 4)), np.zeros((2, 3, 4, 4))], {}, "picture 1.*no picture"),
        ([np.zeros((4, 4)), np.zeros((0, 4))], {}, "picture 1.*no pixel"),
        ([np.zeros((4, 4)), np.zeros((4, 4), complex)], {}, "picture 1.*complex"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], {"axes": "ZYX"}, "2 sizes"),
        ([np.zeros((4, 4))], {"axes": "TZYX"}, "NYX or NYXC"),
        ([np.zeros((4, 4))], {"axes": "NYXC"}, "leave out the C"),
    ],
)
def test_what_cannot_be_a_stack_is_told_in_one_sentence(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ImageStack(data, **options)
    assert "\n" not in str(caught.value)


def test_a_dask_array_of_unknown_shape_is_refused() -> None:
    import dask.array as da

    base = da.ones((4, 5, 5))
    with pytest.raises(InputError, match="compute_chunk_sizes"):
        ImageStack(base[base[:, 0, 0] > 0], axes="ZYX")


@pytest.mark.parametrize("index", [-1, 3, 10**9, 1.0, "0", None])
def test_slices_that_do_not_exist(index: Any) -> None:
    stack = ImageStack(array("ZYX"), axes="ZYX")
    for ask in (stack.raw, stack.pixels, stack.slice_shape, stack.unravel, stack.windows):
        with pytest.raises(InputError, match="slice"):
            ask(index)


@pytest.mark.parametrize("coords", [(0,), (0, 3), (2, 0), (-1, 0), (0, 0, 0), (0.5, 0)])
def test_coordinates_that_do_not_exist(coords: Any) -> None:
    with pytest.raises(InputError, match="slice"):
        ImageStack(array("TZYX"), axes="TZYX").ravel(coords)


def test_an_array_that_fails_to_read_is_told_in_one_sentence() -> None:
    class Broken(Counting):
        def __getitem__(self, key: Any) -> NDArray[Any]:
            raise RuntimeError("no such\nblock")

    with pytest.raises(InputError, match="cannot read slice 1 of lost: no such block"):
        ImageStack(Broken(array("ZYX")), axes="ZYX", name="lost").raw(1)


def test_repr_names_axes_sizes_and_type() -> None:
    assert repr(ImageStack(array("TZYX"), axes="TZYX", name="film")) == "<ImageStack 'film' TZYX 2×3×6×5 uint16>"
    assert "2 pictures of different sizes" in repr(ImageStack([np.ones((3, 3)), np.ones((4, 4))]))


@pytest.mark.parametrize(
    "kind", ["numpy", "zarr", "dask", "tiled", "strips", "one strip", "png", "planes", "collection"]
)
def test_a_part_of_a_slice_is_what_the_slice_has_there(kind: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 200, 320, 3), np.uint8)
    data: Any = image
    if kind == "zarr":
        data = zarr.array(image, chunks=(2, 32, 32, 3))
    elif kind == "dask":
        data = pytest.importorskip("dask.array").from_array(image, chunks=(1, 40, 40, 3))
    options: dict[str, Any] = {
        "tiled": {"tile": (32, 32), "compression": "zlib"},
        "strips": {"rowsperstrip": 8, "compression": "zlib"},
        "one strip": {"compression": "zlib"},
        "planes": {"tile": (32, 32), "compression": "zlib", "planarconfig": "separate"},
    }
    if kind in options:
        pages = image.transpose(0, 3, 1, 2) if kind == "planes" else image
        tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb", **options[kind])
        stack = ImageStack.open(tmp_path / "a.tif", axes=None)
    elif kind == "png":
        Image.fromarray(image[1]).save(tmp_path / "a.png")
        stack = ImageStack.open(tmp_path / "a.png")
    elif kind == "collection":
        stack = ImageStack([image[0], image[1, :150]])
    else:
        stack = ImageStack(data, "ZYXC")
    index = 0 if kind == "png" else 1
    seen, rows, columns = stack.parts(index), slice(70, 131), slice(0, 45)
    np.testing.assert_array_equal(seen(rows, columns), stack.pixels(index)[:, rows, columns])
    np.testing.assert_array_equal(stack.parts(index)(slice(None), slice(None)), stack.pixels(index))

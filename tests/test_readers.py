"""Files written by the formats' own libraries, read back through ImageStack.open."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_medsam2 import ImageStack, InputError
from napari_medsam2.reading.readers import distinct_names
from napari_medsam2.reading.slabs import Slabs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RNG = np.random.default_rng(2)
VOLUME = RNG.integers(0, 4000, (7, 24, 20)).astype("uint16")
COLOUR = RNG.integers(0, 255, (3, 24, 20, 3)).astype("uint8")


def same(stack: ImageStack, data: NDArray[Any]) -> None:
    """The stack has the slices of ``data``, whose leading axes are flattened, and its type."""
    assert stack.dtype == data.dtype
    found = np.stack([stack.raw(i) for i in range(len(stack))])
    np.testing.assert_array_equal(found, data.reshape(found.shape))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_stack(tmp_path: Path, compression: str | None, byteorder: Any) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, VOLUME, compression=compression, byteorder=byteorder, predictor=compression is not None)
    stack = ImageStack.open(path)
    assert (stack.axes, stack.shape, stack.name, stack.path) == ("ZYX", (7, 24, 20), "stack", path)
    assert (stack.spacing, stack.affine, stack.names, stack.is_collection) == (None, None, None, False)
    same(stack, VOLUME)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_tiff_stacks_of_few_slices_are_stacks(tmp_path: Path, count: int) -> None:
    path = tmp_path / "few.tif"
    # tifffile takes 3 or 4 slices for the planes of a colour picture, and warns.
    with pytest.warns(DeprecationWarning) if count in (3, 4) else nothing():
        tifffile.imwrite(path, VOLUME[:count])
    stack = ImageStack.open(path)
    assert (stack.axes, stack.shape) == ("ZYX", (count, 24, 20))
    same(stack, VOLUME[:count])


def nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("metadata", [None, {}])
def test_tiff_written_page_by_page(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in VOLUME:
            writer.write(plane, contiguous=False, compression="zlib", metadata=metadata)
    stack = ImageStack.open(path)
    assert (stack.axes, stack.shape) == ("ZYX", (7, 24, 20))
    same(stack, VOLUME)


def test_tiff_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "appended.tif"
    for plane in VOLUME:
        tifffile.imwrite(path, plane, append=True)
    same(ImageStack.open(path), VOLUME)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_colour(tmp_path: Path, tile: tuple[int, int] | None, compression: str | None) -> None:
    path = tmp_path / "colour.tif"
    tifffile.imwrite(path, COLOUR, photometric="rgb", tile=tile, compression=compression)
    stack = ImageStack.open(path)
    assert (stack.axes, stack.shape) == ("ZYXC", (3, 24, 20))
    same(stack, COLOUR)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_with_colours_in_planes(tmp_path: Path, compression: str | None) -> None:
    with tifffile.TiffWriter(tmp_path / "planes.tif") as writer:
        for picture in COLOUR:
            planes = picture.transpose(2, 0, 1)
            writer.write(planes, photometric="rgb", planarconfig="separate", metadata=None, compression=compression)
    stack = ImageStack.open(tmp_path / "planes.tif")
    assert (stack.axes, stack.shape, stack.window) == ("ZYXC", (3, 24, 20), (0.0, 255.0))
    same(stack, COLOUR)


def test_tiff_of_more_than_32_bits(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "big.tif", VOLUME, bigtiff=True, compression="zlib")
    same(ImageStack.open(tmp_path / "big.tif"), VOLUME)


def test_tiff_with_its_axes_said(tmp_path: Path) -> None:
    data = RNG.integers(0, 99, (2, 3, 5, 24, 20)).astype("float32")
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "TCZYX"}, photometric="minisblack", compression="zlib")
    stack = ImageStack.open(tmp_path / "a.tif")
    assert (stack.axes, stack.shape) == ("TCZYX", (2, 5, 24, 20))
    same(stack, data.transpose(0, 2, 3, 4, 1))


@pytest.mark.parametrize("lead", [(), (2,)])
def test_tiff_whose_blocks_span_slices(tmp_path: Path, lead: tuple[int, ...]) -> None:
    data = RNG.integers(0, 99, (*lead, 32, 48, 64)).astype("uint16")
    tifffile.imwrite(tmp_path / "v.tif", data, volumetric=True, tile=(16, 16, 16), compression="zlib")
    stack = ImageStack.open(tmp_path / "v.tif")
    assert stack.shape == data.shape
    np.testing.assert_array_equal(stack.raw(17), data.reshape(-1, 48, 64)[17])
    same(stack, data)


def shards(path: Path, data: NDArray[Any]) -> None:
    zarr.create_array(path, data=data, chunks=(16, 16, 32), shards=(32, 48, 64))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.tif", lambda path, data: tifffile.imwrite(path, data, volumetric=True, tile=(16, 16, 16), compression=8)),
        ("v.zarr", lambda path, data: zarr.create_array(path, data=data, chunks=(16, 16, 32))),
        ("shards.zarr", shards),
    ],
)
def test_slices_that_were_decoded_together_are_decoded_once(
    tmp_path: Path, name: str, write: Callable[[Path, NDArray[Any]], Any]
) -> None:
    """The pixels are overwritten after one slice was read: its neighbours in the blocks are known, others are gone."""
    data = RNG.integers(1, 99, (32, 48, 64)).astype("uint16")
    write(tmp_path / name, data)
    stack = ImageStack.open(tmp_path / name)
    stack.raw(5)[:] = 0
    for file in [tmp_path / name] if name == "v.tif" else (tmp_path / name / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(bytes(file.stat().st_size))
    np.testing.assert_array_equal([stack.raw(i) for i in range(16)], data[:16])
    with pytest.raises(InputError, match="cannot read slice 16"):
        stack.raw(16)


class Counted:
    """An array that knows how many slices were read at once."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.reads: list[int] = []

    def __getitem__(self, key: Any) -> NDArray[Any]:
        part: NDArray[Any] = self.data[key]
        self.reads.append(part.size // (self.shape[-1] * self.shape[-2]))
        return part.copy()


def test_the_memory_for_slices_that_were_decoded_together_is_bounded() -> None:
    data = RNG.integers(0, 99, (2, 60, 64, 64)).astype("uint16")
    plane = 64 * 64 * 2

    def walk(blocks: tuple[int, ...], planes: int) -> list[int]:
        source = Counted(data)
        tracemalloc.start()
        try:
            stack = ImageStack(Slabs(source, blocks, planes * plane), axes="TZYX")
            for i in range(len(stack)):
                assert (stack.raw(i) == data[divmod(i, 60)]).all()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < (planes + 6) * plane
        return source.reads

    assert walk((1, 32, 16, 16), 100) == [32, 28, 32, 28]
    assert walk((1, 32, 16, 16), 20) == [10, 10, 10, 2, 10, 10, 8] * 2
    assert walk((2, 32, 16, 16), 300) == [64, 56]
    # Where a slice is as large as what may be kept, and where blocks span no slices, nothing is.
    assert walk((2, 32, 16, 16), 1) == walk((1, 1, 64, 64), 100) == [1] * 120


def test_threads_decode_what_they_share_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    source = Counted(VOLUME)
    stack = ImageStack(Slabs(source, (7, 8, 8)), axes="ZYX")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(stack.raw, [*range(7)] * 20))
    np.testing.assert_array_equal(found, np.concatenate([VOLUME] * 20))
    assert source.reads == [7]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_tiff_of_grey_with_opacity_is_grey(tmp_path: Path, deep: bool, planes: bool, extra: str) -> None:
    data = VOLUME[: 3 if deep else 1]
    both = np.stack([data, np.full_like(data, 65535)], axis=1 if planes else -1)
    config: Any = "separate" if planes else "contig"
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in both:
            writer.write(page, planarconfig=config, extrasamples=[extra], photometric="minisblack", metadata=None)
    stack = ImageStack.open(tmp_path / "a.tif")
    if extra == "unspecified":
        # A channel of which the file says nothing may be a stain.
        assert stack.raw(0).shape == (24, 20, 2)
        return
    assert stack.axes == ("ZYX" if deep else "YX")
    same(stack, data)


def test_tiff_of_grey_with_opacity_is_read_as_the_png(tmp_path: Path) -> None:
    picture = Image.merge("LA", [Image.fromarray(COLOUR[0, ..., c].copy()) for c in (0, 1)])
    for suffix in ("tif", "png"):
        picture.save(tmp_path / f"a.{suffix}")
        same(ImageStack.open(tmp_path / f"a.{suffix}"), COLOUR[0, ..., 0])


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_of_printing_inks_has_the_colours_that_pillow_gives(tmp_path: Path, compression: str | None) -> None:
    # Every pair of an ink and black.
    grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).astype("uint8")
    inks = grid[..., [0, 0, 0, 1]]
    inks[..., 1] //= 2
    inks[..., 2] = 255 - inks[..., 2]
    pages = [Image.fromarray(page, mode="CMYK") for page in (inks, inks[::-1].copy())]
    options: Any = {"compression": compression} if compression else {}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], **options)
    stack = ImageStack.open(tmp_path / "a.tif")
    assert (stack.axes, stack.window) == ("ZYXC", (0.0, 255.0))
    same(stack, np.stack([np.asarray(page.convert("RGB")) for page in pages]))


def test_tiff_of_printing_inks_of_16_bits_and_in_planes(tmp_path: Path) -> None:
    inks = RNG.integers(0, 256, (24, 20, 4)).astype("uint8")
    expected = np.asarray(Image.fromarray(inks, mode="CMYK").convert("RGB"))
    planes = inks.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="separated", planarconfig="separate", metadata=None)
    same(ImageStack.open(tmp_path / "p.tif"), expected)
    tifffile.imwrite(tmp_path / "d.tif", inks.astype("uint16") * 257, photometric="separated")
    deep = ImageStack.open(tmp_path / "d.tif").raw(0)
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257, expected, atol=0.51)
    # Other inks are channels, whatever their number.
    tags: Any = [(332, "H", 1, 2, True)]
    tifffile.imwrite(tmp_path / "o.tif", inks, photometric="separated", extratags=tags)
    same(ImageStack.open(tmp_path / "o.tif"), inks)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_with_palettes_has_their_colours(tmp_path: Path, compression: str | None) -> None:
    pages = [Image.fromarray(page).quantize(colours) for page, colours in zip(COLOUR, (8, 30, 200), strict=True)]
    options: Any = {"compression": compression} if compression else {}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], **options)
    stack = ImageStack.open(tmp_path / "a.tif")
    assert (stack.axes, stack.window) == ("ZYXC", (0.0, 255.0))
    same(stack, np.stack([np.asarray(page.convert("RGB")) for page in pages]))
    (tmp_path / "many").mkdir()
    for i, page in enumerate(pages):
        page.save(tmp_path / "many" / f"{i}.tif", **options)
    assert ImageStack.open(tmp_path / "many" / "0.tif").axes == "YXC"
    same(ImageStack.open(tmp_path / "many"), np.stack([np.asarray(page.convert("RGB")) for page in pages]))


def test_tiff_with_a_palette_of_greys_is_grey(tmp_path: Path) -> None:
    places = RNG.integers(0, 256, (5, 24, 20)).astype("uint8")
    greys = RNG.permutation(256).astype("uint16")
    # The second is what programs write that take the map for one of bytes.
    for factor in (257, 1):
        colormap = np.stack([greys * np.uint16(factor)] * 3)
        tifffile.imwrite(tmp_path / "a.tif", places, photometric="palette", colormap=colormap)
        same(ImageStack.open(tmp_path / "a.tif"), greys.astype("uint8")[places])
    # Many planes in one page have one map.
    tifffile.imwrite(tmp_path / "b.tif", places, photometric="palette", colormap=colormap, truncate=True)
    same(ImageStack.open(tmp_path / "b.tif"), greys.astype("uint8")[places])


def test_colours_in_which_imagej_shows_grey_values_are_not_applied(tmp_path: Path) -> None:
    data = RNG.integers(0, 256, (5, 24, 20)).astype("uint8")
    green = np.zeros((3, 256), "uint16")
    green[1] = np.arange(256) * 257
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, photometric="palette", colormap=green, metadata=metadata)
    same(ImageStack.open(tmp_path / "a.tif"), data)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "float16", "float64"])
def test_tiff_types(tmp_path: Path, dtype: str) -> None:
    data = RNG.integers(0, 2, (2, 24, 20)).astype(dtype)
    tifffile.imwrite(tmp_path / "t.tif", data, compression="zlib")
    same(ImageStack.open(tmp_path / "t.tif"), data)


def test_tiff_masks_of_one_bit(tmp_path: Path) -> None:
    mask = RNG.random((24, 20)) > 0.5
    Image.fromarray(mask).save(tmp_path / "mask.tif", compression="group4")
    stack = ImageStack.open(tmp_path / "mask.tif")
    np.testing.assert_array_equal(stack.raw(0), mask)


@pytest.mark.parametrize("unit", ["µm", "nm", "mm"])
def test_ome_tiff(tmp_path: Path, unit: str) -> None:
    data = RNG.integers(0, 4000, (2, 3, 2, 24, 20)).astype("uint16")
    metadata = {"axes": "TZCYX", "PhysicalSizeZ": 2.5, "PhysicalSizeY": 0.25, "PhysicalSizeX": 0.5}
    metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "ZYX"}
    tifffile.imwrite(tmp_path / "cells.ome.tif", data, metadata=metadata, compression="zlib")
    stack = ImageStack.open(tmp_path / "cells.ome.tif")
    assert (stack.axes, stack.shape, stack.name) == ("TZCYX", (2, 3, 24, 20), "cells")
    assert stack.spacing == {"z": 2.5, "y": 0.25, "x": 0.5, "unit": {"µm": "um"}.get(unit, unit)}
    assert len(stack.runs()) == 2
    same(stack, data.transpose(0, 1, 3, 4, 2))


def test_ome_tiff_with_sizes_in_different_units(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm", "PhysicalSizeX": 500}
    metadata |= {"PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "u.ome.tif", VOLUME, metadata=metadata)
    assert ImageStack.open(tmp_path / "u.ome.tif").spacing == pytest.approx(
        {"z": 2000, "y": 500, "x": 500, "unit": "nm"}
    )


def test_imagej_tiff(tmp_path: Path) -> None:
    data = RNG.integers(0, 4000, (2, 3, 2, 24, 20)).astype("uint16")
    metadata = {"axes": "TZCYX", "spacing": 3.0, "unit": "\\u00B5m"}
    tifffile.imwrite(tmp_path / "ij.tif", data, imagej=True, resolution=(4, 2), metadata=metadata)
    stack = ImageStack.open(tmp_path / "ij.tif")
    assert (stack.axes, stack.shape) == ("TZCYX", (2, 3, 24, 20))
    assert stack.spacing == {"z": 3.0, "y": 0.5, "x": 0.25, "unit": "um"}
    same(stack, data.transpose(0, 1, 3, 4, 2))


def test_imagej_tiff_without_a_unit_has_no_spacing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "ij.tif", VOLUME, imagej=True, metadata={"axes": "ZYX"}, resolution=(72, 72))
    stack = ImageStack.open(tmp_path / "ij.tif")
    assert (stack.axes, stack.spacing) == ("ZYX", None)


@pytest.mark.parametrize(
    ("metadata", "resolution", "expected"),
    [
        ({"unit": "um", "spacing": -1.5}, (5, 4, None), {"z": 1.5, "y": 0.25, "x": 0.2, "unit": "um"}),
        ({"unit": "um"}, (50000, 40000, "CENTIMETER"), {"y": 0.25, "x": 0.2, "unit": "um"}),
        ({"unit": "cm", "spacing": 0.1}, (50, 40, "CENTIMETER"), {"z": 0.1, "y": 0.025, "x": 0.02, "unit": "cm"}),
        # ImageJ knows only the one spelling there.
        ({"unit": "micron"}, (5, 4, "CENTIMETER"), {"y": 0.25, "x": 0.2, "unit": "um"}),
        (
            {"unit": "nm", "yunit": "um", "zunit": "um", "spacing": 1.5},
            (1 / 200, 4, None),
            {"z": 1500, "y": 250, "x": 200, "unit": "nm"},
        ),
    ],
)
def test_imagej_tiff_has_the_pixel_size_that_imagej_shows(
    tmp_path: Path, metadata: dict[str, Any], resolution: tuple[float, float, Any], expected: dict[str, Any]
) -> None:
    x, y, unit = resolution
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(
        tmp_path / "ij.tif", VOLUME, imagej=True, resolution=(x, y), resolutionunit=unit, metadata=metadata
    )
    assert ImageStack.open(tmp_path / "ij.tif").spacing == pytest.approx(expected)


def micro_manager(path: Path, data: NDArray[Any], xml: str) -> None:
    """A stack as Micro-Manager writes it: OME-XML and ImageJ's text, pixels per centimetre, a map of the pages."""
    count, height, width = data.shape
    imagej = f"ImageJ=1.51s\nimages={count}\nslices={count}\nunit=um\nspacing=-0.5\n\0".encode()
    summary = json.dumps({"MicroManagerVersion": "2.0.0", "Prefix": path.stem, "Slices": count, "Frames": 1}).encode()
    summary += b" " * (len(summary) % 2)
    out = bytearray(b"II*\0" + struct.pack("<I", 40 + len(summary)) + bytes(32) + summary)
    places: list[int] = []
    link = 0
    for plane in data:
        texts = [text for text in (xml.encode() + b"\0", imagej) if len(text) > 1] if not places else []
        places.append(len(out))
        pixels = len(out) + 2 + 12 * (13 + len(texts)) + 4
        after = pixels + plane.nbytes + 16 + 4
        tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
        tags += [(270, 2, len(t), after + sum(map(len, texts[:i]))) for i, t in enumerate(texts)]
        tags += [(273, 4, 1, pixels), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, plane.nbytes)]
        tags += [(282, 5, 1, after - 20), (283, 5, 1, after - 12), (296, 3, 1, 3), (51123, 2, 4, after - 4)]
        if link:
            struct.pack_into("<I", out, link, len(out))
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(out)
        # A pixel of 0.125 µm.
        out += bytes(4) + plane.astype("<u2").tobytes() + struct.pack("<4I", 80000, 1, 80000, 1) + b"{} \0"
        out += b"".join(texts)
        out += bytes(len(out) % 2)
    struct.pack_into("<8I", out, 8, 54773648, len(out), 0, 0, 0, 0, 2355492, len(summary))
    out += struct.pack("<II", 3453623, count)
    out += b"".join(struct.pack("<5I", 0, i, 0, 0, place) for i, place in enumerate(places))
    path.write_bytes(out)


OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'
OME_PIXELS = (
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="20" SizeY="24" SizeZ="7" '
    'SizeC="1" SizeT="1" PhysicalSizeX="0.125" PhysicalSizeY="0.125" PhysicalSizeZ="0.5"><TiffData/></Pixels></Image>'
)


@pytest.mark.parametrize(
    "xml",
    [OME.format(OME_PIXELS), OME.format('<BinaryOnly MetadataFile="first.ome.tif" UUID="urn:uuid:0"/>'), ""],
    ids=["first position", "other positions", "without OME"],
)
def test_micro_manager_files_have_their_pixel_size(tmp_path: Path, xml: str) -> None:
    micro_manager(tmp_path / "cells_MMStack_Pos0.ome.tif", VOLUME, xml)
    with tifffile.TiffFile(tmp_path / "cells_MMStack_Pos0.ome.tif") as tif:
        assert tif.series[0].kind == "mmstack"
    stack = ImageStack.open(tmp_path / "cells_MMStack_Pos0.ome.tif")
    assert stack.axes == "ZYX"
    assert stack.spacing == {"z": 0.5, "y": 0.125, "x": 0.125, "unit": "um"}
    same(stack, VOLUME)


@pytest.mark.parametrize("dialect", ["imagej", "ome"])
def test_stacks_written_without_axes_are_no_pictures_of_many_channels(tmp_path: Path, dialect: str) -> None:
    data = RNG.integers(0, 99, (12, 24, 20)).astype("uint8")
    tifffile.imwrite(tmp_path / "a.tif", data, **{dialect: True})  # type: ignore[arg-type]
    stack = ImageStack.open(tmp_path / "a.tif")
    assert (stack.axes, len(stack)) == ("ZYX", 12)
    named = {"axes": "CYX", "Channel": {"Name": [f"marker {i}" for i in range(12)]}}
    tifffile.imwrite(tmp_path / "b.ome.tif", data, metadata=named)
    assert ImageStack.open(tmp_path / "b.ome.tif").axes == "CYX"


def test_slide_scanners_overviews_are_passed_over(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (64, 48, 3)).astype("uint8")
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(data, photometric="rgb", metadata=None, compression="zlib")
        writer.write(data[::2, ::2], photometric="rgb", metadata=None, compression="zlib", subfiletype=1)
    stack = ImageStack.open(tmp_path / "p.tif")
    assert (stack.axes, stack.shape) == ("YXC", (64, 48))
    same(stack, data)


def test_axes_asked_for_replace_those_of_the_file(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 2.0, "PhysicalSizeY": 1.0, "PhysicalSizeX": 1.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", VOLUME, metadata=metadata)
    film = ImageStack.open(tmp_path / "a.ome.tif", axes="TYX")
    assert (film.axes, film.spacing) == ("TYX", {"y": 1.0, "x": 1.0, "unit": "um"})
    collection = ImageStack.open(tmp_path / "a.ome.tif", axes="nyx")
    assert (collection.axes, collection.is_collection) == ("NYX", True)


def test_axes_of_length_1_may_be_added_and_left_out(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", VOLUME[0])
    assert ImageStack.open(tmp_path / "flat.tif", axes="ZYX").shape == (1, 24, 20)
    same(ImageStack.open(tmp_path / "flat.tif", axes="NYX"), VOLUME[:1])
    np.save(tmp_path / "deep.npy", VOLUME[None, :, None])
    stack = ImageStack.open(tmp_path / "deep.npy", axes="ZYX")
    assert stack.shape == (7, 24, 20)
    same(stack, VOLUME)
    with pytest.raises(InputError, match="names 2 axes but deep has 5"):
        ImageStack.open(tmp_path / "deep.npy", axes="YX")


def ngff(path: Path, data: NDArray[Any], version: str, axes: list[dict[str, str]], scale: list[float]) -> None:
    """An image as the NGFF specification writes it, with a second, smaller level."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for level, step in enumerate((1, 2)):
        chunks = (1,) * (data.ndim - 2) + (16, 16)
        group.create_array(str(level), data=np.ascontiguousarray(data[..., ::step, ::step]), chunks=chunks)
    image: dict[str, Any] = {
        "version": version,
        "axes": axes,
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale[:-2] + [size * step for size in scale[-2:]]},
                    {"type": "translation", "translation": [0.0] * data.ndim},
                ],
            }
            for level, step in enumerate((1, 2))
        ],
    }
    group.attrs.update(
        {"multiscales": [image]} if version == "0.4" else {"ome": {"version": "0.5", "multiscales": [image]}}
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    data = RNG.integers(0, 4000, (2, 3, 24, 20)).astype("uint16")
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    ngff(tmp_path / "image.ome.zarr", data, version, axes, [1.0, 2.0, 0.5, 0.25])
    stack = ImageStack.open(tmp_path / "image.ome.zarr")
    assert (stack.axes, stack.shape, stack.name) == ("CZYX", (3, 24, 20), "image")
    assert stack.spacing == {"z": 2.0, "y": 0.5, "x": 0.25, "unit": "um"}
    same(stack, data.transpose(1, 2, 3, 0))


def test_ome_zarr_with_a_scale_for_all_levels(tmp_path: Path) -> None:
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    ngff(tmp_path / "i.zarr", VOLUME, "0.4", axes, [1.0, 1.0, 1.0])
    attributes = json.loads((tmp_path / "i.zarr" / ".zattrs").read_text())
    attributes["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [3.0, 0.7, 0.7]}]
    (tmp_path / "i.zarr" / ".zattrs").write_text(json.dumps(attributes))
    assert ImageStack.open(tmp_path / "i.zarr").spacing == {"z": 3.0, "y": 0.7, "x": 0.7, "unit": "mm"}


def test_ome_zarr_within_bioformats2raw_and_its_arrays(tmp_path: Path) -> None:
    outer = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    outer.attrs["bioformats2raw.layout"] = 3
    axes = [{"name": name} for name in "tczyx"]
    ngff(tmp_path / "b.zarr" / "0", VOLUME[None, None], "0.4", axes, [1.0] * 5)
    stack = ImageStack.open(tmp_path / "b.zarr")
    assert (stack.axes, stack.shape, stack.spacing) == ("TCZYX", (1, 7, 24, 20), None)
    assert ImageStack.open(tmp_path / "b.zarr", axes="ZYX").shape == (7, 24, 20)
    assert ImageStack.open(tmp_path / "b.zarr" / "0" / "1", axes="ZYX").shape == (7, 12, 10)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_zarr_array(tmp_path: Path, zarr_format: Any) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VOLUME, zarr_format=zarr_format)
    stack = ImageStack.open(tmp_path / "a.zarr")
    assert (stack.axes, stack.shape) == ("ZYX", (7, 24, 20))
    same(stack, VOLUME)


def test_zarr_groups_without_one_image(tmp_path: Path) -> None:
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": []}
    with pytest.raises(InputError, match=r"plate or well.*A/1/0"):
        ImageStack.open(tmp_path / "plate.zarr")
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_group("first")
    with pytest.raises(InputError, match=r"without an image of its own; open one inside it \(first\)"):
        ImageStack.open(tmp_path / "g.zarr")


def nifti_image(data: NDArray[Any], affine: NDArray[Any]) -> Any:
    return nibabel.Nifti1Image(data, affine)  # type: ignore[no-untyped-call]


def nifti(path: Path, data: NDArray[Any], zooms: tuple[float, ...], **scaling: float) -> NDArray[Any]:
    affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
    affine[:3, 3] = (10, -20, 5)
    image: Any = nifti_image(data, affine)
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units("mm", "sec")
    if scaling:
        image.header.set_slope_inter(**scaling)
    nibabel.save(image, path)
    return affine


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, suffix: str) -> None:
    data = RNG.integers(-1000, 3000, (20, 24, 7)).astype("int16")
    affine = nifti(tmp_path / f"ct{suffix}", data, (0.8, 0.9, 3.0))
    stack = ImageStack.open(tmp_path / f"ct{suffix}", window=(-160, 240))
    assert (stack.axes, stack.shape, stack.name) == ("ZYX", (7, 24, 20), "ct")
    assert stack.spacing == pytest.approx({"z": 3.0, "y": 0.9, "x": 0.8, "unit": "mm"})
    assert stack.affine is not None
    np.testing.assert_allclose(stack.affine, affine)
    same(stack, data.transpose(2, 1, 0))
    # Voxels as nibabel's own proxy reads them, in any order.
    reference: Any = nibabel.load(tmp_path / f"ct{suffix}")
    for index in (5, 0, 6):
        np.testing.assert_array_equal(stack.raw(index), np.asarray(reference.dataobj[..., index]).T)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("code", [0, 4])
def test_nifti_that_names_no_unit_is_in_millimetres(tmp_path: Path, suffix: str, code: int) -> None:
    image = nifti_image(VOLUME.T, np.diag([0.3, 0.4, 2.0, 1.0]))
    # nibabel writes 0 unless it is told otherwise; 4 has no meaning.
    image.header["xyzt_units"] = code
    nibabel.save(image, tmp_path / f"image{suffix}")
    stack = ImageStack.open(tmp_path / f"image{suffix}")
    assert stack.spacing == pytest.approx({"z": 2.0, "y": 0.4, "x": 0.3, "unit": "mm"})
    same(stack, VOLUME)


def test_nifti_that_knows_no_space_has_no_millimetres(tmp_path: Path) -> None:
    for code, spacing in ((0, None), (2, {"z": 1, "y": 1, "x": 1, "unit": "mm"})):
        image = nifti_image(VOLUME.T, np.eye(4))
        image.set_sform(np.eye(4), code)
        image.set_qform(None, 0)
        nibabel.save(image, tmp_path / f"{code}.nii")
        assert ImageStack.open(tmp_path / f"{code}.nii").spacing == spacing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_with_slope_and_intercept(tmp_path: Path, suffix: str) -> None:
    stored = RNG.integers(0, 4000, (20, 24, 7)).astype("int16")
    raw = bytearray(nifti_image(stored, np.eye(4)).to_bytes())
    # nibabel chooses the scaling itself: put ours into the header's bytes 112 to 120.
    raw[112:120] = np.array([0.5, -1024], dtype="<f4").tobytes()
    path = tmp_path / f"s{suffix}"
    path.write_bytes(gzip.compress(bytes(raw)) if suffix.endswith("gz") else bytes(raw))
    stack = ImageStack.open(path)
    reference: Any = nibabel.load(path)
    assert reference.get_fdata().min() < -900
    assert stack.dtype == np.float32
    np.testing.assert_allclose(stack.raw(3), reference.get_fdata()[..., 3].T, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes", "labels"),
    [
        ((20, 24), "YX", (24, 20)),
        ((20, 24, 1), "ZYX", (1, 24, 20)),
        ((20, 24, 7, 2), "TZYX", (2, 7, 24, 20)),
        ((20, 24, 7, 1), "ZYX", (7, 24, 20)),
        ((20, 24, 7, 1, 2), "CZYX", (7, 24, 20)),
        ((20, 24, 7, 2, 3), "CTZYX", (2, 7, 24, 20)),
    ],
)
def test_nifti_axes(tmp_path: Path, shape: tuple[int, ...], axes: str, labels: tuple[int, ...]) -> None:
    data = RNG.normal(0, 1, shape).astype("float32")
    nibabel.save(nifti_image(data, np.eye(4)), tmp_path / "n.nii")
    stack = ImageStack.open(tmp_path / "n.nii")
    assert (stack.axes, stack.shape) == (axes, labels)
    first = np.squeeze(data[:, :, 0, ...] if data.ndim > 2 else data)
    while first.ndim > 2 + ("C" in axes):
        first = first[:, :, 0]
    np.testing.assert_array_equal(stack.raw(0), first.swapaxes(0, 1))


def test_sizes_go_with_the_axes_and_not_with_their_letters(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (3.0, 0.5, 0.25), strict=True)}
    tifffile.imwrite(path, VOLUME, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    turned = ImageStack.open(path, axes="YZX")
    assert turned.spacing == {"z": 0.5, "y": 3.0, "x": 0.25, "unit": "um"}
    assert ImageStack.open(path, axes="TYX").spacing == {"y": 0.5, "x": 0.25, "unit": "um"}
    # With an axis that is added the others keep what is theirs.
    assert ImageStack.open(path, axes="TZYX").spacing == {"z": 3.0, "y": 0.5, "x": 0.25, "unit": "um"}


def test_frames_of_a_depth_of_one_may_be_opened_as_slices(tmp_path: Path) -> None:
    data = RNG.integers(0, 99, (20, 24, 1, 7)).astype("int16")
    affine = np.diag([-0.8, 0.9, 3.0, 1.0])
    nibabel.save(nifti_image(data, affine), tmp_path / "n.nii")
    stack = ImageStack.open(tmp_path / "n.nii", axes="ZYX")
    same(stack, data[:, :, 0].transpose(2, 1, 0))
    assert stack.affine is not None
    np.testing.assert_allclose(stack.affine, affine)


def test_nifti_of_complex_numbers(tmp_path: Path) -> None:
    nibabel.save(nifti_image(np.zeros((4, 4, 4), "complex64"), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(InputError, match="complex64"):
        ImageStack.open(tmp_path / "c.nii")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nibabel leaves the file to be closed
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_freesurfer(tmp_path: Path, suffix: str) -> None:
    data = RNG.integers(-1000, 3000, (20, 24, 7)).astype("int16")
    affine = np.array([[-1.0, 0, 0, 10], [0, 0, 1.5, -20], [0, -1.2, 0, 5], [0, 0, 0, 1]])
    untyped: Any = nibabel
    untyped.save(untyped.MGHImage(data, affine), tmp_path / f"norm{suffix}")
    stack = ImageStack.open(tmp_path / f"norm{suffix}")
    assert (stack.axes, stack.name) == ("ZYX", "norm")
    assert stack.spacing == pytest.approx({"z": 1.5, "y": 1.2, "x": 1.0, "unit": "mm"})
    assert stack.affine is not None
    np.testing.assert_allclose(stack.affine, affine, atol=1e-5)
    same(stack, data.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("letters", ["RGB", "RGBA"])
def test_nifti_of_colours(tmp_path: Path, suffix: str, letters: str) -> None:
    data = RNG.integers(0, 256, (20, 24, 7, len(letters))).astype("uint8")
    packed = data.view([(letter, "u1") for letter in letters])[..., 0]
    nibabel.save(nifti_image(packed, np.eye(4)), tmp_path / f"map{suffix}")
    stack = ImageStack.open(tmp_path / f"map{suffix}")
    assert (stack.axes, stack.shape) == ("ZYXC", (7, 24, 20))
    same(stack, data.transpose(2, 1, 0, 3))


def test_cifti_is_no_volume(tmp_path: Path) -> None:
    untyped: Any = nibabel
    scalars = untyped.cifti2.ScalarAxis(["curvature"])
    surface = untyped.cifti2.BrainModelAxis.from_surface(np.arange(5), 10, "CortexLeft")
    untyped.save(untyped.Cifti2Image(np.zeros((1, 5), "f4"), (scalars, surface)), tmp_path / "a.dscalar.nii")
    with pytest.raises(InputError, match="holds no volume but values on a surface"):
        ImageStack.open(tmp_path / "a.dscalar.nii")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3)])
def test_pictures(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    data = RNG.integers(0, 255, shape).astype("uint8")
    Image.fromarray(data).save(tmp_path / f"p{suffix}")
    stack = ImageStack.open(tmp_path / f"p{suffix}")
    assert (stack.axes, stack.shape, len(stack)) == ("YX" if data.ndim == 2 else "YXC", (24, 20), 1)
    same(stack, data)


def test_jpeg(tmp_path: Path) -> None:
    data = np.zeros((24, 20, 3), "uint8")
    data[:, 10:] = (200, 40, 90)
    Image.fromarray(data).save(tmp_path / "p.jpg", quality=100, subsampling=0)
    stack = ImageStack.open(tmp_path / "p.jpg")
    np.testing.assert_allclose(stack.raw(0).astype(int), data, atol=6)
    np.testing.assert_allclose(stack.pixels(0), stack.raw(0).transpose(2, 0, 1) / 255, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_them(tmp_path: Path, channels: int) -> None:
    shape = (24, 20) if channels == 1 else (24, 20, channels)
    data = RNG.integers(0, 65535, shape).astype("uint16")
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(data))
    same(ImageStack.open(tmp_path / "deep.png"), data[..., 0] if channels == 2 else data)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (24, 20), "bool"),
        ("P", (24, 20, 3), "uint8"),
        ("LA", (24, 20), "uint8"),
        ("RGBA", (24, 20, 4), "uint8"),
    ],
)
def test_png_modes(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: str) -> None:
    picture = Image.fromarray(RNG.integers(0, 255, (24, 20, 3)).astype("uint8")).convert(mode)
    picture.save(tmp_path / "m.png")
    raw = ImageStack.open(tmp_path / "m.png").raw(0)
    assert (raw.shape, str(raw.dtype)) == (shape, dtype)
    plain = {"P": "RGB", "LA": "L"}.get(mode, mode)
    np.testing.assert_array_equal(raw, np.asarray(picture.convert(plain)))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">f4"])
def test_npy(tmp_path: Path, order: Any, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.asarray(VOLUME.astype(dtype), order=order))
    stack = ImageStack.open(tmp_path / "a.npy")
    assert stack.axes == "ZYX"
    same(stack, VOLUME.astype(np.dtype(dtype).newbyteorder("=")))


def test_npy_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        ImageStack.open(tmp_path / "o.npy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of different sizes and kinds among other files, named so that text order is wrong."""
    place = tmp_path / "cells"
    place.mkdir()
    tifffile.imwrite(place / "img10.tif", VOLUME[0])
    tifffile.imwrite(place / "img2.tif", VOLUME[1:2, :20], compression="zlib")
    Image.fromarray(COLOUR[0]).save(place / "img1.PNG")
    (place / "notes.txt").write_text("no image")
    (place / ".hidden.png").write_bytes(b"nothing")
    (place / "sub.png").mkdir()
    return place


def test_folder_of_different_pictures(folder: Path) -> None:
    stack = ImageStack.open(folder)
    assert (stack.axes, len(stack), stack.is_collection, stack.name) == ("NYX", 3, True, "cells")
    assert stack.names == ("img1.PNG", "img2.tif", "img10.tif")
    assert [stack.slice_shape(i) for i in range(3)] == [(24, 20), (20, 20), (24, 20)]
    np.testing.assert_array_equal(stack.raw(0), COLOUR[0])
    np.testing.assert_array_equal(stack.raw(1), VOLUME[1, :20])
    np.testing.assert_array_equal(stack.raw(stack.index_of("img10.tif")), VOLUME[0])
    assert not stack.uniform


def test_glob(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ImageStack.open(str(folder / "*.tif")).names == ("img2.tif", "img10.tif")
    monkeypatch.chdir(folder)
    stack = ImageStack.open("img1*")
    assert (stack.names, stack.is_collection) == (("img1.PNG", "img10.tif"), True)
    with pytest.raises(InputError, match="no file matches"):
        ImageStack.open("*.bmp")


def test_a_file_with_a_patterns_signs_in_its_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a[1].tif", VOLUME)
    assert ImageStack.open(tmp_path / "a[1].tif").shape == VOLUME.shape


def test_glob_through_folders_tells_equal_names_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "0.tif", VOLUME[0])
    assert ImageStack.open(tmp_path / "*" / "0.tif").names == ("a/0.tif", "b/0.tif")


def test_files_of_the_current_folder_and_of_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert distinct_names([Path("a/0.tif"), tmp_path / "b" / "0.tif"]) == ["a/0.tif", "b/0.tif"]


def test_folder_of_slices_as_a_stack(tmp_path: Path) -> None:
    for i, plane in enumerate(VOLUME):
        tifffile.imwrite(tmp_path / f"slice{i}.tif", plane)
    stack = ImageStack.open(tmp_path, axes="ZYX")
    assert (stack.axes, stack.shape, stack.is_collection) == ("ZYX", (7, 24, 20), False)
    same(stack, VOLUME)
    assert stack.window == ImageStack(VOLUME, axes="ZYX").window
    uniform = ImageStack.open(tmp_path)
    assert (uniform.shape, uniform.is_collection, uniform.window) == ((7, 24, 20), True, None)


def test_folder_faults(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish and more rubbish")
    (folder / "empty.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot read 2 of 5 images \(broken.png, empty.tif\); repair or remove"):
        ImageStack.open(folder)
    (tmp_path / "stacks").mkdir()
    tifffile.imwrite(tmp_path / "stacks" / "z.tif", VOLUME)
    with pytest.raises(InputError, match=r"z.tif is a stack of its own, with axes ZYX and shape \(7, 24, 20\)"):
        ImageStack.open(tmp_path / "stacks")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        ImageStack.open(tmp_path / "nothing")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_picture_cut_short_is_found_before_any_work(folder: Path, suffix: str) -> None:
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (64, 64), np.uint8)).save(whole, {"jpg": "jpeg"}.get(suffix, suffix))
    cut = folder / f"cut.{suffix}"
    cut.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(InputError, match=rf"cannot read 1 of 4 images \(cut\.{suffix}\); repair or remove"):
        ImageStack.open(folder)
    # What some programs write behind a picture is none of its pixels.
    cut.write_bytes(whole.getvalue() + b"more" * 2000)
    assert len(ImageStack.open(folder)) == 4


def test_a_slide_of_more_pixels_than_pillow_opens(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    large = Image.new("1", (14_000, 13_000))
    large.putpixel((5, 3), 1)
    large.save(tmp_path / "slide.png")
    stack = ImageStack.open(tmp_path / "slide.png")
    assert stack.shape == (13_000, 14_000)
    assert np.argwhere(stack.raw(0)).tolist() == [[3, 5]]
    assert not recwarn.list


def test_a_picture_that_changes_or_goes_is_told(folder: Path) -> None:
    stack = ImageStack.open(folder)
    tifffile.imwrite(folder / "img2.tif", VOLUME[0])
    with pytest.raises(InputError, match=r"img2.tif has changed: it had shape \(20, 20\)"):
        stack.raw(1)
    (folder / "img10.tif").unlink()
    with pytest.raises(InputError, match=r"img10\.tif"):
        stack.raw(2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.tif", None, "no file or folder"),
        ("image.xyz", b"1234", "format is not known; use TIFF"),
        ("image.dcm", b"1234", "DICOM.*convert the series to NIfTI"),
        ("IM000001", bytes(128) + b"DICM", "DICOM.*convert the series to NIfTI"),
        ("image.nrrd", b"NRRD", "NRRD is not supported; save it as NIfTI"),
        ("image.mha", b"NDims = 3", "MetaImage is not supported; save it as NIfTI"),
        ("image.hdr", b"1234", "pair of .hdr and .img is not supported; save it as one .nii"),
        ("image.mgz", b"not FreeSurfer's", "cannot read image.mgz"),
        ("image.tif", b"", "empty"),
        ("image.tif", b"not a TIFF at all", "cannot read image.tif"),
        ("image.png", b"not a PNG at all", "cannot read image.png"),
        ("image.jpg", b"\xff\xd8\xff\xe0", "cannot read image.jpg"),
        ("image.nii", b"not a NIfTI", "cannot read image.nii"),
        ("image.nii.gz", b"not a gzip file", "cannot read image.nii.gz"),
        ("image.npy", b"not an array", "cannot read image.npy"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        ImageStack.open(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_of_a_series_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("series 3")
    (tmp_path / "1.3.12.2").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(InputError, match="holds DICOM, which is not supported; convert the series to NIfTI"):
        ImageStack.open(tmp_path)


def test_addresses_are_refused() -> None:
    with pytest.raises(InputError, match="only files on this computer"):
        ImageStack.open("https://example.org/image.tif")


def write_png(path: Path, data: NDArray[Any]) -> None:
    Image.fromarray(data[0]).save(path)


def write_nifti(path: Path, data: NDArray[Any]) -> None:
    nibabel.save(nifti_image(data.transpose(2, 1, 0), np.eye(4)), path)


WRITERS: list[tuple[str, Callable[[Path, NDArray[Any]], Any]]] = [
    ("plain.tif", lambda path, data: tifffile.imwrite(path, data)),
    ("packed.tif", lambda path, data: tifffile.imwrite(path, data, compression="zlib")),
    ("pages.tif", lambda path, data: tifffile.imwrite(path, data, metadata=None, compression="lzw")),
    ("ij.tif", lambda path, data: tifffile.imwrite(path, data, imagej=True, metadata={"axes": "ZYX"})),
    (
        "ome.tif",
        lambda path, data: tifffile.imwrite(path, data, ome=True, compression="zlib", metadata={"axes": "ZYX"}),
    ),
    ("array.npy", np.save),
    ("plain.nii", write_nifti),
    ("packed.nii.gz", write_nifti),
    ("picture.png", write_png),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
@pytest.mark.parametrize("part", [0.5, 0.98])
def test_files_cut_short_are_never_read_as_black(
    tmp_path: Path, name: str, write: Callable[[Path, NDArray[Any]], Any], part: float
) -> None:
    data = RNG.integers(0, 255, (7, 64, 64)).astype("uint8")
    write(tmp_path / name, data)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
    try:
        stack = ImageStack.open(tmp_path / name)
        found = [stack.raw(i) for i in range(len(stack))]
    except InputError:
        return
    # What was cut off were no pixels: OME's text stands at the end of the file.
    assert (name, part) == ("ome.tif", 0.98)
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_no_file_stays_open(tmp_path: Path, name: str, write: Callable[[Path, NDArray[Any]], Any]) -> None:
    """Files can be replaced and deleted, which Windows forbids for open ones; pytest fails on leaked handles."""
    write(tmp_path / name, RNG.integers(0, 255, (7, 64, 64)).astype("uint8"))
    stack = ImageStack.open(tmp_path / name)
    stack.raw(0)
    open_files = [link.resolve() for link in Path("/proc/self/fd").glob("*")] if Path("/proc/self/fd").exists() else []
    assert (tmp_path / name).resolve() not in open_files


def test_one_slice_of_a_long_packed_tiff_is_read_alone(tmp_path: Path) -> None:
    """The pixels of 2,000 pages are overwritten after opening; the one that is left is right, the others are gone."""
    path = tmp_path / "long.tif"
    # Compressed noise does not decode when it is zeroed.
    planes = (RNG.integers(0, 4000, (32, 32)).astype("uint16") for _ in range(2000))
    tifffile.imwrite(path, planes, shape=(2000, 32, 32), dtype="uint16", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        kept = tif.pages[1234].asarray()
        extents = [(page.dataoffsets[0], page.databytecounts[0]) for page in tif.pages]
    stack = ImageStack.open(path)
    assert stack.shape == (2000, 32, 32)
    with path.open("r+b") as file:
        for i, (offset, count) in enumerate(extents):
            if i != 1234:
                file.seek(offset)
                file.write(bytes(count))
    np.testing.assert_array_equal(stack.raw(1234), kept)
    for index in (0, 1233, 1235, 1999):
        with pytest.raises(InputError, match=f"cannot read slice {index} of long"):
            stack.raw(index)


def write_zarr(path: Path, data: NDArray[Any]) -> None:
    zarr.create_array(path, data=data, chunks=(1, *data.shape[1:]))


def write_folder(path: Path, data: NDArray[Any]) -> None:
    path.mkdir()
    for i, plane in enumerate(data):
        tifffile.imwrite(path / f"{i}.tif", plane, compression="zlib")


@pytest.mark.parametrize(
    ("name", "write"),
    [*WRITERS[:8], ("chunks.zarr", write_zarr), ("folder", write_folder)],
    ids=[*(name for name, _ in WRITERS[:8]), "zarr", "folder"],
)
def test_memory_does_not_grow_with_the_slices(
    tmp_path: Path, name: str, write: Callable[[Path, NDArray[Any]], Any]
) -> None:
    side, count = 256, 60
    write(tmp_path / name, np.broadcast_to(np.arange(side, dtype="uint8"), (count, side, side)).copy())
    ImageStack.open(tmp_path / name).raw(0)
    tracemalloc.start()
    try:
        stack = ImageStack.open(tmp_path / name, axes="ZYX")
        for i in range(count):
            stack.raw(i)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The stack has 60 slices. gzip's buffers take a megabyte, however long the file.
    assert peak < (12 if not name.endswith("gz") else 30) * side * side


def test_reads_from_many_threads_agree(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, compression="zlib")
    zarr.create_array(tmp_path / "a.zarr", data=VOLUME, chunks=(3, 16, 16))
    for path in (tmp_path / "a.nii.gz", tmp_path / "a.tif", tmp_path / "a.zarr"):
        stack = ImageStack.open(path)
        numbers = RNG.integers(0, 7, 200).tolist()
        with ThreadPoolExecutor(8) as pool:
            for number, plane in zip(numbers, pool.map(stack.raw, numbers), strict=True):
                np.testing.assert_array_equal(plane, VOLUME[number])


def test_one_image_has_one_fingerprint_in_every_format(tmp_path: Path) -> None:
    prints = {ImageStack(VOLUME, axes="ZYX").fingerprint()}
    for name, write in [*WRITERS[:8], ("chunks.zarr", write_zarr)]:
        write(tmp_path / name, VOLUME)
        prints.add(ImageStack.open(tmp_path / name).fingerprint())
    assert len(prints) == 1


def test_development_cases_open_as_they_are_described(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*/case.json")):
        case = json.loads(path.read_text())
        stack = ImageStack.open(path.parent / "image.tif", axes=case["axes"])
        assert [*stack.shape] == case["shape"][: len(stack.shape)]
        assert str(stack.dtype) == case["dtype"]
        np.testing.assert_array_equal(stack.raw(0), tifffile.imread(path.parent / "image.tif")[0])

"""TIFF in its dialects (plain, tifffile's, ImageJ, OME), one page at a time."""

from __future__ import annotations

import logging
import math
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import guess_axes, make_spacing
from napari_medsam2.reading.colours import InkArray, PaletteArray
from napari_medsam2.reading.imagefile import ImageFile
from napari_medsam2.reading.slabs import Slabs
from napari_medsam2.reading.sources import Key, MappedArray, Rearranged, Source, full_key, small_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import tifffile
    from numpy.typing import NDArray

__all__ = ["open_tiff"]

# Dialects that may hold several images of which only the first is the data: label and overview pictures, pyramids.
_PLAIN = frozenset({"shaped", "generic", "uniform"})
# ImageJ itself shows no more.
_CHANNELS = 7
# TIFF's photometric interpretations of colour.
_RGB, _PALETTE, _SEPARATED, _YCBCR = 2, 3, 5, 6
_INK_SET, _CMYK = 332, 1
# Opacity as TIFF's extra sample, premultiplied or not; 0 is a channel of which nothing is said.
_OPACITY = ((1,), (2,))
_RESOLUTION_UNIT, _CENTIMETRE = 296, 3


def open_tiff(path: Path) -> ImageFile:
    """Open a TIFF, OME-TIFF or ImageJ TIFF without reading its pixels.

    Axes and spacing are what the file says: OME-XML, ImageJ's metadata, or the axes that tifffile wrote. Of an OME-TIFF
    or a slide scanner's file with several images the first is taken, at full resolution; the pages of a plain TIFF
    are one stack.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ImageFile
        Its array, axes and spacing.

    Raises
    ------
    InputError
        If the file is no TIFF, is cut short, or holds pages that differ.
    """
    import tifffile

    # Without this the remarks of tifffile about odd tags reach a person's terminal.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    with tifffile.TiffFile(path) as tif:
        _check_chain(tif, path)
        chosen = _choose_series(tif, path)
        first = chosen[0]
        for page in (first.keyframe, _last_page(chosen[-1])):
            if page is not None:
                _check_complete(page, path)
        shape = tuple(first.shape)
        axes = _axes(first)
        if len(chosen) > 1:
            shape = (len(chosen), *shape)
            axes = "Z" + axes
        data, axes = _shown(_pixels(path, tif, chosen, shape), axes, chosen)
        return ImageFile(data=data, axes=axes, spacing=_spacing(tif, first))


def _choose_series(tif: tifffile.TiffFile, path: Path) -> list[tifffile.TiffPageSeries]:
    """Return the one series that is the image, or the many that are its pages."""
    every = list(tif.series)
    if not every:
        raise InputError(f"{path.name} holds no image; check that it is the file you meant")
    if every[0].kind not in _PLAIN:
        return every[:1]
    kept = [s for s in every if not s.keyframe.is_reduced and not s.keyframe.is_mask] or every[:1]
    kinds = {(tuple(s.shape), s.dtype.str, s.axes) for s in kept}
    if len(kinds) == 1 and (len(kept) == 1 or kept[0].axes in {"YX", "YXS"}):
        return kept
    shapes = ", ".join(str(tuple(s.shape)) for s in kept[:3]) + (", …" if len(kept) > 3 else "")
    raise InputError(
        f"{path.name} holds {len(kept)} images that differ ({shapes}); save each as a file and open the folder"
    )


def _check_chain(tif: tifffile.TiffFile, path: Path) -> None:
    """Raise InputError where a page's directory would lie behind the file's end: tifffile passes over what is lost."""
    sizes, handle = tif.tiff, tif.filehandle
    if sizes.is_ndpi:
        # Its pointers of 32 bits have their upper halves elsewhere.
        return
    link = 4 if sizes.offsetsize == 4 else 8
    seen: set[int] = set()
    while True:
        handle.seek(link)
        (offset,) = struct.unpack(sizes.offsetformat, handle.read(sizes.offsetsize))
        if offset == 0 or offset in seen:
            return
        seen.add(offset)
        handle.seek(offset)
        count = handle.read(sizes.tagnosize)
        if len(count) == sizes.tagnosize:
            link = offset + sizes.tagnosize + struct.unpack(sizes.tagnoformat, count)[0] * sizes.tagsize
        if len(count) < sizes.tagnosize or link + sizes.offsetsize > handle.size:
            raise InputError(
                f"{path.name} is cut short: it ends at byte {handle.size}, in page {len(seen)}; copy or export it again"
            )


def _last_page(series: tifffile.TiffPageSeries) -> Any:
    return series.pages[len(series.pages) - 1]


def _check_complete(page: Any, path: Path) -> None:
    """Raise InputError where the file ends before this page's pixels do, which decoders read as black."""
    size = page.parent.filehandle.size
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if ends and max(ends) > size:
        raise InputError(
            f"{path.name} is cut short: it ends at byte {size} of at least {max(ends)}; copy or export it again"
        )


def _axes(series: tifffile.TiffPageSeries) -> str:
    """Translate tifffile's axis letters to ours."""
    letters = series.axes
    shape = tuple(series.shape)
    if series.kind == "shaped" and "S" in letters and not letters.endswith("S") and not _says_axes(series):
        # tifffile stores an array of 3 or 4 pages as the planes of one colour picture unless it is told not to.
        return guess_axes(shape, series.dtype)
    if letters == "CYX" and shape[0] > _CHANNELS and not _names_channels(series):
        # tifffile writes a stack as channels of ImageJ or OME unless it is told its axes.
        return "ZYX"
    if set(letters) <= set("QIYX"):
        return guess_axes(shape, series.dtype)
    ours = [{"S": "C", "P": "N", "M": "N", "V": "N"}.get(letter, letter) for letter in letters]
    # Letters that say nothing become depth, then time, then image number, from the inside out.
    free = [letter for letter in "ZTN" if letter not in ours]
    for i in range(len(ours) - 1, -1, -1):
        if ours[i] not in "TZNYXC" or ours.count(ours[i]) > 1:
            ours[i] = free.pop(0) if free else ours[i]
    return "".join(ours)


def _says_axes(series: tifffile.TiffPageSeries) -> bool:
    metadata = series.parent.shaped_metadata if series.parent is not None else None
    return bool(metadata and metadata[0].get("axes"))


def _names_channels(series: tifffile.TiffPageSeries) -> bool:
    """Whether OME-XML was written by something that knows channels by name, or ImageJ's channels are few."""
    xml = series.parent.ome_metadata if series.kind == "ome" and series.parent is not None else None
    if not xml:
        return series.kind not in {"ome", "imagej"}
    channels = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels/{*}Channel")  # noqa: S314
    return any(channel.get("Name") or channel.get("Fluor") for channel in channels)


def _shown(data: Source, axes: str, chosen: Sequence[tifffile.TiffPageSeries]) -> tuple[Source, str]:
    """Turn samples to grey or to red, green and blue where the file says that they are something else."""
    first = chosen[0]
    page = first.keyframe
    samples = first.axes.find("S") + len(axes) - len(first.axes)
    if "S" in first.axes and axes[samples] == "C":
        others = tuple(i for i in range(len(axes)) if i != samples)
        kept = axes.replace("C", "")
        if page.samplesperpixel == 2 and page.extrasamples[-1:] in _OPACITY:
            data, axes = Rearranged(data, others), kept
        elif page.photometric in (_RGB, _YCBCR) or _is_cmyk(page):
            if samples < len(axes) - 1:
                # Colours in planes of their own are still colours, which the axes say by C at their end.
                data, axes = Rearranged(data, (*others, samples)), kept + "C"
            if _is_cmyk(page):
                data = InkArray(data)
    # In the dialects of microscopes and of ImageJ a colour map says how grey values are shown.
    if page.photometric == _PALETTE and first.kind in _PLAIN and axes.endswith("YX") and page.colormap is not None:
        pages: Any = [series.pages[0] for series in chosen] if len(chosen) > 1 else first.pages
        data = PaletteArray(data, [one.aspage().colormap for one in pages])
        axes += "C" * (len(data.shape) - len(axes))
    return data, axes


def _is_cmyk(page: Any) -> bool:
    return (
        page.photometric == _SEPARATED
        and page.samplesperpixel - len(page.extrasamples) == 4
        and page.tags.valueof(_INK_SET, _CMYK) == _CMYK
        and page.dtype in ("uint8", "uint16")
    )


def _pixels(
    path: Path, tif: tifffile.TiffFile, chosen: Sequence[tifffile.TiffPageSeries], shape: tuple[int, ...]
) -> Source:
    first = chosen[0]
    keyframe = first.keyframe
    if len(chosen) == 1 and keyframe.compression == 1 and first.dataoffset is not None:
        end = first.dataoffset + math.prod(shape) * first.dtype.itemsize
        if end > tif.filehandle.size:
            raise InputError(
                f"{path.name} is cut short: it ends at byte {tif.filehandle.size} of {end}; copy or export it again"
            )
        return MappedArray(lambda: path, first.dataoffset, shape, first.dtype.newbyteorder(tif.byteorder))
    page_shape = tuple(keyframe.shape)
    if shape[len(shape) - len(page_shape) :] != page_shape:
        raise InputError(
            f"{path.name} has pages of shape {page_shape} in an image of shape {shape}, which this program cannot "
            f"read in parts; save it again as a plain TIFF or OME-TIFF"
        )
    if len(chosen) > 1 or keyframe.imagedepth == 1:
        return _PagedArray(path, chosen, shape, first.dtype, len(page_shape))
    blocks = [1] * (len(shape) - len(page_shape)) + list(page_shape)
    depth = keyframe.axes.index("Z") - len(page_shape)
    if len(first.pages) == 1:
        blocks[depth] = keyframe.tiledepth
        return Slabs(_VolumeArray(path, shape, first.dtype), blocks)
    blocks[depth] = keyframe.imagedepth
    return Slabs(_PagedArray(path, chosen, shape, first.dtype, len(page_shape)), blocks)


class _PagedArray:
    """The pages of a TIFF as one array; only the pages asked for are read, and decoded."""

    def __init__(
        self,
        path: Path,
        chosen: Sequence[tifffile.TiffPageSeries],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        page_axes: int,
    ) -> None:
        self._path = path
        self._chosen = chosen
        self._lead = len(shape) - page_axes
        self._lock = threading.Lock()
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")

    def divisible(self, plane: tuple[int, int]) -> bool:
        """Whether a part of a page is read without the rest of it."""
        page = self._chosen[0].keyframe
        inside = [axis - self._lead for axis in plane]
        if min(inside) < 0 or len(page.chunks) != len(page.shape):
            return False
        return small_blocks([page.chunks[axis] for axis in inside], [page.shape[axis] for axis in inside])

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        whole = full_key(key, len(self.shape))
        counts = self.shape[: self._lead]
        numbers = np.arange(math.prod(counts)).reshape(counts)[whole[: self._lead]]
        inside = whole[self._lead :]
        planes = [self._page(int(number), inside) for number in numbers.flat]
        return np.stack(planes).reshape(numbers.shape + planes[0].shape) if numbers.ndim else planes[0]

    def _page(self, number: int, inside: Key) -> NDArray[Any]:
        import numpy as np
        import zarr

        with self._lock, _reopened(self._chosen[0].parent):
            page: Any
            if len(self._chosen) > 1:
                page = self._chosen[number].pages[0]
            else:
                page = self._chosen[0].pages[number]
            if page is None:
                raise InputError(
                    f"{self._path.name} has no plane {number}; put the other files of the data set beside it"
                )
            with _reopened(page.parent):
                _check_complete(page, self._path)
                if not all(part == slice(None) for part in inside) and self.divisible((self._lead, self._lead + 1)):
                    with page.aszarr() as store:
                        return np.asarray(zarr.open_array(store, mode="r")[inside], dtype=self.dtype)
                return np.asarray(page.asarray()[inside], dtype=self.dtype)


class _VolumeArray:
    """A page with a depth of its own, in blocks that span slices: only the blocks that are met are decoded."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path = path
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np
        import tifffile
        import zarr

        with tifffile.TiffFile(self._path) as tif, tif.series[0].aszarr() as store:
            return np.asarray(zarr.open_array(store, mode="r")[key], dtype=self.dtype)


@contextmanager
def _reopened(tif: Any) -> Iterator[None]:
    """Open a file that was opened before, for one read; leave it open if it was."""
    handle = tif.filehandle
    if not handle.closed:
        yield
        return
    handle.open()
    try:
        yield
    finally:
        handle.close()


def _spacing(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> dict[str, float | str] | None:
    # Micro-Manager's files are of both dialects.
    if series.kind in {"ome", "mmstack"} and tif.ome_metadata:
        pixels = ElementTree.fromstring(tif.ome_metadata).find("{*}Image/{*}Pixels")  # noqa: S314
        # Without pixels it points to the file of the first position.
        if pixels is not None:
            return _ome_spacing(pixels)
    if series.kind in {"imagej", "mmstack"} and tif.imagej_metadata:
        return _imagej_spacing(tif.imagej_metadata, series.keyframe)
    return None


def _ome_spacing(pixels: ElementTree.Element) -> dict[str, float | str] | None:
    sizes = {axis.lower(): _number(pixels.get(f"PhysicalSize{axis}")) for axis in "ZYX"}
    # The OME schema's default unit.
    return make_spacing(sizes, {axis: pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm") for axis in sizes})


def _imagej_spacing(metadata: dict[str, Any], page: Any) -> dict[str, float | str] | None:
    unit = str(metadata.get("unit", ""))
    if unit in {"", "pixel", "pixels"}:
        # Without a unit the resolution is a default for printing.
        return None
    # As ImageJ reads it: in this spelling the resolution is one per centimetre, where the tag says so.
    scale = 1e4 if unit == "um" and page.tags.valueof(_RESOLUTION_UNIT) == _CENTIMETRE else 1.0
    tags = {axis: page.tags.valueof(f"{axis.upper()}Resolution") for axis in ("y", "x")}
    sizes = {axis: scale * tag[1] / tag[0] if tag and tag[0] else None for axis, tag in tags.items()}
    depth = _number(metadata.get("spacing"))
    if depth is not None:
        # Negative where the focus went down.
        sizes["z"] = abs(depth)
    return make_spacing(sizes, {"x": unit, **{axis: str(metadata.get(f"{axis}unit") or unit) for axis in "yz"}})


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None

"""OME-Zarr (NGFF 0.1 to 0.5, Zarr 2 and 3) and bare Zarr arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import guess_axes, make_spacing
from napari_medsam2.reading.imagefile import ImageFile
from napari_medsam2.reading.slabs import Slabs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import zarr

    from napari_medsam2.reading.sources import Source

__all__ = ["GridAxis", "grid_of", "is_zarr", "open_zarr"]

_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@dataclass(frozen=True, slots=True)
class GridAxis:
    """How one axis of an OME-Zarr image lies in space or time.

    Parameters
    ----------
    length : int
        How many pixels it has at full resolution.
    scale : float
        Distance of their centres.
    translation : float
        Where the centre of the first one lies.
    unit : str, optional
        Of both, as the image spells it.
    """

    length: int
    scale: float
    translation: float
    unit: str | None


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr group or array, of format 2 or 3."""
    return any((folder / mark).is_file() for mark in _MARKS)


def open_zarr(path: Path) -> ImageFile:
    """Open an OME-Zarr image at full resolution, or a bare Zarr array.

    Parameters
    ----------
    path : Path
        The folder of the image: a multiscales group, the output of bioformats2raw (its first image), or an array.

    Returns
    -------
    ImageFile
        Its array, the axes and scale of its metadata; guessed axes where it has none.

    Raises
    ------
    InputError
        If there is no image in the folder, or several without a word which.
    """
    import zarr

    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return _bare(node, path)
    attributes = _ome(node)
    if "multiscales" not in attributes and "bioformats2raw.layout" in attributes and "0" in node:
        node = cast("zarr.Group", node["0"])
        attributes = _ome(node)
    if "multiscales" in attributes:
        return _multiscale(node, attributes["multiscales"], path)
    if "plate" in attributes or "well" in attributes:
        raise InputError(f"{path.name} is a plate or well of many images; open one of them, such as {path.name}/A/1/0")
    arrays = sorted(name for name, _ in node.arrays())
    if len(arrays) == 1 or "0" in arrays:
        return _bare(cast("zarr.Array[Any]", node["0" if "0" in arrays else arrays[0]]), path)
    inside = sorted(name for name, _ in node.groups()) + arrays
    listed = ", ".join(inside[:5]) or "nothing"
    raise InputError(f"{path.name} is a Zarr group without an image of its own; open one inside it ({listed})")


def _ome(group: zarr.Group) -> Mapping[str, Any]:
    attributes = group.attrs.asdict()
    # From 0.5 on the metadata lie one level deeper.
    inner = attributes.get("ome", attributes)
    return inner if isinstance(inner, dict) else {}


def _bare(array: zarr.Array[Any], path: Path) -> ImageFile:
    return ImageFile(data=_source(array), axes=guess_axes(array.shape, array.dtype, path.name))


def _source(array: zarr.Array[Any]) -> Source:
    # What is decoded of a shard are the chunks in it.
    return Slabs(cast("Source", array), array.chunks)


def _multiscale(group: zarr.Group, multiscales: Sequence[Mapping[str, Any]], path: Path) -> ImageFile:
    import zarr

    image = multiscales[0]
    level = image["datasets"][0]
    array = group[level["path"]]
    if not isinstance(array, zarr.Array):
        raise InputError(f"{path.name} names {level['path']} as its first level, which is no array; write it again")
    listed = image.get("axes")
    if listed is None:
        # Before 0.3 all images had these five.
        listed = list("tczyx") if array.ndim == 5 else list(guess_axes(array.shape, array.dtype, path.name))
    names = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in listed]
    units = {str(axis["name"]).lower(): axis.get("unit") for axis in listed if isinstance(axis, dict)}
    placed = _transform(level, image, array.ndim)
    spacing = None
    if placed is not None:
        sizes = {
            name.lower(): scale for name, scale in zip(names, placed[0], strict=True) if name.lower() in {"z", "y", "x"}
        }
        spacing = make_spacing(sizes, units)
    return ImageFile(data=_source(array), axes="".join(names).upper(), spacing=spacing)


def _transform(level: Mapping[str, Any], image: Mapping[str, Any], axes: int) -> tuple[list[float], list[float]] | None:
    """Put a level's transformations and those of all levels together: one scale, then one translation, by axis."""
    scale, shift, known = [1.0] * axes, [0.0] * axes, False
    for transform in (t for owner in (level, image) for t in owner.get("coordinateTransformations", ())):
        if transform.get("type") == "scale" and "scale" in transform:
            factors = [float(factor) for factor in transform["scale"]]
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            shift = [a * b for a, b in zip(shift, factors, strict=True)]
            known = True
        elif transform.get("type") == "translation" and "translation" in transform:
            shift = [a + float(b) for a, b in zip(shift, transform["translation"], strict=True)]
            known = True
    return (scale, shift) if known else None


def grid_of(folder: Path) -> dict[str, GridAxis]:
    """Read how an OME-Zarr image lies in space and time, by the capital letters of its axes.

    Returns
    -------
    dict
        Empty where the folder is no such image, or does not say.
    """
    import zarr

    try:
        node = zarr.open_group(str(folder), mode="r")
        image = _ome(node)["multiscales"][0]
        level = image["datasets"][0]
        array = cast("zarr.Array[Any]", node[level["path"]])
        placed = _transform(level, image, array.ndim)
        axes = [dict(axis) for axis in image["axes"]]
        if placed is None:
            return {}
        return {
            str(axis["name"]).upper(): GridAxis(length, scale, shift, axis.get("unit"))
            for axis, length, scale, shift in zip(axes, array.shape, *placed, strict=True)
        }
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}

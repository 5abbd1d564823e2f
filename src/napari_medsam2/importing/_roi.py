"""Labels from ImageJ regions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._outlines import fill_window
from napari_medsam2.errors import InputError
from napari_medsam2.export._roi import roifile
from napari_medsam2.export._source import KEY, ObjectEntry, parse_table
from napari_medsam2.importing._labels import LabelFile
from napari_medsam2.reading.axes import leading
from napari_medsam2.reading.readers import reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_medsam2.stack import ImageStack

__all__ = ["open_rois"]

_OVAL_CORNERS = 256


def open_rois(path: Path, stack: ImageStack) -> LabelFile:
    """Open a zip of ImageJ regions, or one region.

    Regions that this program wrote know their object and slice; others are objects of their own, numbered from 1 in the
    file's order, on the slice of their position; one without a position belongs to the only slice. ImageJ may count as
    times what the stack has as depths, or the other way round.

    Raises
    ------
    InputError
        If ``roifile`` is not installed, the file cannot be read, or a region has no slice or no area, or the regions
        are of several depths and times and the stack has but one of the two.
    """
    library = roifile()
    if not path.is_file():
        raise InputError(f"there is no file {path}; check the path")
    try:
        rois = library.ImagejRoi.fromfile(path)
    except Exception as error:
        raise InputError(f"cannot read {path.name}: {reason(error)}; save the regions again") from error
    objects: dict[int, ObjectEntry] = {}
    by_slice: dict[int, list[tuple[int, Any]]] = {}
    told = [(roi, *_own(roi)) for roi in (rois if isinstance(rois, list) else [rois])]
    letters = _counted([roi for roi, _, index in told if index is None], stack, path.name)
    for number, (roi, entry, index) in enumerate(told, start=1):
        if entry is None:
            entry = ObjectEntry(number, roi.name or f"region {number}", _color(roi))
        if index is None:
            index = _position(roi, stack, letters, path.name)
        if not 0 <= index < len(stack):
            raise InputError(f"region {roi.name!r} of {path.name} lies on slice {index}, which {stack.name} has not")
        objects.setdefault(entry.label, entry)
        by_slice.setdefault(index, []).append((entry.label, _paths(library, roi, path.name)))

    def draw(index: int) -> np.ndarray:
        labels = np.zeros(stack.slice_shape(index), np.uint32)
        for label, paths in by_slice.get(index, ()):
            window, mask = fill_window(paths, stack.slice_shape(index))
            labels[window][mask] = label
        return labels

    return LabelFile(path.stem, draw, len(stack), dict(sorted(objects.items())))


def _own(roi: Any) -> tuple[ObjectEntry | None, int | None]:
    """Read what this program wrote into a region's properties."""
    for line in roi.props.splitlines():
        key, _, value = line.partition(": ")
        if key == KEY:
            try:
                found = json.loads(value)
            except ValueError:
                break
            entry = next(iter(parse_table({"objects": [found]}).values()), None)
            index = found.get("index") if isinstance(found, dict) else None
            return entry, index if isinstance(index, int) else None
    return None, None


def _color(roi: Any) -> tuple[int, int, int] | None:
    text = roi.hexcolor(roi.stroke_color)
    return None if text is None else (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))


def _counted(rois: Sequence[Any], stack: ImageStack, name: str) -> str:
    """Return which positions say a region's slice: the stack's axes, or depth in place of time or vice versa."""
    letters = leading(stack.axes)
    if letters not in ("Z", "T"):
        return letters
    seen = {"Z": {max(roi.z_position, 1) for roi in rois}, "T": {max(roi.t_position, 1) for roi in rois}}
    other = "T" if letters == "Z" else "Z"
    if max(seen[letters], default=1) == 1:
        return other if max(seen[other], default=1) > 1 else letters
    if len(seen[other]) > 1:
        raise InputError(
            f"the regions of {name} lie at several depths and times, but {stack.name} has axes {stack.axes}; keep "
            f"those of one {'time' if other == 'T' else 'depth'}, or open the whole image"
        )
    return letters


def _position(roi: Any, stack: ImageStack, letters: str, name: str) -> int:
    if roi.z_position or roi.t_position:
        known = {"Z": max(roi.z_position - 1, 0), "T": max(roi.t_position - 1, 0)}
        if set(letters) <= set(known):
            return stack.ravel([known[letter] for letter in letters])
    if roi.position:
        return int(roi.position) - 1
    if len(stack) == 1:
        return 0
    raise InputError(f"region {roi.name!r} of {name} does not say which slice it lies on; set its position in ImageJ")


def _paths(library: Any, roi: Any, name: str) -> list[np.ndarray]:
    """Return a region's closed paths, ``(y, x)`` corners."""
    kinds, subtypes = library.ROI_TYPE, library.ROI_SUBTYPE
    if roi.subtype in (subtypes.TEXT, subtypes.IMAGE):
        raise InputError(
            f"region {roi.name!r} of {name} is {roi.subtype.name.lower()}, which has no area; keep areas only"
        )
    if roi.roitype == kinds.OVAL:
        angles = np.linspace(0, 2 * np.pi, _OVAL_CORNERS, endpoint=False)
        high, wide = (roi.bottom - roi.top) / 2, (roi.right - roi.left) / 2
        return [np.stack([roi.top + high * (1 + np.sin(angles)), roi.left + wide * (1 + np.cos(angles))], 1)]
    if roi.roitype not in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.RECT):
        raise InputError(
            f"region {roi.name!r} of {name} is a {roi.roitype.name.lower()}, which has no area; keep areas only"
        )
    try:
        paths = roi.coordinates(multi=True)
    except NotImplementedError as error:
        raise InputError(
            f"region {roi.name!r} of {name} is made of curves, which cannot be read; turn it into a mask in ImageJ and "
            f"back into a selection (Edit > Selection), which is made of straight edges"
        ) from error
    return [np.asarray(path, np.float64)[:, ::-1] for path in paths]

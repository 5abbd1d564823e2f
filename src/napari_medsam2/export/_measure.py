"""Measurements of objects as CSV, from scikit-image's regionprops with the image's spacing."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_medsam2._files import atomic_path
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import ObjectEntry, entries
from napari_medsam2.reading.axes import leading, voxel_volume
from napari_medsam2.reading.numbering import volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_medsam2.export._source import LabelSource
    from napari_medsam2.stack import ImageStack

__all__ = ["By", "write_measurements"]

By = Literal["object", "slice"]

_SHAPE = ("axis_major_length", "axis_minor_length", "elongation")
_BY_SLICE = ("index", "image", "object", "name", "pixels", "area", "centroid_y", "centroid_x", *_SHAPE)
_BY_OBJECT = (
    *("time", "object", "name", "first_slice", "last_slice", "slices", "voxels", "volume"),
    *("centroid_z", "centroid_y", "centroid_x", *_SHAPE),
)
_INTENSITIES = ("mean", "std", "min", "max")


@dataclass(slots=True)
class _Part:
    """What adds up over the slices of an object: numbers, means and squared distances to them."""

    count: int
    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    first: int
    last: int
    slices: int = 1

    def add(self, other: _Part) -> None:
        """Add another slice, without cancellation (Chan, Golub and LeVeque, 1983)."""
        total = self.count + other.count
        share, weight = other.count / total, self.count * other.count / total
        away, brighter = other.center - self.center, other.mean - self.mean
        self.spread += other.spread + np.outer(away, away) * weight
        self.squares += other.squares + brighter**2 * weight
        self.center += away * share
        self.mean += brighter * share
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self.count, self.last, self.slices = total, other.last, self.slices + other.slices

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each channel."""
        return np.asarray(np.sqrt(self.squares / self.count))


def write_measurements(path: str | Path, session: LabelSource, by: By = "object") -> None:
    """Write a CSV of measurements.

    Lengths, areas, volumes and centroids are in the unit of the image's spacing (pixels where it is unknown; a distance
    between slices that is unknown counts as 1), with the centre of the first pixel as origin, and have the meaning that
    they have in scikit-image's ``regionprops``: ``axis_major_length`` and ``axis_minor_length`` are those of the
    ellipse or ellipsoid with the same second moments. ``elongation`` is 1 − minor / major: 0 for a disc or ball,
    towards 1 for a line. Intensities are the image's own values, one set of columns for each channel.

    Parameters
    ----------
    path : str or Path
        The file.
    session : AnnotationSession
        Objects are measured as they are in the labels.
    by : str
        ``"object"``: one line for each object in each volume (each time point). Where there is no depth, and for
        collections, that is the same as ``"slice"``: one line for each object on each slice.

    Raises
    ------
    InputError
        If the file cannot be written, or ``by`` is something else.
    """
    if by not in get_args(By):
        raise InputError(f"measurements are by 'object' or by 'slice', not {by!r}")
    stack = session.stack
    deep = by == "object" and "Z" in leading(stack.axes) and session.kind != "collection"
    channels = _channels(stack)
    marks = [""] if channels == 1 else [f"_{number}" for number in range(channels)]
    intensities = [f"intensity_{what}{mark}" for mark in marks for what in _INTENSITIES]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*(_BY_OBJECT if deep else _BY_SLICE), *intensities, "unit"])
        for row in _by_object(session) if deep else _by_slice(session):
            writer.writerow([_text(value) for value in row])


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _channels(stack: ImageStack) -> int:
    # Pictures of a collection may be grey or coloured; the first of each kind is enough to know.
    return max(int(_planes(stack, index).shape[2]) for index in range(1 if stack.uniform else len(stack)))


def _planes(stack: ImageStack, index: int) -> np.ndarray:
    raw = stack.raw(index)
    return raw if raw.ndim == 3 else raw[..., None]


def _sizes(stack: ImageStack) -> tuple[float, float, float]:
    spacing = stack.spacing or {}
    z, y, x = (float(spacing.get(axis, 1.0)) for axis in "zyx")
    return z, y, x


def _unit(stack: ImageStack) -> str:
    return str((stack.spacing or {}).get("unit", "pixel"))


def _measure(session: LabelSource, index: int, depth: float) -> Iterator[tuple[int, _Part]]:
    """Measure the objects of a slice that lies at ``depth``."""
    from skimage.measure import regionprops as untyped

    regionprops: Callable[..., Any] = untyped

    _, height, width = _sizes(session.stack)
    labels = session.slice_labels(index)
    values, places = np.unique(labels, return_inverse=True)
    # regionprops takes as long as the largest label is large.
    dense = places.reshape(labels.shape) + (0 if len(values) and values[0] == 0 else 1)
    names = values[values > 0].tolist()
    if not names:
        return
    planes = _planes(session.stack, index).astype(np.float64, copy=False)
    for label, region in zip(names, regionprops(dense, planes, spacing=(height, width)), strict=True):
        count = int(region.num_pixels)
        moments = region.moments_central
        spread = np.zeros((3, 3))
        spread[1:, 1:] = [[moments[2, 0], moments[1, 1]], [moments[1, 1], moments[0, 2]]]
        mean = np.atleast_1d(np.asarray(region.intensity_mean, np.float64))
        std = np.atleast_1d(np.asarray(region.intensity_std, np.float64))
        low, high = (np.atleast_1d(np.asarray(v, np.float64)) for v in (region.intensity_min, region.intensity_max))
        center = np.array([depth, *region.centroid])
        yield label, _Part(count, center, spread, mean.copy(), std**2 * count, low, high, index, index)


def _by_slice(session: LabelSource) -> Iterator[list[Any]]:
    stack, objects = session.stack, entries(session)
    _, height, width = _sizes(stack)
    channels = _channels(stack)
    for index in range(len(stack)):
        image = stack.names[index] if stack.names else ""
        for label, part in _measure(session, index, 0.0):
            yield [
                *(index, image, label, _name(objects, label), part.count, part.count * height * width),
                *(*part.center[1:].tolist(), *_axes(part.spread[1:, 1:] / part.count)),
                *(*_intensities(part, channels), _unit(stack)),
            ]


def _by_object(session: LabelSource) -> Iterator[list[Any]]:
    stack, objects = session.stack, entries(session)
    depth = _sizes(stack)[0]
    voxel = voxel_volume(stack.spacing or {}, stack.affine)
    channels = _channels(stack)
    time_axis = leading(stack.axes).find("T")
    for run in volumes(stack.axes, stack.shape[:-2]):
        parts: dict[int, _Part] = {}
        for number, index in enumerate(run):
            for label, part in _measure(session, index, number * depth):
                part.first = part.last = number
                if label in parts:
                    parts[label].add(part)
                else:
                    parts[label] = part
        time = stack.unravel(run[0])[time_axis] if time_axis >= 0 else ""
        for label, part in sorted(parts.items()):
            yield [
                *(time, label, _name(objects, label), part.first, part.last, part.slices),
                *(part.count, part.count * voxel, *part.center.tolist()),
                *(*_axes(part.spread / part.count), *_intensities(part, channels), _unit(stack)),
            ]


def _name(objects: Mapping[int, ObjectEntry], label: int) -> str:
    return objects[label].name if label in objects else ""


def _axes(covariance: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the axes of the ellipse or ellipsoid with these second moments, as `regionprops` defines them."""
    spread = np.sort(np.linalg.eigvalsh(covariance)).clip(0)
    factor = 16 if len(spread) == 2 else 20
    major, minor = math.sqrt(factor * spread[-1]), math.sqrt(factor * spread[0])
    return major, minor, 1 - minor / major if major else 0.0


def _intensities(part: _Part, channels: int) -> list[Any]:
    out: list[Any] = []
    for channel in range(channels):
        known = channel < len(part.mean)
        values = (part.mean, part.std, part.low, part.high)
        out += [float(v[channel]) if known else "" for v in values]
    return out

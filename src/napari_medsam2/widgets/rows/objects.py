"""Rows of the table of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medsam2.words import noun

if TYPE_CHECKING:
    from napari_medsam2.session_base import Kind
    from napari_medsam2.stack import ImageStack

__all__ = ["Measure", "ObjectRow", "measure_of"]


@dataclass(frozen=True, slots=True)
class Measure:
    """How pixels become the size of an object.

    Parameters
    ----------
    name : str
        ``"Volume"`` or, where there is no depth, ``"Area"``.
    unit : str
        The spacing's; ``"pixel"`` where it is unknown.
    power : int
        3 or 2.
    pixel : float
        What one pixel counts, in ``unit`` to the ``power``.
    mean : bool
        Whether the size is the mean of the volumes, frames or pictures in which the object is.
    runs : tuple of range
        The slices of each of them.
    word : str
        What a slice is called: ``"slice"`` or ``"image"``.
    """

    name: str
    unit: str
    power: int
    pixel: float
    mean: bool
    runs: tuple[range, ...]
    word: str = "slice"


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object in the table.

    Parameters
    ----------
    label : int
        Its value in the labels.
    name : str
        What a person calls it.
    color : str
        ``"#rrggbb"`` as it is shown.
    own_color : bool
        Whether a person chose the colour.
    visible, locked : bool
        Whether it is shown, and kept from changes.
    slices : int
        On how many slices there is some of it.
    size : float or None
        Its volume or area in the unit of `Measure`; None while it is being counted.
    measure : Measure
        What ``size`` is.
    """

    label: int
    name: str
    color: str
    own_color: bool
    visible: bool
    locked: bool
    slices: int
    size: float | None
    measure: Measure


def measure_of(stack: ImageStack, kind: Kind = "stack") -> Measure:
    """Say what an object's size is on a stack.

    A volume where there is depth: the sum over the slices; with time, the mean of the time points at which the object
    is there. An area otherwise: the mean of the frames or pictures that show it. In the unit of the image's spacing if
    it knows rows and columns (a distance between slices that is unknown counts as 1, as in the exported measurements).
    """
    from napari_medsam2.reading.axes import leading, voxel_volume
    from napari_medsam2.reading.numbering import volumes

    deep = "Z" in leading(stack.axes) and kind != "collection"
    spacing = stack.spacing or {}
    known = "y" in spacing and "x" in spacing
    unit = str(spacing.get("unit", "pixel")) if known else "pixel"
    # Sizes without a unit say how pixels relate to each other; what has no unit is counted.
    pixel = float(spacing["y"]) * float(spacing["x"]) if unit != "pixel" else 1.0
    if deep and unit != "pixel":
        pixel = voxel_volume(spacing, stack.affine)
    parts = volumes(stack.axes, stack.shape[:-2]) if deep else tuple(range(i, i + 1) for i in range(len(stack)))
    return Measure("Volume" if deep else "Area", unit, 3 if deep else 2, pixel, len(parts) > 1, parts, noun(kind))

"""What a reader hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_medsam2.reading.sources import Source

__all__ = ["ImageFile"]


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """An opened image file, whose pixels have not been read yet.

    Parameters
    ----------
    data : Source
        The pixels, read where indexed.
    axes : str
        A letter of ``TZNYXC`` for each axis of ``data``.
    spacing : dict or None
        ``{"z": …, "y": …, "x": …, "unit": …}`` as far as the file says it.
    affine : ndarray or None
        NIfTI's 4 × 4 map from ``(x, y, z)`` voxels to millimetres, float64.
    """

    data: Source
    axes: str
    spacing: dict[str, float | str] | None = None
    affine: NDArray[Any] | None = None

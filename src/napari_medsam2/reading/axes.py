"""Which axis of an array is which, and how far apart its pixels are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CHANNEL",
    "check_letters",
    "guess_axes",
    "leading",
    "make_spacing",
    "parse_axes",
    "unit_name",
    "voxel_volume",
]

_MEANINGS = {"T": "time", "Z": "depth", "N": "number of the image", "Y": "row", "X": "column", "C": "channel"}
CHANNEL = "C"
_EXAMPLES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX", 6: "NTZCYX"}

_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "pm": 1e-12, "angstrom": 1e-10, "inch": 0.0254}
_UNITS = {
    # ImageJ writes the micro sign as an escape.
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), "um"),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), "nm"),
    **dict.fromkeys(("pm", "picometer", "picometre"), "pm"),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("m", "meter", "metre"), "m"),
    **dict.fromkeys(("angstrom", "\u00e5", "\u212b"), "angstrom"),
    **dict.fromkeys(("inch", "in", "\\"), "inch"),
}


def check_letters(axes: object) -> str:
    """Check that a text names axes, whatever the array.

    Parameters
    ----------
    axes : str
        One letter of ``TZNYXC`` for each axis, in any case.

    Returns
    -------
    str
        The axes in capitals.

    Raises
    ------
    InputError
        If a letter is unknown or repeated, or Y or X is missing.
    """
    if not isinstance(axes, str) or not axes:
        raise InputError(f"axes must be a text with one letter for each axis, such as ZYX, not {axes!r}")
    letters = axes.upper()
    unknown = sorted(set(letters) - set(_MEANINGS))
    if unknown:
        known = ", ".join(f"{letter} ({meaning})" for letter, meaning in _MEANINGS.items())
        raise InputError(f"axes {axes!r} has the unknown letter {unknown[0]!r}; the letters are {known}")
    repeated = sorted({letter for letter in letters if letters.count(letter) > 1})
    if repeated:
        raise InputError(f"axes {axes!r} has the letter {repeated[0]!r} twice; give each axis a letter of its own")
    if "Y" not in letters or "X" not in letters:
        raise InputError(f"axes {axes!r} must have both Y (row) and X (column), such as ZYX")
    return letters


def parse_axes(axes: str, shape: tuple[int, ...], what: str = "the image") -> str:
    """Check that ``axes`` can be the axes of an array of this shape.

    Parameters
    ----------
    axes : str
        One letter of ``TZNYXC`` for each axis, in any case.
    shape : tuple of int
        The array's shape.
    what : str
        What the array is called in an error.

    Returns
    -------
    str
        The axes in capitals.

    Raises
    ------
    InputError
        If a letter is unknown, repeated or missing, or the number of letters differs from the number of axes.
    """
    letters = check_letters(axes)
    if len(letters) != len(shape):
        example = _EXAMPLES.get(len(shape), "TZCYX")
        raise InputError(
            f"axes {axes!r} names {len(letters)} axes but {what} has {len(shape)}, with shape {shape}; "
            f"give one letter for each, such as {example}"
        )
    return letters


def guess_axes(shape: tuple[int, ...], dtype: np.dtype[np.generic], what: str = "the image") -> str:
    """Choose the axes that an array of this shape and type most likely has.

    ``YX``; ``YXC`` for 8-bit colour, else ``ZYX``; ``ZYXC`` where the last axis is 3 or 4 long, else ``TZYX``;
    ``TZYXC`` where the last axis is 3 or 4 long, else ``TZCYX``.

    Raises
    ------
    InputError
        If there are fewer than two axes or more than five.
    """
    colour = len(shape) > 2 and shape[-1] in (3, 4)
    match len(shape):
        case 0 | 1:
            raise InputError(
                f"{what} has shape {shape}, which is not a picture; give an array with at least rows and columns (YX)"
            )
        case 2:
            return "YX"
        case 3:
            return "YXC" if colour and dtype == "uint8" else "ZYX"
        case 4:
            return "ZYXC" if colour else "TZYX"
        case 5:
            return "TZYXC" if colour else "TZCYX"
        case _:
            raise InputError(
                f"{what} has {len(shape)} axes, with shape {shape}; say what they are with axes, such as NTZCYX"
            )


def leading(axes: str) -> str:
    """Return the letters of the axes that number the slices, in order: all but ``Y``, ``X`` and ``C``."""
    return "".join(letter for letter in axes if letter not in "YXC")


def voxel_volume(spacing: Mapping[str, Any], affine: NDArray[Any] | None) -> float:
    """Return the volume of a voxel, in the unit of the spacing; a distance that is unknown counts as 1.

    Parameters
    ----------
    spacing : mapping
        From `make_spacing`.
    affine : ndarray or None
        Of a NIfTI image. Slices of a tilted gantry lie askew above each other, and are nearer than their origins.
    """
    import numpy as np

    volume = math.prod(float(spacing.get(axis, 1.0)) for axis in "zyx")
    if affine is None:
        return volume
    part = abs(np.linalg.det(affine[:3, :3])) / np.prod(np.linalg.norm(affine[:3, :3], axis=0))
    # As exact as ever where they are upright: affines are stored as float32.
    return volume * float(part) if part < 1 - 1e-5 else volume


def unit_name(unit: str | None) -> str | None:
    """Return the short name of a unit of length (``"um"`` for every spelling of micrometre), None if it is none."""
    if unit is None:
        return None
    return _UNITS.get(unit.strip().rstrip("\x00").lower())


def make_spacing(
    sizes: Mapping[str, float | None], units: Mapping[str, str | None] | str | None
) -> dict[str, float | str] | None:
    """Make a spacing of what a file says about its pixels.

    Parameters
    ----------
    sizes : mapping
        Distance between pixel centres along ``"z"``, ``"y"`` and ``"x"``; what is missing, not finite or not positive
        is left out.
    units : mapping, str or None
        The unit of all sizes, or of each. Sizes in other units are converted to that of ``x``.

    Returns
    -------
    dict or None
        ``{"z": …, "y": …, "x": …, "unit": "um"}``; the unit is ``"pixel"`` where the file names none. None where the
        file says nothing: no size, or all of them 1 without a unit.
    """
    named = {axis: unit_name(units if units is None or isinstance(units, str) else units.get(axis)) for axis in sizes}
    known = {axis: float(size) for axis, size in sizes.items() if size is not None and math.isfinite(size) and size > 0}
    unit = next((named[axis] for axis in ("x", "y", "z") if axis in known and named[axis]), None)
    if not known or (unit is None and all(size == 1 for size in known.values())):
        return None
    spacing: dict[str, float | str] = {}
    for axis in ("z", "y", "x"):
        if axis in known:
            own = named[axis]
            factor = 1.0 if unit is None or own is None or own == unit else _METRES[own] / _METRES[unit]
            spacing[axis] = known[axis] * factor
    spacing["unit"] = unit or "pixel"
    return spacing

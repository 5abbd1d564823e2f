"""Labels and images in space: whether they lie on one grid, and which of its axes are counted from the other end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.stack import ImageStack

__all__ = ["check_grid", "turned"]

_CLOSE = 1e-3
"""Part of a voxel by which grids may differ: affines are stored as float32."""
_LETTERS = "XYZ"


def check_grid(labels: ImageStack, stack: ImageStack) -> str:
    """Find out how labels lie on the image's grid: equal sizes would hide a mirrored volume.

    Parameters
    ----------
    labels, stack : ImageStack
        Labels, and the image that they are of.

    Returns
    -------
    str
        The axes, of ``XYZ``, that the labels count from the other end, as programs do that write another orientation;
        empty where they count as the image does, or one of both says nothing of space.

    Raises
    ------
    InputError
        If they lie on another grid.
    """
    if labels.affine is None or stack.affine is None:
        return ""
    size = np.abs(stack.affine[:3, :3]).max()
    if np.allclose(labels.affine, stack.affine, rtol=0, atol=_CLOSE * size):
        return ""
    # Where in the image the first voxel of the labels lies, and those beside it.
    inside = np.linalg.inv(stack.affine) @ labels.affine
    lengths = np.array([_lengths(stack)[letter] for letter in _LETTERS])
    signs = np.sign(np.diag(inside)[:3])
    same = np.abs(inside[:3, :3] - np.diag(signs)).max() * lengths.max() < 0.1
    begins = np.where(signs < 0, lengths - 1.0, 0.0)
    if not (same and _lengths(labels) == _lengths(stack) and np.abs(inside[:3, 3] - begins).max() < 0.1):
        raise InputError(
            f"{labels.name} lies on another grid than {stack.name} (orientation, origin or voxel size differ); "
            f"resample the labels to the image first"
        )
    return "".join(letter for letter, sign in zip(_LETTERS, signs, strict=True) if sign < 0)


def turned(draw: Callable[[int], np.ndarray], stack: ImageStack, axes: str) -> Callable[[int], np.ndarray]:
    """Read labels that count some axes from the other end.

    Parameters
    ----------
    draw : callable
        Gives the labels at a slice's number as the file counts them.
    stack : ImageStack
        The image.
    axes : str
        From `check_grid`.
    """
    if not axes:
        return draw
    places = [place for place, letter in enumerate(stack.axes) if letter == "Z" and letter in axes]
    rows, columns = (slice(None, None, -1 if letter in axes else None) for letter in "YX")

    def drawn(index: int) -> np.ndarray:
        coordinates = list(stack.unravel(index))
        for place in places:
            coordinates[place] = stack.shape[place] - 1 - coordinates[place]
        return draw(stack.ravel(coordinates))[rows, columns]

    return drawn


def _lengths(stack: ImageStack) -> dict[str, int]:
    """Return how many voxels there are along x, y and z."""
    letters = "".join(letter for letter in stack.axes if letter != "C")
    found = dict(zip(letters, stack.shape, strict=True))
    return {letter: found.get(letter, 1) for letter in _LETTERS}

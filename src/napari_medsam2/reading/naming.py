"""Other names for the axes of an image file: the distances and directions of its voxels go with the axes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medsam2.reading.sources import Rearranged, match_axes

if TYPE_CHECKING:
    from napari_medsam2.reading.imagefile import ImageFile

__all__ = ["rename_axes"]

_SPACE = "XYZ"
"""In the order of the columns of a NIfTI affine."""


def rename_axes(image: ImageFile, letters: str) -> ImageFile:
    """Give the axes of an image file other letters, as a person asks for, without moving a pixel.

    Parameters
    ----------
    image : ImageFile
        The image as its file describes it.
    letters : str
        The new letters, already checked; axes of length 1 may be left out or added, see `match_axes`.

    Returns
    -------
    ImageFile
        What lay along an axis of space lies along it under its new letter: its spacing, and its column of the affine.
        Without an affine where that would have to say how times or channels lie in space. As many axes as the file's
        where the numbers cannot be matched.
    """
    data = match_axes(image.data, image.axes, letters)
    turned = data.axes if isinstance(data, Rearranged) and data is not image.data else tuple(range(len(image.axes)))
    before = dict(zip(letters, ("" if axis is None else image.axes[axis] for axis in turned), strict=False))
    came: dict[str, str] = {}
    for letter in _SPACE:
        old = before.get(letter, "")
        if old and old in _SPACE:
            came[letter] = old
        elif letter in before and letter not in before.values():
            # A new axis, of which the file may say something all the same.
            came[letter] = letter
    spacing = image.spacing
    if spacing is not None:
        known = {new.lower(): spacing[old.lower()] for new, old in came.items() if old.lower() in spacing}
        spacing = {**known, "unit": spacing["unit"]}
    sizes = dict(zip(letters, data.shape, strict=False))
    affine = image.affine
    if affine is not None:
        rest = iter([letter for letter in _SPACE if letter not in came.values()])
        order = [came.get(letter) or next(rest) for letter in _SPACE]
        lost = any(sizes.get(letter, 1) > 1 and letter not in came for letter in _SPACE)
        affine = None if lost else affine[:, [*map(_SPACE.index, order), 3]]
    return replace(image, data=data, axes=letters, spacing=spacing, affine=affine)

"""What needs no model: the figures that a model has to beat to be worth anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.evaluation.cases import Case, Target
    from napari_medsam2.geometry import Box

__all__ = ["copy_through", "fill_box", "grey", "otsu", "otsu_in_box"]


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return the luma (ITU-R BT.601) of a slice ``(3, H, W)``, as ``(H, W)`` float64."""
    return np.tensordot(np.array([0.299, 0.587, 0.114]), pixels, axes=1)


def fill_box(shape: tuple[int, int], box: Box) -> np.ndarray:
    """Return a mask ``(H, W)`` bool of every pixel whose centre a box encloses."""
    mask = np.zeros(shape, bool)
    mask[_window(box, shape)] = True
    return mask


def otsu_in_box(picture: np.ndarray, box: Box) -> np.ndarray:
    """Otsu's threshold of the pixels inside a box, on the side of its centre.

    The object is bright if the middle half of the box is on average brighter than its outermost pixels, else dark.

    Parameters
    ----------
    picture : ndarray
        ``(H, W)`` float.
    box : tuple of float
        Edges ``(y0, x0, y1, x1)``.

    Returns
    -------
    ndarray
        ``(H, W)`` bool; nothing outside of the box. All of the box where it has only one value.
    """
    window = _window(box, picture.shape)
    inside = picture[window]
    mask = np.zeros(picture.shape, bool)
    if inside.min() == inside.max():
        mask[window] = True
        return mask
    bright = _above_otsu(inside)
    height, width = inside.shape
    middle = inside[
        height // 4 : max(height - height // 4, height // 4 + 1), width // 4 : max(width - width // 4, width // 4 + 1)
    ]
    rim = np.ones(inside.shape, bool)
    rim[1:-1, 1:-1] = False
    mask[window] = bright if middle.mean() > inside[rim].mean() else ~bright
    return mask


def otsu(picture: np.ndarray, like: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Otsu's threshold of a whole picture, on the side on which another picture's foreground was.

    Parameters
    ----------
    picture : ndarray
        ``(H, W)`` float.
    like, prompt : ndarray
        ``(H', W')``: a picture, float, and its foreground, bool.

    Returns
    -------
    ndarray
        ``(H, W)`` bool; nothing where the picture has only one value.
    """
    if picture.min() == picture.max():
        return np.zeros(picture.shape, bool)
    bright = _above_otsu(picture)
    if prompt.all():
        return bright
    return bright if like[prompt].mean() > like[~prompt].mean() else ~bright


def copy_through(case: Case, targets: Sequence[Target]) -> list[float]:
    """Copy each object's true mask on its largest slice to all slices.

    Parameters
    ----------
    case : Case
        A stack.
    targets : sequence of Target
        The objects.

    Returns
    -------
    list of float
        The 3-D Dice of the copies with each object, in order.
    """
    masks = [case.labels(target.index) == target.value for target in targets]
    volumes, overlaps = np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)
    for index in range(len(case.stack)):
        labels = case.labels(index)
        for number, (target, mask) in enumerate(zip(targets, masks, strict=True)):
            truth = labels == target.value
            volumes[number] += np.count_nonzero(truth)
            overlaps[number] += np.count_nonzero(truth & mask)
    copies = np.array([target.area for target in targets]) * len(case.stack)
    return list((2 * overlaps / (copies + volumes)).tolist())


def _above_otsu(values: np.ndarray) -> np.ndarray:
    """Tell which values are above their Otsu threshold; there must be two different ones."""
    from skimage.filters import threshold_otsu

    return np.asarray(values > threshold_otsu(values))  # type: ignore[no-untyped-call]


def _window(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Find the pixels whose centres lie inside a box's edges."""
    y0, x0, y1, x1 = box
    rows = slice(max(int(np.ceil(y0)), 0), min(int(np.floor(y1)) + 1, shape[0]))
    columns = slice(max(int(np.ceil(x0)), 0), min(int(np.floor(x1)) + 1, shape[1]))
    return rows, columns

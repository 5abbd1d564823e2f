"""A simulated annotator that goes on until the mask is good, and one that mends a mask that is nearly right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.evaluation.annotator import innermost
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from napari_medsam2.session import AnnotationSession

__all__ = ["GOOD", "MOST_CLICKS", "clicks_until_good", "mend", "next_click", "spoiled"]

GOOD = 0.90
"""The Dice at which the simulated annotator is content."""
MOST_CLICKS = 20
"""Where it gives up; an object that never got good counts as one click more."""


def next_click(mask: np.ndarray, truth: np.ndarray) -> tuple[tuple[int, int], int] | None:
    """Return the next click of an annotator, in the middle of the largest error, or None where there is none.

    Parameters
    ----------
    mask, truth : ndarray
        ``(H, W)`` bool: what there is, and what there should be.

    Returns
    -------
    tuple or None
        ``((y, x), 1)`` in the largest piece that is missing, or ``((y, x), 0)`` in the largest that is too much.
    """
    from scipy import ndimage

    largest: np.ndarray | None = None
    label = 0
    for positive, wrong in ((1, truth & ~mask), (0, mask & ~truth)):
        pieces, count = ndimage.label(wrong)
        if not count:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        if largest is None or sizes.max() > np.count_nonzero(largest):
            largest, label = pieces == int(sizes.argmax()) + 1, positive
    return None if largest is None else (innermost(largest), label)


def clicks_until_good(session: AnnotationSession, label: int, index: int, truth: np.ndarray) -> tuple[int, list[float]]:
    """Click on an object until its mask is good.

    Returns
    -------
    tuple
        How many clicks that took (`MOST_CLICKS` + 1 if it never was), and the Dice after each.
    """
    result = session.add_points(label, index, [innermost(truth)], [1])
    scores = [dice(result.mask, truth)]
    while scores[-1] < GOOD and len(scores) < MOST_CLICKS:
        click = next_click(result.mask, truth)
        if click is None:
            break
        result = session.add_points(label, index, [click[0]], [click[1]])
        scores.append(dice(result.mask, truth))
    return (len(scores) if scores[-1] >= GOOD else MOST_CLICKS + 1), scores


def spoiled(truth: np.ndarray, kind: str) -> np.ndarray:
    """Return a mask ``(H, W)`` that is nearly right: ``"eroded"``, ``"dilated"``, ``"shifted"`` or ``"bitten"``.

    By how much depends on the mask's size alone: a tenth of the square root of its area, a fifth for the shift; the
    bite is a disc around its rightmost pixel with a third of that as radius.
    """
    from scipy import ndimage

    size = float(np.sqrt(np.count_nonzero(truth)))
    steps = max(1, round(0.1 * size))
    if kind == "eroded":
        smaller = ndimage.binary_erosion(truth, iterations=steps)
        return np.asarray(smaller if smaller.any() else truth)
    if kind == "dilated":
        return np.asarray(ndimage.binary_dilation(truth, iterations=steps))
    if kind == "shifted":
        return np.asarray(ndimage.shift(truth.astype(np.uint8), (0, 2 * steps), order=0) > 0)
    rows, columns = np.nonzero(truth)
    at = columns.argmax()
    y, x = np.ogrid[: truth.shape[0], : truth.shape[1]]
    bitten = truth & ((y - rows[at]) ** 2 + (x - columns[at]) ** 2 > (size / 3) ** 2)
    return bitten if bitten.any() else truth


def mend(session: AnnotationSession, label: int, index: int, mask: np.ndarray, truth: np.ndarray) -> float | None:
    """Give a mask and one corrective click; return the Dice after it, or None where nothing needs mending."""
    click = next_click(mask, truth)
    if click is None:
        return None
    session.add_mask(label, index, mask)
    return dice(session.add_points(label, index, [click[0]], [click[1]]).mask, truth)

"""Clicks on a mask that is nearly right change it where they were made, and leave the rest as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from napari_medsam2.prompts import SlicePrompt

__all__ = ["local_change"]

_REACH = 3
"""A click within this many pixels of a change asks for it."""


def local_change(old: ObjectResult, new: ObjectResult, prompt: SlicePrompt) -> ObjectResult:
    """Take over of a new mask only the changes that the last click asks for.

    A network that is given a mask and a click draws the whole object anew, and may lose what was right about the mask.
    So of all connected regions that it would add, for a positive click, or remove, for a negative one, only that at
    the click is taken (after the progressive merge of FocalClick, Chen et al., CVPR 2022).

    Parameters
    ----------
    old, new : ObjectResult
        The mask so far, and what the network makes of it and the clicks.
    prompt : SlicePrompt
        The last of its points is the click.

    Returns
    -------
    ObjectResult
        ``new`` with the pixels that keep their old logits; ``new`` itself where the click asks for none of its changes.
    """
    from scipy import ndimage

    if not len(prompt.points) or not old.area:
        return new
    before, after = old.mask, new.mask
    changed = after & ~before if prompt.labels[-1] == 1 else before & ~after
    y, x = prompt.points[-1]
    rows, columns = (np.arange(n) for n in changed.shape)
    near = ((rows[:, None] - y) ** 2 + (columns[None] - x) ** 2 <= _REACH**2) & changed
    if not near.any():
        return new
    pieces, _ = ndimage.label(changed, np.ones((3, 3)))
    taken = np.isin(pieces, np.unique(pieces[near]))
    logits = np.where(taken | (before == after), _canvas(new), _canvas(old))
    inside = logits > 0
    if not inside.any():
        return new
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    y0, y1 = max(rows[0] - 2, 0), min(rows[-1] + 3, inside.shape[0])
    x0, x1 = max(columns[0] - 2, 0), min(columns[-1] + 3, inside.shape[1])
    return ObjectResult(
        new.label, new.index, new.shape, int(y0), int(x0), logits[y0:y1, x0:x1], new.confidence, new.object_score,
        new.source, new.view,
    )  # fmt: skip


def _canvas(result: ObjectResult) -> np.ndarray:
    out = np.full(result.shape, -126, np.int8)
    h, w = result.logits.shape
    out[result.top : result.top + h, result.left : result.left + w] = result.logits
    return out

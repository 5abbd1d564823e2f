"""What becomes of labels that were read: prompts, or accepted masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2._outlines import crops
from napari_medsam2.errors import InputError
from napari_medsam2.objects import Changes, in_window
from napari_medsam2.prompts import Prompt, SlicePrompt
from napari_medsam2.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_medsam2.importing._labels import LabelFile

__all__ = ["as_changes", "as_prompts"]


def as_prompts(
    labels: LabelFile, indices: Sequence[int] | None = None, objects: Sequence[int] | None = None
) -> Iterator[Prompt]:
    """Give every object's mask on every slice as a prompt, to propagate from.

    Parameters
    ----------
    labels : LabelFile
        From `open_labels`.
    indices : sequence of int, optional
        The slices to take; all by default.
    objects : sequence of int, optional
        The labels to take; all by default.

    Yields
    ------
    Prompt
        With a mask, slice by slice, in order of labels.

    Raises
    ------
    InputError
        If a slice does not exist.
    """
    for index, label, top, left, mask, shape in _masks(labels, indices, objects):
        whole = np.zeros(shape, bool)
        whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        yield Prompt(label, index, SlicePrompt(mask=whole))


def as_changes(
    labels: LabelFile, indices: Sequence[int] | None = None, objects: Sequence[int] | None = None
) -> Changes:
    """Give every object's mask on every slice as a result that a person accepted, source ``"mask"``.

    Parameters
    ----------
    labels, indices, objects
        As for `as_prompts`.

    Returns
    -------
    Changes
        The results, and the names of the objects as the file knows them; that of the file where it holds one object
        without a name.

    Raises
    ------
    InputError
        If a slice does not exist, or there is no object on those asked for.
    """
    results = Results()
    found: set[int] = set()
    for index, label, top, left, mask, shape in _masks(labels, indices, objects):
        results.put(in_window(label, index, mask, top, left, shape))
        found.add(label)
    if not found:
        raise InputError(f"{labels.name} holds no object on these slices; choose others")
    known = {label for label in labels.objects if objects is None or label in objects}
    names = {
        label: labels.objects[label].name if label in labels.objects else f"object {label}"
        for label in sorted(found | (known if indices is None else set()))
    }
    if len(names) == 1 and not labels.objects:
        # One file for each organ is a habit: its name says which.
        names = dict.fromkeys(names, labels.name)
    colors = {
        label: labels.objects[label].hex
        for label in names
        if label in labels.objects and labels.objects[label].color is not None
    }
    return Changes(results, names=names, colors=colors)


def _masks(
    labels: LabelFile, indices: Sequence[int] | None, objects: Sequence[int] | None
) -> Iterator[tuple[int, int, int, int, np.ndarray, tuple[int, int]]]:
    """Yield index, label, the window's first row and column, its mask, and the slice's shape."""
    for index in range(len(labels)) if indices is None else indices:
        if not 0 <= index < len(labels):
            raise InputError(f"slice {index} does not exist: there are slices 0 to {len(labels) - 1}")
        drawn = labels.slice_labels(index)
        shape = (int(drawn.shape[0]), int(drawn.shape[1]))
        for label, top, left, mask in crops(drawn):
            if objects is None or label in objects:
                yield index, label, top, left, mask, shape

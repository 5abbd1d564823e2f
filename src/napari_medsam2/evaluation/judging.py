"""How a session's masks agree with a case's reference labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medsam2.evaluation.cases import Case, Target
    from napari_medsam2.session import AnnotationSession

__all__ = ["Judged", "judge_foreground", "judge_objects"]


@dataclass(frozen=True, slots=True)
class Judged:
    """An object's agreement with its reference.

    Parameters
    ----------
    dice : float
        Of all its slices as one volume, or the mean over images.
    pairs : tuple of (float, float)
        Confidence and Dice on each slice that was not prompted and that the model looked at.
    carried : tuple of (float, float)
        Those of them where the labels show the object, so that there is something to look at.
    """

    dice: float
    pairs: tuple[tuple[float, float], ...]
    carried: tuple[tuple[float, float], ...] = ()


def judge_objects(case: Case, session: AnnotationSession, objects: Mapping[int, Target]) -> dict[int, Judged]:
    """Compare objects in 3-D with the references that they stand for.

    What a person gets is judged: the labels, in which no two objects share a pixel.

    Parameters
    ----------
    case : Case
        A stack.
    session : AnnotationSession
        On the case's image, with results.
    objects : mapping
        From the session's labels to the targets.

    Returns
    -------
    dict
        By the session's labels.
    """
    pixels = {label: np.zeros(3, np.int64) for label in objects}
    pairs: dict[int, list[tuple[float, float]]] = {label: [] for label in objects}
    carried: dict[int, list[tuple[float, float]]] = {label: [] for label in objects}
    for index in range(len(case.stack)):
        found, reference = session.slice_labels(index), case.labels(index)
        for label, target in objects.items():
            mask, truth = found == label, reference == target.value
            pixels[label] += [mask.sum(), truth.sum(), (mask & truth).sum()]
            result = session.results.get(label, index)
            if result is not None and (label, index) not in session.prompts:
                pairs[label].append((result.confidence, dice(mask, truth)))
                if mask.any():
                    carried[label].append(pairs[label][-1])
    scores = {label: 2 * int(both) / int(size + volume) for label, (size, volume, both) in pixels.items()}
    return {label: Judged(score, tuple(pairs[label]), tuple(carried[label])) for label, score in scores.items()}


def judge_foreground(case: Case, session: AnnotationSession, label: int, images: Sequence[int]) -> Judged:
    """Compare one object with the foreground of some images of a collection; all reference labels are foreground."""
    pairs = []
    for index in images:
        score = dice(session.slice_labels(index) == label, case.labels(index) != 0)
        result = session.results.get(label, index)
        pairs.append((0.0 if result is None else result.confidence, score))
    return Judged(float(np.mean([score for _, score in pairs])), tuple(pairs))

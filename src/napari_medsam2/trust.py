"""How far a mask that the model carried along can be trusted: the Dice to expect of it.

The network judges what it sees on one slice. Whether a walk has gone astray shows better in its course: in how the mask
agrees with the one before it, in how its width has changed, in how far from a prompted slice it is. Both together go
through a logistic function, whose coefficients ``python -m napari_medsam2.training.calibrate`` fits on synthetic stacks
that the network was not trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.results import ObjectResult

__all__ = ["Course", "Parting", "Trust", "course"]


@dataclass(frozen=True, slots=True)
class Course:
    """What is known of one mask of a walk.

    Parameters
    ----------
    iou : float
        In [0, 1], the network's predicted IoU.
    score : float
        In [0, 1], the probability that the object is on the slice, as the network sees it.
    agreement : float
        In [0, 1], the Dice with the mask before it on the walk; 0 for an empty mask.
    widened : float
        The logarithm of its width over that of the mask before it; 0 for an empty mask.
    waned : float
        The logarithm of the prompted slice's width over its own; for an empty mask, over the last one's.
    distance : int
        Slices from the prompted one, from 1.
    """

    iou: float
    score: float
    agreement: float
    widened: float
    waned: float
    distance: int

    def terms(self) -> tuple[float, ...]:
        """Return what the coefficients multiply, a constant first."""
        return (
            1.0,
            _logit(self.iou),
            _logit(self.score),
            2 * self.agreement - 1,
            min(abs(self.widened), 1.0),
            max(-1.0, min(self.waned, 1.0)),
            max(0.0, min(self.waned, 2.0)) ** 2,
            math.log(self.distance),
        )


@dataclass(frozen=True, slots=True)
class Parting:
    """What is known of one mask that is withdrawn, since its walk had passed the object's end.

    Parameters
    ----------
    narrowed, widened : float
        The logarithms of the width before the end over that at the end, and of the width where it showed over the same.
    prompted : bool
        Whether it showed by going over into an object that a person prompted, not by the widths alone.
    believed : float
        In [0, 1], what the network believed of the mask: its predicted IoU times the object's probability.
    """

    narrowed: float
    widened: float
    prompted: bool
    believed: float

    def terms(self) -> tuple[float, ...]:
        """Return what the coefficients multiply, a constant first."""
        narrowed, widened = (max(0.0, min(v, 1.5)) for v in (self.narrowed, self.widened))
        return 1.0, narrowed, widened, float(self.prompted), _logit(self.believed)


@dataclass(frozen=True, slots=True)
class Trust:
    """What was fitted for a network.

    Parameters
    ----------
    present, absent : tuple of float
        Coefficients of `Course.terms`, for masks and for slices on which the network found nothing.
    withdrawn : tuple of float
        Coefficients of `Parting.terms`.
    """

    present: tuple[float, ...]
    absent: tuple[float, ...]
    withdrawn: tuple[float, ...]

    def of(self, result: ObjectResult, known: Course) -> float:
        """Estimate a mask's Dice or, for an empty one, the probability that it is right: in [0, 1]."""
        return _logistic(self.present if result.area else self.absent, known.terms())

    def of_withdrawn(self, result: ObjectResult, known: Parting) -> float:
        """Estimate the probability that a mask was rightly withdrawn, in [0, 1]; ``result`` is the empty one."""
        del result
        return _logistic(self.withdrawn, known.terms())


def course(result: ObjectResult, last: ObjectResult, first: int, iou: float, score: float, distance: int) -> Course:
    """Put together what is known of a mask.

    Parameters
    ----------
    result, last : ObjectResult
        The mask, and the last one before it that is not empty.
    first : int
        Pixels of the prompted slice's mask.
    iou, score, distance
        As in `Course`.
    """
    waned = 0.5 * math.log(max(first, 1) / max(result.area or last.area, 1))
    if not result.area:
        return Course(iou, score, 0.0, 0.0, waned, distance)
    agreement = 2 * result.shares(last) / (result.area + last.area)
    return Course(iou, score, agreement, 0.5 * math.log(result.area / max(last.area, 1)), waned, distance)


def _logistic(coefficients: Sequence[float], terms: Sequence[float]) -> float:
    total = sum(a * b for a, b in zip(coefficients, terms, strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(total, 30.0))))


def _logit(share: float) -> float:
    share = min(max(share, 0.005), 0.995)
    return math.log(share / (1 - share))

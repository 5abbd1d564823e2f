"""Protocols: which prompts a simulated annotator gives, and how the answers are judged."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_medsam2._progress import quiet
from napari_medsam2.errors import InputError
from napari_medsam2.evaluation.annotator import innermost
from napari_medsam2.evaluation.baselines import copy_through, fill_box, grey, otsu, otsu_in_box
from napari_medsam2.evaluation.interactive import clicks_until_good, mend, spoiled
from napari_medsam2.evaluation.judging import judge_foreground, judge_objects
from napari_medsam2.geometry import tight_box
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_medsam2._progress import Tell
    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.evaluation.cases import Case, Target
    from napari_medsam2.memory import Policy
    from napari_medsam2.session import AnnotationSession

__all__ = ["PROTOCOLS", "SEEDS", "Item", "Row", "applies", "run_protocol"]

PROTOCOLS: dict[str, str] = {
    "box": "a tight box around each object, on its largest slice; that slice's mask is judged",
    "click": "one click at each object's innermost pixel, on its largest slice; that slice's mask is judged",
    "stack": "a tight box around each object on its largest slice, propagated both ways; judged in 3-D over all slices",
    "collection": "one image's foreground as a painted mask, propagated; the foreground of all other images is judged",
    "clicks": "clicks, each in the middle of the largest error, until the Dice is 0.90; the last mask is judged",
    "mend": "the reference mask eroded, dilated, shifted or bitten, then one corrective click; that slice is judged",
}
"""What each protocol does."""

SEEDS = 3
"""How many images of a collection take their turn as the prompted one: the first that have a foreground."""

_BAD = 0.7
"""A slice whose Dice is less ought to be looked at."""


@dataclass(frozen=True, slots=True)
class Item:
    """One judged answer.

    Parameters
    ----------
    value : int
        The object's value in the reference labels; 0 for all foreground together.
    index : int
        The prompted slice.
    dice : float
        Of the model's mask, or the mean over images for ``collection``.
    baselines : dict
        The Dice of each baseline, by name.
    seconds : float
        That the session took, reading and encoding the image included.
    pairs : sequence of (float, float)
        Confidence and true Dice of every mask that the model made, for their correlation.
    measures : dict
        What else was measured: ``clicks`` that it took (``clicks``), ``better`` 1 or 0 (``mend``).
    carried : sequence of (float, float)
        Those of ``pairs`` where the labels show the object (``stack``).
    """

    value: int
    index: int
    dice: float
    baselines: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    pairs: tuple[tuple[float, float], ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    carried: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """All items of one protocol on one case.

    Parameters
    ----------
    case : str
        The case's name.
    protocol : str
        One of `PROTOCOLS`.
    items : tuple of Item
        At least one.
    """

    case: str
    protocol: str
    items: tuple[Item, ...]

    @property
    def dice(self) -> float:
        """The model's mean Dice."""
        return float(np.mean([item.dice for item in self.items]))

    @property
    def baselines(self) -> dict[str, float]:
        """Each baseline's mean Dice, over the same items."""
        return {name: float(np.mean([i.baselines[name] for i in self.items])) for name in self.items[0].baselines}

    @property
    def measures(self) -> dict[str, float]:
        """What else was measured: the median of ``clicks``, the mean of ``better``."""
        found = {name: [item.measures[name] for item in self.items] for name in self.items[0].measures}
        return {name: float(np.median(v) if name == "clicks" else np.mean(v)) for name, v in found.items()}

    @property
    def seconds(self) -> float:
        """Mean seconds an item."""
        return float(np.mean([item.seconds for item in self.items]))

    @property
    def correlation(self) -> float | None:
        """Spearman's rank correlation of confidence and true Dice; None where it is not defined."""
        return _rank_correlation(self._pairs)

    @property
    def _pairs(self) -> list[tuple[float, float]]:
        return [pair for item in self.items for pair in item.pairs]

    @property
    def review(self) -> dict[str, float]:
        """What confidence is worth to who looks through a propagated stack; empty for other protocols.

        ``carried``: its correlation with Dice over the masks that are not empty. ``worst tenth``: the share of all
        slices with a Dice under 0.7 that is among the tenth of least confidence; ``of``: what a tenth can hold.
        """
        out: dict[str, float] = {}
        carried = _rank_correlation([pair for item in self.items for pair in item.carried])
        if carried is not None:
            out["carried"] = carried
            pairs = np.array(self._pairs)
            bad = pairs[:, 1] < _BAD
            first = np.argsort(pairs[:, 0], kind="stable")[: math.ceil(len(pairs) / 10)]
            if bad.any():
                out |= {"worst tenth": float(bad[first].sum() / bad.sum()), "of": min(1.0, len(first) / bad.sum())}
        return out


def _rank_correlation(found: list[tuple[float, float]]) -> float | None:
    from scipy import stats

    pairs = np.array(found)
    if len(pairs) < 3 or (pairs == pairs[0]).all(0).any():
        return None
    return float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def applies(case: Case, protocol: str) -> bool:
    """Whether a protocol makes sense for a case: ``stack`` needs a z-stack, ``collection`` two images or more."""
    if protocol == "stack":
        return case.kind == "stack"
    if protocol == "collection":
        return case.kind == "collection" and len(case.stack) > 1
    return True


def run_protocol(
    case: Case, protocol: str, backend: Backend, memory: Policy = "self-sorting", tell: Tell = quiet
) -> Iterator[Item]:
    """Drive a session through a protocol.

    Parameters
    ----------
    case : Case
        The image and its reference labels.
    protocol : str
        One of `PROTOCOLS`.
    backend : Backend
        The network.
    memory : str
        The memory bank's policy.
    tell : callable
        Told how far it is.

    Yields
    ------
    Item
        As soon as it is judged; none where the protocol does not apply.

    Raises
    ------
    InputError
        If the protocol is unknown, or the case has no object of 30 pixels or more.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}, all")
    if not applies(case, protocol):
        return
    from napari_medsam2.session import AnnotationSession

    def start() -> AnnotationSession:
        kind: Literal["stack", "collection"] = "collection" if case.kind == "collection" else "stack"
        return AnnotationSession(case.stack, backend=backend, memory=memory, kind=kind)

    if protocol == "collection":
        seeds = [index for (index, _), _ in zip(case.foregrounds(), range(SEEDS), strict=False)]
        if not seeds:
            raise InputError(f"{case.name} has no foreground in its labels; nothing can be judged")
        for number, seed in enumerate(seeds):
            tell(f"{case.name} {protocol}", number, len(seeds))
            yield _foreground(case, start(), seed)
        return
    targets = case.targets()
    if not targets:
        raise InputError(f"{case.name} has no object of 30 pixels or more in its labels; nothing can be judged")
    if protocol == "stack":
        yield from _volumes(case, start(), targets, tell)
    else:
        session = start()
        for number, target in enumerate(targets):
            tell(f"{case.name} {protocol}", number, len(targets))
            if protocol == "clicks":
                yield _clicked(case, session, target)
            elif protocol == "mend":
                yield from _mended(case, session, target)
            else:
                yield _one_slice(case, session, target, protocol)


def _one_slice(case: Case, session: AnnotationSession, target: Target, protocol: str) -> Item:
    truth = case.labels(target.index) == target.value
    label = session.add_object()
    began = time.perf_counter()
    if protocol == "click":
        result = session.add_points(label, target.index, [innermost(truth)], [1])
    else:
        result = session.add_box(label, target.index, tight_box(truth))
    seconds = time.perf_counter() - began
    score = dice(result.mask, truth)
    baselines: dict[str, float] = {}
    if protocol == "box":
        box = tight_box(truth)
        picture = grey(case.stack.pixels(target.index))
        baselines["box filled"] = dice(fill_box(truth.shape, box), truth)
        baselines["Otsu"] = dice(otsu_in_box(picture, box), truth)
    return Item(target.value, target.index, score, baselines, seconds, ((result.confidence, score),))


def _clicked(case: Case, session: AnnotationSession, target: Target) -> Item:
    truth = case.labels(target.index) == target.value
    began = time.perf_counter()
    clicks, scores = clicks_until_good(session, session.add_object(), target.index, truth)
    seconds = (time.perf_counter() - began) / len(scores)
    return Item(target.value, target.index, scores[-1], seconds=seconds, measures={"clicks": clicks})


def _mended(case: Case, session: AnnotationSession, target: Target) -> Iterator[Item]:
    truth = case.labels(target.index) == target.value
    for kind in ("eroded", "dilated", "shifted", "bitten"):
        mask = spoiled(truth, kind)
        before = dice(mask, truth)
        began = time.perf_counter()
        after = mend(session, session.add_object(), target.index, mask, truth)
        seconds = time.perf_counter() - began
        if after is not None:
            better = float(after > before)
            yield Item(target.value, target.index, after, {"before": before}, seconds, measures={"better": better})


def _volumes(case: Case, session: AnnotationSession, targets: Sequence[Target], tell: Tell) -> Iterator[Item]:
    began = time.perf_counter()
    objects: dict[int, Target] = {}
    for number, target in enumerate(targets):
        tell(f"{case.name} boxes", number, len(targets))
        label = session.add_object()
        session.add_box(label, target.index, tight_box(case.labels(target.index) == target.value))
        objects[label] = target
    visited: set[int] = set()
    for step in session.propagate(direction="both"):
        visited.add(step.index)
        tell(f"{case.name} stack", len(visited), len(case.stack))
    seconds = (time.perf_counter() - began) / len(targets)
    judged = judge_objects(case, session, objects)
    for (label, target), copied in zip(objects.items(), copy_through(case, targets), strict=True):
        one = judged[label]
        yield Item(target.value, target.index, one.dice, {"copied": copied}, seconds, one.pairs, {}, one.carried)


def _foreground(case: Case, session: AnnotationSession, seed: int) -> Item:
    prompt = case.labels(seed) != 0
    began = time.perf_counter()
    label = session.add_object(name="foreground")
    session.add_mask(label, seed, prompt)
    for _ in session.propagate():
        pass
    others = [i for i in range(len(case.stack)) if i != seed]
    seconds = (time.perf_counter() - began) / len(others)
    judged = judge_foreground(case, session, label, others)
    like = grey(case.stack.pixels(seed))
    thresholds = [dice(otsu(grey(case.stack.pixels(i)), like, prompt), case.labels(i) != 0) for i in others]
    return Item(0, seed, judged.dice, {"Otsu": float(np.mean(thresholds))}, seconds, judged.pairs)

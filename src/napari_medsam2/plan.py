"""What a propagation depends on, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from napari_medsam2.memory import BankConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.cache import EmbeddingCache
    from napari_medsam2.prediction import Prediction
    from napari_medsam2.results import ObjectResult, PackedResult, SliceResult
    from napari_medsam2.stack import ImageStack

__all__ = ["Again", "Direction", "Plan", "Propagation", "Seed"]

Direction = Literal["both", "forward", "backward"]


@dataclass(frozen=True, slots=True, eq=False)
class Seed:
    """A prompted slice of one object: where its propagation starts.

    Parameters
    ----------
    prediction : Prediction or None
        What the model saw. None for painted masks, and for those that another model drew: the mask is then taken as
        this model's own once the propagation gets there, as that needs the slice's embedding.
    result : ObjectResult
        The mask.
    corrected : bool
        Whether the prompt corrected a propagated mask.
    """

    prediction: Prediction | None
    result: ObjectResult
    corrected: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """What a propagation that follows an earlier one needs to know of that.

    Parameters
    ----------
    walks : mapping
        ``(label, seed's slice, +1 or -1)`` of the walks to carry out; whether each may end before its way does.
    previous : mapping
        ``(label, slice)`` to the earlier result.
    agreement : float
        The IoU with the earlier mask from which on a mask counts as unchanged.
    settle : int
        After how many unchanged slices in a row a walk ends.
    """

    walks: Mapping[tuple[int, int, int], bool]
    previous: Mapping[tuple[int, int], PackedResult]
    agreement: float
    settle: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A frozen snapshot of all that a propagation depends on.

    Parameters
    ----------
    stack, backend, cache
        Where pixels, features and kept features come from.
    seeds : mapping
        ``label → slice → Seed``; those of an object without a prompt are none, and nothing is computed for it.
    kind : str
        ``"stack"``: slices are neighbours. ``"collection"``: unordered images.
    bank : BankConfig
        The memory bank's policy.
    direction : str
        ``"both"``, ``"forward"`` or ``"backward"`` from the prompted slices; collections ignore it.
    start, stop : int
        The range of slices (``stop`` is one past the last) outside of which nothing is computed.
    patience : int or None
        After how many slices without the object its propagation ends; None: never.
    part : bool
        Whether an object that narrows and then widens again is taken to have ended at its waist, see `ending.waist`;
        and one whose mask is that of another object which was prompted on the slice (`prompted`), before it. Slices
        beyond the end that were yielded before it could be seen are withdrawn. Never done along time.
    kept : mapping
        ``label → slice → ObjectResult``: accepted masks, which walks take over instead of computing their own.
    again : Again, optional
        Compute only as far as masks change.
    pins : mapping
        ``label → slice → ObjectResult``: masks whose memory a person wants in the bank.
    drops : frozenset of (int, int)
        ``(label, slice)`` whose memory a person does not want there. An object's only memory in a run of neighbours
        stays all the same.
    prompted : mapping
        ``slice → PackedResult``s: all masks that a person prompted there, also of objects that are not propagated.
    """

    stack: ImageStack
    backend: Backend
    cache: EmbeddingCache
    seeds: Mapping[int, Mapping[int, Seed]]
    kind: Literal["stack", "collection"] = "stack"
    bank: BankConfig = field(default_factory=BankConfig)
    direction: Direction = "both"
    start: int = 0
    stop: int = 0
    patience: int | None = 2
    part: bool = True
    kept: Mapping[int, Mapping[int, ObjectResult]] = field(default_factory=dict)
    again: Again | None = None
    pins: Mapping[int, Mapping[int, ObjectResult]] = field(default_factory=dict)
    drops: frozenset[tuple[int, int]] = frozenset()
    prompted: Mapping[int, Sequence[PackedResult]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """A propagation under way: `napari_medsam2.propagation.run` computes its plan, in any thread.

    Parameters
    ----------
    plan : Plan
        For ``run``.
    apply : callable
        Takes over a slice that ``run`` yields; in the session's thread, like the others. All slices are one step of
        the history.
    finish : callable
        Takes over what ``run`` returned at its end.
    withdrawn : callable
        Whether the propagation was undone: nothing more is taken over, and computing may end.
    """

    plan: Plan
    apply: Callable[[SliceResult], None]
    finish: Callable[[tuple[tuple[int, int], ...]], None]
    withdrawn: Callable[[], bool]

"""Propagation: carrying masks from prompted slices to the others, slice by slice, through the memory bank."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2._banks import Pinned, near, noted, offer
from napari_medsam2._meeting import Meeting
from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.ending import narrowest, same_body, waist
from napari_medsam2.geometry import plan_region, whole_slice
from napari_medsam2.memory import select
from napari_medsam2.prediction import place, view_for, view_of
from napari_medsam2.reading.numbering import run_axis
from napari_medsam2.results import ObjectResult, SliceResult

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from napari_medsam2.backend.protocol import Memory
    from napari_medsam2.geometry import View
    from napari_medsam2.memory import Bank
    from napari_medsam2.plan import Plan

__all__ = ["run"]

_WANING = 0.1
"""How much less sure a mask is the farther it was carried; chosen in docs/model.md."""
_ENDED = 0.6
"""How sure it is that an object has ended at a waist: such ends were right in 94, 34 and 48 % on nuclei, a CT and drawn
volumes (docs/model.md), and nothing tells beforehand which they are."""


@dataclass(slots=True)
class _Track:
    """One object on its way: its bank, its last mask, from where to where it goes, how wide it was on each slice."""

    label: int
    bank: Bank
    last: ObjectResult
    view: View
    size: float
    start: int
    end: int
    meets: bool
    alone: bool
    before: float
    widths: list[float]
    visited: list[int]
    parts: bool
    may_settle: bool
    absent: int = 0
    agreed: int = 0

    def share(self, position: int) -> float:
        """How near a slice is to where the walk began, rather than to the next prompted slice: 1 to 0."""
        other = self.end + (1 if self.end >= self.start else -1)
        return (other - position) / (other - self.start)


def run(plan: Plan) -> Generator[SliceResult, None, tuple[tuple[int, int], ...]]:
    """Propagate; yields one result a slice and direction, in the order of computation. Closing it cancels.

    Every slice between two prompted ones is reached from either: what is yielded at the second time is made of both
    masks, see `napari_medsam2._meeting.meet`. Prompted slices are not computed again. All memory that the run needs is
    its own: neither the plan nor any result depends on when it is stopped.

    Returns
    -------
    tuple
        The ``(label, slice)`` that were on the way of a walk which ended before, as the object had, within the plan's
        range: what an earlier propagation found there no longer holds. Not those between two prompted slices that are
        walked to from one of them only.
    """
    left: list[tuple[int, int]] = []
    pinned = Pinned(plan)
    if plan.kind == "collection":
        yield from _through_collection(plan, pinned)
        return ()
    for stretch in plan.stack.runs():
        meeting = Meeting({} if plan.again is None else plan.again.previous)
        if plan.direction != "backward":
            yield from _sweep(plan, pinned, stretch, 1, left, meeting)
        if plan.direction != "forward":
            yield from _sweep(plan, pinned, stretch, -1, left, meeting)
        left = [key for key in left if key not in meeting.seen]
    return tuple(left)


def _sweep(
    plan: Plan, pinned: Pinned, stretch: range, step: int, left: list[tuple[int, int]], meeting: Meeting
) -> Iterator[SliceResult]:
    """Walk once through neighbouring slices, carrying every object that has a seed behind."""
    # Slices of a run need not follow each other in number (ZTYX): within the walk they go by their position in the run.
    within = [position for position, index in enumerate(stretch) if plan.start <= index < plan.stop]
    if not within:
        return
    first, last = within[0], within[-1]
    ends = {
        label: _ends(sorted(stretch.index(i) for i in seeds if i in stretch), step, first, last)
        for label, seeds in plan.seeds.items()
    }
    if plan.again is not None:
        for label, own in ends.items():
            # A walk that is not to be done again ends where it begins.
            own.update({at: at for at in own if (label, stretch[at], step) not in plan.again.walks})
    # Seeds outside the range still condition it: the walk starts at the first seed and computes within the range.
    starts = [position for e in ends.values() for position in e]
    if not starts:
        return
    tracks: dict[int, _Track] = {}
    for position in range(min(starts), last + 1) if step > 0 else range(max(starts), first - 1, -1):
        index = stretch[position]
        for label in sorted(ends):
            if position in ends[label]:
                tracks[label] = _start(label, plan, pinned[label], position, ends[label][position], stretch, step)
            elif label in tracks and (tracks[label].end - position) * step < 0:
                del tracks[label]
        going = [t for t in tracks.values() if position not in ends[t.label]]
        if not going or not first <= position <= last:
            continue
        objects: list[ObjectResult] = []
        moving = [t for t in going if not _rest(plan, t, index)]
        for at in range(0, len(moving), plan.backend.batch):
            objects += _advance(plan, moving[at : at + plan.backend.batch], index, stretch, step)
        if plan.direction == "both":
            objects = [_meet(tracks[one.label], one, position, meeting) for one in objects]
        for one in objects:
            _compare(plan, tracks[one.label], one)
        # What this slice says of others, by their number.
        elsewhere: dict[int, list[ObjectResult]] = {}
        gone_over = _gone_over(plan, objects, index)
        for track in going:
            ended = waist(track.widths, track.before) if track.parts else None
            if track.parts and ended is None and track.label in gone_over:
                # This slice's mask is another object's, so the end is before it.
                ended = narrowest(track.widths[:-1])
            if ended is not None:
                for beyond in track.visited[ended + 1 :]:
                    elsewhere.setdefault(beyond, []).append(_absent(track.label, beyond, plan))
            if ended is not None or (plan.patience is not None and track.absent >= plan.patience):
                del tracks[track.label]
                missed = [(track.label, stretch[p]) for p in range(position + step, track.end + step, step)]
                # What a walk from the other side once found stays where that is not done again.
                left += [] if track.alone else [key for key in missed if plan.start <= key[1] < plan.stop]
                meeting.end(missed if track.meets and step > 0 else [])
            elif plan.again is not None and track.may_settle and track.agreed >= plan.again.settle:
                del tracks[track.label]
                for p in range(position + step, track.end + step, step) if track.meets else ():
                    as_before = meeting.settle(track.label, stretch[p], track.share(p))
                    elsewhere.setdefault(stretch[p], []).extend([] if as_before is None else [as_before])
        here = {o.label: o for o in [*objects, *elsewhere.pop(index, [])]}
        if here:
            yield SliceResult(index, tuple(here[label] for label in sorted(here)))
        for other, said in sorted(elsewhere.items()):
            if said:
                yield SliceResult(other, tuple(said))


def _ends(seeds: list[int], step: int, first: int, last: int) -> dict[int, int]:
    """Where a walk that begins at each seed ends: before the next seed, or at the end of the range."""
    ordered = sorted(seeds, reverse=step < 0)
    bound = last if step > 0 else first
    return {seed: other - step for seed, other in pairwise(ordered)} | dict.fromkeys(ordered[-1:], bound)


def _meet(track: _Track, result: ObjectResult, position: int, meeting: Meeting) -> ObjectResult:
    """Keep a forward walk's mask for the backward walk that will come there; join that one's with it."""
    if not track.meets:
        return result
    if track.start < track.end and not track.alone:
        meeting.note(result)
        return result
    return meeting.join(result, track.share(position))


def _start(
    label: int, plan: Plan, pinned: Mapping[int, Memory], position: int, end: int, stretch: range, step: int
) -> _Track:
    index = stretch[position]
    seed = plan.seeds[label][index]
    bank: Bank = tuple(m for i, m in sorted(pinned.items()) if i in stretch)
    box = seed.result.box
    size = max(box[2] - box[0], box[3] - box[1]) if box else 0.0
    # Along time things divide and grow as they like; and where a person said that it is further on it has not ended.
    space = run_axis(plan.stack.axes, plan.stack.shape[:-2]) != "T"
    areas = dict.fromkeys(pinned, 0)
    areas |= {i: result.area for i, result in plan.kept.get(label, {}).items() if result.area}
    areas |= {i: other.result.area for i, other in plan.seeds[label].items()}
    ahead = any((i - index) * step > 0 for i in areas if i in stretch)
    before = max((math.sqrt(a) for i, a in areas.items() if i in stretch and (i - index) * step < 0), default=0.0)
    meets = 0 <= end + step < len(stretch) and stretch[end + step] in plan.seeds[label]
    opposite = (label, stretch[end + step], -step) if meets else None
    alone = meets and (plan.direction != "both" or (plan.again is not None and opposite not in plan.again.walks))
    parts = plan.part and space and not ahead
    may_settle = plan.again is not None and plan.again.walks.get((label, index, step), False)
    width = math.sqrt(seed.result.area)
    if seed.prediction is None:
        view = view_for(seed.result.shape, box, plan.backend.views, whole=False)
    else:
        view = seed.prediction.view
    return _Track(
        label, bank, seed.result, view, size, position, end, meets, alone, before, [width], [index], parts, may_settle
    )


def _absent(label: int, index: int, plan: Plan) -> ObjectResult:
    """A result that says: not this object any more, as far as can be told."""
    shape = plan.stack.slice_shape(index)
    nothing = np.zeros((0, 0), np.int8)
    return ObjectResult(label, index, shape, 0, 0, nothing, _ENDED, 0.0, "propagated")


def _rest(plan: Plan, track: _Track, index: int) -> bool:
    """Take over an accepted mask, if there is one: it is the mask that is carried on, and offered to the bank."""
    result = plan.kept.get(track.label, {}).get(index)
    if result is None:
        return False
    track.agreed += 1
    if not result.area:
        track.absent += 1
        return True
    track.last, track.absent = result, 0
    track.view = _follow(track, result.shape, plan)
    (embedding,) = plan.cache.get(plan.stack, plan.backend, index, [track.view])
    decoded = plan.backend.adopt(embedding, track.view.cut_mask(result.mask)[None])
    (memory,) = plan.backend.remember(embedding, decoded, [track.view], [index], prompted=False)
    track.bank = offer(plan, track.label, track.bank, memory)
    return True


def _gone_over(plan: Plan, objects: Sequence[ObjectResult], index: int) -> set[int]:
    """The objects whose masks are those of others which a person prompted on this slice."""
    prompted = [packed.unpack() for packed in plan.prompted.get(index, ())] if objects else []
    return {
        one.label for one in objects if any(one.label != other.label and same_body(one, other) for other in prompted)
    }


def _compare(plan: Plan, track: _Track, result: ObjectResult) -> None:
    """Count the slices in a row whose masks are as they were."""
    if plan.again is None:
        return
    packed = plan.again.previous.get((result.label, result.index))
    old = None if packed is None else packed.unpack()
    if not result.area or old is None or not old.area:
        same = not result.area and (old is None or not old.area)
    else:
        a, b = result.mask, old.mask
        same = bool(np.count_nonzero(a & b) >= plan.again.agreement * np.count_nonzero(a | b))
    track.agreed = track.agreed + 1 if same else 0


def _advance(plan: Plan, tracks: Sequence[_Track], index: int, stretch: range, step: int) -> list[ObjectResult]:
    """Compute one slice for some objects, in one batch."""
    backend = plan.backend
    shape = plan.stack.slice_shape(index)
    for track in tracks:
        track.view = _follow(track, shape, plan)
    views = [t.view for t in tracks]
    embedding = backend.join(plan.cache.get(plan.stack, backend, index, views))
    descriptors = embedding.descriptor
    walk = stretch[::step]
    banks = [select(near(t.bank, index), descriptors[i], plan.bank, index, walk) for i, t in enumerate(tracks)]
    context = backend.attend(embedding, banks, views, ordered=True, index=index, run=walk)
    prompts = [ViewPrompt(*NO_POINTS, carried=view_of(t.last, t.view)) for t in tracks]
    decoded = backend.decode(embedding, prompts, context)
    memories = backend.remember(embedding, decoded, views, [index] * len(tracks), prompted=False)
    out = []
    for i, track in enumerate(tracks):
        result = place(track.label, index, shape, track.view, decoded.take([i]), "propagated", read=noted(banks[i]))
        if result.area:
            result = _wane(result, abs(stretch.index(index) - track.start))
            track.last, track.absent = result, 0
            track.widths.append(math.sqrt(result.area))
            track.visited.append(index)
            track.bank = offer(plan, track.label, track.bank, memories[i])
        else:
            # What was seen last stays the mask that is carried: one slice missed need not be the end.
            track.absent += 1
            if plan.patience is None:
                track.bank = offer(plan, track.label, track.bank, memories[i])
        out.append(result)
    return out


def _wane(result: ObjectResult, steps: int) -> ObjectResult:
    """Be less sure of a mask the more slices it is from where its walk began: predicted IoU sees one slice only."""
    return replace(result, confidence=result.confidence / (1 + _WANING * math.log1p(steps)))


def _follow(track: _Track, shape: tuple[int, int], plan: Plan) -> View:
    """Keep the view while it fits the object, so that memories and views line up; else plan a new one."""
    spec = plan.backend.views
    box = track.last.box
    if not spec.regions or box is None:
        return track.view
    if track.view.contains(box, 0.06) and 0.12 <= track.view.fill(box) <= 0.65:
        return track.view
    if track.view == whole_slice(shape, spec) and track.view.fill(box) > 0.12:
        return track.view
    # An object that shrinks towards its end is not followed down to the last pixel.
    pad = max(0.0, 0.6 * track.size - max(box[2] - box[0], box[3] - box[1])) / 2
    grown = (box[0] - pad, box[1] - pad, box[2] + pad, box[3] + pad)
    return plan_region(shape, grown, spec)


def _through_collection(plan: Plan, pinned: Pinned) -> Iterator[SliceResult]:
    """Carry every object from its prompted images to all others, through one bank an object."""
    backend = plan.backend
    banks: dict[int, Bank] = {
        label: tuple(m for _, m in sorted(pinned[label].items())) for label, own in plan.seeds.items() if own
    }
    for index in range(plan.start, plan.stop):
        labels = [
            label for label in sorted(banks) if index not in plan.seeds[label] and index not in plan.kept.get(label, {})
        ]
        if not labels:
            continue
        shape = plan.stack.slice_shape(index)
        view = whole_slice(shape, backend.views)
        (single,) = plan.cache.get(plan.stack, backend, index, [view])
        objects = []
        for at in range(0, len(labels), backend.batch):
            group = labels[at : at + backend.batch]
            embedding = backend.join([single] * len(group))
            descriptor = embedding.descriptor[0]
            read = [select(near(banks[label], index), descriptor, plan.bank, index) for label in group]
            context = backend.attend(embedding, read, [view] * len(group), ordered=False, index=index)
            decoded = backend.decode(embedding, [ViewPrompt(*NO_POINTS)] * len(group), context)
            memories = backend.remember(embedding, decoded, [view] * len(group), [index] * len(group), prompted=False)
            for i, label in enumerate(group):
                result = place(label, index, shape, view, decoded.take([i]), "propagated", read=noted(read[i]))
                objects.append(result)
                if result.area:
                    banks[label] = offer(plan, label, banks[label], memories[i])
        yield SliceResult(index, tuple(objects))

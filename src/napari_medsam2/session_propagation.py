"""Propagation and correction of a session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from napari_medsam2._numbers import check_whole
from napari_medsam2.correction import Gap, carried_by, follow_up, gap, neighbours
from napari_medsam2.errors import InputError
from napari_medsam2.plan import Direction, Plan, Propagation, Seed
from napari_medsam2.prediction import model_of
from napari_medsam2.propagation import run
from napari_medsam2.results import ObjectResult, PackedResult, SliceResult
from napari_medsam2.session_judged import JudgedSession
from napari_medsam2.state import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from napari_medsam2.prediction import Prediction
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.state import Value

__all__ = ["PropagatingSession"]


class PropagatingSession(JudgedSession):
    """What carries masks on; see `AnnotationSession`."""

    # -- propagation -----------------------------------------------------------------------------------------------

    def plan(
        self,
        labels: Sequence[int] | None = None,
        direction: Direction = "both",
        start: int | None = None,
        stop: int | None = None,
        patience: int | None = 2,
        part: bool = True,
    ) -> Plan:
        """Freeze what a propagation needs; `napari_medsam2.propagation.run` carries it out, in any thread.

        Parameters
        ----------
        labels : sequence of int, optional
            The objects; all that have a prompt by default.
        direction : str
            ``"both"``, ``"forward"`` or ``"backward"`` from the prompted slices.
        start, stop : int, optional
            The range of slices, ``stop`` excluded; all by default.
        patience : int or None
            After how many slices without the object its propagation ends; None: at the end of the stack.
        part : bool
            Whether an object that narrows and then widens again has ended at its waist: right for bodies that touch,
            such as nuclei, wrong for one that is waisted itself.

        Raises
        ------
        InputError
            If there is nothing to propagate, or the range or the direction makes no sense.
        """
        if direction not in get_args(Direction):
            raise InputError(f"unknown direction {direction!r}; choose both, forward or backward")
        first = 0 if start is None else check_whole(start, "start")
        last = len(self.stack) if stop is None else check_whole(stop, "stop")
        self._check_range(first, last)
        patience = None if patience is None else check_whole(patience, "patience")
        if patience is not None and patience < 1:
            raise InputError(f"patience must be 1 slice or more, or None, not {patience}")
        state = self._document.state
        chosen = sorted({label for label, _ in state.prompts}) if labels is None else list(labels)
        for label in chosen:
            self._check_object(label)
        seeds: dict[int, dict[int, Seed]] = {}
        prompted: dict[int, list[PackedResult]] = {}
        for (label, index), prompt in sorted(state.prompts.items(), key=lambda item: item[0]):
            packed = self.results.packed(label, index)
            if packed is None:
                continue
            prompted.setdefault(index, []).append(packed)
            if label in chosen:
                prediction = self._conform(state.predictions.get((label, index)))
                seeds.setdefault(label, {})[index] = Seed(prediction, packed.unpack(), prompt.corrects)
        bare = [label for label in chosen if label not in seeds]
        if bare or not seeds:
            which = f"object {bare[0]} has" if bare else "no object has"
            raise InputError(f"{which} a prompt to start from; give it a point, a box or a mask on a slice first")
        kept: dict[int, dict[int, ObjectResult]] = {}
        for (label, index), mark in state.marks.items():
            result = self.results.get(label, index)
            if mark == "accepted" and label in seeds and index not in seeds[label] and result is not None:
                kept.setdefault(label, {})[index] = result
        pins: dict[int, dict[int, ObjectResult]] = {}
        for (label, index), wish in state.memories.items():
            result = self.results.get(label, index) if wish == "pinned" and label in seeds else None
            if result is not None and result.area:
                # What is remembered of a slice and its mask stay the same.
                pins.setdefault(label, {})[index] = result
                if index not in seeds[label]:
                    kept.setdefault(label, {})[index] = result
        return Plan(
            self.stack,
            self.backend,
            self._cache,
            seeds,
            self.kind,
            self.bank.suited(self.kind, self.backend.name),
            direction,
            first,
            last,
            patience,
            bool(part),
            kept,
            pins=pins,
            drops=frozenset(key for key, wish in state.memories.items() if wish == "dropped"),
            prompted=prompted,
        )

    def propagate(
        self,
        labels: Sequence[int] | None = None,
        direction: Direction = "both",
        start: int | None = None,
        stop: int | None = None,
        patience: int | None = 2,
        part: bool = True,
    ) -> Iterator[SliceResult]:
        """Carry masks from the prompted slices to the others; see `plan` for the parameters.

        Yields
        ------
        SliceResult
            As it is computed, already applied to the session. Closing the generator cancels; what was yielded stays.
        """
        # Checked before the first slice is asked for, not when.
        return self._walk(self.start(labels, direction, start, stop, patience, part))

    def start(
        self,
        labels: Sequence[int] | None = None,
        direction: Direction = "both",
        start: int | None = None,
        stop: int | None = None,
        patience: int | None = 2,
        part: bool = True,
    ) -> Propagation:
        """Begin what `propagate` does, for programs in which the model works in a thread of its own."""
        self.check_writable()
        plan = self.plan(labels, direction, start, stop, patience, part)
        asked = {"labels": sorted(map(int, plan.seeds)), "direction": direction, "start": plan.start, "stop": plan.stop}
        return self._begin(plan, {"do": "propagate", **asked, "patience": plan.patience, "part": plan.part})

    def repropagate(
        self,
        labels: Sequence[int] | None = None,
        agreement: float = 0.9,
        settle: int = 2,
        patience: int | None = 2,
        part: bool = True,
    ) -> Iterator[SliceResult]:
        """Carry on what was corrected since the last propagation, only as far as masks change.

        From each changed slice, and from its neighbours among the prompted slices towards it, masks are computed again
        until ``settle`` slices in a row are as they were; to the end where one was stopped before. Where nothing was
        changed nothing is done. With an object's last prompt goes what was carried from it and not accepted.

        Parameters
        ----------
        labels : sequence of int, optional
            The objects; all by default.
        agreement : float
            In (0, 1]: the IoU of old and new mask from which on a mask counts as unchanged.
        settle : int
            After how many unchanged slices a walk ends.
        patience, part
            As for `plan`.

        Yields
        ------
        SliceResult
            As it is computed, already applied to the session. In a collection, which has no neighbours, all images of
            the changed objects are computed again.

        Raises
        ------
        InputError
            If an object does not exist or a number makes no sense.
        """
        return self._walk(self.start_again(labels, agreement, settle, patience, part))

    def start_again(
        self,
        labels: Sequence[int] | None = None,
        agreement: float = 0.9,
        settle: int = 2,
        patience: int | None = 2,
        part: bool = True,
    ) -> Propagation | None:
        """Begin what `repropagate` does, as `start` does for `propagate`; None where nothing was changed."""
        self.check_writable()
        if not 0 < agreement <= 1:
            raise InputError(f"agreement must be an IoU above 0 and up to 1, not {agreement}")
        settle = check_whole(settle, "settle")
        if settle < 1:
            raise InputError(f"settle must be 1 slice or more, not {settle}")
        for label in () if labels is None else labels:
            self._check_object(label)
        state = self._document.state
        pending = {key: whole for key, whole in state.pending.items() if labels is None or key[0] in labels}
        changed = {int(label) for label, _ in pending}
        seeded = sorted(changed & {label for label, _ in state.prompts})
        bare = [label for label in changed if self.orphaned(label)]
        if not seeded and not bare:
            return None
        nothing = Plan(self.stack, self.backend, self._cache, {}, self.kind, self.bank, stop=len(self.stack))
        plan = self.plan(seeded, patience=patience, part=part) if seeded else nothing
        plan = replace(plan, seeds={**plan.seeds, **{label: {} for label in bare}})
        plan = follow_up(plan, pending, self.results, agreement, settle)
        asked = {"labels": sorted(plan.seeds), "agreement": float(agreement), "settle": settle}
        return self._begin(plan, {"do": "repropagate", **asked, "patience": plan.patience, "part": plan.part})

    def orphaned(self, label: int) -> bool:
        """Whether an object's prompts were all taken back and it still has masks that were carried from them."""
        state, births = self._document.state, {label: self._born(label)}
        if any(one == label for one, _ in state.prompts):
            return False
        if not any(at[0] == label and self._taken_back(at) for at in state.pending):
            return False
        return any(self._carried(label, index, births) for index in state.results.indices(label))

    def _begin(self, plan: Plan, call: Mapping[str, Any]) -> Propagation:
        step = self._document.new_step()
        done, rims = carried_by(plan, self._document.state.pending, self.results)
        said = {key: self.prompts.get(key) for key in done}
        births = {label: self._born(label) for label in plan.seeds}
        call = {**call, "run": step}
        begun: dict[Gap, tuple[int, int] | None] = {}
        return Propagation(
            plan,
            lambda result: self._advance(plan, result, begun, births, call, step),
            lambda left: self._finish(left, said, begun, rims, births, call, step),
            lambda: self._document.withdrawn(step),
        )

    def _walk(self, begun: Propagation | None) -> Iterator[SliceResult]:
        if begun is None:
            return
        walk = run(begun.plan)
        try:
            while not begun.withdrawn():
                try:
                    result = next(walk)
                except StopIteration as stop:
                    begun.finish(stop.value)
                    return
                begun.apply(result)
                yield result
        finally:
            walk.close()

    def _finish(
        self,
        left: tuple[tuple[int, int], ...],
        said: Mapping[tuple[int, int], SlicePrompt | None],
        begun: Mapping[Gap, tuple[int, int] | None],
        rims: Sequence[tuple[int, int]],
        births: Mapping[int, int | None],
        call: Mapping[str, Any],
        step: int,
    ) -> None:
        """What an earlier propagation drew beyond an object's end goes; what was carried on is no longer pending."""
        # Not those that were prompted anew while this was under way, nor those of a new object of that label.
        same = {label for label, born in births.items() if self._born(label) == born}
        carried = [key for key, prompt in said.items() if key[0] in same and self.prompts.get(key) is prompt]
        carried += [key for key in begun.values() if key is not None and key[0] in same and self._as_carried(*key)]
        changes: dict[Key, Value | None] = {}
        changes |= {Key("pending", label, index): None for label, index in carried}
        changes |= {Key("pending", label, index): True for label, index in rims if label in same}
        for label, index in [*left, *self._stranded(carried)]:
            if self._carried(label, index, births):
                changes |= {Key("result", label, index): None, Key("mark", label, index): None}
        self._document.commit(_title(call), changes, {**call, "do": "finish"}, step)

    def _stranded(self, changed: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Where prompts were taken away and none is left to reach their neighbours from: those."""
        for label, index in filter(self._taken_back, changed):
            around = neighbours(self.stack, self.kind, index)
            if not any((label, other) in self.prompts for other in around):
                yield from ((label, other) for other in around)

    def _taken_back(self, at: tuple[int, int]) -> bool:
        """Whether prompts were taken away on a slice that is still to be carried on."""
        state = self._document.state
        # Nothing was said where a propagation was stopped; where a person erased the object there may have been none.
        return bool(state.pending.get(at)) and at not in state.prompts and state.marks.get(at) != "accepted"

    def _carried(self, label: int, index: int, births: Mapping[int, int | None]) -> bool:
        """Whether there is a mask of an earlier propagation that a later one may take away."""
        old = self.results.packed(label, index)
        return old is not None and old.bare.source == "propagated" and self._free(label, index, births)

    def apply(self, result: SliceResult) -> None:
        """Take over a result of a propagation; objects that were removed, or prompted there since, are left alone."""
        births = {one.label: self._born(one.label) for one in result.objects}
        self._document.commit("propagate", self._taken_over(result, births), {"do": "apply"})

    def _advance(
        self,
        plan: Plan,
        result: SliceResult,
        begun: dict[Gap, tuple[int, int] | None],
        births: Mapping[int, int | None],
        call: Mapping[str, Any],
        step: int,
    ) -> None:
        """Take over a slice; until the propagation is finished, masks behind the first one of each gap may be old."""
        changes = self._taken_over(result, births)
        stretch = neighbours(plan.stack, plan.kind, result.index)
        reached: dict[Gap, tuple[int, int] | None] = {}
        for label, index in dict.fromkeys((key.label, key.index) for key in changes if plan.kind == "stack"):
            here = gap(plan, label, index, stretch)
            if here not in begun:
                reached[here] = None if (label, index) in self._document.state.pending else (label, index)
        changes |= {Key("pending", *at): False for at in reached.values() if at is not None}
        self._document.commit(_title(call), changes, call, step)
        begun.update(reached)

    def _taken_over(self, result: SliceResult, births: Mapping[int, int | None]) -> dict[Key, Value | None]:
        changes: dict[Key, Value | None] = {}
        for one in result.objects:
            if self._free(one.label, result.index, births):
                self._check_fits(one)
                changes[Key("result", one.label, result.index)] = PackedResult.of(one)
                changes[Key("mark", one.label, result.index)] = None
        return changes

    def _as_carried(self, label: int, index: int) -> bool:
        """Whether nothing was said on a slice since a propagation came there."""
        packed = self.results.packed(label, index)
        return (label, index) not in self.prompts and (packed is None or packed.bare.source == "propagated")

    def _free(self, label: int, index: int, births: Mapping[int, int | None]) -> bool:
        """Whether a propagation may write there, which began with these objects."""
        at, born = (label, index), self._born(label)
        if born is None or born != births.get(label) or at in self.prompts or self.marks.get(at) == "accepted":
            return False
        # As in the plan: what is remembered of a slice and its mask stay the same.
        pinned = self.results.get(label, index) if self.pins.get(at) == "pinned" else None
        return pinned is None or not pinned.area

    def warm(self, index: int) -> Callable[[], None]:
        """Return what encodes a slice as a whole, for the model's thread: the first prompt is then quicker."""
        stack, backend, cache = self.stack, self.backend, self._cache

        def encode() -> None:
            from napari_medsam2.geometry import whole_slice
            from napari_medsam2.prediction import LARGEST_SEARCHED

            shape = stack.slice_shape(index)
            if max(shape) <= LARGEST_SEARCHED or not backend.views.regions:
                cache.get(stack, backend, index, [whole_slice(shape, backend.views)])

        return encode

    # -- inside ----------------------------------------------------------------------------------------------------

    def _conform(self, prediction: Prediction | None) -> Prediction | None:
        """Make a prediction one of this backend: on its device; one of another model or side is of no use."""
        # The name first: unlike the rest it is known before the network is loaded.
        if prediction is None or not prediction.model.startswith(self.backend.name):
            return None
        if prediction.model != model_of(self.backend):
            return None
        if prediction.view.side != self.backend.views.side:
            # The same model, told to look at images at another size: its feature maps are of another size, too.
            return None
        decoded, device = prediction.decoded, self.backend.device
        if decoded.logits.device == device:
            return prediction
        pointer = None if decoded.pointer is None else decoded.pointer.to(device)
        moved = replace(
            decoded, logits=decoded.logits.to(device), iou=decoded.iou.to(device), score=decoded.score.to(device),
            pointer=pointer,
        )  # fmt: skip
        return replace(prediction, decoded=moved)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start < stop <= len(self.stack):
            raise InputError(f"{self.noun}s {start} to {stop} are not a range of the {len(self.stack)} there are")


def _title(call: Mapping[str, Any]) -> str:
    return "propagate" if call["do"] != "repropagate" else "propagate corrections"

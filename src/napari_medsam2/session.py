"""The annotation session: prompts in, masks out, and everything that is known of a stack in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from psygnal import Signal, SignalGroup

from napari_medsam2.cache import EmbeddingCache
from napari_medsam2.errors import InputError
from napari_medsam2.memory import BankConfig
from napari_medsam2.prediction import Prediction, predict
from napari_medsam2.prompts import Prompt, SlicePrompt, check_box, check_mask, check_points
from napari_medsam2.propagation import Direction, Plan, Seed, run
from napari_medsam2.results import LazyLabels, ObjectResult, Results, SliceResult
from napari_medsam2.stack import ImageStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.geometry import Box
    from napari_medsam2.memory import Policy

__all__ = ["AnnotationSession", "ObjectInfo", "SessionEvents", "segment_stack"]

Kind = Literal["stack", "collection"]

_LARGEST_LABEL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object of the session.

    Parameters
    ----------
    label : int
        Its value in the labels.
    name : str
        What a person calls it.
    """

    label: int
    name: str


class SessionEvents(SignalGroup):
    """What a view of the session listens to; numbers only, the view fetches what it shows."""

    objects_changed = Signal()
    slice_changed = Signal(int)


class AnnotationSession:
    """Objects, their prompts and their masks on one stack. Not thread-safe: one thread at a time.

    Parameters
    ----------
    stack : ImageStack
        The images.
    backend : Backend
        The model, from `load_backend`.
    memory : str or BankConfig
        The memory bank's policy: ``"self-sorting"``, ``"released"`` or ``"fifo"``, or all of its settings.
    kind : str, optional
        ``"stack"``: slices are neighbours. ``"collection"``: unordered images. The stack's own kind by default.
    cache_bytes : int
        What kept embeddings may take.

    Raises
    ------
    InputError
        If the policy or the kind is unknown.
    """

    def __init__(
        self,
        stack: ImageStack,
        *,
        backend: Backend,
        memory: Policy | BankConfig = "self-sorting",
        kind: Kind | None = None,
        cache_bytes: int = 256 * 2**20,
    ) -> None:
        if not isinstance(stack, ImageStack):
            raise InputError(f"a session needs an ImageStack, not {type(stack).__name__}: ImageStack(array, axes)")
        if kind is not None and kind not in get_args(Kind):
            raise InputError(f"unknown kind {kind!r}; choose 'stack' (neighbouring slices) or 'collection' (unordered)")
        self.stack, self.backend = stack, backend
        self.kind: Kind = kind or ("collection" if stack.is_collection else "stack")
        self.bank = memory if isinstance(memory, BankConfig) else BankConfig(memory)
        self.events = SessionEvents()
        self.results = Results()
        self._cache = EmbeddingCache(cache_bytes)
        self._objects: dict[int, ObjectInfo] = {}
        self._prompts: dict[tuple[int, int], SlicePrompt] = {}
        self._predictions: dict[tuple[int, int], Prediction] = {}

    # -- objects ---------------------------------------------------------------------------------------------------

    @property
    def objects(self) -> Mapping[int, ObjectInfo]:
        """The objects, by label."""
        return MappingProxyType(self._objects)

    @property
    def prompts(self) -> Mapping[tuple[int, int], SlicePrompt]:
        """What was said, by ``(label, index)``."""
        return MappingProxyType(self._prompts)

    def add_object(self, name: str | None = None, label: int | None = None) -> int:
        """Add an object.

        Parameters
        ----------
        name : str, optional
            What a person calls it; ``"object N"`` by default.
        label : int, optional
            Its value in the labels; the next free one by default.

        Returns
        -------
        int
            The label.

        Raises
        ------
        InputError
            If the label is taken or not between 1 and 2³¹ − 1.
        """
        if label is None:
            label = max(self._objects, default=0) + 1
        if not _is_whole(label) or not 1 <= label <= _LARGEST_LABEL:
            raise InputError(f"a label must be a whole number from 1 to {_LARGEST_LABEL}, not {label!r}")
        label = int(label)
        if label in self._objects:
            raise InputError(f"label {label} is taken by {self._objects[label].name!r}; choose another")
        self._objects[label] = ObjectInfo(label, name or f"object {label}")
        self.events.objects_changed.emit()
        return label

    def rename_object(self, label: int, name: str) -> None:
        """Give an object another name."""
        self._check_object(label)
        self._objects[label] = replace(self._objects[label], name=name)
        self.events.objects_changed.emit()

    def remove_object(self, label: int) -> None:
        """Remove an object with its prompts and masks."""
        self._check_object(label)
        touched = self.results.indices(label)
        self.results.discard(label)
        for key in [k for k in self._prompts if k[0] == label]:
            del self._prompts[key]
            self._predictions.pop(key, None)
        del self._objects[label]
        self.events.objects_changed.emit()
        for index in touched:
            self.events.slice_changed.emit(index)

    # -- prompts ---------------------------------------------------------------------------------------------------

    def add_points(self, label: int, index: int, points: ArrayLike, labels: ArrayLike) -> SliceResult:
        """Add clicks to an object's prompts on a slice.

        Parameters
        ----------
        label, index : int
            The object and the slice.
        points : array_like
            ``(P, 2)`` ``(y, x)`` in slice coordinates.
        labels : array_like
            ``(P,)``: 1 positive (this belongs to it), 0 negative (this does not).

        Returns
        -------
        SliceResult
            The object's new mask on this slice.

        Raises
        ------
        InputError
            If the object or the slice does not exist, or a point lies outside the slice.
        """
        shape = self._check(label, index)
        array, marks = check_points(points, labels, shape)
        old = self._prompt(label, index)
        # Clicks refine a painted mask as well: it is then the mask so far, no longer the last word.
        prompt = old.with_points(array, marks)
        if not (prompt.labels == 1).any() and prompt.box is None and self.results.get(label, index) is None:
            raise InputError("the first click on an object must be positive; negative ones then cut from its mask")
        return self._predict(label, index, prompt, self.results.get(label, index))

    def add_scribble(self, label: int, index: int, path: ArrayLike, positive: bool = True) -> SliceResult:
        """Add a scribble: a line ``(P, 2)`` of ``(y, x)`` drawn over the object or, negative, beside it."""
        shape = self._check(label, index)
        line, _ = check_points(path, np.ones(len(np.atleast_2d(np.asarray(path)))), shape)
        samples = _resample(line)
        return self.add_points(label, index, samples, np.full(len(samples), int(positive)))

    def add_box(self, label: int, index: int, box: Box | Sequence[float]) -> SliceResult:
        """Put a box ``(y0, x0, y1, x1)`` (edges) around an object on a slice, in place of one that was there."""
        shape = self._check(label, index)
        prompt = replace(self._prompt(label, index), box=check_box(box, shape), mask=None)
        return self._predict(label, index, prompt, None)

    def add_mask(self, label: int, index: int, mask: ArrayLike) -> SliceResult:
        """Give an object's mask ``(H, W)`` on a slice; it is taken as it is and conditions the memory bank."""
        shape = self._check(label, index)
        painted = check_mask(mask, shape)
        prompt = SlicePrompt(mask=painted, corrects=self._prompt(label, index).corrects)
        return self._predict(label, index, prompt, None)

    def clear_prompts(self, label: int, index: int) -> None:
        """Take back an object's prompts on a slice, and the mask that came of them."""
        self._check(label, index)
        if self._prompts.pop((label, index), None) is not None:
            self._predictions.pop((label, index), None)
            self.results.discard(label, index)
            self.events.slice_changed.emit(index)

    def add_prompt(self, prompt: Prompt) -> SliceResult:
        """Add one entry of a prompts file; its object is made where it does not exist."""
        if prompt.label not in self._objects:
            self.add_object(label=prompt.label)
        content, result = prompt.content, None
        if content.mask is not None:
            result = self.add_mask(prompt.label, prompt.index, content.mask)
        if content.box is not None:
            result = self.add_box(prompt.label, prompt.index, content.box)
        if len(content.points):
            result = self.add_points(prompt.label, prompt.index, content.points, content.labels)
        if result is None:
            raise InputError(f"a prompt for object {prompt.label} on slice {prompt.index} is empty")
        return result

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
        first, last = 0 if start is None else start, len(self.stack) if stop is None else stop
        if not 0 <= first < last <= len(self.stack):
            raise InputError(f"slices {first} to {last} are not a range of this stack of {len(self.stack)} slices")
        if patience is not None and patience < 1:
            raise InputError(f"patience must be 1 slice or more, or None, not {patience}")
        chosen = sorted({key[0] for key in self._predictions}) if labels is None else list(labels)
        for label in chosen:
            self._check_object(label)
        seeds: dict[int, dict[int, Seed]] = {}
        for (label, index), prediction in sorted(self._predictions.items()):
            result = self.results.get(label, index)
            if label in chosen and result is not None:
                seeds.setdefault(label, {})[index] = Seed(prediction, result)
        bare = [label for label in chosen if label not in seeds]
        if bare or not seeds:
            which = f"object {bare[0]} has" if bare else "no object has"
            raise InputError(f"{which} a prompt to start from; give it a point, a box or a mask on a slice first")
        return Plan(
            self.stack, self.backend, self._cache, seeds, self.kind, self.bank, direction, first, last, patience, part
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
        return self._run(self.plan(labels, direction, start, stop, patience, part))

    def _run(self, plan: Plan) -> Iterator[SliceResult]:
        for result in run(plan):
            self.apply(result)
            yield result

    def apply(self, result: SliceResult) -> None:
        """Take over a result of a propagation; objects that were removed, or prompted there since, are left alone."""
        for one in result.objects:
            if one.label in self._objects and (one.label, result.index) not in self._prompts:
                self.results.put(one)
        self.events.slice_changed.emit(result.index)

    # -- labels ----------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The labels' type: the smallest unsigned integer of 16 or 32 bits that holds every label."""
        return np.dtype(np.uint16 if max(self._objects, default=0) < 2**16 else np.uint32)

    def labels(self) -> LazyLabels:
        """The labels as an array of the stack's shape (without channels), drawn when it is looked at.

        Raises
        ------
        InputError
            If the images of a collection differ in size: take `slice_labels` of each.
        """
        return LazyLabels(self.stack.shape, self.dtype, self.slice_labels)

    def slice_labels(self, index: int) -> np.ndarray:
        """One slice's labels ``(H, W)``."""
        return self.results.compose(index, self.stack.slice_shape(index), self.dtype)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _prompt(self, label: int, index: int) -> SlicePrompt:
        known = self._prompts.get((label, index))
        if known is not None:
            return known
        return SlicePrompt(corrects=self.results.get(label, index) is not None)

    def _predict(self, label: int, index: int, prompt: SlicePrompt, current: ObjectResult | None) -> SliceResult:
        prediction, result = predict(
            self.stack, self.backend, self._cache, label, index, prompt, current, whole=self._whole(prompt)
        )
        self._prompts[label, index] = prompt
        self._predictions[label, index] = prediction
        self.results.put(result)
        self.events.slice_changed.emit(index)
        return SliceResult(index, (result,))

    def _whole(self, prompt: SlicePrompt) -> bool:
        """Whether a collection's prompt says what to look for everywhere, rather than where one thing lies."""
        return self.kind == "collection" and prompt.mask is not None

    def _check_object(self, label: int) -> None:
        if label not in self._objects:
            known = ", ".join(map(str, list(self._objects)[:20])) or "none yet; call add_object first"
            raise InputError(f"there is no object {label!r}; the objects are: {known}")

    def _check(self, label: int, index: int) -> tuple[int, int]:
        self._check_object(label)
        if not _is_whole(index) or not 0 <= index < len(self.stack):
            raise InputError(f"slice {index!r} does not exist: the stack has slices 0 to {len(self.stack) - 1}")
        return self.stack.slice_shape(int(index))


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _resample(line: np.ndarray, count: int = 12) -> np.ndarray:
    """At most ``count`` points evenly spaced along a line."""
    if len(line) < 2:
        return line
    steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    if steps[-1] == 0:
        return line[:1]
    at = np.linspace(0, steps[-1], min(count, max(2, int(steps[-1] / 3) + 1)))
    return np.stack([np.interp(at, steps, line[:, 0]), np.interp(at, steps, line[:, 1])], 1)


def segment_stack(
    array: Any,
    prompts: Sequence[Prompt | Mapping[str, Any]],
    axes: str | None = "ZYX",
    kind: Kind = "stack",
    memory: Policy | BankConfig = "self-sorting",
    model: str = "compact",
    device: str = "auto",
) -> np.ndarray:
    """Segment a whole stack from a few prompts.

    Parameters
    ----------
    array : array_like or ImageStack
        The images; anything that `ImageStack` takes.
    prompts : sequence
        `Prompt` values, or entries as in a prompts file (``{"object": 1, "index": 15, "box": [y0, x0, y1, x1]}``;
        ``"mask"`` may be an array).
    axes : str, optional
        The array's axes, for example ``"ZYX"``, ``"TZYX"``, ``"NYXC"``.
    kind : str
        ``"stack"`` or ``"collection"``.
    memory : str or BankConfig
        The memory bank's policy.
    model : str
        As in `load_backend`.
    device : str
        As in `load_backend`.

    Returns
    -------
    ndarray
        The labels, of the array's shape without its channel axis.

    Raises
    ------
    InputError
        If the array or a prompt cannot be used.
    """
    from napari_medsam2.backend import load_backend
    from napari_medsam2.prompts import parse_entry

    if not len(prompts):
        raise InputError("no prompts given; give at least one point, box or mask")
    stack = array if isinstance(array, ImageStack) else ImageStack(array, axes)
    parsed = [
        p if isinstance(p, Prompt) else parse_entry(p, f" in prompt {i + 1}", stack) for i, p in enumerate(prompts)
    ]
    session = AnnotationSession(stack, backend=load_backend(model, device), memory=memory, kind=kind)
    for prompt in parsed:
        session.add_prompt(prompt)
    for _ in session.propagate():
        pass
    return np.asarray(session.labels())

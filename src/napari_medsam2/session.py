"""The annotation session: prompts in, masks out, and everything that is known of a stack in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._codec import check_color
from napari_medsam2.errors import InputError
from napari_medsam2.prediction import predict
from napari_medsam2.prompts import Prompt, SlicePrompt, check_box, check_mask, check_points
from napari_medsam2.results import LazyLabels, ObjectResult, PackedResult, SliceResult
from napari_medsam2.session_base import Kind, SessionEvents
from napari_medsam2.session_propagation import PropagatingSession
from napari_medsam2.state import LARGEST_LABEL, Key, ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from napari_medsam2.geometry import Box
    from napari_medsam2.state import Value

__all__ = ["AnnotationSession", "Kind", "ObjectInfo", "SessionEvents"]


class AnnotationSession(PropagatingSession):
    """Objects, their prompts and their masks on one stack. Not thread-safe: one thread at a time.

    It lives in memory until `save_as` gives it a folder; `create` and `open` begin with one.

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
    history_bytes : int
        What the steps that can be undone may take.

    Raises
    ------
    InputError
        If the policy or the kind is unknown.
    """

    # -- objects ---------------------------------------------------------------------------------------------------

    def add_object(self, name: str | None = None, label: int | None = None, color: str | None = None) -> int:
        """Add an object.

        Parameters
        ----------
        name : str, optional
            What a person calls it; ``"object N"`` by default.
        label : int, optional
            Its value in the labels; the next free one by default.
        color : str, optional
            ``"#rrggbb"``; the viewer chooses by default.

        Returns
        -------
        int
            The label.

        Raises
        ------
        InputError
            If the label is taken or not between 1 and 2³¹ − 1, or the colour is none.
        """
        if label is None:
            label = max(self.objects, default=0) + 1
        if not _is_whole(label) or not 1 <= label <= LARGEST_LABEL:
            raise InputError(f"a label must be a whole number from 1 to {LARGEST_LABEL}, not {label!r}")
        label = int(label)
        if label in self.objects:
            raise InputError(f"label {label} is taken by {self.objects[label].name!r}; choose another")
        info = ObjectInfo(label, name or f"object {label}", check_color(color))
        self._document.commit(f"new object {label}", {Key("object", label): info}, {"do": "object"})
        return label

    def rename_object(self, label: int, name: str) -> None:
        """Give an object another name."""
        self._check_object(label)
        info = replace(self.objects[label], name=str(name))
        self._document.commit(f"rename object {label}", {Key("object", label): info}, {"do": "object"})

    def recolor_object(self, label: int, color: str | None) -> None:
        """Give an object another colour, ``"#rrggbb"``, or with None the viewer's choice."""
        self._check_object(label)
        info = replace(self.objects[label], color=check_color(color))
        self._document.commit(f"colour of object {label}", {Key("object", label): info}, {"do": "object"})

    def remove_object(self, label: int) -> None:
        """Remove an object with its prompts and masks."""
        self._check_object(label)
        changes = dict.fromkeys(self._document.state.keys(label))
        self._document.commit(f"remove object {label}", changes, {"do": "object"})

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
        call = {"do": "points", "points": array.tolist(), "labels": marks.tolist()}
        return self._predict(label, index, prompt, self.results.get(label, index), call)

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
        return self._predict(label, index, prompt, None, {"do": "box", "box": list(map(float, prompt.box or ()))})

    def add_mask(self, label: int, index: int, mask: ArrayLike) -> SliceResult:
        """Give an object's mask ``(H, W)`` on a slice; it is taken as it is and conditions the memory bank."""
        shape = self._check(label, index)
        painted = check_mask(mask, shape)
        prompt = SlicePrompt(mask=painted, corrects=self._prompt(label, index).corrects)
        return self._predict(label, index, prompt, None, {"do": "mask"})

    def set_prompt(self, label: int, index: int, content: SlicePrompt) -> SliceResult | None:
        """Put prompts in place of all that an object has on a slice: moved points, a box without its clicks, nothing.

        The mask is predicted anew, without regard to the mask so far. With nothing but negative clicks left the mask
        so far is what they cut from.

        Parameters
        ----------
        label, index : int
            The object and the slice.
        content : SlicePrompt
            The new prompts; an empty one clears.

        Returns
        -------
        SliceResult or None
            The new mask; None where the prompts were cleared.

        Raises
        ------
        InputError
            As for `add_points`, `add_box` and `add_mask`.
        """
        shape = self._check(label, index)
        if content.empty:
            self.clear_prompts(label, index)
            return None
        prompt = SlicePrompt(corrects=self._prompt(label, index).corrects)
        if content.mask is not None:
            prompt = replace(prompt, mask=check_mask(content.mask, shape))
        else:
            box = None if content.box is None else check_box(content.box, shape)
            points, marks = prompt.points, prompt.labels
            if len(content.points):
                points, marks = check_points(content.points, content.labels, shape)
            prompt = replace(prompt, box=box, points=points, labels=marks)
        bare = prompt.mask is None and prompt.box is None and not (prompt.labels == 1).any()
        current = self.results.get(label, index) if bare else None
        if bare and current is None:
            raise InputError("the first click on an object must be positive; negative ones then cut from its mask")
        return self._predict(label, index, prompt, current, {"do": "content"})

    def clear_prompts(self, label: int, index: int) -> None:
        """Take back an object's prompts on a slice, and the mask that came of them."""
        self._check(label, index)
        if (label, index) in self.prompts:
            changes: dict[Key, Value | None] = dict.fromkeys(self._at(label, index))
            changes[Key("pending", label, index)] = True
            self._document.commit(f"clear prompts on slice {index}", changes, {"do": "clear"})

    def clear_range(self, start: int, stop: int, labels: Sequence[int] | None = None) -> None:
        """Take away prompts and masks on the slices ``start`` to ``stop`` (excluded), of some objects or of all."""
        self._check_range(start, stop)
        chosen = list(self.objects) if labels is None else list(labels)
        for label in chosen:
            self._check_object(label)
        state = self._document.state
        keys = [k for label in chosen for k in state.keys(label) if start <= k.index < stop]
        changes: dict[Key, Value | None] = dict.fromkeys(keys)
        changes |= {Key("pending", k.label, k.index): True for k in keys if k.kind == "prompt"}
        self._document.commit(f"clear slices {start} to {stop - 1}", changes, {"do": "clear"})

    def add_prompt(self, prompt: Prompt) -> SliceResult:
        """Add one entry of a prompts file; its object is made where it does not exist."""
        content, result = prompt.content, None
        with self.step(f"prompt on slice {prompt.index}"):
            if prompt.label not in self.objects:
                self.add_object(label=prompt.label)
            if content.mask is not None:
                result = self.add_mask(prompt.label, prompt.index, content.mask)
            if content.box is not None:
                result = self.add_box(prompt.label, prompt.index, content.box)
            if len(content.points):
                result = self.add_points(prompt.label, prompt.index, content.points, content.labels)
        if result is None:
            raise InputError(f"a prompt for object {prompt.label} on slice {prompt.index} is empty")
        return result

    # -- labels ----------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The labels' type: the smallest unsigned integer of 16 or 32 bits that holds every label."""
        return np.dtype(np.uint16 if max(self.objects, default=0) < 2**16 else np.uint32)

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
        known = self.prompts.get((label, index))
        if known is not None:
            return known
        return SlicePrompt(corrects=self.results.packed(label, index) is not None)

    def _predict(
        self, label: int, index: int, prompt: SlicePrompt, current: ObjectResult | None, call: Mapping[str, Any]
    ) -> SliceResult:
        label, index = int(label), int(index)
        prediction, result = predict(
            self.stack, self.backend, self._cache, label, index, prompt, current, whole=self._whole(prompt)
        )
        changes: dict[Key, Value | None] = {
            Key("prompt", label, index): prompt,
            Key("prediction", label, index): prediction,
            Key("result", label, index): PackedResult.of(result),
            Key("mark", label, index): None,
            Key("pending", label, index): True,
        }
        name = f"{_NAMES[call['do']]} on slice {index}"
        self._document.commit(name, changes, {**call, "label": label, "index": index})
        return SliceResult(index, (result,))

    def _whole(self, prompt: SlicePrompt) -> bool:
        """Whether a collection's prompt says what to look for everywhere, rather than where one thing lies."""
        return self.kind == "collection" and prompt.mask is not None

    def _check(self, label: int, index: int) -> tuple[int, int]:
        self.check_writable()
        self._check_object(label)
        if not _is_whole(index) or not 0 <= index < len(self.stack):
            raise InputError(f"slice {index!r} does not exist: the stack has slices 0 to {len(self.stack) - 1}")
        return self.stack.slice_shape(int(index))


_NAMES = {"points": "clicks", "box": "box", "mask": "painted mask", "content": "prompts"}


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

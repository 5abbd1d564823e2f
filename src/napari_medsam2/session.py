"""The annotation session: prompts in, masks out, and everything that is known of a stack in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._numbers import check_label, free_labels, is_whole
from napari_medsam2.errors import InputError
from napari_medsam2.prompts import Prompt, SlicePrompt, along, check_box, check_mask, check_points, only_cuts
from napari_medsam2.question import Answer, Question
from napari_medsam2.results import LazyLabels, ObjectResult, PackedResult, SliceResult
from napari_medsam2.session_base import Kind, SessionEvents
from napari_medsam2.session_propagation import PropagatingSession
from napari_medsam2.state import Key, ObjectInfo, check_color

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
        If the policy or the kind is unknown, or pictures that differ in size are to be a stack.
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
            If the label is taken or not between 1 and 2³¹ − 1, the name is no text, or the colour is none.
        """
        label = next(free_labels(self.objects)) if label is None else check_label(label)
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
        changes = dict.fromkeys(self._document.state.keys([label]))
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
        return self._do(self.ask_points(label, index, points, labels))

    def add_scribble(self, label: int, index: int, path: ArrayLike, positive: bool = True) -> SliceResult:
        """Add a scribble: a line ``(P, 2)`` of ``(y, x)`` drawn over the object or, negative, beside it."""
        return self._do(self.ask_scribble(label, index, path, positive))

    def add_box(self, label: int, index: int, box: Box | Sequence[float]) -> SliceResult:
        """Put a box ``(y0, x0, y1, x1)`` (edges) around an object on a slice, in place of one that was there."""
        return self._do(self.ask_box(label, index, box))

    def add_mask(self, label: int, index: int, mask: ArrayLike) -> SliceResult:
        """Give an object's mask ``(H, W)`` on a slice; it is taken as it is and conditions the memory bank."""
        shape = self._check(label, index)
        painted = check_mask(mask, shape)
        prompt = SlicePrompt(mask=painted, corrects=self._prompt(label, index).corrects)
        return self._do(self._question(label, index, prompt, None, {"do": "mask"}))

    def paint(self, index: int, masks: Mapping[int, ArrayLike]) -> SliceResult:
        """Take over what a person painted on a slice: masks of several objects, in one command.

        Parameters
        ----------
        index : int
            The slice.
        masks : mapping
            ``label → (H, W)`` bool: the object's whole mask on this slice. Objects that do not exist are made; an empty
            mask says that the object is not there.

        Raises
        ------
        InputError
            If the slice does not exist, or a mask does not fit it; then nothing was changed.
        """
        self.check_writable()
        self._check_index(index)
        shape = self.stack.slice_shape(int(index))
        painted = {label: check_mask(mask, shape, empty=True) for label, mask in masks.items()}
        if not painted:
            raise InputError("nothing was painted")
        results: list[ObjectResult] = []
        with self.step(f"paint on {self.noun} {index}"):
            for label, mask in painted.items():
                if label not in self.objects:
                    self.add_object(label=label)
                if mask.any():
                    prompt = SlicePrompt(mask=mask, corrects=self._prompt(label, index).corrects)
                    results += self._do(self._question(label, index, prompt, None, {"do": "mask"})).objects
                else:
                    results.append(self._say_absent(label, int(index), mask))
        return SliceResult(int(index), tuple(results))

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
        if content.empty:
            self.clear_prompts(label, index)
            return None
        return self._do(self.ask(label, index, content))

    # -- questions: the same in three steps, for programs in which the model works in a thread of its own ----------

    def ask_points(self, label: int, index: int, points: ArrayLike, labels: ArrayLike) -> Question:
        """Put a question as `add_points` does; its `Question.answer` goes to `take`. Nothing is changed yet."""
        shape = self._check(label, index)
        array, marks = check_points(points, labels, shape)
        old = self._prompt(label, index)
        # Clicks refine a painted mask as well: it is then the mask so far, no longer the last word.
        prompt, current = old.with_points(array, marks), self.results.get(label, index)
        cuts, taken_back = only_cuts(prompt, current), len(prompt.points) < len(old.points) + len(array)
        if taken_back and not (cuts or prompt.corrects or prompt.refines):
            # The mask so far holds what the click had brought; the prompts that are left say all that is known.
            current = None
        call = {"do": "points", "points": array.tolist(), "labels": marks.tolist()}
        return self._question(label, index, prompt, current, call)

    def ask_scribble(self, label: int, index: int, path: ArrayLike, positive: bool = True) -> Question:
        """Put a question as `add_scribble` does."""
        shape = self._check(label, index)
        line, _ = check_points(path, np.ones(len(np.atleast_2d(np.asarray(path)))), shape)
        samples = along(line)
        return self.ask_points(label, index, samples, np.full(len(samples), int(positive)))

    def ask_box(self, label: int, index: int, box: Box | Sequence[float]) -> Question:
        """Put a question as `add_box` does."""
        shape = self._check(label, index)
        prompt = replace(self._prompt(label, index), box=check_box(box, shape), mask=None, refines=False)
        call = {"do": "box", "box": list(map(float, prompt.box or ()))}
        return self._question(label, index, prompt, None, call)

    def ask(self, label: int, index: int, content: SlicePrompt) -> Question:
        """Put a question as `set_prompt` does, which content must not be empty for."""
        shape = self._check(label, index)
        if content.empty:
            raise InputError("there is no prompt to ask for; clear_prompts takes prompts back")
        prompt = SlicePrompt(corrects=self._prompt(label, index).corrects)
        if (painted := content.mask) is not None:
            prompt = replace(prompt, mask=check_mask(painted, shape))
        else:
            box = None if content.box is None else check_box(content.box, shape)
            points, marks = prompt.points, prompt.labels
            if len(content.points):
                points, marks = check_points(content.points, content.labels, shape)
            prompt = replace(prompt, box=box, points=points, labels=marks)
        current = self.results.get(label, index)
        return self._question(label, index, prompt, current if only_cuts(prompt, current) else None, {"do": "content"})

    def take(self, answer: Answer) -> SliceResult | None:
        """Take over what the model said.

        Returns
        -------
        SliceResult or None
            The object's new mask; None where the answer comes too late, since the slice's prompts were changed, or
            the object removed, after the question was put: then nothing is changed.
        """
        asked = answer.question
        label, index = asked.label, asked.index
        if self._born(label) != asked.born or self.prompts.get((label, index)) is not asked.before:
            return None
        changes: dict[Key, Value | None] = {
            Key("prompt", label, index): asked.prompt,
            Key("prediction", label, index): answer.prediction,
            Key("result", label, index): PackedResult.of(answer.result),
            Key("mark", label, index): None,
            Key("pending", label, index): True,
        }
        name = f"{_NAMES[asked.call['do']]} on {self.noun} {index}"
        self._document.commit(name, changes, {**asked.call, "label": label, "index": index})
        return SliceResult(index, (answer.result,))

    def clear_prompts(self, label: int, index: int) -> None:
        """Take back an object's prompts on a slice, and the mask that came of them."""
        self._check(label, index)
        if (label, index) in self.prompts:
            changes: dict[Key, Value | None] = dict.fromkeys(self._at(label, index))
            changes[Key("pending", label, index)] = True
            self._document.commit(f"clear prompts on {self.noun} {index}", changes, {"do": "clear"})

    def clear_range(self, start: int, stop: int, labels: Sequence[int] | None = None) -> None:
        """Take away prompts and masks on the slices ``start`` to ``stop`` (excluded), of some objects or of all."""
        self._check_range(start, stop)
        chosen = list(self.objects) if labels is None else list(labels)
        for label in chosen:
            self._check_object(label)
        keys = [k for k in self._document.state.keys(chosen) if start <= k.index < stop]
        changes: dict[Key, Value | None] = dict.fromkeys(keys)
        changes |= {Key("pending", k.label, k.index): True for k in keys if k.kind in ("prompt", "pending")}
        self._document.commit(f"clear {self.noun}s {start} to {stop - 1}", changes, {"do": "clear"})

    def add_prompt(self, prompt: Prompt) -> SliceResult:
        """Add one entry of a prompts file; its object is made where it does not exist."""
        content, result = prompt.content, None
        with self.step(f"prompt on {self.noun} {prompt.index}"):
            if prompt.label not in self.objects:
                self.add_object(label=prompt.label)
            if (painted := content.mask) is not None:
                result = self.add_mask(prompt.label, prompt.index, painted)
            if content.box is not None:
                result = self.add_box(prompt.label, prompt.index, content.box)
            if len(content.points):
                result = self.add_points(prompt.label, prompt.index, content.points, content.labels)
        if result is None:
            raise InputError(f"a prompt for object {prompt.label} on {self.noun} {prompt.index} is empty")
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

    def frozen(self) -> AnnotationSession:
        """Return a session in memory with what is known now: to be exported in a thread while this one goes on."""
        out = AnnotationSession(self.stack, backend=self.backend, memory=self.bank, kind=self.kind)
        out._document.state = self._document.state.copy()
        return out

    # -- inside ----------------------------------------------------------------------------------------------------

    def _prompt(self, label: int, index: int) -> SlicePrompt:
        known = self.prompts.get((label, index))
        if known is not None:
            return known
        return SlicePrompt(corrects=self.results.packed(label, index) is not None)

    def _question(
        self, label: int, index: int, prompt: SlicePrompt, current: ObjectResult | None, call: Mapping[str, Any]
    ) -> Question:
        before, born, whole = self.prompts.get((label, index)), self._born(label) or 0, self._whole(prompt)
        return Question(
            self.stack, self.backend, self._cache, int(label), int(index), prompt, before, current, born, whole, call
        )

    def _do(self, question: Question) -> SliceResult:
        answer = question.answer()
        self.take(answer)
        return SliceResult(question.index, (answer.result,))

    def _say_absent(self, label: int, index: int, nothing: np.ndarray) -> ObjectResult:
        """A person erased all of an object on a slice: it is not there, and no propagation brings it back."""
        result = ObjectResult.from_mask(label, index, nothing)
        here: dict[Key, Value | None] = {
            Key("result", label, index): PackedResult.of(result),
            Key("mark", label, index): "accepted",
            Key("pending", label, index): True,
        }
        changes = {**dict.fromkeys(self._at(label, index)), **here}
        self._document.commit(f"erase object {label} on {self.noun} {index}", changes, {"do": "edit"})
        return result

    def _whole(self, prompt: SlicePrompt) -> bool:
        """Whether a collection's prompt says what to look for everywhere, rather than where one thing lies."""
        return self.kind == "collection" and prompt.painted is not None

    def _check(self, label: int, index: int) -> tuple[int, int]:
        self.check_writable()
        self._check_object(label)
        self._check_index(index)
        return self.stack.slice_shape(int(index))

    def _check_index(self, index: int) -> None:
        if not is_whole(index) or not 0 <= index < len(self.stack):
            raise InputError(f"{self.noun} {index!r} does not exist: there are {self.noun}s 0 to {len(self.stack) - 1}")


_NAMES = {"points": "clicks", "box": "box", "mask": "painted mask", "content": "prompts"}

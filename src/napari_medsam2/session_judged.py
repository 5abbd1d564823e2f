"""What a person decides about masks of a session: verdicts, and which memories the bank keeps."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.results import ObjectResult, PackedResult
from napari_medsam2.review import ReviewItem, review_order
from napari_medsam2.session_base import SessionBase
from napari_medsam2.state import Key, Mark, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medsam2.state import Changes, Value

__all__ = ["JudgedSession"]


class JudgedSession(SessionBase):
    """What has masks looked at, and memories kept; see `AnnotationSession`."""

    # -- the memory bank -------------------------------------------------------------------------------------------

    @property
    def pins(self) -> Mapping[tuple[int, int], str]:
        """What a person wants of slices' memories, ``"pinned"`` or ``"dropped"``, by ``(label, index)``."""
        return MappingProxyType(self._document.state.memories)

    def pin_memory(self, label: int, index: int) -> None:
        """Keep a slice's memory in the object's bank from the next propagation on, and its mask as it is.

        Raises
        ------
        InputError
            If the object has no mask there.
        """
        result = self.results.get(label, index)
        if result is None or not result.area:
            raise InputError(f"object {label!r} has no mask on {self.noun} {index!r} to remember")
        self._wish(label, index, "pinned", "pin")

    def drop_memory(self, label: int, index: int) -> None:
        """Keep a slice's memory out of the object's bank from the next propagation on."""
        if self._document.state.results.packed(label, index) is None:
            raise InputError(f"object {label!r} has no mask on {self.noun} {index!r} whose memory could be dropped")
        self._wish(label, index, "dropped", "drop")

    def release_memory(self, label: int, index: int) -> None:
        """Leave a slice's memory to the bank's policy again."""
        self._wish(label, index, None, "release")

    # -- review ----------------------------------------------------------------------------------------------------

    @property
    def marks(self) -> Mapping[tuple[int, int], str]:
        """What a person said of masks, ``"accepted"``, ``"rejected"`` or ``"skipped"``, by ``(label, index)``."""
        return MappingProxyType(self._document.state.marks)

    def review(self, labels: Sequence[int] | None = None) -> list[ReviewItem]:
        """List the masks that a person should look at, the likeliest wrong first.

        Those that a person made or accepted are left out. Behind the others come rejected ones, which need a prompt or
        to be accepted as empty, and last those that were skipped.

        Parameters
        ----------
        labels : sequence of int, optional
            The objects; all by default.
        """
        state = self._document.state
        runs = self.stack.runs() if self.kind == "stack" else tuple(range(i, i + 1) for i in range(len(self.stack)))
        return review_order(state.results, state.marks, state.prompts.keys(), runs, labels)

    def accept(self, label: int, index: int) -> None:
        """Say that a mask is right: no propagation overwrites it, and it is carried on to its neighbours.

        Where one was rejected and no other came, that the object is not there.

        Raises
        ------
        InputError
            If there is no mask, nor an answer that the object is absent.
        """
        self._mark(label, index, "accepted")

    def reject(self, label: int, index: int) -> None:
        """Say that a mask is wrong: it goes, with its prompts; once all others are reviewed, the slice comes again."""
        self._mark(label, index, "rejected")

    def skip(self, label: int, index: int) -> None:
        """Put a mask to the end of the review, until it changes."""
        self._mark(label, index, "skipped")

    def unmark(self, label: int, index: int) -> None:
        """Take back what was said of a mask; a rejected one comes back by `undo` only."""
        self._document.commit("unmark", {Key("mark", label, index): None}, {"do": "mark"})

    # -- one place -------------------------------------------------------------------------------------------------

    def there(self, label: int, index: int) -> Changes:
        """All that an object has on a slice now, for `put_back`: prompts, mask, verdict, wish for the memory bank."""
        return {key: self._document.state.get(key) for key in self._at(label, index)}

    def unfinished(self, label: int) -> bool:
        """Whether a propagation of an object was stopped before its end, and nothing was corrected since."""
        pending = {at: whole for at, whole in self._document.state.pending.items() if at[0] == label}
        said = self._document.state.prompts
        # A prompt where one was stopped leaves that said: see `State.entries`.
        corrected = (said[at].corrects if at in said else whole for at, whole in pending.items())
        return False in pending.values() and not any(corrected)

    @property
    def revision(self) -> int:
        """A number that is another one after every change: to find out whether there was any."""
        return self._document.revision

    def put_back(self, was: Changes) -> None:
        """Give an object back on a slice what it had there when `there` was asked; one command.

        Raises
        ------
        InputError
            If the object is gone.
        """
        self.check_writable()
        label, index = next((key.label, key.index) for key in was)
        self._check_object(label)
        self._document.commit(f"discard prompts on {self.noun} {index}", was, {"do": "edit"})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_object(self, label: int) -> None:
        if label not in self.objects:
            known = ", ".join(map(str, list(self.objects)[:20])) or "none yet; call add_object first"
            raise InputError(f"there is no object {label!r}; the objects are: {known}")

    def _born(self, label: int) -> int | None:
        """Which object has a label: a number that no other one had or gets; None where there is none."""
        info = self.objects.get(label)
        return None if info is None else info.born

    def _wish(self, label: int, index: int, wish: Wish | None, verb: str) -> None:
        self.check_writable()
        self._check_object(label)
        changes: dict[Key, Value | None] = {Key("memory", label, index): wish}
        self._document.commit(f"{verb} memory of {self.noun} {index}", changes, {"do": "memory"})

    def _mark(self, label: int, index: int, mark: Mark) -> None:
        self.check_writable()
        state = self._document.state
        changes: dict[Key, Value | None] = {}
        if state.results.packed(label, index) is None:
            if mark != "accepted" or state.marks.get((label, index)) != "rejected":
                raise InputError(f"object {label!r} has no mask on {self.noun} {index!r}; propagate or prompt it first")
            nothing = ObjectResult.from_mask(label, index, np.zeros(self.stack.slice_shape(index), bool))
            changes[Key("result", label, index)] = PackedResult.of(nothing)
        elif mark == "rejected":
            changes |= dict.fromkeys(self._at(label, index))
            if (label, index) in state.prompts or (label, index) in state.pending:
                changes[Key("pending", label, index)] = True
        changes[Key("mark", label, index)] = mark
        verb = {"accepted": "accept", "rejected": "reject", "skipped": "skip"}[mark]
        self._document.commit(f"{verb} {self.noun} {index}", changes, {"do": "mark"})

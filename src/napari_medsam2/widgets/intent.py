"""What a person said, or ordered, while the model was at work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.geometry import Box
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.question import Question
    from napari_medsam2.session import AnnotationSession

__all__ = ["ALL", "Intent", "nothing"]

ALL = (0, -1)
"""In place of an object and a slice: all of them."""
_WORDS = {"points": "click", "box": "box", "content": "change", "call": "step"}


def nothing() -> None:
    """Do nothing."""


@dataclass(slots=True, eq=False)
class Intent:
    """Something said that is not answered yet, or a command that comes after such.

    Parameters
    ----------
    kind : str
        ``"points"``, ``"box"``, ``"content"`` or ``"call"``.
    label, index : int
        The object and the slice; of a command for all of them, `ALL`.
    points, labels, box, content
        What was said, as `AnnotationSession` takes it.
    drawn : list
        What stands for it in the layers meanwhile.
    call : callable
        What a command does.
    withdrawn : callable
        Called instead where a person takes it back.
    """

    kind: str
    label: int
    index: int
    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: Box | None = None
    content: SlicePrompt | None = None
    drawn: list[object] = field(default_factory=list)
    call: Callable[[], object] = nothing
    withdrawn: Callable[[], object] = nothing

    @property
    def key(self) -> tuple[int, int]:
        """The object and the slice."""
        return self.label, self.index

    @property
    def word(self) -> str:
        """What a person calls it."""
        return _WORDS[self.kind]

    def entry(self) -> dict[str, Any] | None:
        """Return it as an entry of a prompts file; None where it is neither clicks nor a box."""
        entry: dict[str, Any] = {"object": int(self.label), "index": int(self.index)}
        if self.kind == "points":
            return entry | {
                "points": [list(map(float, at)) for at in self.points],
                "labels": list(map(int, self.labels)),
            }
        if self.kind == "box":
            return entry | {"box": list(map(float, self.box or ()))}
        return None

    def question(self, session: AnnotationSession) -> Question | None:
        """Put the question; None where none is left, and the prompts are cleared.

        Raises
        ------
        InputError
            If it cannot be put any more.
        """
        if self.kind == "points":
            return session.ask_points(self.label, self.index, self.points, self.labels)
        if self.kind == "box":
            return session.ask_box(self.label, self.index, self.box or ())
        if self.content is None or self.content.empty:
            session.clear_prompts(self.label, self.index)
            return None
        return session.ask(self.label, self.index, self.content)

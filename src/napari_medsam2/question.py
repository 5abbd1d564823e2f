"""A prompt that waits for the model: asked on one thread, answered on another, taken over on the first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_medsam2.prediction import predict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.cache import EmbeddingCache
    from napari_medsam2.prediction import Prediction
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.stack import ImageStack

__all__ = ["Answer", "Question"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """All that the answer to a prompt depends on, frozen.

    Parameters
    ----------
    stack, backend, cache
        Where pixels, features and kept features come from.
    label, index : int
        The object and the slice.
    prompt : SlicePrompt
        Everything that is now said of the object on this slice.
    before : SlicePrompt or None
        What was said before; if that changes meanwhile, the answer comes too late.
    current : ObjectResult or None
        The mask so far, which clicks refine.
    born : int
        Which object had the label; a later one does not get the answer.
    whole : bool
        Whether to look at the whole slice, as collections do.
    call : mapping
        What was asked for, as the journal has it.
    """

    stack: ImageStack
    backend: Backend
    cache: EmbeddingCache
    label: int
    index: int
    prompt: SlicePrompt
    before: SlicePrompt | None
    current: ObjectResult | None
    born: int = 0
    whole: bool = False
    call: Mapping[str, Any] = field(default_factory=dict)

    def answer(self) -> Answer:
        """Ask the model; in any thread, but one at a time for all questions and propagations of a session."""
        prediction, result = predict(
            self.stack, self.backend, self.cache, self.label, self.index, self.prompt, self.current, self.whole
        )
        return Answer(self, prediction, result)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the model said to a question.

    Parameters
    ----------
    question : Question
        That.
    prediction : Prediction or None
        What conditions the memory bank; None for a painted mask, which does so as it is.
    result : ObjectResult
        The mask.
    """

    question: Question
    prediction: Prediction | None
    result: ObjectResult

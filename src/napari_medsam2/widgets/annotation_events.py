"""What an annotation tells its views."""

from __future__ import annotations

from psygnal import Signal, SignalGroup

__all__ = ["AnnotationEvents"]


class AnnotationEvents(SignalGroup):
    """What the views of an annotation listen to."""

    objects = Signal()
    """Objects, or which one is selected."""
    masks = Signal(int)
    """A slice's masks, prompts or verdicts."""
    shown = Signal(int)
    """Another slice is shown."""
    history = Signal()
    tool = Signal()
    layers = Signal()
    """Layers that were deleted came back."""
    progress = Signal(object)
    said = Signal(str)

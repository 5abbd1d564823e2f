"""The preview under the mouse: the mask that a click would give, as an outline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_medsam2._outlines import outlines
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["Hover"]

_REST = 60
"""Milliseconds that the mouse rests before the model is asked."""


class Hover:
    """Asks the model where the mouse rests, while the prompt tool is in hand.

    Parameters
    ----------
    bench : Workbench
        Whose annotation is looked at.
    parent : QObject
        What the timer ends with.
    """

    def __init__(self, bench: Workbench, parent: QObject) -> None:
        self._bench = bench
        self._on = False
        self._at: tuple[float, ...] = ()
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST)
        self._timer.timeout.connect(self._ask)

    def switch(self, on: bool) -> None:
        """Turn it on or off."""
        callbacks = self._bench.viewer.mouse_move_callbacks
        self._on = on
        if on and self._moved not in callbacks:
            callbacks.append(self._moved)
        elif not on:
            self._timer.stop()
            if self._moved in callbacks:
                callbacks.remove(self._moved)
            self._show(self._bench.annotation, -1, None)

    def _moved(self, _: Any, event: Any) -> None:
        self._at = tuple(event.position)
        self._show(self._bench.annotation, -1, None)
        self._timer.start()

    def _ask(self) -> None:
        annotation = self._bench.annotation
        if annotation is None or annotation.tools.tool != "prompt" or not self._bench.backend.loaded:
            return
        if annotation.frame.displayed() is not None:
            return
        label = annotation.label
        try:
            index, y, x = annotation.frame.to_stack(self._at)
        except InputError:
            return
        if label not in annotation.session.objects or label in annotation.masks.locked:
            return
        at = self._at

        def show(mask: np.ndarray | None) -> None:
            if at == self._at and self._on:
                self._show(annotation, index, mask)

        annotation.prompting.glance(label, index, (y, x), show)

    def _show(self, annotation: Annotation | None, index: int, mask: np.ndarray | None) -> None:
        if annotation is None or annotation is not self._bench.annotation:
            return
        annotation.prompts.draw_nothing()
        if mask is not None and mask.any() and index == annotation.index:
            longest = max(outlines(mask), key=len)
            # Corners of pixels, in coordinates whose whole numbers are centres.
            annotation.prompts.draw(index, longest - 0.5, "lasso")

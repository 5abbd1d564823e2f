"""One image being annotated in a viewer: the session, its layers, the mouse, the propagation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.actions import unbind
from napari_medsam2.widgets.alike import Alike, make_current
from napari_medsam2.widgets.annotation_events import AnnotationEvents
from napari_medsam2.widgets.mask_layer import MaskLayer
from napari_medsam2.widgets.operations import Operations
from napari_medsam2.widgets.prompt_layers import PromptLayers
from napari_medsam2.widgets.prompting import Prompting
from napari_medsam2.widgets.reviewing import Reviewing
from napari_medsam2.widgets.rows.words import accepted, trust
from napari_medsam2.widgets.running import Progress, Reach, Running
from napari_medsam2.widgets.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.coordinates import Frame
    from napari_medsam2.widgets.worker import Worker

__all__ = ["Annotation", "AnnotationEvents"]


class Annotation:
    """What a person does with one image; every command of the dock ends up here.

    Parameters
    ----------
    viewer : ViewerModel
        Where the image is.
    image : Image
        The image's layer.
    frame : Frame
        How it lies in the world.
    session : AnnotationSession
        The work.
    worker : Worker
        Where the model works.
    trouble : callable
        Called with what went wrong.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        frame: Frame,
        session: AnnotationSession,
        worker: Worker,
        trouble: Callable[[Exception], None],
    ) -> None:
        self.viewer, self.image, self.frame, self.session = viewer, image, frame, session
        self._worker, self._trouble = worker, trouble
        self.events = AnnotationEvents()
        self._label = next(iter(session.objects), 0)
        self._index, self._channel = frame.index or 0, frame.channel_shown
        name = image.name
        self.masks = MaskLayer(viewer, session, frame, f"{name} masks", self._painted)
        self.prompts = PromptLayers(viewer, session, frame, name, self._edited, self.current, trouble)
        self.prompting = Prompting(session, self.prompts, worker, self._tell, trouble)
        self.operations = Operations(session, worker, self.say, trouble, self.prompting.settled)
        self.reviewing = Reviewing(session, worker, lambda: (self._label, self._index), self._visit, self.say, trouble)
        self.running = Running(session, worker, self._progress, self.say, trouble)
        self.tools = Tools(
            viewer, frame, self.prompts, self.masks.layer, self.prompting, self.current, trouble,
            self.events.tool.emit,
        )  # fmt: skip
        session.events.slice_changed.connect(self._slice_changed)
        session.events.objects_changed.connect(self._objects_changed)
        session.events.history_changed.connect(self._history_changed)
        viewer.dims.events.point.connect(self._moved)
        self.masks.layer.events.selected_label.connect(self._label_picked)
        self.prompts.came_back = self.events.layers.emit
        self.masks.in_turn = self._stroked
        self._alike = Alike(frame, lambda: self.own_layers()[:-1])
        self.tools.choose("prompt")

    def own_layers(self) -> list[Layer]:
        """The layers on which the shortcuts hold, the image's among them."""
        return [self.masks.layer, self.prompts.points, self.prompts.boxes, self.image]

    # -- where we are ----------------------------------------------------------------------------------------------

    @property
    def label(self) -> int:
        """The object that is selected; 0: none yet."""
        return self._label

    @property
    def index(self) -> int:
        """The slice that is shown."""
        return self._index

    def current(self) -> int:
        """The object that is prompted; where there is none one is begun.

        Raises
        ------
        InputError
            If it is locked.
        """
        if self._label not in self.session.objects:
            self.new_object()
        self._check_unlocked(self._label)
        return self._label

    def select(self, label: int) -> None:
        """Select an object."""
        if label in self.session.objects and label != self._label:
            self._label = label
            self.masks.select(label)
            self.events.objects.emit()

    def show(self, index: int) -> None:
        """Show a slice."""
        if 0 <= index < len(self.session.stack):
            self.frame.show(index)

    def move(self, by: int) -> None:
        """Show a neighbouring slice."""
        self.show(min(max(self._index + by, 0), len(self.session.stack) - 1))

    def say(self, text: str) -> None:
        """Put a sentence into the status line."""
        self.events.said.emit(text)

    # -- objects ---------------------------------------------------------------------------------------------------

    def new_object(self, name: str | None = None) -> int:
        """Begin an object, and select it. One that is still empty is used first."""
        session = self.session
        if self._label in session.objects and not name:
            told = any(label == self._label for label, _ in session.prompts) or self.prompting.waits(self._label)
            if not told and not session.results.indices(self._label):
                self.say(f"{session.objects[self._label].name} is still empty: it is the new one")
                return self._label
        if len(session.objects) >= self.masks.top:
            raise InputError(f"there are {self.masks.top} objects, and no number left for another; delete one first")
        self._label = session.add_object(name)
        self.masks.select(self._label)
        self.events.objects.emit()
        return self._label

    def pick(self, world: Sequence[float]) -> None:
        """Select the object under a place."""
        index, y, x = self.frame.to_stack(world)
        label = int(self.session.slice_labels(index)[round(y), round(x)])
        if label:
            self.select(label)

    def visible(self, labels: Iterable[int], visible: bool) -> None:
        """Show objects or not."""
        self.masks.hide(labels, not visible)
        self.events.objects.emit()

    def lock(self, label: int, locked: bool) -> None:
        """Keep an object from being prompted and painted."""
        (self.masks.locked.add if locked else self.masks.locked.discard)(label)
        self.events.objects.emit()

    # -- commands --------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Accept the selected object's mask on this slice."""
        label, index = self._label, self._index
        self._in_turn(lambda: self._accept(label, index), (label, index))

    def discard(self) -> None:
        """Stop a propagation, or take back commands that wait, else take back what was prompted on this slice."""
        if self.running.busy:
            self.running.stop()
        elif self.prompting.withdraw(self._label, self._index):
            self.say("took back the step that still waited for the model")
        elif self.prompting.discard(self._label, self._index):
            self.say(f"discarded what was prompted for {self._name()} on {self._place(self._index)}")
            self.prompts.refresh()

    def undo(self) -> None:
        """Take back what still waits for the model, the last of it first, else the last step."""
        if waited := self.prompting.take_back():
            self.say(f"took back the {waited} that still waited for the model")
            return
        self.prompting.settled()
        # That draws the prompts anew as well.
        self.say(f"undone: {self.session.undo()}")

    def redo(self) -> None:
        """Do again what was taken back."""
        self.prompting.settled()
        self.say(f"redone: {self.session.redo()}")
        self.prompts.refresh()

    def propagate(self, reach: Reach | None = None) -> None:
        """Carry masks to the other slices."""

        def go() -> None:
            self.prompting.settled()
            self.running.propagate(self._unlocked(reach or Reach()))

        self._in_turn(go)

    def repropagate(self, part: bool = True) -> None:
        """Compute again what corrections touch; ``part`` as of `Reach`."""

        def go() -> None:
            self.prompting.settled()
            free = [label for label in self.session.objects if label not in self.masks.locked]
            if not self.running.repropagate(free, part):
                self.say("nothing was corrected since the last propagation")

        self._in_turn(go)

    # -- review ----------------------------------------------------------------------------------------------------

    def approve(self) -> None:
        """Accept the mask that is shown and go to the next one to review."""
        self._judge(self._accept)

    def reject(self) -> None:
        """Take the mask that is shown away; the slice waits for a prompt, or for `approve`: the object is not there."""
        self._judge(self._reject, last=True, on=False)

    def skip(self) -> None:
        """Put the mask that is shown to the end, and go to the next."""
        self._judge(self.session.skip, last=True)

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self, layers: bool = True) -> None:
        """Let go of session and viewer; ``layers``: remove what was added to the viewer."""
        self.masks.take()
        self.running.close()
        self.prompting.close()
        self.tools.close()
        self._alike.close()
        self.masks.close()
        events = self.viewer.dims.events
        events.point.disconnect(self._moved)
        self.session.events.slice_changed.disconnect(self._slice_changed)
        self.session.events.objects_changed.disconnect(self._objects_changed)
        self.session.events.history_changed.disconnect(self._history_changed)
        self.masks.layer.events.selected_label.disconnect(self._label_picked)
        self.session.close()
        for layer in self.own_layers():
            # Their keys would call what has ended; the image stays in any case.
            unbind(layer)
        if layers:
            self.clear_away()

    def clear_away(self) -> None:
        """Remove what was added to the viewer and is still there."""
        everything = self.viewer.layers
        make_current(self.viewer)
        # napari collects garbage after each layer that goes, but once after a batch.
        with everything.batched_update():
            for layer in (self.prompts.points, self.prompts.boxes, self.masks.layer):
                if layer in everything:
                    everything.remove(layer)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _in_turn(self, call: Callable[[], None], key: tuple[int, int] | None = None) -> None:
        """Do what a command says, after what was said before it."""
        if self.prompting.in_turn(call, key):
            self.say("that is done as soon as the model has answered; undo takes it back")

    def _stroked(self, call: Callable[[], None], withdrawn: Callable[[], None]) -> None:
        self.prompting.in_turn(call, (self._label, self._index), withdrawn)

    def _judge(self, verdict: Callable[[int, int], None], last: bool = False, on: bool = True) -> None:
        label, index = self._label, self._index

        def go() -> None:
            with self.reviewing.judged((label, index), last):
                verdict(label, index)
            if on:
                self.reviewing.next()

        self._in_turn(go, (label, index))

    def _reject(self, label: int, index: int) -> None:
        self.session.reject(label, index)
        self.say(f"rejected {self._name(label)} on {self._place(index)}")

    def _accept(self, label: int, index: int) -> None:
        self.prompting.accept(label, index)
        said = accepted(self.session.results.packed(label, index))
        self.say(f"{said} {self._name(label)} on {self._place(index)}")

    def _tell(self, label: int, index: int, drift: float | None = None, more: str = "") -> None:
        packed = self.session.results.packed(label, index)
        if packed is not None:
            name = self.session.objects[label].name
            self.say(f"{name}, {self._place(index)}: {trust(packed.bare, drift)}{more}")

    def _visit(self, label: int, index: int, drift: float | None = None, more: str | None = None) -> None:
        """Show an object on a slice; with ``more``, say how sure its mask is."""
        self.select(label)
        self.show(index)
        if more is not None:
            self._tell(label, index, drift, more)

    def _place(self, index: int) -> str:
        return f"{self.session.noun} {index}"

    def _name(self, label: int | None = None) -> str:
        label = self._label if label is None else label
        return self.session.objects[label].name if label in self.session.objects else "nothing"

    def _check_unlocked(self, label: int) -> None:
        if label in self.masks.locked:
            raise InputError(f"{self.session.objects[label].name} is locked; unlock it in the objects table first")

    def _unlocked(self, reach: Reach) -> Reach:
        if not self.masks.locked:
            return reach
        prompted = {label for label, _ in self.session.prompts}
        chosen = [label for label in reach.labels or sorted(prompted) if label not in self.masks.locked]
        if not chosen:
            raise InputError("all prompted objects are locked; unlock one in the objects table first")
        return replace(reach, labels=tuple(chosen))

    def _painted(self, painted: Mapping[int, Mapping[int, np.ndarray]]) -> None:
        try:
            why_not = self.frame.displayed()
            if why_not is not None:
                raise InputError(why_not)
            self.prompting.paint(painted)
        except InputError as error:
            self.masks.refresh()
            self._trouble(error)

    def _edited(self, label: int, index: int, content: SlicePrompt) -> None:
        if label not in self.session.objects:
            label = self.current()
        self._check_unlocked(label)
        self.prompting.content(label, index, content)

    def _slice_changed(self, index: int) -> None:
        self.reviewing.forget()
        self.masks.refresh(index, self._index)
        self.events.masks.emit(index)

    def _history_changed(self) -> None:
        # Once after all slices of a step, of which there may be hundreds.
        self.masks.catch_up(not self.running.busy)
        if not self.prompting.busy:
            self.prompts.refresh()
        self.events.history.emit()

    def _objects_changed(self) -> None:
        self.prompting.forget_removed()
        painted = int(self.masks.layer.selected_label)
        if painted in self.session.objects:
            # A stroke with a label that nobody had has made that object: the next stroke is its as well.
            self._label = painted
        elif self._label not in self.session.objects:
            self._label = next(iter(self.session.objects), 0)
        if self._label:
            self.masks.select(self._label)
        self.masks.follow()
        self.events.objects.emit()

    def _moved(self, _: Any = None) -> None:
        index = self.frame.index
        if index is None:
            return
        if self._channel != (channel := self.frame.channel_shown):
            # Prompts are of all channels, and drawn in the one that is shown.
            self._channel = channel
            self.prompts.refresh()
        if index != self._index:
            self._index = index
            self.events.shown.emit(index)

    def _label_picked(self, _: Any = None) -> None:
        self.select(int(self.masks.layer.selected_label))

    def _progress(self, progress: Progress | None) -> None:
        self.masks.catch_up(progress is None)
        self.events.progress.emit(progress)

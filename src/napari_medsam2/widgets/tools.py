"""The mouse: what a click or a drag on the canvas says, with the tool that is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medsam2.widgets.coordinates import Frame
    from napari_medsam2.widgets.prompt_layers import PromptLayers
    from napari_medsam2.widgets.prompting import Prompting

__all__ = ["Tool", "Tools"]

Tool = Literal["prompt", "scribble", "lasso", "paint", "erase"]

_DRAG = 4.0
"""Screen pixels that a hand moves at a click."""


class Tools:
    """Which tool is chosen, and what it does.

    Parameters
    ----------
    viewer : ViewerModel
        The canvas.
    frame : Frame
        How the image lies in the world.
    layers : PromptLayers
        Whose Points layer takes the mouse for prompts.
    masks : Labels
        The layer that is painted on.
    prompting : Prompting
        What is told.
    current : callable
        Gives the object that is prompted; begins one where there is none. May raise InputError.
    trouble : callable
        Called with what went wrong.
    changed : callable
        Called when the tool, or the polarity, has changed.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        frame: Frame,
        layers: PromptLayers,
        masks: Labels,
        prompting: Prompting,
        current: Callable[[], int],
        trouble: Callable[[Exception], None],
        changed: Callable[[], None],
    ) -> None:
        self._viewer, self._frame, self._layers, self._masks = viewer, frame, layers, masks
        self._prompting, self._current, self._trouble, self._changed = prompting, current, trouble, changed
        self._tool: Tool = "prompt"
        self.negative = False
        self.paused = False
        self._attached: Any = None
        self._watched: Any = None
        viewer.layers.selection.events.active.connect(self._activated)
        viewer.dims.events.order.connect(self._turned)
        self.attach()

    @property
    def tool(self) -> Tool | None:
        """The tool in hand; None while another layer, or one of napari's own tools, has the mouse."""
        active = self._viewer.layers.selection.active
        if active is self._layers.points and str(self._layers.points.mode) == "pan_zoom":
            return self._tool if self._tool in ("prompt", "scribble", "lasso") else None
        if active is self._masks:
            mode = str(self._masks.mode)
            return "erase" if mode == "erase" else "paint" if mode in ("paint", "polygon", "fill") else None
        return None

    def attach(self) -> None:
        """Listen to the Points layer: again, after it was brought back."""
        points = self._layers.points
        if self._attached is not points:
            points.mouse_drag_callbacks.append(self._drag)
            points.events.mode.connect(self._mode_changed)
            self._attached = points
        if self._watched is not self._layers.boxes:
            self._watched = self._layers.boxes
            # Behind napari's buttons, which would else show the tool that was put away.
            self._watched.events.mode.connect(self._turned, position="last")

    def choose(self, tool: Tool) -> None:
        """Take a tool; the layer that it works on becomes the active one."""
        if tool not in get_args(Tool):
            raise InputError(f"there is no tool {tool!r}; choose one of {', '.join(get_args(Tool))}")
        self._tool = tool
        self._layers.ensure()
        self.attach()
        if tool in ("paint", "erase"):
            label = self._current()
            self._viewer.layers.selection.active = self._masks
            self._masks.selected_label = label
            self._masks.mode = tool
        else:
            self._viewer.layers.selection.active = self._layers.points
            self._layers.points.mode = "pan_zoom"
            self._hold()
        self._changed()

    def turn(self) -> None:
        """Change between positive and negative."""
        self.negative = not self.negative
        self._changed()

    def close(self) -> None:
        """Leave the mouse alone."""
        self._viewer.layers.selection.events.active.disconnect(self._activated)
        self._viewer.dims.events.order.disconnect(self._turned)
        self._watched.events.mode.disconnect(self._turned)
        if self._attached is not None and self._drag in self._attached.mouse_drag_callbacks:
            self._attached.mouse_drag_callbacks.remove(self._drag)
            self._attached.events.mode.disconnect(self._mode_changed)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        """A drag draws, it does not move the image."""
        self._layers.points.mouse_pan = False
        self._layers.points.cursor = "cross"

    def _activated(self, _: Any = None) -> None:
        if self.tool in ("prompt", "scribble", "lasso"):
            self._hold()
        self._changed()

    def _mode_changed(self, _: Any = None) -> None:
        if str(self._layers.points.mode) == "pan_zoom":
            self._hold()
        self._changed()

    def _turned(self, _: Any = None) -> None:
        """Put napari's own tools for shapes away where the planes are not shown as they lie.

        They would draw what cannot be taken or, between two pixels of the axis that is not shown, end in an error.
        """
        if str(self._watched.mode).startswith("add_"):
            why_not = self._frame.displayed(self._viewer.dims)
            if why_not is not None:
                self._watched.mode = "pan_zoom"
                self._trouble(InputError(why_not))

    def _drag(self, layer: Any, event: Any) -> Iterator[None]:
        """A press of the left button, what the mouse does until it is let go, and what that says."""
        if self.paused or self.tool not in ("prompt", "scribble", "lasso") or event.button != 1:
            return
        tool, started = self.tool, np.asarray(event.pos, float)
        modifiers = {str(getattr(m, "name", m)) for m in event.modifiers}
        if "Alt" in modifiers:
            # napari zooms to what is dragged over.
            return
        positive = self.negative == bool(modifiers & {"Control", "Meta"})
        try:
            start, beside = self._pressed(event.position)
        except InputError as error:
            self._trouble(error)
            return
        line, index, dragged = [start], start[0], False
        if tool == "prompt" and beside is None:
            self._expect(*start, positive)
        yield
        while event.type == "mouse_move":
            if not dragged and float(np.hypot(*(np.asarray(event.pos, float) - started))) > _DRAG:
                dragged = True
                self._prompting.forget()
            place = self._clipped(event.position, index)
            if dragged and place is not None and place[1:] != line[-1][1:]:
                line.append(place)
                shown = np.array([spot[1:] for spot in line])
                kind = {"prompt": "box", "scribble": "path", "lasso": "lasso"}[tool]
                self._layers.draw(index, shown[[0, -1]] if tool == "prompt" else shown, kind)
            yield
        self._layers.draw_nothing()
        try:
            if beside is not None and not dragged:
                raise beside
            self._say(tool, index, np.array([spot[1:] for spot in line]), dragged and len(line) > 1, positive)
        except InputError as error:
            self._trouble(error)

    def _expect(self, index: int, y: float, x: float, positive: bool) -> None:
        """Most presses become clicks: the model begins with this one."""
        try:
            label = self._current()
        except InputError:
            # It will be said when the button is let go.
            return
        self._prompting.expect(label, index, (float(y), float(x)), positive)

    def _say(self, tool: str, index: int, line: np.ndarray, dragged: bool, positive: bool) -> None:
        label = self._current()
        if tool == "prompt" and dragged:
            (y0, x0), (y1, x1) = line.min(0), line.max(0)
            if y1 - y0 < 1 or x1 - x0 < 1:
                raise InputError("that box is thinner than a pixel; drag from one corner of the object to the other")
            self._prompting.box(label, index, (float(y0), float(x0), float(y1), float(x1)))
        elif tool == "lasso":
            if not dragged or len(line) < 3:
                raise InputError("a lasso is drawn around the object with the button held down")
            self._prompting.outline(label, index, self._inside(index, line), positive)
        elif tool == "scribble" and dragged:
            self._prompting.scribble(label, index, line, positive)
        else:
            self._prompting.points(label, index, [(float(line[0][0]), float(line[0][1]))], [int(positive)])

    def _inside(self, index: int, line: np.ndarray) -> np.ndarray:
        from skimage.draw import polygon2mask

        polygon: Any = polygon2mask
        mask: np.ndarray = polygon(self._frame.slice_shape(index), line)
        if not mask.any():
            raise InputError("that outline has no pixel in it; draw around the object")
        return mask

    def _place(self, world: Any) -> tuple[int, float, float]:
        """The slice and the place under the mouse.

        Raises
        ------
        InputError
            If the planes are not shown as they lie, or the mouse is beside the image.
        """
        why_not = self._frame.displayed(self._viewer.dims)
        if why_not is not None:
            raise InputError(why_not)
        return self._frame.to_stack(world)

    def _pressed(self, world: Any) -> tuple[tuple[int, float, float], InputError | None]:
        """Where the mouse was pressed: beside the image at its edge, and why a click there says nothing.

        A box around an object at the edge is begun beside the image.
        """
        try:
            return self._place(world), None
        except InputError as error:
            if self._frame.displayed(self._viewer.dims) is None and (index := self._frame.index) is not None:
                place = self._clipped(world, index)
                if place is not None:
                    return place, error
            raise

    def _clipped(self, world: Any, index: int) -> tuple[int, float, float] | None:
        """The place under the mouse, or nearest to it at the slice's edge."""
        try:
            place = self._frame.to_stack(world, clip=True)
        except InputError:
            return None
        return place if place[0] == index else None

"""Prompts ↔ a Points and a Shapes layer, in which napari's own tools move, change and delete them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.prompts import SlicePrompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Points, Shapes

    from napari_medsam2.geometry import Box
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.coordinates import Frame

__all__ = ["PromptLayers"]

Key = tuple[int, int]

_NOBODYS: Key = (0, -1)
"""Of a shape that is no object's box."""
_DONE = ("added", "removed", "changed")
"""Actions of napari's data events that come after the edit."""
_COLORS = {1: "#12c24a", 0: "#f02b2b"}
"""Positive and negative; they differ in their symbol as well, for those who cannot tell red from green."""
_LARGEST = 18
"""Pixels of the screen that a point has at most: in a large image that is zoomed into it would hide the object."""
_EDGE = 0.04
"""Of a box's longer side that its edge takes at most, for the same reason."""
_LINE = 2.0
"""Pixels of the screen that the line has at most which follows the mouse."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A click or a box that is drawn already while the model still thinks."""

    key: Key
    points: np.ndarray
    labels: np.ndarray
    box: Box | None = None


class PromptLayers:
    """What was said, to be seen and edited.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are added.
    session : AnnotationSession
        Whose prompts are shown.
    frame : Frame
        How the image lies in the world.
    name : str
        The image's, for the layers' names.
    edited : callable
        Called with ``(label, index, content)`` when a person moved, added or deleted something in a layer; an empty
        content means that nothing is left.
    current : callable
        Gives the object that is selected, for points that are added with napari's own tool. It and ``edited`` raise
        InputError where the edit is refused; then the layer shows again what the session says.
    trouble : callable
        Called with why.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        session: AnnotationSession,
        frame: Frame,
        name: str,
        edited: Callable[[int, int, SlicePrompt], None],
        current: Callable[[], int],
        trouble: Callable[[Exception], None],
    ) -> None:
        self._viewer, self._session, self._frame = viewer, session, frame
        self._tell, self._current, self._name, self._trouble = edited, current, name, trouble
        self._unit = max(0.25, max(frame.spec.shape[axis] for axis in frame.spec.plane) / 450)
        self.came_back: Callable[[], None] = _nothing
        self._waiting: list[_Waiting] = []
        self._rows: list[tuple[int, int, int]] = []
        self._boxes: list[Key] = []
        self._busy = False
        self.points: Points
        self.boxes: Shapes
        self._drawing = False
        self._add_boxes()
        self._add_points()
        self.refresh()

    def _add_points(self) -> None:
        from napari.layers import Points

        frame = self._frame
        self.points = Points(
            np.zeros((0, frame.spec.ndim)),
            ndim=frame.spec.ndim,
            name=f"{self._name} prompts",
            size=9 * self._unit,
            face_color=_COLORS[1],
            border_width=0.12,
            border_color="white",
            # Where there are no points napari draws one of size 0, which its own lower limit makes visible.
            canvas_size_limits=(0, _LARGEST),
            features={"object": np.zeros(0, int), "positive": np.zeros(0, int)},
            **frame.like(),
        )
        self._viewer.add_layer(self.points)
        self.points.events.data.connect(self._points_edited)

    def _add_boxes(self) -> None:
        from napari.layers import Shapes

        frame = self._frame
        self.boxes = Shapes(
            ndim=frame.spec.ndim,
            name=f"{self._name} boxes",
            face_color="transparent",
            edge_color="#ffd92f",
            edge_width=0.9 * self._unit,
            **frame.like(),
        )
        self._viewer.add_layer(self.boxes)
        self.boxes.events.data.connect(self._boxes_edited)

    def ensure(self) -> None:
        """Bring back a layer that a person deleted: the prompts are the session's, and still hold."""
        layers, before = self._viewer.layers, (self.boxes, self.points)
        if self.boxes not in layers:
            self.boxes.events.data.disconnect(self._boxes_edited)
            self._boxes, self._drawing = [], False
            self._add_boxes()
        if self.points not in layers:
            self.points.events.data.disconnect(self._points_edited)
            self._rows = []
            self._add_points()
        self.refresh()
        if before != (self.boxes, self.points):
            self.came_back()

    # -- session → layers ------------------------------------------------------------------------------------------

    def wait(self, label: int, index: int, points: Any = (), labels: Any = (), box: Box | None = None) -> object:
        """Have `refresh` draw a prompt that is not answered yet; give back what `settle` takes."""
        row = _Waiting(
            (label, index), np.asarray(points, float).reshape(-1, 2), np.asarray(labels, int).reshape(-1), box
        )
        self._waiting.append(row)
        return row

    def settle(self, row: object) -> None:
        """Draw one no longer: it is answered, and the session's, or was refused."""
        self._waiting = [one for one in self._waiting if one is not row]

    def refresh(self) -> None:
        """Show what the session, and what waits, says."""
        self._refresh_points()
        self._refresh_boxes()

    def _refresh_points(self) -> None:
        found: list[tuple[Key, np.ndarray, np.ndarray]] = [
            *((key, prompt.points, prompt.labels) for key, prompt in self._session.prompts.items()),
            *((one.key, one.points, one.labels) for one in self._waiting),
        ]
        rows: list[tuple[int, int, int]] = []
        places: list[np.ndarray] = []
        # What waits comes right behind what its object has there: when it is answered nothing is drawn anew.
        for (label, index), points, labels in sorted(found, key=lambda one: one[0]):
            for (y, x), positive in zip(points, labels, strict=True):
                rows.append((label, index, int(positive)))
                places.append(self._frame.to_layer(index, y, x))
        data = np.array(places).reshape(-1, self._frame.spec.ndim)
        if rows == self._rows and np.array_equal(data, self.points.data):
            return
        self._rows = rows
        with self._quiet():
            if self.points.selected_data:
                self.points.selected_data = set()
            self.points.data = data
            self._dress()

    def _dress(self) -> None:
        """Let colour and symbol say which points are positive; setting what is so already would take its time."""
        points = self.points
        points.features = {
            "object": np.array([row[0] for row in self._rows], int),
            "positive": np.array([row[2] for row in self._rows], int),
        }
        if not self._rows:
            return
        colors = np.array([_rgba(_COLORS[row[2]]) for row in self._rows])
        if not np.allclose(points.face_color, colors):
            points.face_color = colors
        symbols = ["disc" if row[2] else "x" for row in self._rows]
        if [str(symbol) for symbol in points.symbol] != symbols:
            points.symbol = symbols
        if not np.allclose(points.size, 9 * self._unit):
            points.size = 9 * self._unit

    def _refresh_boxes(self) -> None:
        wanted: dict[Key, Box] = {k: p.box for k, p in self._session.prompts.items() if p.box is not None}
        wanted |= {one.key: one.box for one in self._waiting if one.box is not None}
        channel, shown = self._frame.spec.channel, self._frame.channel_shown
        with self._quiet():
            stale = []
            right: set[Key] = set()
            # napari makes a list of all shapes each time it is asked.
            for i, (key, corners) in enumerate(zip(self._boxes, self.boxes.data, strict=False)):
                # A second one for an object on a slice takes the place of the first.
                out = key in right or key not in wanted or not _same(wanted[key], self._corners_box(corners))
                if out or (channel is not None and corners[0][channel] != shown):
                    stale.append(i)
                else:
                    right.add(key)
            if self._drawing and (stale or set(wanted) - set(self._boxes)):
                self._drop_drawn()
            if stale:
                self.boxes.selected_data = set(stale)
                self.boxes.remove_selected()
                self._boxes = [key for i, key in enumerate(self._boxes) if i not in stale]
            self._catch_up()
            for key in sorted(set(wanted) - set(self._boxes)):
                self._add_box(key[1], wanted[key])
                self._boxes.append(key)
            self.boxes.selected_data = set()

    def _add_box(self, index: int, box: Box) -> None:
        edge = min(0.9 * self._unit, _EDGE * max(box[2] - box[0], box[3] - box[1]))
        self.boxes.add_rectangles(self._rectangle(index, box), edge_width=edge)

    def _rectangle(self, index: int, box: Box) -> np.ndarray:
        y0, x0, y1, x1 = box
        return np.array([self._frame.to_layer(index, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))])

    def _corners_box(self, corners: np.ndarray) -> Box | None:
        """A shape's box in slice coordinates; None where it lies on no slice or on several."""
        places = [self._place(corner) for corner in corners]
        if any(place is None for place in places) or len({place[0] for place in places if place}) != 1:
            return None
        array = np.array([place[1:] for place in places if place])
        low, high = array.min(0), array.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    # -- the line that follows the mouse ---------------------------------------------------------------------------

    def draw(self, index: int, line: np.ndarray, kind: str) -> None:
        """Show a box, scribble or lasso while it is being drawn: ``line`` is ``(P, 2)`` in slice coordinates."""
        with self._quiet():
            if self._drawing:
                self._drop_drawn()
            self._catch_up()
            width = min(0.9 * self._unit, _LINE / self._zoom())
            if kind == "box":
                low, high = line.min(0), line.max(0)
                corners = self._rectangle(index, (low[0], low[1], high[0], high[1]))
                self.boxes.add_rectangles(corners, edge_width=width)
            else:
                path = np.array([self._frame.to_layer(index, y, x) for y, x in line])
                add = self.boxes.add_polygons if kind == "lasso" and len(path) > 2 else self.boxes.add_paths
                add(path, edge_width=width)
            self._drawing = True

    def _zoom(self) -> float:
        """Pixels of the screen for a pixel of the slice."""
        step = np.subtract(self._frame.to_world(0, 0, 1), self._frame.to_world(0, 0, 0))
        return max(1e-6, float(self._viewer.scene.camera.zoom * np.linalg.norm(step)))

    def draw_nothing(self) -> None:
        """Take that line away."""
        if self._drawing:
            with self._quiet():
                self._drop_drawn()

    def _drop_drawn(self) -> None:
        """It comes after the boxes, and before what a person adds while it is there."""
        self._drawing = False
        self.boxes.selected_data = {len(self._boxes)}
        self.boxes.remove_selected()

    def _catch_up(self) -> None:
        """Napari 0.9 passes over a hidden layer when the view becomes 3-D or 2-D, and cannot add shapes to it then."""
        if not self.boxes.visible:
            self.boxes.set_view_slice()

    def _place(self, coordinates: Any) -> tuple[int, float, float] | None:
        """Where something was put; None beyond the stack."""
        try:
            return self._frame.from_layer(coordinates)
        except InputError:
            return None

    # -- layers → session ------------------------------------------------------------------------------------------

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """What is drawn here is no edit."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    @contextmanager
    def _refusable(self) -> Iterator[None]:
        """What is refused goes out of the layer again, and is said: napari would show a traceback."""
        try:
            yield
        except InputError as error:
            # Shapes that nobody took are nobody's.
            self._boxes += [_NOBODYS] * (len(self.boxes.data) - self._drawing - len(self._boxes))
            self.refresh()
            self._trouble(error)

    def _points_edited(self, event: Any) -> None:
        action = str(getattr(event, "action", ""))
        if action == "adding":
            # napari would give a new point the object of the last row, or of the one that was selected.
            self.points.feature_defaults = {"object": 0, "positive": 1}
        if not self._busy and action in _DONE:
            with self._refusable():
                self._take_points()

    def _take_points(self) -> None:
        features = self.points.features
        said: dict[Key, tuple[list[list[float]], list[int]]] = {}
        for number, place in enumerate(self.points.data):
            found = self._frame.from_layer(place)
            label = int(features["object"].iloc[number]) if number < len(features) else 0
            if label not in self._session.objects:
                label = self._current()
            positive = int(features["positive"].iloc[number]) if number < len(self._rows) else 1
            spots, marks = said.setdefault((label, found[0]), ([], []))
            spots.append([found[1], found[2]])
            marks.append(positive)
        for key in sorted(set(said) | {k for k, p in self._session.prompts.items() if len(p.points)}):
            points, labels = said.get(key, ([], []))
            old = self._session.prompts.get(key, SlicePrompt())
            array = np.array(points, float).reshape(-1, 2)
            if len(array) == len(old.points) and np.allclose(array, old.points, atol=1e-6):
                continue
            self._tell(*key, replace(old, points=array, labels=np.array(labels, old.labels.dtype)))

    def _boxes_edited(self, event: Any) -> None:
        if not self._busy and str(getattr(event, "action", "")) in _DONE:
            with self._refusable():
                self._take_boxes(event)

    def _take_boxes(self, event: Any) -> None:
        known = list(self._boxes)
        if str(event.action) == "removed":
            gone = {int(i) % max(len(known) + self._drawing, 1) for i in event.data_indices}
            self._drawing = self._drawing and len(known) not in gone
            known = self._boxes = [key for i, key in enumerate(known) if i not in gone]
        self.draw_nothing()
        said: dict[Key, Box] = {}
        keys: list[Key] = []
        for number, corners in enumerate(self.boxes.data):
            box = self._corners_box(corners)
            old = known[number] if number < len(known) else None
            if box is None:
                raise InputError("a box lies on one slice of the image; draw it, or move it, there")
            index, _, _ = self._frame.from_layer(corners[0])
            key = (old[0] if old else self._current(), index)
            said[key] = box
            keys.append(key)
        before = {k: p.box for k, p in self._session.prompts.items() if p.box is not None}
        self._boxes = keys
        for key in sorted(set(said) | set(before)):
            if not _same(said.get(key), before.get(key)):
                old_prompt = self._session.prompts.get(key, SlicePrompt())
                self._tell(*key, replace(old_prompt, box=said.get(key)))


def _nothing() -> None:
    return


def _same(one: Box | None, other: Box | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, atol=1e-4))


def _rgba(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0]

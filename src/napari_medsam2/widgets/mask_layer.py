"""The Labels layer that shows a session's masks and is painted on."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_medsam2._canvas import colour_of, hex_of
from napari_medsam2._compose import changed_window
from napari_medsam2._numbers import LARGEST_LABEL
from napari_medsam2.widgets.painting import masks_painted
from napari_medsam2.widgets.shown_labels import ShownLabels
from napari_medsam2.widgets.views_file import IMAGE, KEY, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medsam2._compose import Window
    from napari_medsam2.export import ObjectEntry
    from napari_medsam2.results import PackedResult
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.widgets.coordinates import Frame

__all__ = ["MaskLayer"]

_AHEAD = 16
"""How many objects to come have their colours already."""


class MaskLayer:
    """Results ↔ Labels layer.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer is added.
    session : AnnotationSession
        Whose masks are shown.
    frame : Frame
        How the image lies in the world.
    name : str
        The layer's.
    painted : callable
        Called at the end of a stroke with the masks that changed, ``slice → label → (H, W)`` bool.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        session: AnnotationSession,
        frame: Frame,
        name: str,
        painted: Callable[[Mapping[int, Mapping[int, np.ndarray]]], None],
    ) -> None:
        from napari.layers import Labels

        self._session, self._frame, self._tell = session, frame, painted
        self._hidden: set[int] = set()
        self.locked: set[int] = set()
        # A stroke is taken over after what was said before it, see `Prompting.in_turn`.
        self.in_turn: Callable[[Callable[[], None], Callable[[], None]], None] = _at_once
        self._stale = False
        self._due = 0.0
        spec = frame.spec
        numbers = np.arange(spec.length).reshape([spec.shape[axis] for axis in spec.lead])
        if spec.channel is not None:
            # The same labels in every channel.
            numbers = np.expand_dims(numbers, spec.outer.index(spec.channel))
        numbers = np.broadcast_to(numbers, [spec.shape[axis] for axis in spec.outer])
        self._size = spec.shape[spec.plane[0]], spec.shape[spec.plane[1]]
        self.data = ShownLabels(numbers, self._size, session.dtype, self._draw, (*spec.outer, *spec.plane))
        # What the slices that are kept were drawn from.
        self._drawn: dict[int, Mapping[int, PackedResult]] = {}
        # napari takes any array for labels; its annotations know numpy's only.
        data: Any = self.data
        self.layer: Labels = Labels(data, name=name, opacity=0.5, **frame.like())
        self._colors: dict[int | None, Any] = {}
        self._entries: dict[int, tuple[Any, ObjectEntry]] = {}
        viewer.add_layer(self.layer)
        self.layer.events.paint.connect(self._stroke)
        self.layer.events.selected_label.connect(self._guard)
        self.color()
        self._note()

    @property
    def top(self) -> int:
        """The largest number of an object that the layer can show."""
        return min(int(np.iinfo(self.data.dtype).max), LARGEST_LABEL)

    # -- session → layer -------------------------------------------------------------------------------------------

    def refresh(self, index: int | None = None, shown: int | None = None) -> None:
        """Draw a slice anew, or all; the canvas only where the slice that is shown is concerned.

        Where the viewer shows all slices at once, or cuts across them, `catch_up` does so after the last one of a step.
        """
        # Others are drawn whole when they are looked at; while one propagates, most are not.
        part = self._patched(index) if index is not None and index == shown else None
        if part is None:
            self.data.forget(index)
        if index is not None and self._frame.displayed() is not None:
            self._stale = True
        elif (index is None or index == shown) and (part is None or not self._show(*part)):
            self._redraw()

    def _show(self, window: Window, piece: np.ndarray) -> bool:
        """Have napari show a part of the slice anew, as it does while one paints; False where it has to draw all.

        Of a slide of 8,000 × 8,000 pixels it would copy 64 million, and hand them to the graphics card, for a click.
        """
        layer: Any = self.layer
        if not piece.size:
            return True
        try:
            if not (layer.visible and layer.loaded) or layer.contour or layer._updated_slice is not None:
                return False
            image = layer._slice.image
            if image.raw.shape != self._size or not image.raw.flags.writeable:
                return False
            image.raw[window] = piece
            image.view[window] = layer.colormap._data_to_texture(piece)
            region = [slice(0, 1)] * layer.ndim
            for axis, part in zip(self._frame.spec.plane, window, strict=True):
                region[axis] = part
            layer._updated_slice = tuple(region)
            layer._partial_labels_refresh()
            layer._update_thumbnail()
        except AttributeError:  # another version of napari has other names for these
            return False
        return True

    def _draw(self, index: int) -> np.ndarray:
        self._drawn = {known: held for known, held in self._drawn.items() if self.data.keeps(known)}
        self._drawn[index] = self._session.results.held(index)
        return self._session.slice_labels(index)

    def _patched(self, index: int) -> tuple[Window, np.ndarray] | None:
        """Draw the part of a slice anew that may have changed; the part, or None where all has to be drawn."""
        before, after = self._drawn.get(index), self._session.results.held(index)
        if before is None or not self.data.keeps(index):
            return None
        window = changed_window(before, after) or (slice(0, 0), slice(0, 0))
        shape = self._session.stack.slice_shape(index)
        piece = self._session.results.compose(index, shape, self._session.dtype, window)
        if not self.data.patch(index, window, piece):
            return None
        self._drawn[index] = after
        return window, piece

    def catch_up(self, hurry: bool) -> None:
        """Show what changed in a view of many slices: at once, or as often as its drawing takes a tenth of the time."""
        if self._stale and (hurry or time.monotonic() >= self._due):
            self._redraw()

    def _redraw(self) -> None:
        began, self._stale = time.monotonic(), False
        self.layer.refresh(extent=False)
        now = time.monotonic()
        self._due = now + 9 * (now - began)

    def follow(self) -> None:
        """Show the objects that there are now; a later one with the number of one that is gone is another one."""
        self._hidden &= set(self._session.objects)
        self.locked &= set(self._session.objects)
        self.color()
        self._note()

    def _note(self) -> None:
        """Let the layer say what File ▸ Save writes beside its numbers: names, and where the image lies in space."""
        from napari_medsam2.export._source import entry_of, table

        known, self._entries = self._entries, {}
        for label, info in sorted(self._session.objects.items()):
            # Of thousands of objects one changes at a time.
            old = known.get(label)
            self._entries[label] = old if old is not None and old[0] is info else (info, entry_of(info))
        source = source_of(self._frame.layer)
        table_of_objects = table({label: entry for label, (_, entry) in self._entries.items()})
        said: dict[str, Any] = {"axes": self._frame.spec.axes, KEY: table_of_objects}
        self.layer.metadata = said if source is None else {**said, IMAGE: str(source)}

    def color(self) -> None:
        """Give the objects their colours; those that are hidden have none."""
        from napari_medsam2.widgets.label_colors import LabelColors

        wanted: dict[int | None, Any] = {label: self.color_of(label) for label in self._session.objects}
        wanted |= dict.fromkeys(self._hidden, "transparent")
        if wanted.items() <= self._colors.items():
            return
        # A new table costs napari a redrawing of everything: it has the colours of objects to come, and keeps those of
        # objects that are gone, which a merge or its undoing may bring back.
        top = max(self._session.objects, default=0)
        ahead = {label: hex_of(colour_of(label)) for label in range(top + 1, min(top + _AHEAD, self.top) + 1)}
        none: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
        self._colors = none | ahead | self._colors | wanted
        self.layer.colormap = LabelColors(color_dict=dict(self._colors))

    def color_of(self, label: int) -> str:
        """An object's colour, ``"#rrggbb"``: its own, or the one that exports give it as well."""
        info = self._session.objects.get(label)
        return info.color if info is not None and info.color else hex_of(colour_of(label))

    def hide(self, labels: Iterable[int], hidden: bool) -> None:
        """Show objects or not; all at once, since each new table of colours takes napari a while."""
        (self._hidden.update if hidden else self._hidden.difference_update)(labels)
        self.color()

    def hidden(self, label: int) -> bool:
        """Whether an object is not shown."""
        return label in self._hidden

    def select(self, label: int) -> None:
        """Paint with an object's label from now on."""
        if self.layer.selected_label != label:
            self.layer.selected_label = label

    def close(self) -> None:
        """Hear nothing more of the layer."""
        self.layer.events.paint.disconnect(self._stroke)
        self.layer.events.selected_label.disconnect(self._guard)

    # -- layer → session -------------------------------------------------------------------------------------------

    def _stroke(self, _: Any = None) -> None:
        # The session has the history: with napari's own beside it, one stroke would be two steps.
        self.layer._reset_history()
        if not self._hand_on():
            # napari tells of a polygon before it paints it.
            QTimer.singleShot(0, self._hand_on)

    def _hand_on(self) -> bool:
        """Have what is painted taken over in its turn; whether anything is."""
        if not self.data.differs:
            return False
        self.in_turn(self.take, self._drop)
        return True

    def _drop(self) -> None:
        """Forget strokes that wait."""
        self.data.painted()
        self.layer.refresh(extent=False)

    def take(self) -> None:
        """Take over what is painted and was not taken over yet."""
        painted = {}
        touched = self.data.painted()
        for index in touched:
            # napari shows all of the stroke, of which less may be taken over.
            self._drawn.pop(index, None)
        for index, (before, after) in touched.items():
            height, width = self._session.stack.slice_shape(index)
            inside = np.s_[:height, :width]
            masks = masks_painted(before[inside], after[inside], partial(self._mask, index), self.locked)
            if masks:
                painted[index] = masks
        if painted:
            self._tell(painted)
        elif touched:
            # Only beyond the image, or on locked objects: what was drawn there goes.
            self.layer.refresh(extent=False)

    def _mask(self, index: int, label: int) -> np.ndarray | None:
        result = self._session.results.get(label, index)
        return None if result is None else result.mask

    def _guard(self, _: Any = None) -> None:
        """Keep to labels that the layer's type can hold."""
        self.layer.selected_label = min(int(self.layer.selected_label), self.top)


def _at_once(call: Callable[[], None], _: Callable[[], None]) -> None:
    call()

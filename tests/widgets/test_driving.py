"""The hands that other tests use do what they say, in a real viewer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from tests.widgets.driving import callbacks_of, canvas_position, click, drag, hover, key, wait_until, wheel

from napari_medsam2 import ImageStack
from napari_medsam2.widgets.coordinates import Frame
from napari_medsam2.widgets.stack_array import StackArray

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    made = make_napari_viewer(show=True)
    made.window._qt_window.resize(1000, 700)
    made.add_image(np.zeros((6, 60, 80), np.uint8), scale=(3, 0.5, 2), translate=(9, 5, -4), contrast_limits=(0, 255))
    made.reset_view()
    QApplication.processEvents()
    return made


def test_clicks_arrive_where_they_were_meant(viewer: Any) -> None:
    seen: list[tuple[Any, ...]] = []

    def press(_: Any, event: Any) -> None:
        seen.append((event.type, event.position, [str(m.name) for m in event.modifiers], event.button))

    viewer.mouse_drag_callbacks.append(press)
    frame = Frame(viewer.layers[0], "ZYX", viewer.dims)
    for index, y, x in [(0, 0, 0), (3, 17, 44), (5, 59, 79)]:
        frame.show(index)
        click(viewer, frame.to_world(index, y, x))
        kind, position, modifiers, button = seen.pop()
        found = frame.to_stack(position, clip=True)
        # The canvas has whole pixels, of which there are several to each of the image's.
        assert found == pytest.approx((index, y, x), abs=0.6)
        assert (kind, modifiers, button) == ("mouse_press", [], 1)
    click(viewer, frame.to_world(5, 3, 3), modifiers=("Ctrl", "Shift"), button="right")
    assert set(seen[0][2]) == {"Control", "Shift"}
    assert seen[0][3] == 2


def test_a_drag_is_press_moves_release(viewer: Any) -> None:
    seen: list[tuple[str, float, float]] = []

    def follow(_: Any, event: Any) -> Any:
        seen.append((event.type, *event.position[-2:]))
        yield
        while event.type == "mouse_move":
            seen.append((event.type, *event.position[-2:]))
            yield
        seen.append((event.type, *event.position[-2:]))

    viewer.mouse_drag_callbacks.append(follow)
    frame = Frame(viewer.layers[0], "ZYX", viewer.dims)
    viewer.layers[0].mouse_pan = False
    path = [frame.to_world(2, y, 2 * y) for y in (5, 10, 20, 30)]
    frame.show(2)
    drag(viewer, path)
    assert [kind for kind, *_ in seen] == ["mouse_press", "mouse_move", "mouse_move", "mouse_move", "mouse_release"]
    for place, (_, y, x) in zip([*path, path[-1]], seen, strict=True):
        assert (y, x) == pytest.approx(tuple(place[1:]), abs=0.5)


def test_napari_paints_where_one_drags(viewer: Any) -> None:
    frame = Frame(viewer.layers[0], "ZYX", viewer.dims)
    labels = viewer.add_labels(np.zeros((6, 60, 80), np.uint8), **frame.like())
    labels.mode, labels.brush_size, labels.selected_label = "paint", 1, 3
    frame.show(4)
    drag(viewer, [frame.to_world(4, 20, 30), frame.to_world(4, 20, 50)])
    rows, columns = np.nonzero(labels.data[4] == 3)
    assert set(rows) == {20}
    assert (columns.min(), columns.max()) == (30, 50)
    assert np.count_nonzero(labels.data) == len(rows)
    key(viewer, "Ctrl+Z")
    assert not labels.data.any()


def test_keys_hover_and_wheel(viewer: Any) -> None:
    seen: list[Any] = []
    viewer.bind_key("N", lambda _: seen.append("N"))
    viewer.bind_key("Shift-Right", lambda _: seen.append("Shift-Right"))
    key(viewer, "N")
    key(viewer, "Shift+Right")
    assert seen == ["N", "Shift-Right"]
    frame = Frame(viewer.layers[0], "ZYX", viewer.dims)
    hover(viewer, frame.to_world(2, 11, 22))
    assert frame.to_stack(viewer.cursor.position)[1:] == pytest.approx((11, 22), abs=0.6)
    frame.show(2)
    wheel(viewer, frame.to_world(2, 11, 22), 1, modifiers=("Ctrl",))
    assert frame.index in (1, 3)
    hover(viewer, frame.to_world(2, 11, 22))
    before = canvas_position(viewer, frame.to_world(2, 0, 0))
    wheel(viewer, frame.to_world(2, 11, 22), 1)
    wait_until(lambda: canvas_position(viewer, frame.to_world(2, 0, 0)) != before)


def test_waiting(qtbot: Any) -> None:
    done = threading.Event()
    threading.Timer(0.02, done.set).start()
    wait_until(done.is_set)
    with pytest.raises(AssertionError, match=r"within 0\.05 s"):
        wait_until(lambda: False, 0.05)


def test_callbacks_are_found(viewer: Any) -> None:
    from napari_medsam2.session_base import SessionEvents

    class Listener:
        def hear(self, event: Any = None) -> None:
            pass

    Listener.hear.__module__ = "napari_medsam2.widgets.test"
    listener, layer, events = Listener(), viewer.layers[0], SessionEvents()
    assert callbacks_of(viewer, viewer.dims, viewer.layers, layer, events) == []
    viewer.dims.events.point.connect(listener.hear)
    layer.events.scale.connect(listener.hear)
    viewer.layers.events.inserted.connect(listener.hear)
    events.slice_changed.connect(listener.hear)
    found = callbacks_of(viewer, viewer.dims, viewer.layers, layer, events)
    assert [text.split(":")[0] for text in found] == [
        "Dims.point", "Image.scale", "LayerList.inserted", "SessionEvents.slice_changed",
    ]  # fmt: skip


def test_pictures_of_different_sizes_in_a_real_viewer(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer(show=True)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(50, 255, (h, w, 3)).astype(np.uint8) for h, w in ((40, 60), (20, 90), (70, 30))]
    padded = StackArray(ImageStack(pictures))
    layer = viewer.add_image(padded, rgb=padded.rgb)
    frame = Frame(layer, "NYX", viewer.dims)
    for index in (2, 0, 1):
        frame.show(index)
        QApplication.processEvents()
        shown = np.asarray(layer._slice.image.raw)
        h, w = frame.slice_shape(index)
        np.testing.assert_array_equal(shown[:h, :w], pictures[index])
        assert not shown[h:].any()
        assert layer.thumbnail.any()
    assert layer.get_value((1, 5, 5)) is not None
    picture = viewer.screenshot(canvas_only=True, flash=False)
    assert picture[..., :3].max() > 100

"""A person's hands: real mouse and key events on napari's canvas, and waiting for what follows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QKeySequence, QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_medsam2.widgets.coordinates import World

__all__ = ["callbacks_of", "canvas_position", "click", "drag", "hover", "key", "wait_until", "wheel"]

_KEYS = {
    "Ctrl": Qt.KeyboardModifier.ControlModifier,
    "Shift": Qt.KeyboardModifier.ShiftModifier,
    "Alt": Qt.KeyboardModifier.AltModifier,
    "Meta": Qt.KeyboardModifier.MetaModifier,
}
_BUTTONS = {
    "left": Qt.MouseButton.LeftButton,
    "right": Qt.MouseButton.RightButton,
    "middle": Qt.MouseButton.MiddleButton,
}
_MOVE = 0.012
"""Seconds: mouse moves that follow each other within 10 ms are passed over by vispy, within 5 ms by napari."""


def canvas_position(viewer: Any, world: World) -> tuple[float, float]:
    """Where a world position is on the canvas, ``(x, y)`` in pixels, as drawn now."""
    canvas = viewer.window._qt_viewer.canvas
    displayed = list(viewer.dims.displayed)
    place = np.asarray(world, dtype=np.float64)[displayed]
    view = canvas.view
    flat = [*place[::-1], 0.0][:3]
    mapped = (view.transform * view.scene.transform).map([*flat, 1])
    x, y = mapped[:2] / mapped[3]
    return float(x), float(y)


def click(viewer: Any, world: World, modifiers: Iterable[str] = (), button: str = "left", double: bool = False) -> None:
    """Press and release a mouse button at a world position.

    Parameters
    ----------
    viewer : napari.Viewer
        It is shown (``make_napari_viewer(show=True)``).
    world : sequence of float
        One number for each of the viewer's axes; the slice should be the one that is shown.
    modifiers : iterable of str
        Of ``"Ctrl"``, ``"Shift"``, ``"Alt"``, ``"Meta"``.
    button : {"left", "right", "middle"}
        The button.
    double : bool
        Click twice, as a double click.
    """
    drag(viewer, [world], modifiers, button)
    if double:
        _mouse(viewer, QEvent.Type.MouseButtonDblClick, world, modifiers, button, True)
        _mouse(viewer, QEvent.Type.MouseButtonRelease, world, modifiers, button, False)
        QApplication.processEvents()


def drag(viewer: Any, worlds: Sequence[World], modifiers: Iterable[str] = (), button: str = "left") -> None:
    """Press at the first world position, move through all others, release at the last."""
    modifiers = tuple(modifiers)
    hover(viewer, worlds[0], modifiers)
    _mouse(viewer, QEvent.Type.MouseButtonPress, worlds[0], modifiers, button, True)
    for world in worlds[1:]:
        _mouse(viewer, QEvent.Type.MouseMove, world, modifiers, button, True)
        _pause()
    _mouse(viewer, QEvent.Type.MouseButtonRelease, worlds[-1], modifiers, button, False)
    QApplication.processEvents()


def hover(viewer: Any, world: World, modifiers: Iterable[str] = ()) -> None:
    """Move the mouse to a world position, without a button."""
    _mouse(viewer, QEvent.Type.MouseMove, world, modifiers, "left", False, move=True)
    _pause()


def wheel(viewer: Any, world: World, steps: int, modifiers: Iterable[str] = ()) -> None:
    """Turn the wheel by some notches at a world position."""
    native, here, there = _places(viewer, world)
    event = QWheelEvent(
        here, there, QPoint(0, 0), QPoint(0, 120 * steps), Qt.MouseButton.NoButton, _flags(modifiers),
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native, event)
    QApplication.processEvents()


def key(viewer: Any, keys: str) -> None:
    """Press and release keys on the canvas, such as ``"N"``, ``"Ctrl+Z"``, ``"Esc"``, ``"Shift+Right"``."""
    native = viewer.window._qt_viewer.canvas.native
    native.setFocus()
    QApplication.processEvents()
    combination: Any = QKeySequence(keys)[0]  # type: ignore[index]
    code, flags = combination.key(), combination.keyboardModifiers()
    QTest.keyClick(native, code, flags)
    QApplication.processEvents()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Run the event loop until something is so; AssertionError where it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen within {seconds} s: {getattr(condition, '__name__', condition)}")
        QApplication.processEvents()
        time.sleep(0.002)


def callbacks_of(*emitters: Any, package: str = "napari_medsam2") -> list[str]:
    """Name what a package has connected to the events of napari's objects (viewer, dims, layers) and psygnal groups.

    Parameters
    ----------
    *emitters
        Objects with ``events``, or that are themselves napari or psygnal emitters.
    package : str
        Where the callbacks come from.
    """
    found = []
    for owner in emitters:
        group = getattr(owner, "events", owner)
        for name, emitter in _emitters(group):
            for callback in _callbacks(emitter):
                module = getattr(callback, "__module__", None) or type(callback).__module__
                if str(module).startswith(package):
                    found.append(f"{type(owner).__name__}.{name}: {getattr(callback, '__qualname__', callback)}")
    return sorted(found)


def _emitters(group: Any) -> list[tuple[str, Any]]:
    found = [("*", group)]
    emitters = getattr(group, "emitters", None)
    if isinstance(emitters, dict):
        found += list(emitters.items())
    elif hasattr(group, "signals") and hasattr(type(group), "_psygnal_signals"):
        found += list(group.signals.items())
    for name in ("notification_ready",):
        if hasattr(group, name):
            found.append((name, getattr(group, name)))
    return found


def _callbacks(emitter: Any) -> list[Any]:
    slots = getattr(emitter, "_slots", None)
    if slots is not None:
        return [slot.dereference() for slot in slots if slot.dereference() is not None]
    out = []
    for callback in getattr(emitter, "callbacks", ()):
        if isinstance(callback, tuple):
            owner, name = callback[0](), callback[1]
            callback = getattr(owner, name, None) if owner is not None and isinstance(name, str) else None
        if callback is not None:
            out.append(callback)
    return out


def _pause() -> None:
    """Until napari takes the next move."""
    end = time.monotonic() + _MOVE
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.002)
    QApplication.processEvents()


def _flags(modifiers: Iterable[str]) -> Qt.KeyboardModifier:
    flags = Qt.KeyboardModifier.NoModifier
    for name in modifiers:
        flags |= _KEYS[name]
    return flags


def _places(viewer: Any, world: World) -> tuple[Any, QPointF, QPointF]:
    native = viewer.window._qt_viewer.canvas.native
    here = QPointF(*canvas_position(viewer, world))
    return native, here, QPointF(native.mapToGlobal(here.toPoint()))


def _mouse(
    viewer: Any,
    kind: QEvent.Type,
    world: World,
    modifiers: Iterable[str],
    button: str,
    down: bool,
    move: bool = False,
) -> None:
    native, here, there = _places(viewer, world)
    none = Qt.MouseButton.NoButton
    which = none if kind == QEvent.Type.MouseMove else _BUTTONS[button]
    held = _BUTTONS[button] if down and not move else none
    QApplication.sendEvent(native, QMouseEvent(kind, here, there, which, held, _flags(modifiers)))

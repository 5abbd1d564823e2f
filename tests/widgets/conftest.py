from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore_glob = [] if importlib.util.find_spec("napari") and importlib.util.find_spec("qtpy") else ["*.py"]

_PACKAGE = "napari_medsam2"


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a widget, a thread or a callback of ours behind.

    A test whose viewer stays open can ask `driving.callbacks_of` in between.
    """
    widgets, threads, callbacks = set(map(id, _widgets())), set(threading.enumerate()), set(_global_callbacks())
    # Those of the fixtures which end before this one.
    yield
    if getattr(request.node, "rep_call", None) is None or request.node.rep_call.failed:
        return
    deadline = time.monotonic() + 2
    thorough = False
    while True:
        _settle(thorough)
        thorough = True
        left = [f"the thread {t.name}" for t in threading.enumerate() if t not in threads and _of_interest(t)]
        left += [f"the widget {w!r}" for w in _widgets() if id(w) not in widgets]
        left += [f"the callback {name}" for name in _global_callbacks() if name not in callbacks]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not left, f"this test left behind: {', '.join(left)}"


@pytest.fixture(autouse=True)
def _sessions_apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees or touches the sessions of the person who runs it."""
    monkeypatch.setenv("NAPARI_MEDSAM2_SESSIONS", str(tmp_path_factory.mktemp("sessions")))


def _settle(thorough: bool) -> None:
    """Let Qt delete what is to be deleted, and Python too, which takes long."""
    if "qtpy.QtWidgets" in sys.modules:
        from qtpy.QtCore import QCoreApplication, QEvent

        if QCoreApplication.instance() is not None:
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
            QCoreApplication.processEvents()
    if thorough:
        gc.collect()


def _widgets() -> list[Any]:
    """All widgets of ours."""
    if "qtpy.QtWidgets" not in sys.modules:
        return []
    from qtpy.QtWidgets import QApplication

    if not isinstance(QApplication.instance(), QApplication):
        return []
    return [w for w in QApplication.allWidgets() if type(w).__module__.startswith(_PACKAGE)]


def _of_interest(thread: threading.Thread) -> bool:
    # Dask and zarr keep theirs.
    return thread.name.startswith("napari-medsam2") or not (thread.daemon or "Executor" in thread.name)


def _global_callbacks() -> list[str]:
    """What of ours listens to what outlives a viewer: napari's settings and notifications."""
    if "napari" not in sys.modules:
        return []
    from napari.settings import get_settings
    from napari.utils.notifications import notification_manager
    from tests.widgets.driving import callbacks_of

    settings = get_settings()
    groups = [settings.appearance, settings.application, settings.shortcuts, settings.experimental]
    return callbacks_of(notification_manager, settings, *groups)

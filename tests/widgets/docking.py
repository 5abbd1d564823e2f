"""A dock in a real viewer, driven by hand, with a model that is none: what the tests of robustness share."""

from __future__ import annotations

import os
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.dummy import DummyBackend
from tests.widgets.driving import wait_until

from napari_medsam2.widgets.dock import MedSam2Dock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.widgets.annotation import Annotation

__all__ = ["Patch", "at_home", "begin", "docked", "fast_model", "hear", "open_dock", "settle"]


class Patch:
    """A bright rectangle, of no symmetry with the image around it, and where its middle is."""

    def __init__(self, shape: tuple[int, int], top: int, left: int, height: int, width: int) -> None:
        self.mask = np.zeros(shape, bool)
        self.mask[top : top + height, left : left + width] = True
        self.middle = top + (height - 1) / 2, left + (width - 1) / 2

    def picture(self, dtype: Any = np.uint8, dark: float = 20, bright: float = 200) -> np.ndarray:
        """The image of it."""
        return np.where(self.mask, bright, dark).astype(dtype)

    def overlap(self, mask: np.ndarray) -> float:
        """IoU with a mask of the same shape, or of a larger one that begins at the same corner."""
        here = np.zeros(mask.shape, bool)
        here[: self.mask.shape[0], : self.mask.shape[1]] = self.mask
        return float((here & mask).sum() / max(1, (here | mask).sum()))


def fast_model(monkeypatch: pytest.MonkeyPatch, backend: Backend | None = None, side: int = 48) -> None:
    """Let every dock load a model that is there at once."""
    chosen = backend or DummyBackend(side=side)
    monkeypatch.setattr("napari_medsam2.backend.load_backend", lambda *_, **__: chosen)


def open_dock(viewer: Any) -> MedSam2Dock:
    """Add a dock, and wait for its model. `MedSam2Dock.shut` ends it."""
    dock = MedSam2Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Medical SAM 2", area="right")
    wait_until(lambda: dock.bench.backend.loaded)
    return dock


@contextmanager
def docked(viewer: Any, image: np.ndarray, index: int, size: tuple[int, int], **layer: Any) -> Iterator[MedSam2Dock]:
    """Show an image in a window of a size, one of its slices, and a dock beside it that is shut in the end."""
    viewer.window.resize(*size)
    viewer.add_image(image, contrast_limits=(0, 255), **layer)
    viewer.dims.set_current_step(0, index)
    dock = open_dock(viewer)
    yield dock
    dock.shut()


def begin(dock: MedSam2Dock) -> Annotation:
    """Press Annotate."""
    dock.image.start.click()
    annotation = dock.bench.annotation
    assert annotation is not None
    settle(annotation)
    return annotation


def settle(annotation: Annotation, seconds: float = 60) -> None:
    """Wait until the model has answered everything."""
    wait_until(lambda: not annotation.prompting.busy and not annotation.running.busy, seconds)


def at_home() -> dict[str, Any]:
    """For `subprocess`: folder and environment in which another process finds the project and its tests."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    return {"cwd": root, "env": {**os.environ, "PYTHONPATH": paths}}


def hear(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is said in notifications; an error with a traceback is one that begins with its type."""
    said: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_warning", said.append)
    monkeypatch.setattr(
        "napari.utils.notifications.notification_manager.receive_error",
        lambda kind, value, trace: said.append(
            f"{kind.__name__}: {value}\n" + "".join(traceback.format_exception(kind, value, trace))
        ),
    )
    return said

"""``python -m napari_medsam2.widgets.start``: napari with an image, or a sample, and the dock."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_medsam2.errors import InputError
from napari_medsam2.samples import SAMPLES, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari

    from napari_medsam2.widgets.dock import MedSam2Dock

__all__ = ["main", "open_window"]

_PLUGIN = "napari-medsam2"
_SAMPLE = "nuclei-3d"
_SIZE = 1280, 840
"""Pixels of the window, where napari remembers none and the screen has them."""
_FRAME = 16, 40
"""Pixels that a window's frame may take, across and down; it is not there to be asked for before the window is."""


def open_window(files: Sequence[Path] = (), sample_name: str = _SAMPLE) -> tuple[napari.Viewer, MedSam2Dock]:
    """Open napari with files, or with a sample where there are none, and the dock.

    Parameters
    ----------
    files : sequence of Path
        What napari can open: images, and sessions of ours.
    sample_name : str
        A name in `napari_medsam2.samples.SAMPLES`.

    Returns
    -------
    napari.Viewer
        Shown; the event loop is the caller's.
    MedSam2Dock
        In it.

    Raises
    ------
    InputError
        If there is no such file or sample, no napari, or no screen.
    """
    missing = next((path for path in files if not path.exists()), None)
    if missing is not None:
        raise InputError(f"there is no file {missing}; give the path of an image")
    chosen = sample(sample_name)
    _check()
    import napari
    from napari.settings import get_settings

    from napari_medsam2.widgets.dock import MedSam2Dock

    viewer: Any = napari.Viewer(title="Medical SAM 2", show=False)
    dock = MedSam2Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Medical SAM 2", area="right")
    if files:
        for path in files:
            # napari's own reader is asked for NIfTI as well, and fails.
            viewer.open(str(path), plugin=_PLUGIN if _is_ours(str(path)) else "napari")
    else:
        viewer.open_sample("napari-medsam2", chosen.name)
    image = dock.bench.candidate()
    if image is not None:
        viewer.layers.selection.active = image
        if image.ndim > 2:
            # The middle of a stack shows what it is of; its first slice is often empty.
            viewer.dims.set_current_step(0, image.data.shape[0] // 2 if chosen.kind == "stack" else 0)
    remembered = get_settings().application.window_size is not None
    viewer.show()
    _fit(viewer.window._qt_window, remembered)
    viewer.reset_view()
    return viewer, dock


def _is_ours(path: str) -> bool:
    from napari_medsam2.widgets import reader, volumes

    return reader.get_reader(path) is not None or volumes.get_reader(path) is not None


def _fit(window: Any, remembered: bool) -> None:
    """Give the window a size that shows the dock whole, and fill the screen with one that is larger.

    napari takes the size that all docks ask for the first time it is started, which a laptop's screen may not have, and
    its smallest one where it was not closed in an orderly way since.
    """
    if not remembered:
        window.resize(*_SIZE)
    room = window.screen().availableGeometry()
    width, height = room.width() - _FRAME[0], room.height() - _FRAME[1]
    if window.width() > width or window.height() > height:
        # The size where nothing manages windows, and the one to come back to.
        window.resize(min(window.width(), width), min(window.height(), height))
        window.showMaximized()


def _check() -> None:
    """Say in one sentence what Qt would abort over."""
    if importlib.util.find_spec("napari") is None or importlib.util.find_spec("qtpy") is None:
        raise InputError('napari is not installed here; install it with: pip install "napari-medsam2[napari]"')
    seen = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in seen):
        raise InputError(
            "there is no screen here (neither DISPLAY nor WAYLAND_DISPLAY is set); run it on a desktop, "
            "or through ssh -X or xvfb-run"
        )


def _run(
    files: Annotated[list[Path] | None, typer.Argument(help="Images or sessions to open; none: a sample.")] = None,
    sample_name: Annotated[
        str, typer.Option("--sample", help=f"Which sample, if no file is given: {', '.join(SAMPLES)}.")
    ] = _SAMPLE,
) -> None:
    """Open napari with the Medical SAM 2 dock."""
    try:
        open_window(files or (), sample_name)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    import napari

    napari.run()


def main() -> None:
    """Run the command."""
    typer.run(_run)


if __name__ == "__main__":
    main()

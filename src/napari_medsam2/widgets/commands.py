"""What the command palette and the menus call: each finds the dock of the current viewer, or opens one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.docks import dock_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "accept_and_go_on",
    "accept_mask",
    "annotate",
    "discard",
    "export",
    "new_object",
    "next_to_review",
    "open_dock",
    "open_pictures",
    "open_session",
    "propagate",
    "propagate_corrections",
    "redo",
    "reject_mask",
    "resume",
    "save_as",
    "show_help",
    "skip_mask",
    "stop",
    "undo",
]

_PLUGIN, _WIDGET = "napari-medsam2", "Medical SAM 2"


def open_dock() -> Any:
    """Open the dock in the current viewer, or bring it to the front; returns it."""
    viewer = _viewer()
    dock: Any = dock_of(viewer)
    if dock is None:
        _, dock = viewer.window.add_plugin_dock_widget(_PLUGIN, _WIDGET)
        return dock
    outer = dock.parentWidget()
    if outer is not None:
        outer.show()
        outer.raise_()
    return dock


def annotate() -> None:
    """Begin to annotate the active image."""
    _attempt(lambda bench: bench.start())


def propagate() -> None:
    """Carry the masks from the prompted slices to the others."""
    _do("propagate")


def propagate_corrections() -> None:
    """Propagate again only what corrections touch."""
    _do("repropagate")


def stop() -> None:
    """End the propagation; what is computed stays."""
    _do("stop")


def next_to_review() -> None:
    """Go to the mask that is most likely wrong."""
    _do("next")


def accept_and_go_on() -> None:
    """Say that the mask is right and go to the next one to review."""
    _do("approve")


def accept_mask() -> None:
    """Say that the mask on this slice is right: nothing overwrites it."""
    _do("accept")


def reject_mask() -> None:
    """Say that the mask is wrong: it goes; the slice waits for a prompt, or for A: the object is not there."""
    _do("reject")


def skip_mask() -> None:
    """Look at this mask later."""
    _do("skip")


def new_object() -> None:
    """Begin the next object."""
    _do("new")


def discard() -> None:
    """Take back what was prompted here since it was accepted or carried on."""
    _do("discard")


def undo() -> None:
    """Take back the last step."""
    _do("undo")


def redo() -> None:
    """Do again what was taken back."""
    _do("redo")


def show_help() -> None:
    """Show all shortcuts."""
    open_dock().show_help()


def save_as() -> None:
    """Keep the session in another folder from now on."""
    open_dock().save.keep.click()


def export() -> None:
    """Write labels, measurements or confidences for other programs."""
    open_dock().save.export.click()


def open_session() -> None:
    """Ask for a session's folder and go on with it."""
    folder = _ask("Open a session")
    if folder is not None:
        _attempt(lambda bench: bench.open_folder(folder))


def resume() -> None:
    """Go on with the session that was worked on last."""
    from napari_medsam2.widgets.persist import last_session

    def go_on(bench: Any) -> None:
        entry = last_session()
        if entry is None:
            raise InputError("there is no session to go on with; press Annotate to begin one")
        bench.open_folder(entry.folder)

    _attempt(go_on)


def open_pictures() -> None:
    """Ask for a folder of pictures, which may differ in size, and show it as a collection."""
    from napari_medsam2.stack import ImageStack
    from napari_medsam2.widgets.views_file import image_layer

    folder = _ask("Open a folder of pictures")
    if folder is None:
        return
    viewer = _viewer()

    def show(bench: Any) -> None:
        bench.worker.submit(
            lambda: image_layer(ImageStack.open(folder)), lambda made: _add(viewer, made), bench.trouble, lane="io"
        )

    _attempt(show)


def _add(viewer: Any, made: tuple[Any, dict[str, Any], str]) -> None:
    data, arguments, _ = made
    viewer.add_image(data, **arguments)


def _do(action: str) -> None:
    """Do what a key does; see `actions`."""
    open_dock().bench.calls()[action]()


def _attempt(call: Callable[[Any], Any]) -> None:
    """Do something with the dock's bench; what goes wrong becomes a notification."""
    bench = open_dock().bench
    bench.attempt(lambda: call(bench))


def _ask(title: str) -> Path | None:
    """Ask a person for a folder; None where the person thinks better of it."""
    from qtpy.QtWidgets import QFileDialog

    folder = QFileDialog.getExistingDirectory(None, title, str(Path.home()))
    return Path(folder) if folder else None


def _viewer() -> Any:
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        raise InputError("there is no viewer; open napari first")
    return viewer

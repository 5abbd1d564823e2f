"""Open… and *Go on with*: a saved session is read in a thread, then its image and layers come into the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2._imageref import ChangedImageError, MissingImageError
from napari_medsam2.widgets.coordinates import Frame, guess_axes
from napari_medsam2.widgets.image_dialogs import goes_on, where_is
from napari_medsam2.widgets.persist import open_session
from napari_medsam2.widgets.reader import mark_session
from napari_medsam2.widgets.views_file import image_layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.persist import Opened
    from napari_medsam2.widgets.views_file import LayerData
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["Opening", "enter"]


class Opening:
    """Opens one folder at a time: what is opened twice would find itself locked, and be read-only.

    Parameters
    ----------
    bench : Workbench
        Which goes on with it.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._folder: Path | None = None

    @property
    def busy(self) -> bool:
        """Whether a folder is being opened."""
        return self._folder is not None

    def opens(self, folder: Path) -> bool:
        """Whether this folder is being opened."""
        return self._folder is not None and self._folder == _place(folder)

    def claim(self, folder: Path) -> bool:
        """Begin to open a folder; `release` ends that.

        Returns
        -------
        bool
            False where it is open, or one is being opened: a person is told, but of the same one asked for twice.
        """
        bench = self._bench
        session = None if bench.annotation is None else bench.annotation.session
        if self._folder is not None:
            if not self.opens(folder):
                bench.say(f"{self._folder.name} is still being opened; open {folder.name} after that")
            return False
        # One that is read-only holds no lock: whoever had it open may be done with it.
        if session is not None and session.folder is not None and not session.read_only:
            if _place(session.folder) == _place(folder):
                bench.say(f"{folder.name} is open already")
                return False
        self._folder = _place(folder)
        bench.say(f"opening {folder.name}…")
        return True

    def release(self) -> None:
        """Say that a folder is open, or cannot be opened."""
        self._folder = None

    def begin(self, folder: Path, image: Path | None = None, changed: bool = False) -> None:
        """Go on with a saved session; see `Workbench.open_folder`."""
        if self.claim(folder):
            self._load(folder, image, changed)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _load(self, folder: Path, image: Path | None, changed: bool) -> None:
        bench, backend = self._bench, self._bench.backend

        def load() -> tuple[Opened, LayerData]:
            opened = open_session(folder, backend, image, changed)
            try:
                return opened, image_layer(opened.stack, opened.view)
            except BaseException:
                opened.session.close()
                raise

        def done(found: tuple[Opened, LayerData]) -> None:
            opened, data = found

            def stays(_: Exception) -> None:
                self.release()
                opened.session.close()

            # Not before it is known that the other one can be opened.
            bench.finish(lambda: self._adopt(opened, data), stays)

        def failed(error: Exception) -> None:
            answer = None
            try:
                answer = self._ask(folder, image, error)
            finally:
                self.release()
            # Meanwhile the window may have gone.
            if answer is not None and not bench.closed:
                self.begin(folder, *answer)

        bench.worker.submit(load, done, failed, lane="io")

    def _ask(self, folder: Path, image: Path | None, error: Exception) -> tuple[Path | None, bool] | None:
        """Ask a person for an image that is missing, or whether one that has changed will do; None if it will not."""
        bench = self._bench
        if isinstance(error, MissingImageError) and image is None:
            chosen = where_is(folder, error)
            if chosen is not None:
                return chosen, False
            bench.say(f"{folder.name} was not opened: its image is missing")
        elif isinstance(error, ChangedImageError):
            if goes_on(error):
                return image, True
            bench.say(f"{folder.name} was not opened: its image has changed")
        else:
            bench.trouble(error)
        return None

    def _adopt(self, opened: Opened, data: LayerData) -> Annotation:
        """Go on with a session that was opened, in a layer of its own."""
        from napari.layers import Image

        bench, (pixels, arguments, _) = self._bench, data
        self.release()
        annotation = enter(bench, opened, lambda: Image(pixels, **arguments), bench.viewer.add_layer)
        folder = opened.session.folder
        if folder is not None:
            # Not before it is open: an image that comes in with it would be opened as well.
            mark_session(annotation.image, folder)
        return annotation


def enter(
    bench: Workbench, opened: Opened, image: Callable[[], Image], arrange: Callable[[Image], object]
) -> Annotation:
    """Go on with a session that was opened, in its image; where that fails the session is closed.

    Parameters
    ----------
    bench : Workbench
        Which goes on with it.
    opened : Opened
        The session.
    image : callable
        Gives its image.
    arrange : callable
        Prepares the viewer's layers, once it is known that image and session fit.
    """
    try:
        layer = image()
        frame = Frame(layer, guess_axes(layer), bench.viewer.dims)
        frame.check(opened.stack)
        arrange(layer)
        annotation = bench.open(layer, frame, opened.session)
    except BaseException:
        opened.session.close()
        raise
    folder = opened.session.folder
    bench.say(f"went on with {folder.name if folder else layer.name}")
    return annotation


def _place(folder: Path) -> Path:
    """Return the one path of a folder that may be spelled in several ways."""
    return folder.expanduser().resolve()

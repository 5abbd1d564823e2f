"""A session that came in with File ▸ Open: a dock goes on with it, in the layers that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.opening import enter
from napari_medsam2.widgets.persist import open_session
from napari_medsam2.widgets.reader import companions, session_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.persist import Opened
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["Adopting"]


class Adopting:
    """Watches a viewer for images that were read from a session, see `reader`.

    Parameters
    ----------
    bench : Workbench
        Which goes on with them, if nothing is annotated; else a person is told how to.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        bench.viewer.layers.events.inserted.connect(self._inserted)

    def close(self) -> None:
        """Watch no more."""
        self._bench.viewer.layers.events.inserted.disconnect(self._inserted)

    def look(self) -> None:
        """Go on with the session of an image that is there already, the one a person most likely means."""
        image = self._bench.candidate()
        if image is not None:
            self._take(image)

    def now(self, image: Image) -> Annotation | None:
        """Go on with the session of an image at once; None if it has none.

        Raises
        ------
        InputError
            As `AnnotationSession.open`; or if it is being opened.
        """
        folder = session_of(image)
        if folder is None:
            return None
        if self._bench.opening.opens(folder):
            raise InputError(f"{folder.name} is still being opened; try again in a moment")
        return self._go_on(image, folder, open_session(folder, self._bench.backend))

    def begin(self, image: Image, then: Callable[[], Any]) -> bool:
        """Go on with the session of an image, read in a thread; ``then`` is called when it is there.

        Returns
        -------
        bool
            False where the image has none: nothing is done.
        """
        folder = session_of(image)
        if folder is None or self._bench.annotation is not None:
            return False
        if not self._bench.opening.busy:
            self._open(image, folder, then)
        return True

    def _inserted(self, event: Any) -> None:
        self._take(event.value)

    def _take(self, layer: Any) -> None:
        from napari.layers import Image

        folder = session_of(layer)
        if folder is None or not isinstance(layer, Image):
            return
        bench = self._bench
        if bench.annotation is not None or bench.opening.busy:
            bench.say(f"{layer.name} is a saved session: finish this one, select that image and press Annotate")
            return
        self._open(layer, folder)

    def _open(self, layer: Image, folder: Path, then: Callable[[], Any] | None = None) -> None:
        bench, backend = self._bench, self._bench.backend
        if not bench.opening.claim(folder):
            return

        def done(opened: Opened) -> None:
            bench.opening.release()
            if layer not in bench.viewer.layers or bench.annotation is not None:
                opened.session.close()
                return
            self._go_on(layer, folder, opened)
            if then is not None:
                then()

        def failed(error: Exception) -> None:
            bench.opening.release()
            bench.trouble(error)

        bench.worker.submit(lambda: open_session(folder, backend), done, failed, lane="io")

    def _go_on(self, image: Image, folder: Path, opened: Opened) -> Annotation:
        """Take the masks that were read out: the annotation has a layer of its own."""
        layers = self._bench.viewer.layers

        def arrange(_: Image) -> None:
            for layer in companions(layers, folder):
                layers.remove(layer)

        return enter(self._bench, opened, lambda: image, arrange)

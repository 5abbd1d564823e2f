"""What stands behind one dock: the viewer, the threads, the model, and the annotation that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal, SignalGroup
from qtpy.QtCore import QTimer

from napari_medsam2.backend.deferred import DeferredBackend
from napari_medsam2.errors import InputError
from napari_medsam2.session import AnnotationSession
from napari_medsam2.widgets.actions import bind
from napari_medsam2.widgets.adopting import Adopting
from napari_medsam2.widgets.ahead import import_ahead
from napari_medsam2.widgets.annotation import Annotation
from napari_medsam2.widgets.coordinates import Frame
from napari_medsam2.widgets.keeping import Keeper
from napari_medsam2.widgets.layer_spec import guess_axes, stack_of
from napari_medsam2.widgets.opening import Opening
from napari_medsam2.widgets.running import Reach
from napari_medsam2.widgets.trouble import tell
from napari_medsam2.widgets.verbs import COMMANDS
from napari_medsam2.widgets.wanted import Wanted
from napari_medsam2.widgets.worker import Ticket, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_medsam2.backend.protocol import Backend

__all__ = ["Workbench", "WorkbenchEvents"]

_SLIDE = 1 << 26
"""Pixels of a slice whose masks take napari seconds to draw."""


def _nothing(_: Any = None) -> None:
    return


class WorkbenchEvents(SignalGroup):
    """What the dock listens to."""

    annotation = Signal()
    """Another annotation, or none, is open."""
    model = Signal()
    """Another model is chosen, or one is ready, or failed."""
    saved = Signal()
    """The work is kept somewhere else, or the image is being read for that."""
    said = Signal(str)
    """A sentence for the status line."""


class Workbench:
    """One dock's state; the dock shows it and calls its methods.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer that the dock is in.
    model : str
        What to load, see `load_backend`.
    device : str
        Where the model works.
    """

    def __init__(self, viewer: ViewerModel, model: str = "compact", device: str = "auto") -> None:
        self.viewer = viewer
        self.events = WorkbenchEvents()
        self.worker = Worker(self.trouble)
        self.annotation: Annotation | None = None
        self.model, self.device = model, device
        self.model_error = ""
        self.backend: DeferredBackend = self._deferred(model, device)
        self._closed = False
        self._warming: Ticket | None = None
        self.stops: list[Callable[[], None]] = []
        self.keeper = Keeper(self)
        self.opening = Opening(self)
        self.adopting = Adopting(self)
        # What the dock's sections say; keys, palette and buttons go by the same.
        self.wanted: Callable[[], Wanted | None] = self.likely
        self.reach: Callable[[], Reach] = Reach
        viewer.layers.events.removed.connect(self._layer_removed)

    # -- the model -------------------------------------------------------------------------------------------------

    def load_model(self) -> None:
        """Begin to load the chosen model, if it is not there; in the model's thread."""
        backend = self.backend
        if not backend.loaded:
            self.worker.submit(backend.get, lambda _: self._model_ready(), self._model_failed)

    def use_model(self, model: str, device: str | None = None) -> None:
        """Choose another model, for what is annotated now as well."""
        annotation = self.annotation
        if annotation is not None and annotation.running.busy:
            raise InputError("a propagation is under way; stop it (Esc) before the model is changed")
        device = self.device if device is None else device
        backend = self._deferred(model, device)
        if annotation is not None:
            annotation.session.use(backend)
        self.model, self.device, self.backend, self.model_error = model, device, backend, ""
        self.events.model.emit()
        self.load_model()

    def _deferred(self, model: str, device: str) -> DeferredBackend:
        def load() -> Backend:
            from napari_medsam2.backend import load_backend

            return load_backend(model, device)

        return DeferredBackend(model, load)

    def _model_ready(self) -> None:
        self.model_error = ""
        self.events.model.emit()
        self.worker.submit(import_ahead, _nothing, lane="io")

    def _model_failed(self, error: Exception) -> None:
        self.model_error = str(error)
        self.events.model.emit()
        self.trouble(error)

    # -- the annotation --------------------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """The image layers that may be annotated, the topmost last."""
        from napari.layers import Image

        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def annotate(self, wanted: Wanted | Image) -> Annotation:
        """Begin to annotate an image layer, or go on with the session that it was read from.

        Parameters
        ----------
        wanted : Wanted or Image
            The layer, and how to read it.

        Raises
        ------
        InputError
            If the layer cannot be annotated.
        """
        if not isinstance(wanted, Wanted):
            wanted = Wanted(wanted)
        image, window = wanted.image, wanted.window
        if self.annotation is None and (going_on := self.adopting.now(image)) is not None:
            return going_on
        axes = wanted.axes or guess_axes(image)
        frame = Frame(image, axes, self.viewer.dims)
        if window is None and (said := image.metadata.get("window")) is not None:
            window = tuple(said)
        stack = stack_of(image, axes, channel=wanted.channel, window=window)
        return self.open(image, frame, AnnotationSession(stack, backend=self.backend, kind=wanted.kind))

    def open(self, image: Image, frame: Frame, session: AnnotationSession) -> Annotation:
        """Go on with a session whose image is in the viewer."""
        self.keeper.end_now()
        self.drop()
        there = list(self.viewer.layers)
        try:
            annotation = Annotation(self.viewer, image, frame, session, self.worker, self.trouble)
        except BaseException:
            for layer in [layer for layer in self.viewer.layers if layer not in there]:
                self.viewer.layers.remove(layer)
            raise
        self.annotation = annotation
        # Not to ``emit`` itself: psygnal calls that once, with anything, to learn what it takes.
        annotation.events.said.connect(self.say)
        annotation.events.shown.connect(self._warm)
        annotation.events.layers.connect(self._bind_layers)
        self._bind_layers()
        for notice in session.notices:
            self.trouble(InputError(notice))
        height, width = frame.spec.shape[frame.spec.plane[0]], frame.spec.shape[frame.spec.plane[1]]
        if height * width > _SLIDE:
            self.trouble(
                InputError(
                    f"{image.name} has {height} × {width} pixels: napari draws all masks anew after each step, and "
                    f"stands still for seconds meanwhile; crop what you need, or take a smaller level of the image"
                )
            )
        self.load_model()
        self._warm(annotation.index)
        self.events.annotation.emit()
        self.keeper.begin(annotation)
        return annotation

    def finish(
        self, then: Callable[[], object] | None = None, failed: Callable[[Exception], object] | None = None
    ) -> None:
        """Close what is annotated; its layers go, what was done is saved.

        That is so when this returns, but where the image has to be read first, which a thread does. If it cannot be
        saved a person is told, and it stays open.

        Parameters
        ----------
        then : callable, optional
            Called when it is closed, or where nothing is open.
        failed : callable, optional
            Called with what a person is told.
        """
        self.keeper.finish(then or _nothing, failed or _nothing)

    def drop(self, removing: bool = False) -> None:
        """Close what is annotated without saving it.

        ``removing``: from within the removal of a layer. napari may be about to remove others, and would not find them:
        those that it leaves go a moment later.
        """
        annotation, self.annotation = self.annotation, None
        if annotation is not None:
            annotation.close(layers=not removing)
            if removing:
                QTimer.singleShot(0, annotation.clear_away)
            self.events.annotation.emit()

    def need(self) -> Annotation:
        """The annotation that is open; one of the active image is begun where there is none.

        Raises
        ------
        InputError
            If there is no image.
        """
        if self.annotation is not None:
            return self.annotation
        wanted = self.wanted()
        if wanted is None:
            raise InputError("there is no image to annotate; open one with File ▸ Open, or File ▸ Open Sample")
        return self.annotate(wanted)

    def start(self, call: Callable[[Annotation], Any] = _nothing, again: Callable[[], Any] = _nothing) -> None:
        """Call something with the annotation that is open, or begin one; ``again`` where a session is read before."""
        wanted = self.wanted() if self.annotation is None else None
        if wanted is None or not self.adopting.begin(wanted.image, again):
            call(self.need())

    def likely(self) -> Wanted | None:
        """What is wanted where nobody has chosen."""
        image = self.candidate()
        return None if image is None else Wanted(image)

    def candidate(self) -> Image | None:
        """The image that a person most likely means: the active layer, else the topmost image."""
        images = self.images()
        active = self.viewer.layers.selection.active
        return active if active in images else images[-1] if images else None

    # -- files -----------------------------------------------------------------------------------------------------

    def open_folder(self, folder: Path, image: Path | None = None, changed: bool = False) -> None:
        """Go on with a saved session: it is opened in a thread, then its image and layers come into the viewer.

        Nothing happens where it is open, or being opened.

        Parameters
        ----------
        folder : Path
            The session's.
        image : Path, optional
            Where the image is now, if it was moved.
        changed : bool
            Go on even if the pixels of the image have changed.
        """
        self.opening.begin(folder, image, changed)

    def save_as(self, folder: Path) -> None:
        """Keep the session in another folder from now on; the image is read in a thread first.

        Parameters
        ----------
        folder : Path
            A new or empty one; if it holds something or cannot be written a person is told, and the session stays
            where it is.
        """
        self._open_one()
        self.say(f"saving to {folder.name}…")
        self.keeper.save_as(folder)

    def export(self, path: Path, form: str) -> None:
        """Write labels, or what is measured of them, for other programs; in a thread.

        Parameters
        ----------
        path : Path
            The file or folder; not that of the image.
        form : str
            One of `napari_medsam2.export.FORMATS`.
        """
        from napari_medsam2.widgets.exporting import exporting
        from napari_medsam2.widgets.rows.words import short_path

        write = exporting(self._open_one(), path, form)
        self.say(f"exporting {path.name}…")
        self.worker.submit(
            write,
            lambda _: self.say(f"exported {path.name} to {short_path(path.parent)}"),
            lane="io",
        )

    def _open_one(self) -> Annotation:
        if self.annotation is None:
            raise InputError("nothing is being annotated; press Annotate first")
        return self.annotation

    # -- commands --------------------------------------------------------------------------------------------------

    def calls(self) -> dict[str, Callable[[], None]]:
        """What each action does; see `actions`."""
        chosen: dict[str, Callable[[Annotation], None]] = {
            "propagate": lambda annotation: annotation.propagate(self.reach()),
            "repropagate": lambda annotation: annotation.repropagate(self.reach().part),
        }
        return {name: self._guarded(call) for name, call in (COMMANDS | chosen).items()}

    def _guarded(self, call: Callable[[Annotation], Any]) -> Callable[[], None]:
        def run() -> None:
            if not self._closed:
                self.attempt(lambda: self.start(call, run))

        return run

    def attempt(self, call: Callable[[], Any]) -> None:
        """Do something; what goes wrong becomes a notification."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it is, a person must hear of it, and the window must live
            self.trouble(error)

    def say(self, text: str) -> None:
        """Put a sentence into the status line."""
        self.viewer.status = text
        self.events.said.emit(text)

    def trouble(self, error: Exception) -> None:
        """Tell a person what went wrong, as a notification of napari's."""
        tell(error)

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End threads and let go of the viewer; layers stay."""
        if self._closed:
            return
        self._closed = True
        for stop in self.stops:
            stop()
        self.viewer.layers.events.removed.disconnect(self._layer_removed)
        self.adopting.close()
        self.keeper.close()
        annotation, self.annotation = self.annotation, None
        if annotation is not None:
            annotation.close(layers=False)
        self.worker.close()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    # -- inside ----------------------------------------------------------------------------------------------------

    def _bind_layers(self) -> None:
        if self.annotation is not None:
            bind(self.annotation.own_layers(), self.calls())

    def _warm(self, index: int) -> None:
        """Have the slice that is looked at encoded before it is clicked."""
        annotation = self.annotation
        if annotation is not None and self.backend.loaded and not annotation.running.busy:
            # Of slices that were only passed nobody needs the features.
            if self._warming is not None:
                self._warming.cancel()
            self._warming = self.worker.submit(annotation.session.warm(index), _nothing, _nothing)

    def _layer_removed(self, event: Any) -> None:
        annotation = self.annotation
        if annotation is None:
            return
        for layer, name in ((annotation.image, "image was"), (annotation.masks.layer, "masks were")):
            if event.value is layer:
                self.drop(removing=True)
                self.keeper.leave(name)
                return

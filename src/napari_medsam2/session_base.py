"""What every session can do whatever it annotates: undo, be saved and resumed, take edits and verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from napari_medsam2._edits import edited
from napari_medsam2._numbers import is_whole
from napari_medsam2.cache import EmbeddingCache
from napari_medsam2.document import Document
from napari_medsam2.errors import InputError
from napari_medsam2.history import BUDGET
from napari_medsam2.memory import BankConfig
from napari_medsam2.results import ObjectResult, PackedResult
from napari_medsam2.session_events import SessionEvents
from napari_medsam2.stack import ImageStack
from napari_medsam2.state import Key, check_color
from napari_medsam2.storage import Settings, Store, load
from napari_medsam2.words import noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from napari_medsam2._imageref import ImageReference
    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.history import Step
    from napari_medsam2.memory import Policy
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.results import Results
    from napari_medsam2.state import ObjectInfo, Value

__all__ = ["Kind", "SessionBase", "SessionEvents"]

Kind = Literal["stack", "collection"]


class SessionBase:
    """State, history and journal of a session; see `AnnotationSession`."""

    def __init__(
        self,
        stack: ImageStack,
        *,
        backend: Backend,
        memory: Policy | BankConfig = "self-sorting",
        kind: Kind | None = None,
        cache_bytes: int = 256 * 2**20,
        history_bytes: int = BUDGET,
    ) -> None:
        if not isinstance(stack, ImageStack):
            raise InputError(f"a session needs an ImageStack, not {type(stack).__name__}: ImageStack(array, axes)")
        if kind is not None and kind not in get_args(Kind):
            raise InputError(f"unknown kind {kind!r}; choose 'stack' (neighbouring slices) or 'collection' (unordered)")
        if kind == "stack" and not stack.uniform:
            raise InputError(
                f"the pictures of {stack.name} differ in size, so they are no stack; choose the kind 'collection', or "
                "crop them"
            )
        self.stack, self.backend = stack, backend
        self.kind: Kind = kind or ("collection" if stack.is_collection else "stack")
        self.bank = memory if isinstance(memory, BankConfig) else BankConfig(memory)
        self.events = SessionEvents()
        self._cache = EmbeddingCache(cache_bytes)
        self._document = Document(self._announce, history_bytes)

    # -- folders ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, folder: str | Path, stack: ImageStack, *, backend: Backend, embed: bool = False, **settings: Any
    ) -> Self:
        """Begin a session that is kept in a folder: every command is on the disk before it returns.

        Parameters
        ----------
        folder : str or Path
            A new or empty folder.
        stack, backend
            As for the session.
        embed : bool
            Copy the image into the folder instead of noting where it is.
        **settings
            ``memory``, ``kind``, ``cache_bytes``, ``history_bytes``, as for the session.

        Raises
        ------
        InputError
            If the folder holds something, or cannot be written.
        """
        session = cls(stack, backend=backend, **settings)
        session.save_as(folder, embed=embed)
        return session

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        backend: Backend | None = None,
        image: str | Path | None = None,
        stack: ImageStack | None = None,
        changed: bool = False,
        cache_bytes: int = 256 * 2**20,
        history_bytes: int = BUDGET,
    ) -> Self:
        """Go on with a session that a folder holds.

        Parameters
        ----------
        folder : str or Path
            That of `create` or `save_as`.
        backend : Backend, optional
            The model; the one that was used last by default.
        image : str or Path, optional
            Where the image is now, if it was moved.
        stack : ImageStack, optional
            The image itself, if it was an array in memory.
        changed : bool
            Go on even if the pixels of the image have changed.
        cache_bytes, history_bytes
            As for the session.

        Returns
        -------
        AnnotationSession
            Its `notices` say what a person should know: a last step that was dropped, or that it is read-only
            (`read_only`) since another program has it open or the folder cannot be written.

        Raises
        ------
        InputError
            If there is no session, it is damaged, or its image is missing or another one.
        """
        folder = Path(folder).expanduser()
        store = Store.open(folder)
        try:
            saved = load(folder, history_bytes)
            settings = saved.settings
            if stack is not None:
                reference = settings.image.check(stack, settings.image.moved(stack.path, folder), changed)
            else:
                stack, reference = settings.image.find(folder, image, changed)
            if backend is None:
                from napari_medsam2.backend import load_backend

                backend = load_backend(settings.model)
            kind: Kind = "stack" if settings.kind == "stack" else "collection"
            session = cls(
                stack, backend=backend, memory=settings.bank, kind=kind,
                cache_bytes=cache_bytes, history_bytes=history_bytes,
            )  # fmt: skip
            document = session._document
            document.adopt(saved, store)
        except BaseException:
            store.close()
            raise
        if reference != settings.image:
            if reference.sha256 != settings.image.sha256:
                document.notices.append(f"the pixels of the image {stack.path or stack.name} have changed")
            document.replace_image(Settings(reference, settings.kind, settings.bank, settings.model))
        if backend.name != settings.model:
            document.notices.append(f"the session was made with the model {settings.model}, not {backend.name}")
        return session

    def save_as(self, folder: str | Path, embed: bool = False, reference: ImageReference | None = None) -> None:
        """Keep the session in a new folder from now on, with its history; one that it was kept in stays as it is.

        Parameters
        ----------
        folder : str or Path
            A new or empty folder.
        embed : bool
            Copy the image into the folder.
        reference : ImageReference, optional
            What was found out about the image before, so that it is not read now; if it says that the image is
            embedded, the folder holds the copy already.

        Raises
        ------
        InputError
            If the folder holds something or cannot be written; the session then stays where it is.
        """
        from napari_medsam2._imageref import EMBEDDED, ImageReference

        def settings(place: Path) -> Settings:
            found = ImageReference.of(self.stack, place) if reference is None else reference
            if embed and not found.embedded:
                found = found.embed(self.stack, place)
            return Settings(found, self.kind, self.bank, self.backend.name)

        there = EMBEDDED if reference is not None and reference.embedded else ()
        self._document.save_as(Path(folder), settings, there)

    def use(self, backend: Backend) -> None:
        """Ask another model from now on; masks and prompts stay, and what is kept of the old one's features goes."""
        self.check_writable()
        settings = self._document.settings
        if settings is not None and settings.model != backend.name:
            self._document.replace_settings(Settings(settings.image, settings.kind, settings.bank, backend.name))
        # A thread that still works with the old one has the old cache.
        self.backend, self._cache = backend, EmbeddingCache(self._cache.budget)

    def configure(self, bank: BankConfig) -> None:
        """Let the memory bank work in another way from the next propagation on."""
        self.check_writable()
        settings = self._document.settings
        if settings is not None and settings.bank != bank:
            self._document.replace_settings(Settings(settings.image, settings.kind, bank, settings.model))
        self.bank = bank

    @property
    def folder(self) -> Path | None:
        """Where the session is kept; None in memory only."""
        store = self._document.store
        return None if store is None else store.folder

    @property
    def sources(self) -> tuple[Path, ...]:
        """Where the image is, and where one that was copied into the folder came from; empty for one in memory."""
        settings = self._document.settings
        said = (self.stack.path, None if settings is None else settings.image.path)
        return tuple(Path(place) for place in said if place is not None)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed, since another program has the session open or its folder is read-only."""
        store = self._document.store
        return store is not None and store.reason is not None

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know of opening and saving, one line each."""
        return tuple(self._document.notices)

    def close(self) -> None:
        """Let go of the folder. A session in memory goes on as before."""
        self._document.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- history ---------------------------------------------------------------------------------------------------

    @property
    def history(self) -> tuple[Step, ...]:
        """The commands in order, those that were undone last."""
        return self._document.history.steps()

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._document.history.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._document.history.undone)

    def undo(self) -> str:
        """Take back the last command and return its name; a propagation is one, and ends if it is under way.

        Raises
        ------
        InputError
            If there is none.
        """
        return self._document.undo().name

    def redo(self) -> str:
        """Do again what was undone last, with the same bits, and return its name.

        Raises
        ------
        InputError
            If there is none.
        """
        return self._document.redo().name

    def step(self, name: str) -> AbstractContextManager[None]:
        """Make one command, with one undo, of all that is done in a ``with`` block."""
        return self._document.together(name)

    def edit(
        self,
        name: str,
        results: Iterable[ObjectResult | PackedResult] = (),
        removed: Iterable[tuple[int, int]] = (),
        objects: Iterable[ObjectInfo] = (),
        removed_objects: Iterable[int] = (),
        accepted: bool = False,
        sources: Mapping[tuple[int, int], Sequence[int]] = MappingProxyType({}),
    ) -> None:
        """Change masks and objects in one command.

        Where a mask changes that came of prompts, it becomes a painted mask: it still conditions the memory bank, as
        what it is now.

        Parameters
        ----------
        name : str
            What is done, for the history.
        results : iterable of ObjectResult or PackedResult
            New masks, each for its label and index. To compress hundreds of them takes its time: a thread can do it.
        removed : iterable of (int, int)
            ``(label, index)`` of masks to take away, with their prompts.
        objects : iterable of ObjectInfo
            New objects, or new names and colours of known ones.
        removed_objects : iterable of int
            Labels of objects to take away with all that is theirs.
        accepted : bool
            Whether a person says that the new masks are right, as with `accept`.
        sources : mapping
            By ``(label, index)``, the objects that a new mask was made of where it is not its own object's old one
            alone. If one of them was prompted there, it becomes a painted mask; if all were accepted, so is it; if the
            memory of one was pinned, or those of all were dropped, so is its own.

        Raises
        ------
        InputError
            If something does not fit the session; then nothing was changed.
        """
        self.check_writable()
        state = self._document.state
        changes: dict[Key, Value | None] = dict.fromkeys(state.keys(removed_objects))
        changes |= {Key("object", info.label): replace(info, color=check_color(info.color)) for info in objects}
        for label, index in removed:
            changes |= dict.fromkeys(self._at(label, index))
        for one in results:
            bare = one.bare if isinstance(one, PackedResult) else one
            self._check_fits(bare)
            label, index = bare.label, bare.index
            packed = one if isinstance(one, PackedResult) else PackedResult.of(one)
            changes |= edited(state, packed, sources.get((label, index)))
            if accepted:
                changes[Key("mark", label, index)] = "accepted"
        self._document.commit(name, changes, {"do": "edit"})

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def results(self) -> Results:
        """The masks. To be read: what is put here directly is neither saved nor undone."""
        return self._document.state.results

    @property
    def objects(self) -> Mapping[int, ObjectInfo]:
        """The objects, by label."""
        return MappingProxyType(self._document.state.objects)

    @property
    def prompts(self) -> Mapping[tuple[int, int], SlicePrompt]:
        """What was said, by ``(label, index)``."""
        return MappingProxyType(self._document.state.prompts)

    @property
    def pending(self) -> frozenset[tuple[int, int]]:
        """``(label, index)`` of what was said or corrected since a propagation last carried it on, or up to where."""
        return frozenset(self._document.state.pending)

    @property
    def noun(self) -> str:
        """``"slice"``, or ``"image"`` in a collection."""
        return noun(self.kind)

    def check_writable(self) -> None:
        """Raise InputError where nothing can be changed: found out before a model is asked."""
        if self._document.store is not None:
            self._document.store.check()

    def _check_fits(self, one: ObjectResult) -> None:
        index, shape = one.index, one.shape
        if not is_whole(index) or not 0 <= index < len(self.stack) or shape != self.stack.slice_shape(index):
            raise InputError(f"a mask for {self.noun} {index} of {shape} does not fit the stack")
        if one.logits.dtype != np.int8:
            raise InputError(f"a mask's logits are eighths of type int8, not {one.logits.dtype}")

    def _at(self, label: int, index: int) -> list[Key]:
        """All of an object on a slice."""
        kinds: tuple[Any, ...] = ("prompt", "prediction", "result", "mark", "pending", "memory")
        return [Key(kind, label, index) for kind in kinds]

    def _announce(self, keys: Iterable[Key]) -> None:
        changed = list(keys)
        if any(key.kind == "object" for key in changed):
            self.events.objects_changed.emit()
        for index in sorted({key.index for key in changed if key.kind in ("prompt", "result", "mark", "memory")}):
            self.events.slice_changed.emit(index)
        self.events.history_changed.emit()

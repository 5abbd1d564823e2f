"""A session's state with its history and, where it has a folder, its journal: every change passes through here."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from napari_medsam2._journal import Piece
from napari_medsam2._lock import claim
from napari_medsam2.errors import InputError
from napari_medsam2.history import BUDGET, Command, History, Record
from napari_medsam2.state import ObjectInfo, State
from napari_medsam2.storage import Store, to_piece

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from napari_medsam2.state import Changes, Entry, Key
    from napari_medsam2.storage import Saved, Settings

__all__ = ["Document"]


class Document:
    """State, history and journal.

    Parameters
    ----------
    tell : callable
        Called with the keys that changed, after each change.
    budget : int
        Bytes that the history may take.
    """

    def __init__(self, tell: Callable[[Iterable[Key]], None], budget: int = BUDGET) -> None:
        self.state, self.history = State(), History(budget)
        self.settings: Settings | None = None
        self.store: Store | None = None
        self.notices: list[str] = []
        self._tell = tell
        self._next = 1
        self._group: tuple[int, str] | None = None
        self._withdrawn: set[int] = set()
        self.revision = 0
        """Grows with every change, also with those that go on with a command that is there already."""

    def new_step(self) -> int:
        """Return the number of a command that is about to begin."""
        self._next += 1
        return self._next - 1

    @contextlib.contextmanager
    def together(self, name: str) -> Iterator[None]:
        """Make one command of all that is done inside; within another one it changes nothing."""
        if self._group is not None:
            yield
            return
        self._group = self.new_step(), name
        try:
            yield
        finally:
            self._group = None

    def commit(self, name: str, changes: Changes, call: Mapping[str, Any], step: int | None = None) -> bool:
        """Make a change: first on the disk, then in memory.

        Parameters
        ----------
        name : str
            What was done, for people.
        changes : mapping
            The new values.
        call : mapping
            What was asked for; see `Record`.
        step : int, optional
            The command that it belongs to, from `new_step`; a command of its own by default.

        Returns
        -------
        bool
            False where nothing was to be changed, or the command has been taken back meanwhile.

        Raises
        ------
        InputError
            If it cannot be saved; then nothing was changed.
        """
        if step is not None and step in self._withdrawn:
            return False
        entries = self.state.entries(changes)
        entries = {key: e for key, e in entries.items() if e.before is not e.after and not _equal(e)}
        goes_on = step is not None and bool(self.history.done) and self.history.done[-1].step == step
        if not entries and not goes_on:
            return False
        self.state.check(changes)
        if step is None and self._group is not None:
            step, name = self._group
        if not isinstance(name, str):
            raise InputError(f"the name of a step must be text, not {name!r}")
        record = Record(self.new_step() if step is None else step, name, call, entries)
        self._save(to_piece(record, quick=True) if self.store is not None else None)
        self.revision += 1
        for key, entry in entries.items():
            self.state.put(key, entry.after)
        self.history.add(record)
        self._compact()
        self._tell(entries)
        return True

    def withdrawn(self, step: int) -> bool:
        """Whether a command was taken back, or what there was when it began."""
        return step in self._withdrawn

    def undo(self) -> Command:
        """Take back the last command."""
        if not self.history.done:
            raise InputError("there is nothing to undo")
        self._save_op("undo")
        command = self.history.undo()
        self._withdraw(command)
        self._replace((key, entry.before) for key, entry in command.befores())
        return command

    def redo(self) -> Command:
        """Do again what was taken back last."""
        if not self.history.undone:
            raise InputError("there is nothing to redo")
        self._save_op("redo")
        command = self.history.redo()
        self._withdraw(command)
        self._replace((key, entry.after) for key, entry in command.afters())
        return command

    def _withdraw(self, command: Command) -> None:
        """What began after a command, and has changed nothing yet, began with what is no longer so."""
        self._withdrawn.update(range(command.step, self._next))

    def _replace(self, values: Iterable[tuple[Key, Any]]) -> None:
        self.revision += 1
        changed: dict[Key, None] = {}
        for key, value in values:
            self.state.put(key, value)
            changed[key] = None
        self._tell(changed)

    def _save_op(self, op: str) -> None:
        self._save(Piece({"op": op}) if self.store is not None else None)

    def _save(self, piece: Piece | None) -> None:
        if self.store is not None and piece is not None:
            self.store.append(piece)

    def _compact(self) -> None:
        if self.store is None or self.settings is None or not self.store.grown:
            return
        try:
            self.store.rewrite(self.settings, self.state, self.history)
        except InputError as error:
            # Everything is safe in the journal as it is.
            self.store.postpone()
            self.notices.append(str(error))

    # -- folders ---------------------------------------------------------------------------------------------------

    def save_as(self, folder: Path, settings: Callable[[Path], Settings], there: Collection[str] = ()) -> None:
        """Write everything to a new folder and go on there; ``settings`` is called with the folder once it is ours.

        ``there`` names what the folder may hold already.
        """
        folder, lock = claim(folder, there)
        store = Store.create(folder, lock)
        try:
            found = settings(folder)
            store.rewrite(found, self.state, self.history)
        except BaseException:
            store.close()
            raise
        self.close()
        self.settings, self.store = found, store

    def adopt(self, saved: Saved, store: Store) -> None:
        """Take over what was loaded from a folder, and go on there."""
        self.notices += store.begin(saved)
        self.state, self.history = saved.state, saved.history
        self.settings, self.store, self._next = saved.settings, store, saved.step

    def replace_image(self, settings: Settings) -> None:
        """Note that the image is in another place, where that can be written."""
        if self.store is not None and self.store.reason is None:
            self._save(Piece({"op": "image", "image": settings.image.to_json()}))
        self.settings = settings

    def replace_settings(self, settings: Settings) -> None:
        """Write another model or memory bank down, with everything else."""
        if self.store is not None:
            self.store.rewrite(settings, self.state, self.history)
        self.settings = settings

    def close(self) -> None:
        """Let go of the folder; nothing can be changed any more. Without a folder nothing happens."""
        if self.store is not None:
            self.store.close()


def _equal(entry: Entry) -> bool:
    """Whether values that compare by content are the same."""
    return isinstance(entry.after, str | bool | ObjectInfo) and entry.before == entry.after

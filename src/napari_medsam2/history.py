"""Undo and redo: commands are the entries that they changed, before and after, within a budget of bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_medsam2.state import Entry, Key, weigh

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["BUDGET", "RECOMPUTED", "Command", "History", "Record", "Step"]

BUDGET = 256 * 2**20
"""Bytes that the history of a session keeps by default."""

RECOMPUTED = frozenset({"points", "box", "mask", "content", "propagate", "repropagate", "finish"})
"""What a replay computes again; the effects of all else are taken over as they were."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history.

    Parameters
    ----------
    name : str
        What was done.
    undone : bool
        Whether it was taken back.
    """

    name: str
    undone: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What reaches the disk at once: a command, or one slice of a propagation.

    Parameters
    ----------
    step : int
        Neighbouring records with the same number are one command.
    name : str
        What was done, for people.
    call : mapping
        What was asked for: ``"do"`` and its parameters; JSON values.
    entries : mapping
        What changed, before and after.
    count : int
        How many alike records this one stands for, in the log.
    """

    step: int
    name: str
    call: Mapping[str, Any]
    entries: Mapping[Key, Entry]
    count: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        return 300 + sum(weigh(entry.before) + weigh(entry.after) for entry in self.entries.values())

    def thin(self) -> Record:
        """Return what a replay needs of it."""
        did = self.call["do"]
        kept: dict[Key, Entry] = {}
        if did not in RECOMPUTED or did in ("mask", "content"):
            whole = did not in RECOMPUTED
            kept = {k: Entry(None, e.after) for k, e in self.entries.items() if whole or k.kind == "prompt"}
        return replace(self, entries=kept)


@dataclass(slots=True, eq=False)
class Command:
    """What one undo takes back."""

    step: int
    name: str
    records: list[Record] = field(default_factory=list)
    nbytes: int = 0

    def add(self, record: Record) -> None:
        """Append a record."""
        self.records.append(record)
        self.nbytes += record.nbytes

    def befores(self) -> Iterator[tuple[Key, Entry]]:
        """What to put back, in the order in which to do it."""
        for record in reversed(self.records):
            yield from record.entries.items()

    def afters(self) -> Iterator[tuple[Key, Entry]]:
        """What to do again, in order."""
        for record in self.records:
            yield from record.entries.items()


class History:
    """The commands that can be undone and redone, and the log of those that no longer can.

    Parameters
    ----------
    budget : int
        Bytes that the commands may take together; the oldest are dropped first, the newest never is.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.nbytes = budget, 0
        self.done: deque[Command] = deque()
        self.undone: list[Command] = []
        self.log: list[Record] = []

    def add(self, record: Record) -> None:
        """Take in what was just done; what was undone before can no longer be redone."""
        self.nbytes -= sum(command.nbytes for command in self.undone)
        self.undone.clear()
        if not self.done or self.done[-1].step != record.step:
            self.done.append(Command(record.step, record.name))
        self.done[-1].add(record)
        self.nbytes += record.nbytes
        while self.nbytes > self.budget and len(self.done) > 1:
            dropped = self.done.popleft()
            self.nbytes -= dropped.nbytes
            self.note(dropped.records)

    def note(self, records: Iterable[Record]) -> None:
        """Append to the log."""
        for record in records:
            thin, last = record.thin(), self.log[-1] if self.log else None
            if last is not None and not thin.entries and last.call == thin.call and "run" in thin.call:
                self.log[-1] = replace(last, count=last.count + thin.count)
            else:
                self.log.append(thin)

    def undo(self) -> Command:
        """Move the last command to those undone."""
        self.undone.append(self.done.pop())
        return self.undone[-1]

    def redo(self) -> Command:
        """Move the last undone command back."""
        self.done.append(self.undone.pop())
        return self.done[-1]

    def records(self) -> Iterator[Record]:
        """Everything that was done and stands, from the beginning, as a replay needs it."""
        yield from self.log
        for command in self.done:
            yield from command.records

    def steps(self) -> tuple[Step, ...]:
        """The commands in order, those undone last."""
        done = [Step(command.name) for command in self.done]
        return (*done, *(Step(command.name, True) for command in reversed(self.undone)))

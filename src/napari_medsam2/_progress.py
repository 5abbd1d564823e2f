"""How far a long job is: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["Tell", "quiet", "shown"]

Tell = Callable[[str, int, int], None]
"""Told the name of a step, how many of its units are done, and how many there are."""


def quiet(step: str, done: int, total: int) -> None:
    """Say nothing."""


@contextlib.contextmanager
def shown() -> Iterator[Tell]:
    """Give a function that moves bars on standard error, or does nothing where that is no terminal.

    Yields
    ------
    callable
        Each new name of a step adds a bar. The bars are gone when the block ends.
    """
    if not sys.stderr.isatty():
        yield quiet
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield tell

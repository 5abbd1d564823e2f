"""What each action of the table does with an annotation; see `actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from napari_medsam2.widgets.annotation import Annotation
from napari_medsam2.widgets.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMANDS"]


def _nothing(_: object) -> None:
    return


def _choose(tool: Tool) -> Callable[[Annotation], None]:
    return lambda annotation: annotation.tools.choose(tool)


COMMANDS: dict[str, Callable[[Annotation], None]] = {
    **{tool: _choose(tool) for tool in get_args(Tool)},
    "polarity": lambda a: a.tools.turn(),
    "new": lambda a: _nothing(a.new_object()),
    "accept": Annotation.accept,
    "discard": Annotation.discard,
    "undo": Annotation.undo,
    "redo": Annotation.redo,
    "propagate": Annotation.propagate,
    "repropagate": Annotation.repropagate,
    "stop": lambda a: a.running.stop(),
    "next": lambda a: a.reviewing.next(),
    "approve": Annotation.approve,
    "reject": Annotation.reject,
    "skip": Annotation.skip,
    "previous_slice": lambda a: a.move(-1),
    "next_slice": lambda a: a.move(1),
}
"""By the action's name."""

"""Every command with its key and its words: the one table for shortcuts, tooltips, the help panel and the palette."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_medsam2.widgets.drawing import ends_drawing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["ACTIONS", "Action", "bind", "key_text", "tooltip", "unbind"]


@dataclass(frozen=True, slots=True)
class Action:
    """A command.

    Parameters
    ----------
    name : str
        How the program calls it.
    title : str
        What a button says.
    key : str
        napari's name of the shortcut; empty: none.
    help : str
        What it does, one sentence.
    group : str
        Its heading in the help panel.
    """

    name: str
    title: str
    key: str
    help: str
    group: str


_GROUPS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "Tools": (
        ("prompt", "Prompt", "P", "Click: this belongs to the object. Ctrl-click: this does not. Drag: a box."),
        ("scribble", "Scribble", "S", "Draw a line over the object; with Ctrl, over what does not belong to it."),
        ("lasso", "Lasso", "L", "Draw around the object, or around several parts of it; with Ctrl, cut out."),
        ("paint", "Paint", "B", "Paint the object's mask with napari's brush; each stroke is taken over."),
        ("erase", "Erase", "E", "Erase with napari's brush; each stroke is taken over."),
        ("polarity", "Negative", "X", "Clicks, lines and outlines say what does not belong, until pressed again."),
        ("hover", "Preview under the mouse", "H", "Show the mask that a click would give, before clicking."),
    ),
    "Masks": (
        ("accept", "Accept", "Enter", "Say that the mask on this slice is right: nothing overwrites it."),
        ("discard", "Discard", "Escape", "Take back prompts here, since accepted or carried on; stop a propagation."),
        ("new", "New object", "N", "Begin the next object."),
        ("undo", "Undo", "Control-Z", "Take back the last step, painted strokes included."),
        ("redo", "Redo", "Control-Shift-Z", "Do again what was taken back."),
    ),
    "Propagation": (
        ("propagate", "Propagate", "G", "Carry the masks from the prompted slices to the others."),
        ("repropagate", "Corrections only", "Shift-G", "Propagate again only what corrections touch."),
        ("stop", "Stop", "", "End the propagation; what is computed stays."),
    ),
    "Review": (
        ("next", "Next to review", "W", "Go to the mask that is most likely wrong."),
        ("approve", "Accept and go on", "A", "This mask is right; go to the next one to review."),
        ("reject", "Reject", "R", "This mask is wrong: it goes. Prompt the slice, or A: the object is not there."),
        ("skip", "Skip", "K", "Look at this mask later."),
    ),
    "Moving": (
        ("previous_slice", "Previous slice", ",", "Go one slice back."),
        ("next_slice", "Next slice", ".", "Go one slice on."),
        ("help", "Shortcuts", "F1", "Show all shortcuts."),
    ),
}  # fmt: skip

ACTIONS: dict[str, Action] = {row[0]: Action(*row, group) for group, rows in _GROUPS.items() for row in rows}

_SHOWN = {"Control": "Ctrl", "Escape": "Esc"}


def key_text(name: str, mac: bool = False) -> str:
    """Write a command's shortcut as people read it, such as ``Ctrl+Z``."""
    parts = ACTIONS[name].key.split("-")
    shown = {**_SHOWN, "Control": "⌘"} if mac else _SHOWN
    return "+".join(shown.get(part, part) for part in parts)


def tooltip(name: str, mac: bool = False) -> str:
    """Return what a button says when the mouse rests on it."""
    action = ACTIONS[name]
    return f"{action.help} [{key_text(name, mac)}]" if action.key else action.help


def bind(targets: Iterable[Any], calls: Mapping[str, Callable[[], None]]) -> None:
    """Bind the shortcuts.

    Parameters
    ----------
    targets : iterable
        A viewer and layers, anything with napari's ``bind_key``. A layer's own keys hide those of its kind.
    calls : mapping
        What each command does, by its name.
    """
    for target in targets:
        for name, call in calls.items():
            if ACTIONS[name].key:
                target.bind_key(ACTIONS[name].key, _pressed(name, call), overwrite=True)


def unbind(target: Any) -> None:
    """Take all shortcuts of the table from a viewer."""
    for action in ACTIONS.values():
        if action.key:
            with contextlib.suppress(KeyError, ValueError):
                target.bind_key(action.key, None)


def _pressed(name: str, call: Callable[[], None]) -> Callable[[Any], None]:
    def run(target: Any) -> None:
        if name not in ("accept", "discard") or not ends_drawing(target, name):
            call()

    return run

"""Which keys a list of Qt's leaves to the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent

__all__ = ["is_shortcut"]

_KEPT = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Tab, Qt.Key.Key_Backtab)


def is_shortcut(event: QKeyEvent) -> bool:
    """Whether a key is typed, for which a list would search its entries: to be ignored, so that it goes to the viewer.

    With Ctrl or Meta it is a list's own, such as Ctrl+A.
    """
    held = event.modifiers() & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier)
    return bool(event.text()) and not held and event.key() not in _KEPT

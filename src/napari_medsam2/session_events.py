"""What a session tells those who show it."""

from __future__ import annotations

from psygnal import Signal, SignalGroup

__all__ = ["SessionEvents"]


class SessionEvents(SignalGroup):
    """What a view of the session listens to; numbers only, the view fetches what it shows."""

    objects_changed = Signal()
    slice_changed = Signal(int)
    history_changed = Signal()

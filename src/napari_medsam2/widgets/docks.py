"""Which dock belongs to which viewer, for commands that know the viewer only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from napari_medsam2.widgets.dock import MedSam2Dock

__all__ = ["bare", "dock_of", "docks_of", "forget", "register"]

_DOCKS: WeakKeyDictionary[Any, WeakSet[MedSam2Dock]] = WeakKeyDictionary()


def register(viewer: Any, dock: MedSam2Dock) -> None:
    """Note that a dock was opened in a viewer."""
    _DOCKS.setdefault(bare(viewer), WeakSet()).add(dock)


def forget(dock: MedSam2Dock) -> None:
    """Note that a dock was closed."""
    for docks in _DOCKS.values():
        docks.discard(dock)


def docks_of(viewer: Any) -> list[MedSam2Dock]:
    """The docks that are open in a viewer."""
    return list(_DOCKS.get(bare(viewer), ()))


def dock_of(viewer: Any) -> MedSam2Dock | None:
    """The dock of a viewer, the one that annotates something first; None where none is open."""
    docks = docks_of(viewer)
    busy = [dock for dock in docks if dock.bench.annotation is not None]
    return next(iter(busy or docks), None)


def bare(viewer: Any) -> Any:
    """The viewer itself, or its model.

    napari hands a proxy to what a plugin puts into its window: what is got from that is a proxy again, so that no layer
    *is* the one that was added, and the window's parts cannot be reached.
    """
    return getattr(viewer, "__wrapped__", viewer)

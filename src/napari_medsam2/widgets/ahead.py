"""Imports that are made while nobody waits."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

__all__ = ["import_ahead"]


def import_ahead() -> None:
    """Import what napari imports for its first points and labels: a third of a second of the window's, were it then."""
    for name in ("pandas", "scipy.linalg", "skimage.color.colorconv", "skimage.exposure", "skimage.util"):
        with suppress(ImportError):
            import_module(name)

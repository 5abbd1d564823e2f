"""Errors that a person is meant to read."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """Something a person gave cannot be used.

    The message is one sentence that says what was wrong and what to do. The command line prints it as its only
    line and exits with code 2; the napari dock shows it as a notification.
    """

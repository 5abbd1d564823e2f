"""What went wrong, in one sentence."""

from __future__ import annotations

from napari_medsam2.errors import InputError

__all__ = ["explain", "tell"]


def explain(error: Exception) -> str | None:
    """Return one sentence for what is nobody's mistake in the program; None for what is."""
    if isinstance(error, InputError):
        text = str(error)
        return text[0].upper() + text[1:] if text else None
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "There is not enough memory for that; close other programs, or choose a smaller model or the CPU"
    if isinstance(error, OSError):
        return f"The disk says: {error.strerror or error}"
    return None


def tell(error: Exception) -> None:
    """Show what went wrong as a notification of napari's; a mistake in the program with its traceback."""
    from napari.utils.notifications import notification_manager, show_warning

    text = explain(error)
    if text is not None:
        show_warning(text)
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)

"""A mask on one image of a collection, carried to all others."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_medsam2 import AnnotationSession
from napari_medsam2.memory import BankConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from napari_medsam2 import ImageStack
    from napari_medsam2.backend.protocol import Backend

__all__ = ["carried"]


@contextmanager
def carried(
    stack: ImageStack, backend: Backend, first: int, painted: np.ndarray, bank: BankConfig | None = None
) -> Iterator[tuple[AnnotationSession, int]]:
    """Give the session, whatever the stack is, as that of a collection, and the object's label."""
    with AnnotationSession(stack, backend=backend, memory=bank or BankConfig(), kind="collection") as session:
        label = session.add_object()
        session.add_mask(label, first, painted)
        for _ in session.propagate():
            pass
        yield session, label

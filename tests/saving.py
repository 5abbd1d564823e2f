"""What the tests of saved sessions share: a scripted annotation, and the exact content of a session."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2._codec import encode_entries
from napari_medsam2._journal import pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medsam2 import AnnotationSession


def content(session: AnnotationSession) -> str:
    """A hash of every bit that a session knows, and of what can be undone and redone."""
    digest = hashlib.sha256()
    state = session._document.state
    for key in sorted(state.keys()):
        digest.update(pack(encode_entries([(key, state.get(key))], {}), 0))
    digest.update(repr([(s.name, s.undone) for s in session.history]).encode())
    for index in session.results.indices():
        digest.update(session.slice_labels(index).tobytes())
    return digest.hexdigest()


def annotate(session: AnnotationSession) -> Iterator[None]:
    """Use every command; gives back control after each one has returned."""
    a = session.add_object("one", color="#ff8000")
    yield
    session.add_box(a, 2, (2.5, 2.5, 10.5, 11.5))
    yield
    session.add_points(a, 2, [(6, 6), (20, 20)], [1, 0])
    yield
    b = session.add_object("two")
    yield
    session.add_scribble(b, 4, [(15, 15), (18, 17), (19, 18)])
    yield
    for _ in session.propagate():
        yield
    yield
    session.accept(a, 3)
    yield
    session.skip(b, 5)
    yield
    session.reject(b, 6)
    yield
    session.reject(b, 5)
    yield
    session.accept(b, 5)
    yield
    painted = np.zeros((24, 24), bool)
    painted[4:11, 5:12] = True
    session.add_mask(a, 6, painted)
    yield
    for number, _ in enumerate(session.repropagate()):
        yield
        if number == 2:
            break
    yield
    session.undo()
    yield
    session.undo()
    yield
    session.redo()
    yield
    session.rename_object(b, "zwei")
    yield
    session.recolor_object(b, "#123456")
    yield
    for _ in session.propagate([b], "forward", 3, 9):
        yield
    yield
    session.clear_prompts(a, 6)
    yield
    for _ in session.repropagate():
        yield
    yield
    session.clear_range(8, 10)
    yield
    session.remove_object(b)
    yield
    session.undo()
    yield

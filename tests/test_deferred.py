from __future__ import annotations

import threading

import pytest
from tests.dummy import DummyBackend
from tests.test_correction import first_pass, long_stack

from napari_medsam2 import AnnotationSession, InputError
from napari_medsam2.backend.deferred import DeferredBackend


def test_a_session_with_a_model_that_is_loaded_late_gives_the_same() -> None:
    loads: list[int] = []

    def load() -> DummyBackend:
        loads.append(threading.get_ident())
        return DummyBackend()

    backend = DeferredBackend(DummyBackend().name, load)
    session = AnnotationSession(long_stack(), backend=backend)
    session.add_object()
    question = session.ask_box(1, 5, (3.5, 3.5, 11.5, 11.5))
    assert backend._loaded is None
    assert loads == []
    session.take(question.answer())
    for _ in session.propagate():
        pass
    assert bool(backend.loaded)
    assert len(loads) == 1
    other = first_pass()
    for index in range(40):
        assert (session.slice_labels(index) == other.slice_labels(index)).all()


def test_loading_that_failed_is_tried_again() -> None:
    outcomes = [InputError("the weights are missing"), None]

    def load() -> DummyBackend:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return DummyBackend()

    backend = DeferredBackend("x", load)
    with pytest.raises(InputError, match="missing"):
        backend.get()
    assert backend.name == "x"
    assert backend.get().batch > 0
    assert bool(backend.loaded)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from tests.dummy import DummyBackend, squares, stack_of_squares
from tests.saving import annotate

from napari_medsam2 import AnnotationSession, ImageStack, InputError, ObjectResult
from napari_medsam2._edits import edited
from napari_medsam2.replay import replay
from napari_medsam2.results import PackedResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@pytest.mark.parametrize("history_bytes", [2**28, 20_000, 0])
def test_a_replay_finds_every_bit_again(tmp_path: Path, history_bytes: int) -> None:
    session = AnnotationSession.create(
        tmp_path / "s", stack_of_squares(), backend=DummyBackend(), history_bytes=history_bytes
    )
    if history_bytes:
        for _ in annotate(session):
            pass
    else:
        session.add_object()
        session.add_box(1, 4, (2.5, 2.5, 10.5, 11.5))
        for _ in session.propagate():
            pass
    assert len(session.results) > 7
    assert replay(session) == ()
    session.close()
    again = AnnotationSession.open(tmp_path / "s", backend=DummyBackend(), stack=stack_of_squares())
    steps = again.backend.steps  # type: ignore[attr-defined]
    assert replay(again) == ()
    assert again.backend.steps > steps + 8  # type: ignore[attr-defined]


def test_interleaved_and_cancelled_propagations_are_replayed() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 4, (2.5, 2.5, 10.5, 11.5))
    walk = session.propagate()
    next(walk), next(walk)
    session.add_points(1, 9, [(7, 8)], [1])
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert replay(session) == ()


def square(side: int = 7) -> np.ndarray:
    out = np.zeros((24, 24), bool)
    out[2 : 2 + side, 2 : 2 + side] = True
    return out


@pytest.mark.parametrize("history_bytes", [2**28, 0])
@pytest.mark.parametrize("prompted", [1, 10])
def test_a_propagation_that_had_nowhere_to_go_is_replayed(prompted: int, history_bytes: int) -> None:
    stack = ImageStack(squares(prompted), "ZYX", window=(0, 255))
    session = AnnotationSession(stack, backend=DummyBackend(), history_bytes=history_bytes)
    session.add_object()
    for index in range(prompted):
        session.add_box(1, index, (2.5, 2.5, 10.5, 11.5))
    assert list(session.propagate()) == []
    assert not session.pending
    assert replay(session) == ()
    session.remove_object(1)
    assert replay(session) == ()


@pytest.mark.parametrize("history_bytes", [2**28, 0])
@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda s: s.paint(5, {1: square()}),
        lambda s: s.add_points(1, 6, [(7, 8)], [1]),
        lambda s: s.accept(1, 7),
        lambda s: s.pin_memory(1, 7),
        lambda s: s.clear_prompts(1, 9),
        lambda s: s.remove_object(1),
        lambda s: (s.paint(5, {1: square()}), s.undo(), s.accept(1, 7)),
    ],
    ids=["stroke", "click", "accept", "pin", "clear", "remove", "undo"],
)
@pytest.mark.parametrize("again", [False, True])
def test_what_is_done_before_the_first_slice_is_there_is_replayed(
    tmp_path: Path, meanwhile: Callable[[AnnotationSession], object], again: bool, history_bytes: int
) -> None:
    """As in the dock: the model's thread works on the first slice, and a person goes on."""
    session = AnnotationSession.create(
        tmp_path / "s", stack_of_squares(), backend=DummyBackend(), history_bytes=history_bytes
    )
    session.add_object()
    session.add_box(1, 2, (2.5, 2.5, 10.5, 11.5))
    session.add_mask(1, 9, square(12))
    for _ in session.propagate():
        pass
    session.add_mask(1, 3, square(5))
    walk = session.repropagate(settle=9) if again else session.propagate()
    meanwhile(session)
    for _ in walk:
        pass
    assert replay(session) == ()
    session.close()
    back = AnnotationSession.open(tmp_path / "s", backend=DummyBackend(), stack=stack_of_squares())
    assert replay(back) == ()


@pytest.mark.parametrize("how", ["undo", "redo", "both"])
@pytest.mark.parametrize("again", [False, True])
def test_what_a_propagation_began_with_is_undone_with_it(tmp_path: Path, again: bool, how: str) -> None:
    """Its masks would be those of a prompt that is not there, which no replay finds again."""
    session = AnnotationSession.create(tmp_path / "s", stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 2, (2.5, 2.5, 10.5, 11.5))
    for _ in session.propagate():
        pass
    session.add_mask(1, 8, square(12))
    session.add_mask(1, 3, square(5))
    if how == "redo":
        session.undo()
    before = {index: session.slice_labels(index) for index in range(10)}
    walk = session.repropagate(settle=9) if again else session.propagate()
    if how != "redo":
        session.undo()
    if how != "undo":
        session.redo()
    assert list(walk) == []
    for index in {*range(10)} - {3}:
        np.testing.assert_array_equal(session.slice_labels(index), before[index])
    assert replay(session) == ()
    assert list(session.repropagate())
    assert replay(session) == ()


def test_a_propagation_outlives_what_is_undone_that_came_after_it() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 4, (2.5, 2.5, 10.5, 11.5))
    walk = session.propagate()
    next(walk)
    session.add_points(1, 9, [(7, 8)], [1])
    session.undo()
    assert len(list(walk)) > 4
    assert replay(session) == ()


def test_a_slice_that_left_no_record_does_not_put_a_replay_out_of_step() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 4, (2.5, 2.5, 10.5, 11.5))
    walk = session.propagate()
    # The first slice, which is no longer the propagation's.
    session.paint(5, {1: square()})
    assert [next(walk).index, next(walk).index] == [5, 6]
    walk.close()  # type: ignore[attr-defined]
    assert session.results.indices() == [4, 5, 6]
    assert replay(session) == ()


def test_a_replay_says_where_masks_differ() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session.add_box(1, 4, (2.5, 2.5, 10.5, 11.5))
    for _ in session.propagate():
        pass
    changed = session.results.get(1, 6)
    assert changed is not None
    mask = changed.mask
    mask[0, :5] = True
    session.results.put(ObjectResult.from_mask(1, 6, mask))
    session.results.discard(1, 7)
    found = replay(session)
    assert [(d.index, d.label, d.what) for d in found] == [(6, 1, "mask"), (7, 1, "surplus")]
    assert found[0].pixels == 5
    assert found[0].iou == pytest.approx(changed.area / (changed.area + 5))
    other = replay(session, DummyBackend(bias=0.2))
    assert len(other) > 5


def run(args: Sequence[str | Path]) -> int:
    from napari_medsam2.cli import main

    with pytest.raises(SystemExit) as left:
        main([str(a) for a in args])
    return int(left.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("napari_medsam2.backend.load_backend", lambda *_, **__: DummyBackend())
    tifffile.imwrite(tmp_path / "image.tif", squares(), photometric="minisblack", metadata={"axes": "ZYX"})
    stack = ImageStack.open(tmp_path / "image.tif")
    with AnnotationSession.create(tmp_path / "s", stack, backend=DummyBackend()) as session:
        for _ in annotate(session):
            pass
    return tmp_path / "s"


def test_replay_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", folder]) == 0
    assert "masks are the same" in capsys.readouterr().out
    with AnnotationSession.open(folder) as session:
        square = np.zeros((24, 24), bool)
        square[:9, :9] = True
        # As if another machine had computed it.
        wrong = PackedResult.of(ObjectResult.from_mask(1, 5, square))
        changes = {k: v for k, v in edited(session._document.state, wrong).items() if v is not None}
        session._document.commit("clicks", changes, {"do": "finish", "run": 0})
    assert run(["replay", folder]) == 1
    out = capsys.readouterr().out
    assert "slice    5  object    1  mask" in out
    assert "masks computed again, 1 of them differ" in out
    (folder.parent / "image.tif").unlink()
    assert run(["replay", folder]) == 2
    assert "is missing" in capsys.readouterr().err


def test_info_needs_neither_image_nor_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "image.tif").unlink()
    assert run(["info", folder]) == 0
    out = capsys.readouterr().out
    for text in ("image.tif", "ZYX, 10 slices, 24 × 24, uint8", "object 1", "#ff8000", "zwei", "redone", "dummy"):
        assert text in out
    assert run(["info", folder.parent]) == 2
    assert "no session in" in capsys.readouterr().err


def test_a_record_that_says_nonsense_is_named() -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    session.add_object()
    session._document.commit("x", dict.fromkeys([session._at(1, 4)[4]], True), {"do": "box", "label": 1})
    with pytest.raises(InputError, match=r"step 2 .x. cannot be done again"):
        replay(session)

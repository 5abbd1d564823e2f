"""What a person does while the model still thinks comes after what was said before it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from tests.dummy import DummyBackend
from tests.widgets.docking import Patch, begin, docked, fast_model, hear, open_dock, settle
from tests.widgets.driving import click, drag, key, wait_until

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.widgets.views_file import read_view, write_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

SHAPE = (72, 96)
ONE, OTHER = Patch(SHAPE, 8, 8, 20, 20), Patch(SHAPE, 44, 56, 20, 20)
BESIDE = [(34.0, 80.0), (34.0, 88.0)]
"""Where nothing is: what is painted there came of no click."""


class HeldBackend(DummyBackend):
    """Answers when the test lets it, or with an error."""

    def __init__(self) -> None:
        super().__init__(side=48)
        self.free = threading.Event()
        self.free.set()
        self.broken = False

    def decode(self, *args: Any, **options: Any) -> Any:
        assert self.free.wait(60)
        if self.broken:
            raise RuntimeError("the model is broken")
        return super().decode(*args, **options)


@pytest.fixture
def model() -> Iterator[HeldBackend]:
    made = HeldBackend()
    yield made
    made.free.set()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return hear(monkeypatch)


@pytest.fixture
def dock(
    make_napari_viewer: Callable[..., Any], model: HeldBackend, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MedSam2Dock]:
    fast_model(monkeypatch, model)
    image = np.maximum(ONE.picture(), OTHER.picture())
    with docked(make_napari_viewer(show=True), np.stack([image] * 8), 4, (1000, 700), name="cells") as dock:
        yield dock
        model.free.set()


@pytest.fixture
def annotation(dock: MedSam2Dock) -> Annotation:
    return begin(dock)


def say(dock: MedSam2Dock, patch: Patch) -> None:
    click(dock.bench.viewer, (dock.bench.viewer.dims.point[0], *patch.middle))


def stroke(dock: MedSam2Dock, places: Sequence[tuple[float, float]]) -> None:
    key(dock.bench.viewer, "B")
    drag(dock.bench.viewer, [(dock.bench.viewer.dims.point[0], *place) for place in places])


def let_go(annotation: Annotation, model: HeldBackend) -> None:
    model.free.set()
    settle(annotation)


def holds(mask: np.ndarray, patch: Patch) -> bool:
    """Whether the patch is in a mask; the model that is none takes the other one for the object as well."""
    return bool(mask[patch.mask].mean() > 0.9)


def mask(annotation: Annotation, label: int = 1, index: int = 4) -> np.ndarray:
    found = annotation.session.results.get(label, index)
    return np.zeros(SHAPE, bool) if found is None else found.mask


def test_the_next_object_gets_the_next_click(dock: MedSam2Dock, annotation: Annotation, model: HeldBackend) -> None:
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "N")
    say(dock, OTHER)
    let_go(annotation, model)
    assert {of: len(prompt.points) for (of, _), prompt in annotation.session.prompts.items()} == {1: 1, 2: 1}
    assert holds(mask(annotation, 1), ONE)
    assert holds(mask(annotation, 2), OTHER)


def test_undo_takes_the_click_back_that_is_not_answered(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str]
) -> None:
    say(dock, ONE)
    settle(annotation)
    model.free.clear()
    say(dock, OTHER)
    key(dock.bench.viewer, "Ctrl+Z")
    assert len(annotation.prompts.points.data) == 1
    assert not annotation.prompting.busy
    let_go(annotation, model)
    done: list[None] = []
    dock.bench.worker.submit(lambda: None, done.append)
    wait_until(lambda: bool(done))
    assert len(annotation.session.prompts[1, 4].points) == 1
    assert holds(mask(annotation), ONE)
    assert notes == []
    key(dock.bench.viewer, "Ctrl+Z")
    assert not annotation.session.prompts


def test_undo_draws_the_prompts_once(
    dock: MedSam2Dock, annotation: Annotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patch in (ONE, OTHER):
        say(dock, patch)
        settle(annotation)
    drawn: list[None] = []
    refresh = annotation.prompts.refresh
    monkeypatch.setattr(annotation.prompts, "refresh", lambda: drawn.append(refresh()))
    key(dock.bench.viewer, "Ctrl+Z")
    assert len(drawn) == 1
    assert len(annotation.prompts.points.data) == 1


def test_undo_goes_back_through_all_that_waits(dock: MedSam2Dock, annotation: Annotation, model: HeldBackend) -> None:
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "Return")
    stroke(dock, BESIDE)
    assert mask_shown(annotation)[34, 84]
    key(dock.bench.viewer, "Ctrl+Z")
    assert not mask_shown(annotation)[34, 84]
    key(dock.bench.viewer, "Ctrl+Z")
    let_go(annotation, model)
    assert holds(mask(annotation), ONE)
    assert not mask(annotation)[34, 84]
    assert not annotation.session.marks


def mask_shown(annotation: Annotation) -> np.ndarray:
    return np.asarray(annotation.masks.layer.data[4]) > 0


def test_what_is_accepted_is_what_the_click_gave(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str]
) -> None:
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "Return")
    # The key was pressed on that slice, whatever is shown when the answer comes.
    key(dock.bench.viewer, ".")
    let_go(annotation, model)
    assert annotation.session.marks == {(1, 4): "accepted"}
    assert holds(mask(annotation), ONE)
    assert notes == []


def test_the_first_click_can_be_propagated_before_it_is_answered(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str]
) -> None:
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "G")
    let_go(annotation, model)
    assert len(annotation.session.results.indices(1)) == 8
    assert notes == []


def test_escape_takes_back_a_propagation_that_waits(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend
) -> None:
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "G")
    key(dock.bench.viewer, "Esc")
    let_go(annotation, model)
    assert list(annotation.session.results.indices(1)) == [4]


def test_a_propagation_ends_with_the_click_that_it_began_with(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str]
) -> None:
    viewer, heard = dock.bench.viewer, list[str]()
    say(dock, ONE)
    settle(annotation)
    annotation.events.said.connect(heard.append)
    model.free.clear()
    key(viewer, "G")
    assert annotation.running.busy
    key(viewer, "Ctrl+Z")
    let_go(annotation, model)
    assert annotation.session.results.indices(1) == []
    assert heard[-1] == "the propagation ended, as what it began with was undone"
    key(viewer, "Ctrl+Shift+Z")
    assert annotation.session.results.indices(1) == [4]
    key(viewer, "G")
    settle(annotation)
    key(viewer, "Ctrl+Z")
    assert annotation.session.results.indices(1) == [4]
    assert notes == []


@pytest.mark.parametrize("how", ["click", "box"])
def test_a_stroke_and_what_was_said_before_it_are_both_there(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, how: str
) -> None:
    model.free.clear()
    if how == "click":
        say(dock, ONE)
    else:
        drag(dock.bench.viewer, [(4, 6, 6), (4, 20, 20), (4, 29, 29)])
    stroke(dock, BESIDE)
    let_go(annotation, model)
    assert holds(mask(annotation), ONE)
    assert mask(annotation)[34, 84]


def test_a_click_is_asked_again_where_its_slice_was_changed_meanwhile(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend
) -> None:
    model.free.clear()
    say(dock, ONE)
    annotation.prompting.paint({4: {1: OTHER.mask}})
    let_go(annotation, model)
    assert mask(annotation)[18, 18]
    assert mask(annotation)[54, 66]


def test_the_click_on_an_object_that_was_deleted_is_said(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str]
) -> None:
    model.free.clear()
    say(dock, ONE)
    annotation.operations.delete([1])
    let_go(annotation, model)
    assert ["was not taken over" in note for note in notes] == [True]
    assert len(annotation.prompts.points.data) == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def kept(annotation: Annotation) -> Path:
    wait_until(lambda: annotation.session.folder is not None)
    folder = annotation.session.folder
    assert folder is not None
    return folder


def test_finishing_waits_for_the_last_answer(dock: MedSam2Dock, annotation: Annotation, model: HeldBackend) -> None:
    folder = kept(annotation)
    model.free.clear()
    say(dock, ONE)
    dock.image.start.click()
    assert dock.image.start.text() == "Finishing…"
    model.free.set()
    wait_until(lambda: dock.bench.annotation is None)
    with AnnotationSession.open(folder, backend=model) as session:
        assert holds(session.results.get(1, 4).mask, ONE)  # type: ignore[union-attr]


def test_a_model_that_fails_holds_nothing_up(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str]
) -> None:
    model.broken = True
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "Return")
    dock.image.start.click()
    model.free.set()
    wait_until(lambda: dock.bench.annotation is None)
    assert "the model is broken" in notes[0]
    assert "no mask" in notes[1]
    assert len(notes) == 2


def test_undo_lets_a_session_finish_whose_model_does_not_answer(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend
) -> None:
    model.free.clear()
    say(dock, ONE)
    dock.image.start.click()
    assert dock.bench.keeper.finishing
    key(dock.bench.viewer, "Ctrl+Z")
    assert dock.bench.annotation is None
    model.free.set()


def test_another_session_can_be_opened_though_the_image_went_while_the_model_thought(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "other.tif", ONE.picture())
    with AnnotationSession.create(tmp_path / "other", ImageStack.open(tmp_path / "other.tif"), backend=model) as other:
        other.add_object("there")
    model.free.clear()
    say(dock, ONE)
    key(dock.bench.viewer, "Return")
    dock.bench.open_folder(tmp_path / "other")
    wait_until(lambda: dock.bench.keeper.finishing)
    dock.bench.viewer.layers.remove(annotation.image)
    wait_until(lambda: dock.bench.annotation is not None)
    assert dock.bench.annotation.session.objects[1].name == "there"  # type: ignore[union-attr]
    assert not dock.bench.opening.busy


@pytest.mark.parametrize("saved", [True, False])
def test_what_waits_when_the_window_closes_is_asked_when_the_session_is_opened(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend, notes: list[str], saved: bool
) -> None:
    viewer = dock.bench.viewer
    if saved:
        kept(annotation)
    model.free.clear()
    say(dock, ONE)
    viewer.dims.set_current_step(0, 5)
    (top, left), (bottom, right) = (42, 54), (66, 78)
    drag(viewer, [(5, top, left), (5, (top + bottom) / 2, (left + right) / 2), (5, bottom, right)])
    assert len(annotation.session.prompts) == 0
    began = time.monotonic()
    threading.Timer(0.2, model.free.set).start()
    dock.shut()
    assert time.monotonic() - began < 5
    folder = kept(annotation)
    viewer.layers.clear()
    again = open_dock(viewer)
    model.free.clear()
    again.bench.open_folder(folder)
    wait_until(lambda: again.bench.annotation is not None)
    opened = again.bench.annotation
    assert opened is not None
    assert opened.prompting.busy
    model.free.set()
    settle(opened)
    assert holds(mask(opened), ONE)
    assert holds(mask(opened, 1, 5), OTHER)
    assert opened.session.prompts[1, 5].box is not None
    again.bench.finish()
    wait_until(lambda: again.bench.annotation is None)
    again.bench.open_folder(folder)
    wait_until(lambda: again.bench.annotation is not None)
    assert not again.bench.annotation.prompting.busy  # type: ignore[union-attr]
    assert len(again.bench.annotation.session.prompts[1, 4].points) == 1  # type: ignore[union-attr]
    again.shut()
    assert notes == []


@pytest.mark.parametrize(
    "entries",
    [
        "all",
        [None, {}, {"object": 1}, {"object": 9, "index": 4, "points": [[1, 1]]}],
        [{"object": 1, "index": 99, "points": [[1, 1]]}, {"object": 1, "index": 4, "points": [["a", 1]]}],
        [{"object": 1, "index": 4, "box": [1, 1]}, {"object": 1, "index": 4, "mask": "a.tif"}],
    ],
)
def test_nonsense_about_what_waited_is_passed_over(
    dock: MedSam2Dock, annotation: Annotation, notes: list[str], entries: object
) -> None:
    folder = kept(annotation)
    annotation.new_object()
    dock.bench.finish()
    wait_until(lambda: dock.bench.annotation is None)
    write_view(folder, read_view(folder) | {"unanswered": entries})
    dock.bench.open_folder(folder)
    wait_until(lambda: dock.bench.annotation is not None)
    assert not dock.bench.annotation.prompting.busy  # type: ignore[union-attr]
    assert "unanswered" not in read_view(folder)
    assert notes == []


def test_a_stroke_that_waits_is_saved_when_the_window_closes(
    dock: MedSam2Dock, annotation: Annotation, model: HeldBackend
) -> None:
    folder = kept(annotation)
    annotation.new_object("cell")
    model.free.clear()
    say(dock, ONE)
    stroke(dock, BESIDE)
    threading.Timer(0.5, model.free.set).start()
    dock.bench.close()
    with AnnotationSession.open(folder, backend=model) as session:
        assert session.results.get(1, 4).mask[34, 84]  # type: ignore[union-attr]

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
import torch
from tests.conftest import dice
from tests.dummy import DummyBackend, squares, stack_of_squares

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.replay import replay as replayed
from napari_medsam2.results import ObjectResult
from napari_medsam2.state import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend, Decoded, Embedding, ViewPrompt

nib: Any = untyped


@pytest.fixture
def session(backend: Backend, balls: Balls) -> AnnotationSession:
    session = AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend)
    for label, index in ((1, 12), (2, 11)):
        session.add_object(label=label)
        session.add_box(label, index, balls.box(label, index))
    return session


def test_one_box_each_gives_both_balls(session: AnnotationSession, balls: Balls) -> None:
    results = list(session.propagate())
    labels = np.asarray(session.labels())
    for label in (1, 2):
        assert dice(labels == label, balls.labels == label) > 0.85
    for result in results:
        for one in result.objects:
            np.testing.assert_array_equal(
                one.mask & (labels[result.index] == one.label), labels[result.index] == one.label
            )


def test_propagation_stops_where_the_object_has_ended(session: AnnotationSession, balls: Balls) -> None:
    reached = [r.index for r in session.propagate(labels=[1])]
    inside = np.flatnonzero((balls.labels == 1).any((1, 2)))
    # At most the two slices that patience allows beyond each end, and one of doubt.
    assert min(reached) >= inside[0] - 3
    assert max(reached) <= inside[-1] + 3
    assert set(inside) - {12} <= set(reached)


@pytest.mark.parametrize("policy", ["self-sorting", "released", "fifo"])
def test_every_policy_carries_the_ball(backend: Backend, balls: Balls, policy: str) -> None:
    session = AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend, memory=policy)  # type: ignore[arg-type]
    label = session.add_object()
    session.add_box(label, 11, balls.box(2, 11))
    for _ in session.propagate():
        pass
    assert dice(np.asarray(session.labels()) == label, balls.labels == 2) > 0.8


def test_direction_and_range_are_kept(session: AnnotationSession) -> None:
    assert all(r.index > 12 for r in session.propagate(labels=[1], direction="forward"))
    assert all(r.index < 12 for r in session.propagate(labels=[1], direction="backward"))
    assert {r.index for r in session.propagate(labels=[1], start=11, stop=15)} == {11, 13, 14}


def test_results_come_outwards_from_the_prompt(session: AnnotationSession) -> None:
    order = [r.index for r in session.propagate(labels=[1])]
    forward, backward = [i for i in order if i > 12], [i for i in order if i < 12]
    assert forward == sorted(forward)
    assert backward == sorted(backward, reverse=True)


class _Even(DummyBackend):
    """As sure of one slice as of another."""

    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        found = super().decode(embedding, prompts, context)
        return replace(found, iou=torch.full_like(found.iou, 0.8), score=torch.full_like(found.score, 20.0))


def test_a_mask_is_less_sure_the_farther_it_was_carried() -> None:
    session = AnnotationSession(ImageStack(np.repeat(squares()[:1], 41, axis=0), "ZYX"), backend=_Even())
    label = session.add_object()
    session.add_box(label, 20, (2.5, 2.5, 10.5, 10.5))
    for _ in session.propagate():
        pass
    assert session.results.indices(label) == list(range(41))
    for index in range(41):
        result = session.results.get(label, index)
        assert result is not None
        # 1 beside the prompt is 6 % less than on it, 20 slices on it is 23 %.
        expected = 0.8 / (1 + 0.1 * np.log(1 + abs(index - 20)))
        assert result.confidence == pytest.approx(expected, abs=2e-3), index


def test_prompted_slices_are_not_computed_again(session: AnnotationSession, balls: Balls) -> None:
    painted = balls.labels[14] == 1
    painted[:25] = False
    session.add_mask(1, 14, painted)
    before = session.slice_labels(12)
    assert not {12, 14} & {r.index for r in session.propagate(labels=[1])}
    np.testing.assert_array_equal(session.slice_labels(12), before)
    np.testing.assert_array_equal(session.results.get(1, 14).mask, painted)  # type: ignore[union-attr]


def test_between_two_prompts_masks_come_from_either(session: AnnotationSession, balls: Balls) -> None:
    session.add_mask(1, 8, balls.labels[8] == 1)
    sides = {
        (direction, r.index): r.objects[0]
        for direction in ("forward", "backward")
        for r in session.propagate(labels=[1], direction=direction)
    }
    order = [r.index for r in session.propagate(labels=[1]) if 8 < r.index < 12]
    assert order == [9, 10, 11, 11, 10, 9]
    for index in (9, 10, 11):
        joined = session.results.get(1, index)
        assert joined is not None
        a, b = sides["forward", index], sides["backward", index]
        # Kept masks of the forward walk are the same to the pixel.
        assert joined.disagreement == pytest.approx(1 - dice(a.mask, b.mask))
        assert min(a.confidence, b.confidence) <= joined.confidence <= max(a.confidence, b.confidence)
        assert (joined.mask | ~(a.mask & b.mask)).all(), "what both say is there is there"
        assert (~joined.mask | a.mask | b.mask).all(), "what neither says is there is not"
    for index in (7, 13):
        outside = session.results.get(1, index)
        assert outside is not None
        assert outside.disagreement is None


def gone_in_the_middle() -> AnnotationSession:
    """An object that is prompted on 1 and 11 and not to be seen on 4 to 6, propagated."""
    image = squares(14)
    image[4:7] = 30
    session = AnnotationSession(ImageStack(image, "ZYX", window=(0, 255)), backend=DummyBackend())
    label = session.add_object()
    session.add_box(label, 1, (1, 1, 12, 12))
    session.add_box(label, 11, (1, 1, 16, 16))
    for _ in session.propagate():
        pass
    return session


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ({"stop": 9}, range(9)),
        ({"start": 3}, range(3, 14)),
        ({"direction": "forward"}, range(1, 14)),
        ({"direction": "backward"}, range(11)),
        ({"stop": 9, "direction": "forward"}, range(9)),
    ],
)
def test_masks_of_walks_that_are_not_done_stay(asked: dict[str, Any], done: range) -> None:
    """Walks end where the object is not to be seen: what lies behind is another walk's, or outside the range."""
    session = gone_in_the_middle()
    before = {i: session.slice_labels(i) == 1 for i in range(14)}
    there = [i for i in range(14) if before[i].any()]
    assert there == [0, 1, 2, 3, *range(7, 14)]
    reached = {r.index for r in session.propagate(**asked)}
    assert reached
    assert reached <= set(done)
    assert [i for i in range(14) if (session.slice_labels(i) == 1).any()] == there
    for index in set(range(14)) - reached:
        np.testing.assert_array_equal(session.slice_labels(index) == 1, before[index])


def test_what_is_drawn_beyond_an_end_goes_within_the_range_only() -> None:
    """Behind the last prompt there is one walk: what it drew beyond the end, as it is now, goes, as far as asked."""
    session = AnnotationSession(ImageStack(squares(14), "ZYX", window=(0, 255)), backend=DummyBackend())
    label = session.add_object()
    session.add_box(label, 1, (1, 1, 12, 12))
    for _ in session.propagate():
        pass
    tip = np.zeros((24, 24), bool)
    tip[23, 0] = True
    session.add_mask(label, 1, tip)
    for _ in session.propagate(stop=9):
        pass
    assert [i for i in session.results.indices(label) if (session.slice_labels(i) == label).any()] == [1, *range(9, 14)]


def test_what_only_one_side_sees_between_two_prompts_is_there(session: AnnotationSession, balls: Balls) -> None:
    """A prompt at an object's tip, a few pixels, carries nothing: that takes nothing from what the other side sees."""
    tip = np.zeros(balls.labels.shape[1:], bool)
    middle = np.argwhere(balls.labels[8] == 1).mean(0).round().astype(int)
    tip[middle[0], middle[1]] = True
    for _ in session.propagate(labels=[1]):
        pass
    before = {i: result.mask for i in (9, 10, 11) if (result := session.results.get(1, i)) is not None}
    session.add_mask(1, 8, tip)
    for _ in session.propagate(labels=[1]):
        pass
    for index in (9, 10, 11):
        result = session.results.get(1, index)
        assert result is not None
        assert dice(result.mask, before[index]) > 0.8


def test_cancelling_keeps_what_was_reached_and_nothing_else(session: AnnotationSession) -> None:
    walk = session.propagate(labels=[1])
    reached = [next(walk).index for _ in range(3)]
    walk.close()  # type: ignore[attr-defined]
    assert session.results.indices(1) == sorted([12, *reached])
    again = {r.index for r in session.propagate(labels=[1])}
    assert set(reached) <= again


def test_propagation_is_repeatable(session: AnnotationSession) -> None:
    first = {(r.index, o.label): o.logits.copy() for r in session.propagate() for o in r.objects}
    second = {(r.index, o.label): o.logits for r in session.propagate() for o in r.objects}
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_objects_together_are_as_objects_alone(session: AnnotationSession) -> None:
    together = {(r.index, o.label): o.mask for r in session.propagate() for o in r.objects}
    for label in (1, 2):
        for result in session.propagate(labels=[label]):
            np.testing.assert_array_equal(result.mask, together[result.index, label])


def test_a_correction_reaches_the_neighbours(session: AnnotationSession, balls: Balls) -> None:
    """A prompt on a slice that had a propagated mask is a correction: pinned, and followed from there."""
    for _ in session.propagate(labels=[1]):
        pass
    session.add_mask(1, 15, balls.labels[15] == 1)
    assert session.prompts[1, 15].corrects
    plan = session.plan(labels=[1])
    assert plan.seeds[1][15].corrected
    assert {r.index for r in session.propagate(labels=[1])} >= {13, 14, 16}


def test_a_pinned_mask_beyond_the_end_of_an_object_stays() -> None:
    image = squares(12)
    image[4:] = 30
    session = AnnotationSession(ImageStack(image, "ZYX", window=(0, 255)), backend=DummyBackend())
    label = session.add_object()
    mask = squares(12)[2] > 100
    session.add_mask(label, 2, mask)
    old = replace(ObjectResult.from_mask(label, 9, mask), source="propagated")
    session.edit("of an earlier propagation", [old, replace(old, index=8)])
    session.pin_memory(label, 9)
    reached = [r.index for r in session.propagate()]
    assert max(reached) < 8
    assert session.results.get(label, 8) is None
    kept = session.results.get(label, 9)
    assert kept is not None
    np.testing.assert_array_equal(kept.mask, mask)


def test_a_removed_object_takes_no_late_results(session: AnnotationSession) -> None:
    late = next(iter(session.propagate(labels=[2])))
    session.remove_object(2)
    session.apply(late)
    assert 2 not in np.unique(session.slice_labels(late.index))


def test_a_new_object_gets_no_masks_of_one_that_had_its_label_before(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    session = AnnotationSession.create(folder, stack_of_squares(), backend=DummyBackend())
    one = session.add_object("one")
    session.add_box(one, 3, (1, 1, 12, 12))
    walk = session.propagate()
    next(walk)
    session.remove_object(one)
    assert session.add_object("two") == one
    session.add_box(one, 7, (12, 12, 22, 22))
    session.clear_prompts(one, 7)
    for _ in walk:
        pass
    assert session.results.indices() == []
    assert session.pending == {(one, 7)}
    assert replayed(session) == ()

    session.rename_object(one, "three")
    session.add_box(one, 7, (12, 12, 22, 22))
    session.close()
    session = AnnotationSession.open(folder, stack=stack_of_squares(), backend=DummyBackend())
    # Another name, its undo, and a removal that was undone leave it the same object.
    walk = session.propagate()
    session.rename_object(one, "four")
    session.recolor_object(one, "#ff0000")
    session.edit("five", objects=[ObjectInfo(one, "five")])
    session.undo()
    session.remove_object(one)
    session.undo()
    # Not further: without the box that it began with the propagation would end.
    for _ in range(2):
        session.undo()
    assert session.objects[one].name == "three"
    for _ in walk:
        pass
    assert len(session.results) == len(session.stack)


def test_a_collection_is_segmented_from_one_mask(backend: Backend) -> None:
    rng = np.random.default_rng(5)
    images, truths = [], []
    for size in ((120, 150), (150, 110), (130, 130), (96, 160)):
        y, x = np.ogrid[: size[0], : size[1]]
        truth = np.zeros(size, bool)
        for _ in range(5):
            cy, cx, r = rng.uniform(15, size[0] - 15), rng.uniform(15, size[1] - 15), rng.uniform(9, 14)
            truth |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
        images.append((40 + 120 * truth + rng.normal(0, 8, size)).clip(0, 255).astype(np.uint8))
        truths.append(truth)
    session = AnnotationSession(ImageStack(images), backend=backend)
    assert session.kind == "collection"
    label = session.add_object("cells")
    session.add_mask(label, 0, truths[0])
    results = list(session.propagate())
    assert [r.index for r in results] == [1, 2, 3]
    for result in results:
        assert dice(result.mask, truths[result.index]) > 0.8
        assert result.mask.shape == truths[result.index].shape


def test_a_film_with_a_depth_of_one_slice_is_followed_along_time(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(squares(6).transpose(2, 1, 0)[:, :, None], np.eye(4)), tmp_path / "film.nii")
    stack = ImageStack.open(tmp_path / "film.nii", window=(0, 255))
    assert (stack.axes, stack.shape[:2]) == ("TZYX", (6, 1))
    session = AnnotationSession(stack, backend=DummyBackend())
    label = session.add_object()
    session.add_mask(label, 2, squares(6)[2] > 100)
    assert sorted(r.index for r in session.propagate()) == [0, 1, 3, 4, 5]
    assert all((session.slice_labels(index) == label).any() for index in range(6))

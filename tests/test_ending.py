from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import dice
from tests.dummy import DummyBackend

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.ending import narrowest, same_body, waist
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ([10, 9, 8, 7, 6, 5, 4], None),
        ([10, 9, 7, 5, 5.3, 6], 3),
        ([10, 9, 7, 5, 5.3], None),
        ([6, 8, 10, 9, 7, 5, 6], 5),
        ([6, 7, 8, 9, 10], None),
        ([10, 9.8, 10.1, 9.9, 10.2], None),
        ([10], None),
        ([10, 10, 10, 10], None),
        ([10, 2, 9], 1),
    ],
)
def test_a_waist_is_where_it_narrows_and_widens_again(widths: list[float], expected: int | None) -> None:
    assert waist(widths) == expected


@pytest.mark.parametrize(
    ("widths", "before", "expected"),
    [
        ([7, 8], 10, 0),
        ([7, 7.3], 10, None),
        ([7, 6, 5, 6], 10, 2),
        ([9.8, 10.7], 10, None),
        ([7, 10.1, 9, 8, 9], 10, 0),
    ],
)
def test_a_prompted_slice_may_be_the_waist_of_what_is_wider_before(
    widths: list[float], before: float, expected: int | None
) -> None:
    assert waist(widths, before) == expected


def _column() -> tuple[np.ndarray, np.ndarray]:
    """Two balls, one on top of the other, that touch: on every slice there is something bright at the same place."""
    z, y, x = np.ogrid[:32, :80, :80]
    labels = np.zeros((32, 80, 80), np.uint16)
    for label, cz in ((1, 9), (2, 22)):
        labels[(2.3 * (z - cz)) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 <= 17**2] = label
    image = 200 + 800 * (labels > 0) + np.random.default_rng(0).normal(0, 40, labels.shape)
    return image.astype(np.float32), labels


def _carried(backend: Backend, axes: str = "ZYX") -> tuple[AnnotationSession, int, np.ndarray, int]:
    """Carry the first ball's mask on: the session, the object, what is the first ball, the last slice that was seen."""
    image, labels = _column()
    if axes == "TZYX":
        image = image[:, None]
    session = AnnotationSession(ImageStack(image, axes), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9, labels[9] == 1)
    last = max(r.index for r in session.propagate())
    return session, label, labels == 1, last


def _assert_parted(session: AnnotationSession, label: int, first: np.ndarray, last: int) -> None:
    found = np.asarray(session.labels()) == label
    assert dice(found, first) > 0.8
    assert not found[19:].any()
    # It went on far enough to see the waist, no farther.
    assert last < 24


def test_touching_bodies_are_parted(backend: Backend) -> None:
    _assert_parted(*_carried(backend))


def test_a_network_that_takes_what_is_bright_is_stopped_at_the_waist() -> None:
    session, label, first, last = _carried(DummyBackend(side=80))
    _assert_parted(session, label, first, last)
    for _ in session.propagate(part=False):
        pass
    assert (np.asarray(session.labels()) == label)[22].any()


def test_what_a_person_prompted_further_on_is_one_object(backend: Backend) -> None:
    image, labels = _column()
    session = AnnotationSession(ImageStack(image, "ZYX"), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9, labels[9] == 1)
    session.add_mask(label, 22, labels[22] == 2)
    for _ in session.propagate():
        pass
    found = np.asarray(session.labels()) == label
    assert all(found[z].any() for z in range(9, 23))


@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_along_time_nothing_is_parted(axes: str) -> None:
    session, label, _, _ = _carried(DummyBackend(side=80), axes)
    assert (np.asarray(session.labels()) == label)[22].any()


def test_slices_of_a_run_may_lie_apart_in_number(backend: Backend) -> None:
    """In ZTYX the neighbours in depth are as many numbers apart as there are time points."""
    image, labels = _column()
    both = np.stack([np.full_like(image, 200), image], axis=1)
    session = AnnotationSession(ImageStack(both, "ZTYX"), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9 * 2 + 1, labels[9] == 1)
    seen = {r.index for r in session.propagate()}
    assert all(i % 2 == 1 for i in seen)
    found = np.asarray(session.labels())
    assert not found[:, 0].any()
    assert dice(found[:, 1] == label, labels == 1) > 0.8


@pytest.mark.parametrize(
    ("widths", "expected"),
    [([10, 9, 7, 5, 5.3, 6], 3), ([10, 11, 12], 2), ([10, 9.8, 10.4], 2), ([10], 0), ([10, 6, 4], 2)],
)
def test_a_body_that_is_known_to_have_ended_did_so_where_it_was_narrowest(widths: list[float], expected: int) -> None:
    assert narrowest(widths) == expected


def _disc(cy: float, cx: float, r: float, label: int = 1) -> ObjectResult:
    y, x = np.ogrid[:60, :60]
    return ObjectResult.from_mask(label, 0, (y - cy) ** 2 + (x - cx) ** 2 <= r * r)


def test_masks_of_one_thing_overlap_by_half() -> None:
    assert same_body(_disc(30, 30, 10), _disc(32, 30, 10))
    assert not same_body(_disc(30, 30, 10), _disc(30, 45, 10))
    assert not same_body(_disc(30, 30, 10), _disc(10, 10, 5))
    # A nucleus in its cell.
    assert not same_body(_disc(30, 30, 5), _disc(30, 30, 15))
    # The exact bound, and nothing at all.
    one, two = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    one[0, :3], two[0, 1:4] = True, True
    assert same_body(ObjectResult.from_mask(1, 0, one), ObjectResult.from_mask(2, 0, two))
    one[0, 3], two[0, 1] = True, False
    two[0, 4] = True
    assert not same_body(ObjectResult.from_mask(1, 0, one), ObjectResult.from_mask(2, 0, two))
    nothing = ObjectResult.from_mask(1, 0, np.zeros((60, 60), bool))
    assert not same_body(nothing, nothing)


def _cylinder() -> np.ndarray:
    """Bright and of one width all the way: nothing in the picture tells two objects in it apart."""
    y, x = np.ogrid[:80, :80]
    disc = (y - 40) ** 2 + (x - 40) ** 2 <= 17**2
    return (200 + 800 * np.repeat(disc[None], 24, 0) + np.random.default_rng(0).normal(0, 40, (24, 80, 80))).astype(
        np.float32
    )


def test_a_walk_ends_where_a_person_prompted_another_object(backend: Backend) -> None:
    image = _cylinder()
    y, x = np.ogrid[:80, :80]
    disc = (y - 40) ** 2 + (x - 40) ** 2 <= 17**2
    session = AnnotationSession(ImageStack(image, "ZYX"), backend=backend)
    first, second = session.add_object(), session.add_object()
    session.add_mask(first, 5, disc)
    session.add_mask(second, 15, disc)
    for _ in session.propagate(direction="forward"):
        pass
    labels = np.asarray(session.labels())
    assert (labels[14] == first).any()
    assert not (labels[15:] == first).any()
    assert session.results.get(first, 16) is None
    assert (labels[20] == second).any()


@pytest.mark.parametrize("again", [False, True], ids=["propagate", "repropagate"])
def test_so_does_one_of_an_object_that_is_propagated_alone(again: bool) -> None:
    """It makes no difference whether the other object, prompted on slice 15, is propagated with it."""
    y, x = np.ogrid[:80, :80]
    disc = (y - 40) ** 2 + (x - 40) ** 2 <= 17**2
    session = AnnotationSession(ImageStack(_cylinder(), "ZYX"), backend=DummyBackend(side=80))
    first, second = session.add_object(), session.add_object()
    session.add_mask(first, 5, disc)
    session.add_mask(second, 15, disc)
    together = session.frozen()
    for _ in together.propagate():
        pass
    for _ in session.repropagate([first]) if again else session.propagate([first]):
        pass
    assert session.results.indices(second) == [15]
    there = session.results.indices(first)
    assert there == together.results.indices(first)
    assert [i for i in there if (session.slice_labels(i) == first).any()] == list(range(15))
    for index in there:
        one, other = session.results.get(first, index), together.results.get(first, index)
        np.testing.assert_array_equal(one.mask, other.mask)  # type: ignore[union-attr]


def test_a_corrected_end_is_no_beginning() -> None:
    """What is painted where an object ends is carried on into no other body that touches it there."""
    session, label, first, _ = _carried(DummyBackend(side=80))
    last = int(np.flatnonzero(first.any((1, 2)))[-1])
    session.add_mask(label, last, first[last])
    for _ in session.propagate():
        pass
    found = np.asarray(session.labels()) == label
    assert not found[last + 1 :].any()
    assert dice(found, first) > 0.8

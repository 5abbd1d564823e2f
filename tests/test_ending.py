from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import dice

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.ending import waist

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


def test_touching_bodies_are_parted(backend: Backend) -> None:
    image, labels = _column()
    session = AnnotationSession(ImageStack(image, "ZYX"), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9, labels[9] == 1)
    seen = [r.index for r in session.propagate()]
    found = np.asarray(session.labels()) == label
    assert dice(found, labels == 1) > 0.8
    assert not found[19:].any()
    # It went on far enough to see the waist, no farther.
    assert max(seen) < 24

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


def test_along_time_nothing_is_parted(backend: Backend) -> None:
    image, labels = _column()
    session = AnnotationSession(ImageStack(image, "TYX"), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9, labels[9] == 1)
    for _ in session.propagate():
        pass
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


def test_a_corrected_end_is_no_beginning(backend: Backend) -> None:
    """What is painted where an object ends is carried on into no other body that touches it there."""
    image, labels = _column()
    session = AnnotationSession(ImageStack(image, "ZYX"), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9, labels[9] == 1)
    for _ in session.propagate():
        pass
    last = int(np.flatnonzero((labels == 1).any((1, 2)))[-1])
    session.add_mask(label, last, labels[last] == 1)
    for _ in session.propagate():
        pass
    found = np.asarray(session.labels()) == label
    assert not found[last + 1 :].any()
    assert dice(found, labels == 1) > 0.8

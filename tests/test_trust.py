from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.results import ObjectResult
from napari_medsam2.trust import Course, Parting, Trust, course

if TYPE_CHECKING:
    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend

_TRUST = Trust(
    (0.5, 1.0, 0.2, 2.0, -1.0, 0.0, -1.0, -0.3), (0.3, 0.0, -0.5, 0.0, 0.0, 1.0, 0.0, 0.2), (0.1, 1.0, 2.0, 0.5, -0.4)
)


def _square(y: int, x: int, size: int) -> ObjectResult:
    mask = np.zeros((50, 50), bool)
    mask[y : y + size, x : x + size] = True
    return ObjectResult.from_mask(1, 0, mask)


def test_the_course_is_what_the_masks_say() -> None:
    known = course(_square(10, 10, 10), _square(10, 15, 20), 900, 0.7, 0.9, 4)
    # 10 × 10 pixels lie under 10 × 5 of the other's 400.
    assert known.agreement == pytest.approx(2 * 50 / 500)
    assert known.widened == pytest.approx(math.log(10 / 20))
    assert known.waned == pytest.approx(math.log(30 / 10))
    assert (known.iou, known.score, known.distance) == (0.7, 0.9, 4)


def test_an_empty_mask_has_waned_as_far_as_the_last_one() -> None:
    empty = ObjectResult.from_mask(1, 0, np.zeros((50, 50), bool))
    known = course(empty, _square(0, 0, 5), 400, 0.5, 0.1, 3)
    assert (known.agreement, known.widened) == (0, 0)
    assert known.waned == pytest.approx(math.log(20 / 5))


def test_trust_is_a_logistic_function_of_the_course() -> None:
    known = Course(0.8, 0.9, 0.75, 0.1, 0.2, 5)
    total = 0.5 + math.log(4) + 0.2 * math.log(9) + 2 * 0.5 - 0.1 - 0.2**2 - 0.3 * math.log(5)
    assert _TRUST.of(_square(5, 5, 5), known) == pytest.approx(1 / (1 + math.exp(-total)))
    empty = ObjectResult.from_mask(1, 0, np.zeros((50, 50), bool))
    total = 0.3 - 0.5 * math.log(9) + 0.2 + 0.2 * math.log(5)
    assert _TRUST.of(empty, known) == pytest.approx(1 / (1 + math.exp(-total)))


def test_trust_in_a_withdrawal_follows_the_widths() -> None:
    empty = ObjectResult.from_mask(1, 0, np.zeros((50, 50), bool))
    total = 0.1 + 0.3 + 2 * 0.25 + 0.5 - 0.4 * math.log(4)
    value = _TRUST.of_withdrawn(empty, Parting(0.3, 0.25, True, 0.8))
    assert value == pytest.approx(1 / (1 + math.exp(-total)))
    assert _TRUST.of_withdrawn(empty, Parting(0.3, 0.25, False, 0.8)) < value
    # Widths that make no sense count as none.
    assert _TRUST.of_withdrawn(empty, Parting(-0.5, 0.25, False, 0.5)) == pytest.approx(1 / (1 + math.exp(-0.6)))


def test_extremes_stay_finite() -> None:
    for iou, score, agreement in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        value = _TRUST.of(_square(5, 5, 5), Course(iou, score, agreement, 9.0, -9.0, 1))
        assert 0 <= value <= 1


def test_masks_withdrawn_at_a_waist_are_trusted_by_how_deep_it_is(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, y, x = np.ogrid[:32, :80, :80]
    image = np.full((32, 80, 80), 200.0, np.float32)
    for cz in (9, 22):
        image[(2.3 * (z - cz)) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 <= 17**2] = 1000
    image += np.random.default_rng(0).normal(0, 40, image.shape).astype(np.float32)
    session = AnnotationSession(ImageStack(image, "ZYX"), backend=backend)
    label = session.add_object()
    session.add_mask(label, 9, image[9] > 600)
    monkeypatch.setattr(backend, "trust", Trust((0.0,) * 8, (0.0,) * 8, (0.0, 1.0, 0.0, 0.0, 0.0)), raising=False)
    before = {}
    for step in session.propagate(direction="forward"):
        for one in step.objects:
            before.setdefault(step.index, one)
    gone = [i for i, one in before.items() if one.area and not session.results.get(label, i).area]  # type: ignore[union-attr]
    assert gone
    widths = {i: math.sqrt(one.area) for i, one in before.items() if one.area}
    end = min((i for i in widths if i not in gone), key=lambda i: widths[i])
    widest = max([math.sqrt((image[9] > 600).sum()), *(w for i, w in widths.items() if i <= end)])
    expected = widest / (widest + widths[end])
    for index in gone:
        assert session.results.get(label, index).confidence == pytest.approx(expected, abs=1e-6)  # type: ignore[union-attr]


def test_carried_masks_have_the_confidence_that_their_course_gives(
    backend: Backend, balls: Balls, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend)
    label = session.add_object()
    prompted = session.add_box(label, 12, balls.box(1, 12)).confidence
    # Masks by their distance alone, absent ones by how far the last mask had waned.
    only_distance = Trust((0.0,) * 7 + (-1.0,), (0.0,) * 5 + (1.0, 0.0, 0.0), (math.log(7), 0, 0, 0, 0))
    monkeypatch.setattr(backend, "trust", only_distance, raising=False)
    for _ in session.propagate():
        pass
    assert session.results.get(label, 12).confidence == prompted  # type: ignore[union-attr]
    seen = {"present": 0, "absent": 0}
    for index in range(len(balls.labels)):
        result = session.results.get(label, index)
        if result is None or index == 12:
            continue
        if result.area:
            seen["present"] += 1
            assert result.confidence == pytest.approx(1 / (1 + abs(index - 12)))
        elif result.view is not None:
            seen["absent"] += 1
            assert result.confidence > 0.5
        else:
            assert result.confidence == pytest.approx(0.875)
    assert seen["present"] > 4
    assert seen["absent"] > 0

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import dice

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.evaluation.interactive import GOOD, clicks_until_good, mend, next_click, spoiled

if TYPE_CHECKING:
    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend


def _square(y: int, x: int, size: int) -> np.ndarray:
    mask = np.zeros((60, 60), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def test_the_next_click_goes_into_the_largest_error() -> None:
    truth = _square(10, 10, 21)
    assert next_click(truth, truth) is None
    assert next_click(np.zeros_like(truth), truth) == ((20, 20), 1)
    extra = truth | _square(40, 40, 11)
    assert next_click(extra, truth) == ((45, 45), 0)
    missing = extra & ~_square(10, 10, 13)
    assert next_click(missing, truth) == ((16, 16), 1)


@pytest.mark.parametrize("kind", ["eroded", "dilated", "shifted", "bitten"])
def test_masks_are_spoiled_somewhat(kind: str) -> None:
    truth = _square(15, 15, 25)
    bad = spoiled(truth, kind)
    assert 0.5 < dice(bad, truth) < 0.97
    np.testing.assert_array_equal(bad, spoiled(truth, kind))
    dot = _square(3, 3, 2)
    assert spoiled(dot, kind).any()


def test_the_annotator_clicks_until_it_is_content(backend: Backend, balls: Balls) -> None:
    session = AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend)
    truth = balls.labels[12] == 1
    label = session.add_object()
    clicks, scores = clicks_until_good(session, label, 12, truth)
    assert len(scores) == clicks == len(session.prompts[label, 12].points)
    assert scores[-1] >= GOOD > max(scores[:-1], default=0)


def test_one_click_mends_a_spoiled_mask(backend: Backend, balls: Balls) -> None:
    session = AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend)
    truth = balls.labels[12] == 2
    for kind in ("eroded", "dilated", "shifted", "bitten"):
        bad = spoiled(truth, kind)
        after = mend(session, session.add_object(), 12, bad, truth)
        assert after is not None
        assert after > dice(bad, truth)
    assert mend(session, session.add_object(), 12, truth, truth) is None

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tests.conftest import dice

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.prompts import SlicePrompt
from napari_medsam2.refine import local_change
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend


def _result(mask: np.ndarray, confidence: float = 0.7) -> ObjectResult:
    logits = np.where(mask, 4.0, -4.0).astype(np.float32)
    return ObjectResult.from_logits(1, 0, (40, 40), (0, 0, logits), confidence, 1.0, "prompt", None)


def _click(y: int, x: int, label: int) -> SlicePrompt:
    return SlicePrompt(points=np.array([[5.0, 5.0], [y, x]]), labels=np.array([1, label]))


def _block(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_positive_click_adds_the_region_under_it_and_loses_nothing() -> None:
    old = _block(10, 20, 10, 20)
    # The network adds what was asked for on the right, and something below, and drops the upper half.
    new = _block(15, 20, 10, 28) | _block(30, 35, 30, 35)
    out = local_change(_result(old), _result(new), _click(17, 24, 1))
    np.testing.assert_array_equal(out.mask, old | _block(15, 20, 20, 28))
    assert out.confidence == _result(new).confidence


def test_a_negative_click_removes_the_region_under_it_and_adds_nothing() -> None:
    old = _block(10, 20, 10, 28)
    new = _block(12, 20, 10, 20) | _block(30, 35, 30, 35)
    out = local_change(_result(old), _result(new), _click(17, 24, 0))
    expected = new & old
    expected[10:12, 10:28] = False  # connected with what the click is in
    np.testing.assert_array_equal(out.mask, expected)


def test_a_click_whose_change_the_network_does_not_make_gives_the_network_its_way() -> None:
    old, new = _result(_block(10, 20, 10, 20)), _result(_block(10, 20, 10, 25))
    assert local_change(old, new, _click(35, 35, 1)) is new
    assert local_change(old, new, _click(12, 12, 0)) is new


def test_a_click_far_from_the_edge_leaves_a_painted_detail(backend: Backend, balls: Balls) -> None:
    session = AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend)
    truth = balls.labels[12] == 2
    rows, columns = np.nonzero(truth)
    painted = truth.copy()
    painted[:, columns.max() - 6 :] = False
    # A spur that no network would draw.
    top = rows.min()
    spur = np.zeros_like(truth)
    spur[max(top - 6, 0) : top, int(np.median(columns)) : int(np.median(columns)) + 2] = True
    painted |= spur
    label = session.add_object()
    session.add_mask(label, 12, painted)
    missing = np.argwhere(truth & ~painted)
    y, x = missing[np.abs(missing - missing.mean(0)).sum(1).argmin()].tolist()
    result = session.add_points(label, 12, [(y, x)], [1])
    assert dice(result.mask & ~spur, truth) > dice(painted & ~spur, truth)
    assert (result.mask & spur).sum() == spur.sum()
    # It still conditions a propagation.
    assert [r.index for r in session.propagate(start=11, stop=14)]

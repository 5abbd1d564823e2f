from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medsam2.results import LazyLabels, ObjectResult, Results, SliceResult


def _disc(shape: tuple[int, int], y: float, x: float, r: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return r - np.hypot(rows - y, columns - x)


def _result(label: int, logits: np.ndarray, iou: float = 0.9, score: float = 1.0) -> ObjectResult:
    return ObjectResult.from_logits(label, 0, logits.shape, (0, 0, logits), iou, score, "propagated", None)


def test_the_mask_is_where_the_logits_are_positive() -> None:
    logits = _disc((40, 50), 12.3, 30.1, 8)
    result = _result(1, logits)
    np.testing.assert_array_equal(result.mask, logits > 0)
    assert result.area == np.count_nonzero(logits > 0)
    rows, columns = np.flatnonzero((logits > 0).any(1)), np.flatnonzero((logits > 0).any(0))
    assert result.box == (rows[0] - 0.5, columns[0] - 0.5, rows[-1] + 0.5, columns[-1] + 0.5)
    inside = logits > 0
    # Logits are kept in eighths, faint ones rounded up: an eighth is at most 1/32 of probability.
    np.testing.assert_allclose(result.probability[inside], 1 / (1 + np.exp(-logits[inside])), atol=0.032)


def test_faint_logits_keep_their_pixels() -> None:
    logits = np.full((6, 6), -0.01)
    logits[2:4, 2:4] = 0.01
    np.testing.assert_array_equal(_result(1, logits).mask, logits > 0)


def test_an_absent_object_has_no_mask_and_the_confidence_of_its_absence() -> None:
    result = _result(1, _disc((40, 50), 20, 20, 8), score=0.1)
    assert not result.mask.any()
    assert result.confidence == pytest.approx(0.9)
    assert result.box is None


def test_confidence_is_predicted_iou_times_presence() -> None:
    assert _result(1, _disc((40, 50), 20, 20, 8), iou=0.8, score=0.75).confidence == pytest.approx(0.6)


def test_overlaps_go_to_the_higher_logit_and_paint_wins_over_all() -> None:
    results = Results()
    one, two = _disc((40, 60), 20, 20, 15), _disc((40, 60), 20, 38, 12)
    results.put(_result(1, one))
    results.put(_result(2, two))
    labels = results.compose(0, (40, 60), np.dtype(np.uint16))
    certain = (np.abs(one - two) > 0.3) & (np.maximum(one, two) > 0.3)
    np.testing.assert_array_equal(labels[certain], np.where(one > two, 1, 2)[certain])
    assert not labels[np.maximum(one, two) < 0].any()

    painted = np.zeros((40, 60), bool)
    painted[18:22, 18:40] = True
    results.put(ObjectResult.from_mask(3, 0, painted))
    assert (results.compose(0, (40, 60), np.dtype(np.uint16))[painted] == 3).all()


def test_results_are_replaced_forgotten_and_listed() -> None:
    results = Results()
    for index in (4, 2):
        logits = _disc((20, 20), 10, 10, 5)
        results.put(ObjectResult.from_logits(7, index, (20, 20), (0, 0, logits), 0.5, 1, "prompt", None))
    results.put(_result(3, _disc((20, 20), 5, 5, 3)))
    assert results.indices() == [0, 2, 4]
    assert results.indices(7) == [2, 4]
    assert [row[:2] for row in results.summary()] == [(0, 3), (2, 7), (4, 7)]
    results.put(ObjectResult.from_mask(7, 2, np.eye(20, dtype=bool)))
    kept = results.get(7, 2)
    assert kept is not None
    np.testing.assert_array_equal(kept.mask, np.eye(20, dtype=bool))
    results.discard(7)
    assert results.indices() == [0]
    assert results.get(7, 4) is None


def test_a_slice_result_speaks_for_its_objects() -> None:
    one, two = _result(1, _disc((20, 20), 5, 5, 3), iou=0.5), _result(2, _disc((20, 20), 14, 14, 4))
    both = SliceResult(0, (one, two))
    assert both.labels == (1, 2)
    assert both.confidence == pytest.approx(0.5)
    np.testing.assert_array_equal(both.mask, one.mask | two.mask)
    assert set(both.masks) == {1, 2}


_parts = st.one_of(st.integers(-3, 2), st.slices(3), st.just(slice(None)))


@given(st.lists(_parts, max_size=4), st.booleans())
def test_lazy_labels_index_as_an_array_does(key: list[object], dots: bool) -> None:
    data = np.arange(3 * 3 * 4 * 5, dtype=np.uint16).reshape(3, 3, 4, 5)
    lazy = LazyLabels(data.shape, data.dtype, lambda i: data.reshape(9, 4, 5)[i])
    full: tuple[object, ...] = tuple(key)
    if dots and len(key) < 4:
        full = (*key[: len(key) // 2], Ellipsis, *key[len(key) // 2 :])
    np.testing.assert_array_equal(lazy[full], data[full])  # type: ignore[index]


def test_lazy_labels_draw_only_what_is_asked_for() -> None:
    drawn: list[int] = []

    def draw(index: int) -> np.ndarray:
        drawn.append(index)
        return np.full((4, 5), index, np.uint16)

    lazy = LazyLabels((100, 4, 5), np.dtype(np.uint16), draw)
    assert lazy[7, 2, 3] == 7
    assert drawn == [7]
    np.testing.assert_array_equal(lazy[[3, 99], 0, 0], [3, 99])
    assert drawn == [7, 3, 99]
    assert np.asarray(lazy).shape == lazy.shape
    with pytest.raises(IndexError):
        lazy[100]
    with pytest.raises(IndexError, match="too many indices"):
        lazy[0, 0, 0, 0]

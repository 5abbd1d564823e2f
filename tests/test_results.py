from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_medsam2.results import LazyLabels, ObjectResult, PackedResult, Results, SliceResult


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


@given(arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-127, 127)))
def test_kept_results_have_the_same_mask_and_settle_at_once(logits: np.ndarray) -> None:
    given_ = ObjectResult(1, 0, (20, 20), 3, 5, logits, 0.5, 1.0, "propagated")
    kept = PackedResult.of(given_).unpack()
    np.testing.assert_array_equal(kept.mask, given_.mask)
    np.testing.assert_array_equal(kept.logits == 127, logits == 127)
    np.testing.assert_array_equal(PackedResult.of(kept).unpack().logits, kept.logits)


def test_kept_probabilities_are_near_those_of_the_model() -> None:
    logits = _disc((80, 80), 40, 40, 25) / 3
    logits += np.random.default_rng(0).normal(0, 0.3, logits.shape)
    result = _result(1, logits)
    kept = PackedResult.of(result).unpack()
    # Half an octave around a logit of 2 is the farthest that a level lies from its logits, as probability.
    np.testing.assert_allclose(kept.probability, result.probability, atol=0.06)


def test_a_noisy_mask_is_kept_in_some_hundred_bytes() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (512, 512))
    result = _result(1, np.clip(3 * _disc((512, 512), 250, 250, 60), -9, 6.5) + noise)
    packed = PackedResult.of(result)
    assert packed.size[0] > 120
    assert len(packed.data) < 1500
    assert len(zlib.compress(result.logits.tobytes(), 9)) > 5 * len(packed.data)
    np.testing.assert_array_equal(packed.unpack().mask, result.mask)


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


def test_prompted_masks_are_kept_exactly_and_propagated_ones_to_the_pixel() -> None:
    """Clicks go on from a prompted mask's logits, so they must not be made coarse."""
    logits = np.random.default_rng(0).normal(0, 6, (30, 30)).astype(np.float32)
    for source, exact in (("prompt", True), ("propagated", False)):
        one = ObjectResult.from_logits(1, 0, (30, 30), (0, 0, logits), 0.9, 0.9, source, None)  # type: ignore[arg-type]
        back = PackedResult.of(one).unpack()
        assert np.array_equal(back.logits, one.logits) == exact
        np.testing.assert_array_equal(back.mask, one.mask)

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import LayerList
from napari.layers import Labels
from napari.layers._layer_actions import _convert_dtype, _duplicate_layer

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.painting import masks_painted
from napari_medsam2.widgets.shown_labels import ShownLabels

LABELS = np.random.default_rng(0).integers(0, 5, (3, 4, 6, 5)).astype(np.uint16)


def shown(order: tuple[int, ...] | None = None) -> ShownLabels:
    slices = LABELS.reshape(12, 6, 5)
    return ShownLabels(np.arange(12).reshape(3, 4), (6, 5), np.dtype(np.uint16), lambda i: slices[i].copy(), order)


def index(size: int) -> st.SearchStrategy[Any]:
    whole = st.integers(-size, size - 1)
    cut = st.builds(slice, st.none() | whole, st.none() | whole, st.none() | st.integers(1, 3))
    return whole | cut


@settings(deadline=None, max_examples=150)
@given(key=st.tuples(*map(index, LABELS.shape)), count=st.integers(0, 4), dots=st.booleans())
def test_it_is_indexed_like_an_array(key: tuple[Any, ...], count: int, dots: bool) -> None:
    short = (*key[:count], ...) if dots else key[:count]
    np.testing.assert_array_equal(shown()[short], LABELS[short])


@settings(deadline=None, max_examples=100)
@given(key=st.tuples(*map(index, LABELS.shape)), value=st.integers(0, 9))
def test_it_is_written_like_an_array(key: tuple[Any, ...], value: int) -> None:
    ours, theirs = shown(), LABELS.copy()
    ours[key] = value
    theirs[key] = value
    np.testing.assert_array_equal(np.asarray(ours), theirs)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), order=st.permutations(range(4)))
def test_rows_and_columns_may_lie_anywhere(data: st.DataObject, order: list[int]) -> None:
    theirs = np.moveaxis(LABELS, range(4), order).copy()
    ours = shown(tuple(order))
    assert ours.shape == theirs.shape
    key = tuple(data.draw(index(size)) for size in theirs.shape)
    np.testing.assert_array_equal(ours[key], theirs[key])
    values = np.arange(theirs[key].size, dtype=np.uint16).reshape(theirs[key].shape) % 7
    ours[key] = values
    theirs[key] = values
    np.testing.assert_array_equal(np.asarray(ours), theirs)


def test_lists_of_pixels_are_read_and_written() -> None:
    rng = np.random.default_rng(1)
    where = tuple(rng.integers(0, size, 40) for size in LABELS.shape)
    ours, theirs = shown(), LABELS.copy()
    np.testing.assert_array_equal(ours[where], theirs[where])
    where = tuple(np.unique(np.stack(where), axis=1))
    values = np.arange(len(where[0])) % 5
    ours[where] = values
    theirs[where] = values
    np.testing.assert_array_equal(np.asarray(ours), theirs)


def test_what_was_painted_is_told_once_with_what_was_there() -> None:
    ours = shown()
    ours[1, 2, 3, 4] = 9
    ours[2, 0] = LABELS[2, 0]
    ((number, (before, after)),) = ours.painted().items()
    assert number == 6
    np.testing.assert_array_equal(before, LABELS[1, 2])
    assert after[3, 4] == 9
    assert (after != before).sum() == 1
    assert ours.painted() == {}
    np.testing.assert_array_equal(ours[1, 2], LABELS[1, 2])


def test_only_slices_that_are_looked_at_are_drawn_and_few_are_kept() -> None:
    drawn: list[int] = []

    def draw(number: int) -> np.ndarray:
        drawn.append(number)
        return np.full((6, 5), number, np.uint16)

    ours = ShownLabels(np.arange(1000), (6, 5), np.dtype(np.uint16), draw)
    assert ours[700, 0, 0] == 700
    assert ours[700, 1, 1] == 700
    assert drawn == [700]
    ours.forget(700)
    assert ours[700].max() == 700
    assert drawn == [700, 700]
    for number in range(100):
        assert ours[number, 0, 0] == number
    assert len(ours._kept) < 20


def test_the_same_labels_in_every_channel() -> None:
    numbers = np.broadcast_to(np.arange(3)[:, None], (3, 2))
    ours = ShownLabels(numbers, (6, 5), np.dtype(np.uint16), lambda i: np.full((6, 5), i, np.uint16))
    assert ours.shape == (3, 2, 6, 5)
    ours[1, 0, 2, 2] = 7
    assert ours[1, 1, 2, 2] == 7
    assert ours[1, 1, 2, 3] == 1


def test_smaller_pictures_lie_in_the_corner() -> None:
    ours = ShownLabels(np.arange(2), (6, 5), np.dtype(np.uint16), lambda i: np.full((3 + i, 2), 4, np.uint16))
    assert ours[0].shape == (6, 5)
    assert (ours[0] == 4).sum() == 6
    assert (ours[1] == 4).sum() == 8


def test_a_copy_is_an_array_of_its_own() -> None:
    ours = shown()
    other: Any = copy.deepcopy(ours)
    assert isinstance(other, np.ndarray)
    np.testing.assert_array_equal(other, LABELS)


def test_too_many_indices_are_refused() -> None:
    with pytest.raises(IndexError, match="too many"):
        shown()[0, 0, 0, 0, 0]


def test_napari_paints_and_fills_on_it() -> None:
    data: Any = shown()
    layer, plain = Labels(data), Labels(LABELS.copy())
    for one in (layer, plain):
        one.selected_label = 8
        one.brush_size = 3
        one.n_edit_dimensions = 2
        one.paint((0, 0, 3, 2), 8)
        one.selected_label = 7
        one.fill((0, 0, 0, 0), 7)
        one.paint_polygon([[0, 0, 1, 1], [0, 0, 1, 4], [0, 0, 4, 4]], 6)
    np.testing.assert_array_equal(np.asarray(data), np.asarray(plain.data))
    assert (np.asarray(data) != LABELS).any()


def test_only_pixels_that_changed_count() -> None:
    before, after = np.zeros((6, 6), int), np.zeros((6, 6), int)
    before[1:4, 1:4] = 1
    before[2:5, 3:5] = 2
    after[:] = before
    after[0, 0] = 1
    hidden = np.zeros((6, 6), bool)
    hidden[1:4, 1:5] = True
    masks = masks_painted(before, after, lambda label: hidden if label == 1 else None)
    assert set(masks) == {1}
    expected = hidden.copy()
    expected[0, 0] = True
    # What lies hidden under object 2 is still object 1's.
    np.testing.assert_array_equal(masks[1], expected)


def test_painting_over_another_object_changes_both() -> None:
    before = np.zeros((6, 6), int)
    before[1:4, 1:4] = 1
    after = before.copy()
    after[1:4, 2:6] = 3
    masks = masks_painted(before, after, lambda label: before == 1 if label == 1 else None)
    np.testing.assert_array_equal(masks[1], after == 1)
    np.testing.assert_array_equal(masks[3], after == 3)
    after[:] = 0
    gone = masks_painted(before, after, lambda _: before == 1)
    assert not gone[1].any()


def test_its_type_is_converted_in_a_copy_only() -> None:
    layers = LayerList([Labels(shown(), name="masks")])
    layers.selection.active = layers[0]
    with pytest.raises(InputError, match="the masks stay uint16"):
        _convert_dtype(layers, "int64")
    assert isinstance(layers[0].data, ShownLabels)
    _duplicate_layer(layers)
    layers.selection.active = layers[1]
    _convert_dtype(layers, "int64")
    assert layers[1].data.dtype == np.int64
    np.testing.assert_array_equal(layers[1].data, LABELS)


def test_locked_objects_neither_gain_nor_lose() -> None:
    before = np.zeros((6, 6), int)
    before[1:4, 1:4] = 1
    after = before.copy()
    after[1:4, 2:6] = 3
    masks = masks_painted(before, after, lambda _: None, locked={1})
    assert set(masks) == {3}
    assert not masks[3][1:4, 1:4].any()
    assert masks_painted(before, after, lambda _: None, locked={1, 3}) == {}

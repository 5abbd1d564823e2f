from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage
from skimage import metrics

from napari_medsam2 import ImageStack, InputError
from napari_medsam2.objects import (
    between,
    fill_holes,
    instances,
    interpolate,
    link,
    merge,
    remove_small,
    smooth,
    split_components,
    split_touching,
    track,
)
from napari_medsam2.results import ObjectResult, Results

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.objects import Changes


def _results(volume: np.ndarray) -> Results:
    """Results of all labels of a volume ``(slices, H, W)``."""
    out = Results()
    for index, labels in enumerate(volume):
        for label in np.unique(labels[labels > 0]).tolist():
            out.put(ObjectResult.from_mask(label, index, labels == label))
    return out


def _volume(results: Results, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([results.compose(i, (shape[1], shape[2]), np.dtype(np.int32)) for i in range(shape[0])])


def _after(changes: Changes, volume: np.ndarray) -> np.ndarray:
    """The labels after a step; the results before it are untouched by making it."""
    results = _results(volume)
    changes.apply(results)
    return _volume(results, volume.shape)


def _stack(volume: np.ndarray, axes: str = "ZYX", spacing: dict[str, float] | None = None) -> ImageStack:
    return ImageStack(np.zeros(volume.shape, np.uint8), axes, spacing=spacing)


def _same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two labellings are equal up to the numbers."""
    table_of: Any = metrics.contingency_table
    table = np.asarray(table_of(a, b).todense()) > 0
    return bool((a > 0).sum() == (b > 0).sum() and table.sum(0).max() <= 1 and table.sum(1).max() <= 1)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """A volume of one object with many pieces, holes and tunnels, all of them by chance."""
    rng = np.random.default_rng(3)
    return np.asarray(ndimage.gaussian_filter(rng.normal(size=(14, 40, 50)), (1, 2, 2)) > 0.02, np.int32)


# -- merge -------------------------------------------------------------------------------------------------------------


def test_merged_objects_are_one() -> None:
    volume = np.zeros((4, 20, 20), np.int32)
    volume[0, 2:8, 2:8], volume[1, 2:8, 2:8], volume[1, 12:15, 3:17], volume[2, 1:3, 1:3] = 1, 1, 2, 3
    results = _results(volume)
    changes = merge(results, [2, 1, 3], into=1)
    assert changes.removed == (2, 3)
    np.testing.assert_array_equal(_after(changes, volume), (volume > 0).astype(int))
    with pytest.raises(InputError, match="two objects or more"):
        merge(results, [1, 1])
    with pytest.raises(InputError, match="the one that stays among them"):
        merge(results, [1, 2], into=3)


def test_a_merged_mask_is_as_sure_as_its_least_sure_part() -> None:
    results = Results()
    logits = np.full((4, 4), 24, np.int8)
    for label, top, confidence in ((1, 0, 0.9), (2, 10, 0.6)):
        results.put(ObjectResult(label, 0, (20, 20), top, 3, logits, confidence, 0.95, "propagated"))
    (merged,) = merge(results, [1, 2])
    assert (merged.label, merged.confidence, merged.source, merged.area) == (1, 0.6, "propagated", 32)
    assert merged.logits.max() == 24, "what the model said is kept"
    np.testing.assert_array_equal(np.flatnonzero(merged.mask.any(1)), [0, 1, 2, 3, 10, 11, 12, 13])


# -- split -------------------------------------------------------------------------------------------------------------


def test_pieces_of_a_volume_are_those_that_scipy_finds(noise: np.ndarray) -> None:
    expected, count = ndimage.label(noise)
    changes = split_components(_results(noise), _stack(noise), 1)
    after = _after(changes, noise)
    assert count > 5
    assert _same_partition(after, expected)
    sizes = np.bincount(after.ravel())
    assert sizes[1:].argmax() == 0, "the largest keeps the label"
    assert sorted(changes.names) == list(range(2, count + 1))


def test_pieces_of_slices(noise: np.ndarray) -> None:
    changes = split_components(_results(noise), _stack(noise), 1, dimensions=2)
    expected = np.zeros_like(noise)
    last = 0
    for index, layer in enumerate(noise):
        numbers, count = ndimage.label(layer)
        expected[index] = np.where(numbers, numbers + last, 0)
        last += count
    assert _same_partition(_after(changes, noise), expected)


def test_small_pieces_stay_and_taken_labels_are_left_alone(noise: np.ndarray) -> None:
    expected, count = ndimage.label(noise)
    sizes = ndimage.sum_labels(noise, expected, range(1, count + 1))
    changes = split_components(_results(noise), _stack(noise), 1, smallest=20, taken=[41], name="cell")
    assert len(changes.names) == (sizes >= 20).sum() - 1
    assert min(changes.names) == 42
    assert changes.names[42] == "cell 2"
    with pytest.raises(InputError, match="in one piece"):
        split_components(_results(noise), _stack(noise), 1, smallest=10**6)
    with pytest.raises(InputError, match="no mask"):
        split_components(_results(noise), _stack(noise), 7)


def test_pieces_of_a_mask_of_the_largest_number_get_small_ones(noise: np.ndarray) -> None:
    whole = np.where(noise, 65_535, 0)
    _, count = ndimage.label(noise)
    pieces = split_components(_results(whole), _stack(whole), 65_535, taken=[3])
    assert list(pieces.names) == [label for label in range(1, count + 1) if label != 3]
    assert 65_535 in _after(pieces, whole)
    tracked = np.zeros((2, 20, 20), np.int32)
    tracked[0, 2:8, 2:8] = tracked[1, 12:18, 12:18] = 65_535
    stack = ImageStack(np.zeros((2, 20, 20), np.uint8), "TYX")
    assert np.unique(_after(track(_results(tracked), stack), tracked)).tolist() == [0, 1, 65_535]


def test_pieces_of_time_points_are_apart() -> None:
    volume = np.zeros((6, 12, 12), np.int32)
    volume[:, 2:6, 2:6] = 1
    stack = ImageStack(np.zeros((2, 3, 12, 12), np.uint8), "TZYX")
    after = _after(split_components(_results(volume), stack, 1), volume)
    assert [np.unique(layer[layer > 0]).tolist() for layer in after] == [[1]] * 3 + [[2]] * 3


def _balls(
    centres: list[tuple[float, float, float]], radius: float, shape: tuple[int, int, int], z: float
) -> np.ndarray:
    grid = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(float)
    out = np.zeros(shape, np.int32)
    near = np.full(shape, np.inf)
    for number, centre in enumerate(centres, start=1):
        far = np.sqrt((z * (grid[0] - centre[0])) ** 2 + (grid[1] - centre[1]) ** 2 + (grid[2] - centre[2]) ** 2)
        out[(far <= radius) & (far < near)] = number
        near = np.minimum(near, far)
    return out


def _dice_of_best(truth: np.ndarray, found: np.ndarray) -> list[float]:
    out = []
    for label in np.unique(truth[truth > 0]):
        mask = truth == label
        scores = [
            2 * (mask & (found == n)).sum() / (mask.sum() + (found == n).sum()) for n in np.unique(found[mask]) if n
        ]
        out.append(float(max(scores)))
    return out


@pytest.mark.parametrize("z", [1.0, 4.0])
def test_touching_balls_are_cut_at_their_necks(z: float) -> None:
    shape = (int(52 / z), 60, 76)
    truth = _balls([(22 / z, 20, 20), (24 / z, 24, 39), (28 / z, 41, 30), (30 / z, 40, 60)], 12, shape, z)
    volume = (truth > 0).astype(np.int32)
    assert ndimage.label(volume)[1] < 4
    stack = _stack(volume, spacing={"z": z, "y": 1, "x": 1})
    changes = split_touching(_results(volume), stack, 1)
    after = _after(changes, volume)
    assert len(changes.names) == 3
    np.testing.assert_array_equal(after > 0, volume > 0)
    assert min(_dice_of_best(truth, after)) > 0.93


def test_the_spacing_decides_where_to_cut() -> None:
    # Round in space, but lying on few slices; taken for isotropic it would fall apart elsewhere, or not at all.
    truth = _balls([(6, 30, 22), (6, 30, 41)], 12, (12, 60, 66), 5.0)
    mask = truth > 0
    cut = instances(mask, (5.0, 1.0, 1.0))
    assert cut.max() == 2
    assert min(_dice_of_best(truth, cut)) > 0.97
    assert instances(mask[6], (1.0, 1.0)).max() == 2
    # A long object without a neck stays whole, whatever its spacing.
    assert instances(np.ones((3, 9, 60), bool), (5.0, 1.0, 1.0)).max() == 1


def test_nothing_to_cut() -> None:
    volume = np.zeros((1, 30, 30), np.int32)
    volume[0, 5:20, 5:25] = 1
    with pytest.raises(InputError, match="no neck"):
        split_touching(_results(volume), _stack(volume), 1)
    with pytest.raises(InputError, match="positive"):
        split_touching(_results(volume), _stack(volume), 1, depth=-1.0)
    with pytest.raises(InputError, match="dimensions must be 2"):
        split_touching(_results(volume), _stack(volume), 1, dimensions=4)  # type: ignore[arg-type]


def test_nuclei_of_a_semantic_mask(shared_data: Path) -> None:
    """Real nuclei that touch: the instances beat connected components by the aggregated Dice."""
    import tifffile

    folder = shared_data / "dsb2018-fluo-256x256"
    truth = tifffile.imread(folder / "labels.tif").astype(np.int32)
    truth = truth if truth.ndim == 3 else truth[None]
    volume = (truth > 0).astype(np.int32)
    stack = _stack(volume, "NYX")
    cut = _after(split_touching(_results(volume), stack, 1, dimensions=2), volume)
    apart = _after(split_components(_results(volume), stack, 1, dimensions=2), volume)
    ours = np.mean([np.mean(_dice_of_best(t, f)) for t, f in zip(truth, cut, strict=True) if t.any()])
    theirs = np.mean([np.mean(_dice_of_best(t, f)) for t, f in zip(truth, apart, strict=True) if t.any()])
    assert ours > 0.9
    assert ours > theirs


# -- holes, crumbs, outlines -------------------------------------------------------------------------------------------


def test_holes_of_slices_and_of_volumes_are_those_that_scipy_fills(noise: np.ndarray) -> None:
    stack = _stack(noise)
    flat = np.stack([ndimage.binary_fill_holes(layer) for layer in noise])
    deep = ndimage.binary_fill_holes(noise)
    assert noise.sum() < deep.sum() < flat.sum()
    np.testing.assert_array_equal(_after(fill_holes(_results(noise), stack, 1), noise), flat)
    np.testing.assert_array_equal(_after(fill_holes(_results(noise), stack, 1, dimensions=3), noise), deep)


def test_a_tube_stays_open_and_a_bubble_does_not() -> None:
    volume = np.zeros((7, 15, 15), np.int32)
    volume[1:6, 2:13, 2:13] = 1
    volume[:, 4:6, 4:6] = 0
    volume[2:4, 9:11, 9:11] = 0
    after = _after(fill_holes(_results(volume), _stack(volume), 1, dimensions=3), volume)
    assert not after[:, 4:6, 4:6].any()
    assert after[2:4, 9:11, 9:11].all()


def test_a_filled_mask_keeps_what_the_model_said() -> None:
    logits = np.full((9, 9), 17, np.int8)
    logits[3:6, 3:6] = -17
    results = Results()
    results.put(ObjectResult(1, 0, (30, 30), 10, 11, logits, 0.7, 0.9, "propagated"))
    (filled,) = fill_holes(results, _stack(np.zeros((1, 30, 30))), 1)
    assert filled.area == 81
    assert (filled.confidence, filled.source) == (0.7, "propagated")
    assert filled.logits[0, 0] == 17
    assert filled.logits[4, 4] == 1, "another object there has the better claim"


@pytest.mark.parametrize("dimensions", [2, 3])
def test_crumbs_go(noise: np.ndarray, dimensions: int) -> None:
    from skimage.morphology import remove_small_objects

    stack = _stack(noise)
    layers = [noise > 0] if dimensions == 3 else list(noise > 0)
    expected = (
        np.concatenate([np.atleast_3d(remove_small_objects(layer, max_size=29)) for layer in layers])
        if (dimensions == 3)
        else np.stack([remove_small_objects(layer, max_size=29) for layer in layers])
    )
    changes = remove_small(_results(noise), stack, 1, 30, dimensions=dimensions)  # type: ignore[arg-type]
    after = _after(changes, noise)
    assert 0 < after.sum() < noise.sum()
    np.testing.assert_array_equal(after, expected)
    with pytest.raises(InputError, match="no piece of object 1"):
        remove_small(_results(noise), stack, 1, 10**7, dimensions=dimensions)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 pixel or more"):
        remove_small(_results(noise), stack, 1, 0)


@pytest.mark.parametrize("spacing", [{"z": 1, "y": 1, "x": 1}, {"z": 3, "y": 0.5, "x": 1}])
def test_smoothing_is_that_of_a_gaussian(noise: np.ndarray, spacing: dict[str, float]) -> None:
    noise = noise.copy()
    noise[:2] = noise[-3:] = 0
    noise[2, 20, 25] = noise[-4, 20, 25] = 1
    stack = _stack(noise, spacing=spacing)
    sigma = [1.5 / spacing[axis] for axis in "zyx"]
    float_mask = noise.astype(np.float32)
    flat = np.stack([ndimage.gaussian_filter(m, sigma[1:], mode="nearest", truncate=3) > 0.5 for m in float_mask])
    after = _after(smooth(_results(noise), stack, 1, 1.5), noise)
    assert (after != noise).sum() > 50
    np.testing.assert_array_equal(after, flat)
    blurred = ndimage.gaussian_filter(float_mask, sigma, mode="nearest", truncate=3)
    after = _after(smooth(_results(noise), stack, 1, 1.5, dimensions=3), noise)
    # The radius of the kernel along depth is rounded up here and to the nearest there.
    assert ((after > 0) != (blurred > 0.5))[np.abs(blurred - 0.5) > 0.02].sum() == 0


def test_smoothing_keeps_straight_borders_and_says_when_nothing_is_left() -> None:
    volume = np.zeros((3, 40, 40), np.int32)
    volume[:, :, :20] = 1
    assert not smooth(_results(volume), _stack(volume), 1, 3.0)
    speck = np.zeros((1, 40, 40), np.int32)
    speck[0, 20, 20] = 1
    with pytest.raises(InputError, match="leave nothing"):
        smooth(_results(speck), _stack(speck), 1, 3.0)
    with pytest.raises(InputError, match="positive"):
        smooth(_results(speck), _stack(speck), 1, 0.0)


# -- interpolation -----------------------------------------------------------------------------------------------------


def _disc(y: float, x: float, radius: float, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def test_discs_between_discs_are_discs() -> None:
    volume = np.zeros((9, 60, 80), np.int32)
    volume[0], volume[8] = _disc(20, 15, 8), _disc(36, 60, 14)
    results = _results(volume)
    changes = interpolate(results, _stack(volume), 1, 8, 0)
    assert changes.results.indices(1) == list(range(1, 8))
    for one in changes:
        share = one.index / 8
        expected = _disc(20 + 16 * share, 15 + 45 * share, 8 + 6 * share)
        overlap = 2 * (expected & one.mask).sum() / (expected.sum() + one.mask.sum())
        assert overlap > 0.95, one.index
        assert one.source == "propagated"
    confidences = [one.confidence for one in changes]
    assert confidences == pytest.approx(confidences[::-1])
    assert min(confidences) == confidences[3] < confidences[0]


def test_a_shape_at_the_edge_of_the_slice() -> None:
    volume = np.zeros((5, 30, 30), np.int32)
    volume[0, :12, :12], volume[4, :20, :20] = 1, 1
    for one in interpolate(_results(volume), _stack(volume), 1, 0, 4):
        rows, columns = np.flatnonzero(one.mask.any(1)), np.flatnonzero(one.mask.any(0))
        assert (one.top, one.left) == (0, 0)
        assert abs(len(rows) - (12 + 2 * one.index)) <= 1
        assert abs(len(columns) - (12 + 2 * one.index)) <= 1


def test_the_ends_are_met_exactly() -> None:
    a, b = _disc(20, 15, 8), _disc(36, 60, 14) & (np.mgrid[:60, :80][0] % 7 > 1)
    np.testing.assert_array_equal(between(a, b, 0.0) > 0, a)
    np.testing.assert_array_equal(between(a, b, 1.0, (0.5, 2.0)) > 0, b)


def test_what_a_person_said_stays() -> None:
    volume = np.zeros((7, 60, 80), np.int32)
    volume[0], volume[6], volume[2] = _disc(20, 20, 8), _disc(20, 20, 14), _disc(40, 60, 5)
    assert interpolate(_results(volume), _stack(volume), 1, 0, 6).results.indices(1) == [1, 3, 4, 5]
    for first, last, complaint in (
        (0, 1, "no slice between"),
        (0, 3, "no mask on slice 3"),
        (2, 2, "no slice between"),
    ):
        with pytest.raises(InputError, match=complaint):
            interpolate(_results(volume), _stack(volume), 1, first, last)
    films = ImageStack(np.zeros((2, 4, 60, 80), np.uint8), "TZYX")
    with pytest.raises(InputError, match="not neighbours"):
        interpolate(_results(volume), films, 1, 0, 6)


# -- time --------------------------------------------------------------------------------------------------------------


def _film(frames: int = 6) -> np.ndarray:
    """Three discs that move; where two come close, the nearer is still the same."""
    out = np.zeros((frames, 60, 120), np.int32)
    for t in range(frames):
        for label, (y, x) in enumerate(
            [(15 + 3 * t, 20 + 4 * t), (45 - 2 * t, 30 + 3 * t), (20, 100 - 3 * t)], start=1
        ):
            out[t][_disc(y, x, 7, (60, 120))] = label
    return out


def test_numbers_are_carried_through_time() -> None:
    truth = _film()
    rng = np.random.default_rng(0)
    shuffled = np.stack(
        [np.concatenate([[0], rng.permutation(3) + 1 + 10 * (t > 2)])[frame] for t, frame in enumerate(truth)]
    )
    changes = track(_results(shuffled), _stack(truth, "TYX"))
    after = _after(changes, shuffled)
    assert _same_partition(after, truth)
    assert (after[0] == shuffled[0]).all(), "a track has its first number"
    assert set(changes.removed) <= {11, 12, 13}
    assert set(np.unique(after)) == {0, 1, 2, 3}


def test_numbers_are_carried_through_time_in_volumes() -> None:
    truth = _film()
    rng = np.random.default_rng(1)
    numbers = [np.concatenate([[0], rng.permutation(3) + 1]) for _ in range(6)]
    volume = np.concatenate([np.stack([n[frame]] * 3) for n, frame in zip(numbers, truth, strict=True)])
    for axes, order in (("TZYX", np.arange(18)), ("ZTYX", np.arange(18).reshape(6, 3).T.ravel())):
        shape = (6, 3) if axes == "TZYX" else (3, 6)
        stack = ImageStack(np.zeros((*shape, 60, 120), np.uint8), axes)
        after = _after(track(_results(volume[order]), stack), volume[order])
        assert _same_partition(after, np.repeat(truth, 3, axis=0)[order])


def test_an_object_may_be_away_for_a_while() -> None:
    truth = _film()
    shuffled = np.where(truth, truth + 10 * np.arange(6)[:, None, None], 0)
    shuffled[2][truth[2] == 3] = 0
    stack = _stack(truth, "TYX")
    lost = _after(track(_results(shuffled), stack), shuffled)
    kept = _after(track(_results(shuffled), stack, gap=1), shuffled)
    assert len(np.unique(lost[truth == 3])) == 3, "one before, one after, and nothing between"
    assert set(np.unique(kept[truth == 3])) == {0, 3}


def test_a_division_and_a_number_used_twice() -> None:
    volume = np.zeros((3, 40, 60), np.int32)
    volume[0, 10:20, 10:30] = 1
    volume[1, 10:20, 10:22], volume[1, 10:20, 24:30] = 5, 6
    volume[2, 10:20, 10:22], volume[2, 10:20, 24:30] = 5, 6
    volume[2, 30:36, 40:50] = 1
    changes = track(_results(volume), _stack(volume, "TYX"), taken=[20])
    after = _after(changes, volume)
    assert (after[:, 15, 12] == 1).all(), "the larger half goes on"
    assert (after[1:, 15, 27] == 6).all(), "the other begins"
    assert after[2, 33, 45] == 21, "another thing with the number of a track gets a new one"
    assert changes.names == {21: "object 21"}
    assert changes.removed == (5,)


def test_tracking_needs_time() -> None:
    volume = _film()
    with pytest.raises(InputError, match="no time axis"):
        track(_results(volume), _stack(volume))
    with pytest.raises(InputError, match="overlap must lie above 0"):
        track(_results(volume), _stack(volume, "TYX"), threshold=0.0)


def test_links_are_the_best_together() -> None:
    # Greedy linking would take the pair with the largest overlap and lose the other.
    before, after = {1: 100, 2: 100}, {7: 100, 8: 100}
    shared = {(1, 7): 70, (1, 8): 65, (2, 7): 65}
    assert link(before, after, shared, 0.1) == {8: 1, 7: 2}
    assert link(before, after, shared, 0.5) == {7: 1}
    assert link(before, after, {}, 0.5) == {}

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.dummy import DummyBackend

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.results import ObjectResult, PackedResult
from napari_medsam2.state import ObjectInfo
from napari_medsam2.widgets.rows import (
    BankCard,
    Ledger,
    Mark,
    StripAxis,
    StripRow,
    bank_cards,
    format_bytes,
    format_size,
    gallery_tiles,
    measure_of,
    names_of,
    short_unit,
    strip_axis,
    surroundings,
    thumbnail,
)
from napari_medsam2.widgets.rows.zoom import Zoom, bars, lane, ticks


def _session(axes: str = "ZYX", shape: tuple[int, ...] = (12, 20, 24), **stack: object) -> AnnotationSession:
    image = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    return AnnotationSession(ImageStack(image, axes, **stack), backend=DummyBackend())  # type: ignore[arg-type]


def _disc(index: int, label: int, radius: float, shape: tuple[int, int] = (20, 24)) -> ObjectResult:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ObjectResult.from_mask(label, index, (y - 9) ** 2 + (x - 10) ** 2 <= radius**2)


def _propagated(result: ObjectResult, confidence: float) -> ObjectResult:
    return replace(result, source="propagated", confidence=confidence)


def _grey(label: int) -> str:
    return f"#{label:02x}{label:02x}{label:02x}"


# -- the ledger --------------------------------------------------------------------------------------------------------


def test_strip_rows_say_what_the_session_knows() -> None:
    session = _session()
    session.add_object("one")
    session.add_object("two", color="#ff0000")
    session.edit("masks", [_propagated(_disc(i, 1, 5), 0.1 * i) for i in range(2, 6)])
    session.add_box(2, 7, (3, 3, 12, 12))
    session.edit("gone", [_propagated(ObjectResult.from_mask(2, 8, np.zeros((20, 24), bool)), 0.9)])
    session.accept(1, 3)
    session.reject(1, 5)
    session.skip(1, 4)
    session.add_points(1, 2, [(9, 10)], [1])
    one, two = Ledger(session).strip_rows(_grey)
    assert (one.label, one.name, one.color) == (1, "one", "#010101")
    assert two.color == "#ff0000"
    assert np.flatnonzero(~np.isnan(one.confidence)).tolist() == [2, 3, 4]
    assert one.confidence[3] == pytest.approx(0.3)
    assert names_of(one.marks[2]) == ["corrected"]
    assert [Mark(int(one.marks[i])) for i in (3, 4, 5)] == [Mark.ACCEPTED, Mark.SKIPPED, Mark.REJECTED]
    assert names_of(two.marks[7]) == ["prompted"]
    assert names_of(two.marks[8]) == ["not there"]
    assert one.confidence.dtype == np.float32


def test_the_ledger_follows_every_command_and_its_undoing() -> None:
    session = _session()
    ledger, rng = Ledger(session), np.random.default_rng(1)
    changed: set[int] = set()
    session.events.slice_changed.connect(lambda index: changed.add(index))
    for step in range(120):
        labels = list(session.objects)
        choice = rng.integers(8)
        index = int(rng.integers(12))
        if choice == 0 or not labels:
            session.add_object()
        elif choice == 1 and len(labels) > 3:
            session.remove_object(int(rng.choice(labels)))
        elif choice == 2 and session.can_undo:
            session.undo()
        elif choice == 3 and session.can_redo:
            session.redo()
        elif choice == 4:
            session.clear_range(index, 12)
        elif choice == 5 and session.results.packed(labels[0], index) is not None:
            [session.accept, session.skip, session.reject][step % 3](labels[0], index)
        else:
            label = int(rng.choice(labels))
            session.edit("mask", [_propagated(_disc(index, label, float(rng.uniform(1, 7))), float(rng.random()))])
        ledger.refresh(changed)
        changed.clear()
        while not ledger.measure():
            pass
        fresh = Ledger(session)
        while not fresh.measure():
            pass
        for ours, theirs in zip(ledger.strip_rows(_grey), fresh.strip_rows(_grey), strict=True):
            assert (ours.label, ours.name) == (theirs.label, theirs.name)
            np.testing.assert_array_equal(ours.confidence, theirs.confidence)
            np.testing.assert_array_equal(ours.marks, theirs.marks)
        assert ledger.object_rows(_grey) == fresh.object_rows(_grey)
        for row in ledger.object_rows(_grey):
            areas = [r.area for i in range(12) if (r := session.results.get(row.label, i)) is not None]
            assert (row.slices, row.size) == (sum(a > 0 for a in areas), sum(areas))


def test_a_row_stays_the_same_while_its_object_does() -> None:
    session = _session()
    session.add_object()
    session.add_object()
    session.edit("masks", [_disc(3, 1, 4), _disc(3, 2, 3)])
    ledger = Ledger(session)
    before = ledger.strip_rows(_grey)
    kept = before[0].confidence.copy()
    assert ledger.strip_rows(_grey)[1] is before[1]
    session.edit("mask", [_propagated(_disc(3, 1, 5), 0.2)])
    ledger.refresh([3])
    assert ledger.strip_rows(_grey)[0].confidence[3] == pytest.approx(0.2)
    np.testing.assert_array_equal(before[0].confidence, kept)  # what a view was given does not change under it


def test_sizes_are_counted_little_by_little() -> None:
    session = _session(shape=(40, 20, 24))
    session.add_object()
    ledger = Ledger(session)
    session.edit("masks", [_disc(i, 1, 6) for i in range(40)])
    ledger.refresh(range(40), seconds=0.0)
    assert ledger.behind
    (row,) = ledger.object_rows(_grey)
    assert (row.slices, row.size) == (40, None)
    rounds = 0
    while not ledger.measure(0.0):
        rounds += 1
    assert rounds > 30
    (row,) = ledger.object_rows(_grey)
    assert row.size == 40 * _disc(0, 1, 6).area
    assert ledger.measure()
    assert ledger.areas(1).tolist() == [_disc(0, 1, 6).area] * 40


@dataclass(frozen=True)
class _Case:
    axes: str
    shape: tuple[int, ...]
    spacing: dict[str, object] | None
    expected: tuple[str, str, int, float]


@pytest.mark.parametrize(
    "case",
    [
        _Case("ZYX", (4, 8, 9), None, ("Volume", "pixel", 3, 2 * 3.0)),
        # Without a unit voxels are counted, however they relate to each other.
        _Case("ZYX", (4, 8, 9), {"z": 2.0, "y": 0.5, "x": 0.5, "unit": "pixel"}, ("Volume", "pixel", 3, 2 * 3.0)),
        _Case("ZYX", (4, 8, 9), {"z": 2.0, "y": 0.5, "x": 0.5, "unit": "um"}, ("Volume", "um", 3, 2 * 3 * 0.5)),
        _Case("TZYX", (2, 2, 8, 9), {"z": 2.0, "y": 1, "x": 1, "unit": "um"}, ("Volume", "um", 3, 3 * 2.0)),
        _Case("TYX", (4, 8, 9), {"y": 0.5, "x": 0.5, "unit": "mm"}, ("Area", "mm", 2, 3 * 0.25)),
        _Case("NYX", (4, 8, 9), None, ("Area", "pixel", 2, 3.0)),
    ],
    ids=lambda case: f"{case.axes}-{(case.spacing or {}).get('unit')}",
)
def test_sizes_are_in_the_image_s_unit(case: _Case) -> None:
    session = _session(case.axes, case.shape, spacing=case.spacing)
    session.add_object()
    mask = np.zeros((8, 9), bool)
    mask[2, 3:6] = True  # 3 pixels on two slices: of two volumes where there is time
    session.edit("masks", [ObjectResult.from_mask(1, i, mask) for i in (1, 2)])
    ledger = Ledger(session)
    ledger.measure(10)
    (row,) = ledger.object_rows(_grey, hidden={1})
    name, unit, power, size = case.expected
    assert (row.measure.name, row.measure.unit, row.measure.power) == (name, unit, power)
    assert row.size == pytest.approx(size)
    assert (row.visible, row.locked, row.own_color) == (False, False, False)


def test_one_changed_slice_of_fifty_objects_and_two_thousand_is_taken_over_at_once() -> None:
    session = AnnotationSession(ImageStack(np.arange(2000 * 64).reshape(2000, 8, 8) % 251), backend=DummyBackend())
    session.edit("objects", objects=[ObjectInfo(label, f"object {label}") for label in range(1, 51)])
    small = np.zeros((8, 8), bool)
    small[3, 2:5] = True
    one = PackedResult.of(ObjectResult.from_mask(1, 0, small))
    for label in range(1, 51):
        for index in range(2000):
            session.results.put(PackedResult(replace(one.bare, label=label, index=index), one.data, one.size))
    ledger = Ledger(session)
    while not ledger.measure(1.0):
        pass
    seconds = []
    for index in range(20):
        new = [ObjectResult.from_mask(label, index, small) for label in range(1, 51)]
        session.edit("one", [_propagated(result, 0.5) for result in new])
        start = time.process_time()
        ledger.refresh([index])
        strip = ledger.strip_rows(_grey)
        objects = ledger.object_rows(_grey)
        seconds.append(time.process_time() - start)
        assert strip[7].confidence[index] == 0.5
        assert objects[7].slices == 2000
    assert min(seconds) < 0.005


# -- bank, gallery, axis -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    index: int
    weight: float
    reason: str
    confidence: float


def test_cards_are_what_was_read_and_what_a_person_wants() -> None:
    reads = [_Read(3, 0.5, "prompt", 0.9), _Read(9, 1.0, "admitted", 0.7), _Read(3, 0.25, "prompt", 0.9)]
    cards = bank_cards(reads, {9: "dropped", 20: "pinned", 1: "dropped"}, StripAxis(30), {20: 0.4})
    assert cards == (
        BankCard(9, "slice 9", "admitted", 0.7, 1.0, dropped=True),
        BankCard(3, "slice 3", "prompted", 0.9, 0.75),
        BankCard(20, "slice 20", "pinned", 0.4, None, pinned=True),
        BankCard(1, "slice 1", "dropped", None, None, dropped=True),
    )
    assert bank_cards((), {}, StripAxis(3)) == ()


def test_cards_of_a_propagated_slice() -> None:
    session = _session()
    session.add_object()
    session.add_box(1, 5, (3, 3, 15, 15))
    for _ in session.propagate(patience=None):
        pass
    result = session.results.get(1, 8)
    assert result is not None
    session.drop_memory(1, 5)
    pins = {index: said for (label, index), said in session.pins.items() if label == 1}
    cards = bank_cards(result.read, pins, strip_axis(session.stack))
    first = next(card for card in cards if card.index == 5)
    assert (first.reason, first.dropped, first.title) == ("prompted", True, "slice 5")
    assert max(card.weight or 0 for card in cards) == 1


def test_tiles_sum_up_all_objects() -> None:
    nan = np.nan
    rows = [
        StripRow(
            1, "a", "#ffffff", np.array([0.9, 0.4, nan, 0.8, nan], np.float32), np.array([1, 0, 0, 4, 8], np.uint8)
        ),
        StripRow(
            2, "b", "#ffffff", np.array([0.5, 0.6, nan, nan, nan], np.float32), np.array([0, 64, 0, 0, 0], np.uint8)
        ),
    ]
    axis = StripAxis(5, titles=("e.png", "d.png", "c.png", "b.png", "a.png"))
    tiles = gallery_tiles(rows, axis)
    assert [tile.state for tile in tiles] == ["prompted", "propagated", "empty", "accepted", "rejected"]
    assert tiles[0].confidence == 0.5
    assert tiles[2].confidence is None
    assert [tile.objects for tile in tiles] == [2, 1, 0, 1, 0]
    assert [tile.index for tile in gallery_tiles(rows, axis, "worst")] == [1, 4, 0, 3, 2]
    assert [tile.name for tile in gallery_tiles(rows, axis, "name")][:2] == ["a.png", "b.png"]
    assert [tile.state for tile in gallery_tiles([], axis)] == ["empty"] * 5


def test_slices_have_the_names_that_a_person_knows() -> None:
    pictures = ImageStack([np.ones((4, 5)), np.ones((6, 7))], names=["a.png", "b.png"])
    assert strip_axis(pictures).title(1) == "b.png"
    films = strip_axis(ImageStack(np.ones((2, 3, 4, 5)), "TZYX"))
    assert (films.title(4), films.groups) == ("t 1, z 1", (3,))
    assert strip_axis(ImageStack(np.ones((3, 4, 5)), "ZYX")) == StripAxis(3)


# -- numbers and pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "whole", "text"),
    [
        (0.0, False, "0"), (0.5, False, "0.5"), (0.0123, False, "0.0123"), (0.000123, False, "1.23×10⁻⁴"),
        (9.999, False, "10.0"), (99.96, False, "100"), (12345.0, False, "12300"), (123456.0, False, "1.23×10⁵"),
        (999.6, False, "1000"),
        (0, True, "0"), (9999, True, "9999"), (10_000, True, "10.0k"), (1_234_567, True, "1.23M"),
    ],
)  # fmt: skip
def test_sizes_have_three_figures(value: float, whole: bool, text: str) -> None:
    assert format_size(value, whole) == text


def test_units_and_bytes_are_short() -> None:
    assert [short_unit("um", 3), short_unit("mm", 2), short_unit("pixel", 3)] == ["µm³", "mm²", "voxels"]
    assert [format_bytes(n) for n in (12, 1_500, 17_400_000, 2_100_000_000)] == [
        "12 B",
        "1.50 kB",
        "17.4 MB",
        "2.10 GB",
    ]


@pytest.mark.parametrize("shape", [(200, 100), (33, 70), (20, 20), (1, 5), (2000, 1500)])
def test_a_thumbnail_is_the_picture_made_small(shape: tuple[int, int]) -> None:
    h, w = shape
    plane = np.linspace(0, 1, w, dtype=np.float32)[None].repeat(h, 0)
    mask = np.zeros(shape, bool)
    mask[: max(h // 2, 1), : max(w // 2, 1)] = True
    out = thumbnail(np.stack([plane, plane, plane]), [mask], ["#00ff00"], 48)
    assert out.dtype == np.uint8
    assert max(out.shape[:2]) == 48
    assert abs(out.shape[0] / out.shape[1] - h / w) < 0.1 or 1 in out.shape
    assert (out[0, 0] == (0, 255, 0)).all()  # the mask's outline
    right = out[-1].astype(float)[out.shape[1] // 2 + 1 :]
    expected = (np.arange(out.shape[1])[out.shape[1] // 2 + 1 :] + 0.5) / out.shape[1] * 255
    if w > 20:
        np.testing.assert_allclose(right, expected[:, None].repeat(3, 1), atol=255 / w + 4)


def test_an_object_of_one_pixel_still_shows() -> None:
    pixels, mask = np.zeros((3, 400, 400), np.float32), np.zeros((400, 400), bool)
    mask[399, 200] = True
    out = thumbnail(pixels, [mask, np.zeros_like(mask)], ["#ff0000", "#0000ff"], 40)
    assert np.argwhere((out == (255, 0, 0)).all(-1)).tolist() == [[39, 20]]
    assert not (out == (0, 0, 255)).all(-1).any()


def test_a_thumbnail_of_a_part_shows_that_part() -> None:
    pixels = np.zeros((3, 100, 120), np.float32)
    pixels[:, 40:60, 50:70] = 1
    window = surroundings((39.5, 49.5, 59.5, 69.5), (100, 120), margin=0.0, least=20)
    assert window == (39.5, 49.5, 59.5, 69.5)
    assert (thumbnail(pixels, [], [], 20, window) == 255).all()
    corner = surroundings((-0.5, -0.5, 3.5, 3.5), (100, 120))
    assert corner == (-0.5, -0.5, 47.5, 47.5)
    assert surroundings(None, (100, 120)) == (-0.5, -0.5, 99.5, 119.5)
    assert surroundings((0.5, 0.5, 1.5, 1.5), (10, 300)) == (-0.5, -0.5, 9.5, 47.5)


def test_large_thumbnails_are_fast() -> None:
    pixels, mask = np.random.default_rng(0).random((3, 2048, 2048), np.float32), np.ones((2048, 2048), bool)
    thumbnail(pixels, [mask], ["#ff0000"], 112)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        thumbnail(pixels, [mask], ["#ff0000"], 112)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05


# -- the strip's pixels ------------------------------------------------------------------------------------------------

_RAMP = np.arange(256, dtype=np.uint32) + 1000


def test_a_pixel_of_several_slices_shows_the_least_confident() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random((3, 2000)).astype(np.float32)
    confidence[rng.random((3, 2000)) < 0.3] = np.nan
    confidence[1, :700] = np.nan
    zoom = Zoom.all_of(2000)
    out = bars(confidence, zoom, 333, _RAMP, 7)
    assert out.shape == (3, 333)
    starts = [int(x * 2000 / 333) for x in range(333)] + [2000]
    for row in range(3):
        for x in range(333):
            part = confidence[row, starts[x] : starts[x + 1]]
            part = part[~np.isnan(part)]
            assert out[row, x] == (1000 + round(float(part.min()) * 255) if len(part) else 7)
    flags = np.zeros((1, 2000), np.uint8)
    flags[0, 1234] = 4
    assert np.flatnonzero(lane(flags, zoom, 333)).tolist() == [next(x for x in range(333) if starts[x + 1] > 1234)]


def test_wide_bars_have_a_gap_and_narrow_marks() -> None:
    out = bars(np.ones((1, 10), np.float32), Zoom.all_of(10), 100, _RAMP, 7)
    assert out.shape == (1, 100)
    assert np.flatnonzero(out[0] == 0).tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    flags = np.full((1, 10), 2, np.uint8)
    assert 20 <= np.count_nonzero(ticks(flags, Zoom.all_of(10), 100)) <= 40


@pytest.mark.parametrize("count", [1, 3, 51, 200, 2000])
def test_zooming_keeps_the_place_under_the_pointer(count: int) -> None:
    zoom, rng = Zoom.all_of(count), np.random.default_rng(count)
    for _ in range(200):
        at = float(rng.uniform(zoom.first, zoom.first + zoom.span))
        after = zoom.around(at, float(rng.choice([0.5, 0.8, 1.25, 3.0])))
        assert 0 <= after.first <= after.first + after.span <= count
        kept = (at - zoom.first) / zoom.span == pytest.approx((at - after.first) / after.span)
        assert kept or after.first == 0 or after.first + after.span == pytest.approx(count)
        zoom = after
        index = int(rng.integers(count))
        shown = zoom.showing(index)
        assert shown.first <= index
        assert index + 1 <= shown.first + shown.span + 1e-9
        assert shown.index(shown.x(index + 0.5, 500), 500) == index
    first, last = sorted(rng.integers(0, count, 2).tolist())
    part = zoom.between(first, last)
    assert part.first <= first
    assert last + 1 <= part.first + part.span + 1e-9


def test_the_measure_of_a_collection_of_one_size_is_an_area() -> None:
    stack = ImageStack(np.ones((3, 4, 5)), "ZYX")
    assert measure_of(stack).name == "Volume"
    assert measure_of(stack, "collection").name == "Area"


def test_the_size_in_a_film_of_one_slice_s_depth_is_that_of_a_frame() -> None:
    measure = measure_of(ImageStack(np.ones((3, 1, 4, 5)), "TZYX"))
    assert measure.mean
    assert [list(volume) for volume in measure.runs] == [[0], [1], [2]]


def test_a_ruler_counts_within_volumes() -> None:
    films = strip_axis(ImageStack(np.ones((3, 4, 5, 6)), "TZYX"))
    assert [films.start(i) for i in (0, 3, 4, 11)] == [0, 0, 4, 8]
    assert films.short(9) == "t 2, z 1"
    assert films.group_title(9) == "t 2"
    plain = StripAxis(5)
    assert (plain.short(3), plain.start(3), plain.group_title(3)) == ("3", 0, "")

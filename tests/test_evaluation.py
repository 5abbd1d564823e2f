from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.evaluation import Case, Item, Row, find_cases, format_row, header, load_case, run_protocol, to_json
from napari_medsam2.evaluation.annotator import innermost
from napari_medsam2.evaluation.baselines import copy_through, fill_box, grey, otsu, otsu_in_box
from napari_medsam2.evaluation.judging import judge_foreground, judge_objects
from napari_medsam2.geometry import tight_box
from napari_medsam2.metrics import dice, iou
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend

_MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def _write_case(
    folder: Path, image: np.ndarray, labels: np.ndarray, kind: str = "z-stack", axes: str = "ZYX", **more: Any
) -> Path:
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "image.tif", image, photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")
    (folder / "case.json").write_text(json.dumps({"name": folder.name, "kind": kind, "axes": axes, **more}))
    return folder


@given(mask=_MASKS, data=st.data())
def test_dice_and_iou_are_those_of_sets(mask: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(hnp.arrays(bool, mask.shape))
    a, b = set(map(tuple, np.argwhere(mask).tolist())), set(map(tuple, np.argwhere(other).tolist()))
    if not a and not b:
        assert dice(mask, other) == iou(mask, other) == 1
        return
    assert dice(mask, other) == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
    assert iou(mask, other) == pytest.approx(len(a & b) / len(a | b))
    assert dice(mask.astype(int) * 7, other) == dice(mask, other), "every number but 0 is inside"


def test_masks_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(InputError, match=r"\(3, 3\) and \(9,\)"):
        dice(np.ones((3, 3)), np.ones(9))


@given(mask=_MASKS)
def test_a_click_lands_in_the_mask_as_far_inside_as_possible(mask: np.ndarray) -> None:
    if not mask.any():
        with pytest.raises(InputError, match="empty"):
            innermost(mask)
        return

    def depth(y: int, x: int) -> float:
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        return float(np.sqrt(np.square(outside - (y, x)).sum(1)).min())

    y, x = innermost(mask)
    assert mask[y, x]
    assert depth(y, x) == pytest.approx(max(depth(*p) for p in np.argwhere(mask).tolist()))


def test_a_click_on_a_disk_is_in_its_middle() -> None:
    y, x = np.ogrid[:41, :41]
    assert innermost((y - 17) ** 2 + (x - 22) ** 2 <= 81) == (17, 22)
    assert innermost(np.ones((9, 31), bool)) == (4, 15), "among equals the middle one"


@given(mask=_MASKS)
def test_a_filled_tight_box_covers_the_mask_and_touches_it_on_all_sides(mask: np.ndarray) -> None:
    if not mask.any():
        return
    filled = fill_box(mask.shape, tight_box(mask))
    assert (filled | mask == filled).all()
    rows, columns = np.argwhere(mask).T
    assert filled.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize("bright", [True, False])
def test_otsu_inside_a_box_finds_bright_and_dark_objects(bright: bool) -> None:
    y, x = np.ogrid[:60, :60]
    disk = (y - 30) ** 2 + (x - 28) ** 2 <= 144
    picture = np.where(disk, 0.8, 0.2) if bright else np.where(disk, 0.2, 0.8)
    picture = picture + np.random.default_rng(1).normal(0, 0.03, picture.shape)
    assert dice(otsu_in_box(picture, tight_box(disk)), disk) > 0.99
    assert dice(otsu(picture, picture, disk), disk) > 0.99


def test_otsu_of_a_flat_box_is_the_box() -> None:
    assert otsu_in_box(np.full((9, 9), 0.5), (1.5, 1.5, 4.5, 6.5)).sum() == 15


def test_copying_through_is_the_dice_of_copies(tmp_path: Path, balls: Balls) -> None:
    case = load_case(_write_case(tmp_path / "balls", balls.image, balls.labels))
    targets = case.targets()
    expected = []
    for target in targets:
        truth = balls.labels == target.value
        expected.append(dice(np.broadcast_to(truth[target.index], truth.shape), truth))
    assert copy_through(case, targets) == pytest.approx(expected)


def test_labels_with_a_palette_are_its_places(tmp_path: Path, balls: Balls) -> None:
    folder = _write_case(tmp_path / "balls", balls.image, balls.labels)
    colormap = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
    places = balls.labels.astype(np.uint8)
    tifffile.imwrite(folder / "labels.tif", places, photometric="palette", colormap=colormap)
    reference = load_case(folder).reference
    np.testing.assert_array_equal([reference.raw(i) for i in range(len(reference))], places)


def test_targets_are_objects_on_their_largest_slice(tmp_path: Path, balls: Balls) -> None:
    labels = balls.labels.copy()
    labels[3, :5, :5] = 9
    case = load_case(_write_case(tmp_path / "balls", balls.image, labels))
    areas = {v: (balls.labels == v).sum((1, 2)) for v in (1, 2)}
    found = {t.value: (t.index, t.area) for t in case.targets()}
    assert found == {v: (int(a.argmax()), int(a.max())) for v, a in areas.items()}, "25 pixels are too few"
    collection = load_case(_write_case(tmp_path / "set", balls.image, labels, "collection", "NYX"))
    per_image = sum(int((labels[i] == v).sum() >= 30) for i in range(24) for v in (1, 2, 9))
    assert len(collection.targets()) == per_image, "values of a collection are per image"


def test_a_ct_is_seen_through_the_soft_tissue_window(tmp_path: Path) -> None:
    image = np.full((4, 40, 40), -1000, np.int16)
    image[:, 10:30, 10:30] = 60
    labels = (image > 0).astype(np.uint8)
    spacing = {"z": 3.0, "y": 1.0, "x": 1.0, "unit": "mm"}
    assert load_case(_write_case(tmp_path / "ct", image, labels, spacing=spacing)).stack.window == (-160, 240)
    assert load_case(tmp_path / "ct", (0.0, 100.0)).stack.window == (0, 100)
    said = _write_case(tmp_path / "said", image, labels, spacing=spacing, window=[-50, 150])
    assert load_case(said).stack.window == (-50, 150)
    warm = _write_case(tmp_path / "warm", np.clip(image, -100, None), labels, spacing=spacing)
    assert load_case(warm).stack.window == (-100, 60), "without air it need not be a CT"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "film"}, '"z-stack" or "collection"'),
        ({"axes": 3}, "letters"),
        ({"window": [1]}, "two numbers"),
        ({"window": "wide"}, "two numbers"),
    ],
)
def test_a_bad_case_file_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = _write_case(tmp_path / "a", np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), np.uint8))
    meta = json.loads((folder / "case.json").read_text())
    (folder / "case.json").write_text(json.dumps(meta | change))
    with pytest.raises(InputError, match=words):
        load_case(folder)


def test_cases_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    image, labels = np.zeros((3, 8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)
    with pytest.raises(InputError, match="as many"):
        load_case(_write_case(tmp_path / "long", image, labels[:2]))
    with pytest.raises(InputError, match="must be the same"):
        load_case(_write_case(tmp_path / "small", image, labels[:, :7]))
    with pytest.raises(InputError, match="whole numbers"):
        load_case(_write_case(tmp_path / "float", image, labels.astype(np.float32)))
    (tmp_path / "long" / "case.json").write_text(100_000 * "[")
    with pytest.raises(InputError, match="valid JSON"):
        load_case(tmp_path / "long")
    (tmp_path / "long" / "case.json").write_text("{")
    with pytest.raises(InputError, match="valid JSON"):
        load_case(tmp_path / "long")
    with pytest.raises(InputError, match="no folder"):
        load_case(tmp_path / "absent")


def test_cases_are_found_in_a_folder_of_cases(tmp_path: Path) -> None:
    empty = np.zeros((2, 8, 8), np.uint8)
    one, two = (_write_case(tmp_path / name, empty, empty) for name in ("one", "two"))
    assert find_cases([tmp_path]) == find_cases([one, two, one]) == [one, two]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no case\.json"):
        find_cases([tmp_path / "none"])


def _put(session: AnnotationSession, masks: np.ndarray) -> None:
    for index, labels in enumerate(masks):
        for value in np.unique(labels[labels > 0]).tolist():
            if value not in session.objects:
                session.add_object(label=value)
            session.results.put(ObjectResult.from_mask(value, index, labels == value))


def test_objects_are_judged_in_3d(tmp_path: Path, balls: Balls, backend: Backend) -> None:
    case = load_case(_write_case(tmp_path / "balls", balls.image, balls.labels))
    session = AnnotationSession(case.stack, backend=backend)
    shifted = np.roll(balls.labels, 3, axis=2)
    _put(session, shifted)
    judged = judge_objects(case, session, {t.value: t for t in case.targets()})
    for value in (1, 2):
        assert judged[value].dice == pytest.approx(dice(shifted == value, balls.labels == value))
        assert len(judged[value].pairs) == int((shifted == value).any((1, 2)).sum())


def test_a_foreground_is_judged_image_by_image(tmp_path: Path, balls: Balls, backend: Backend) -> None:
    case = load_case(_write_case(tmp_path / "set", balls.image, balls.labels, "collection", "NYX"))
    session = AnnotationSession(case.stack, backend=backend)
    half = (balls.labels > 0).astype(np.uint16)
    half[:, :, 56:] = 0
    _put(session, half)
    others = [5, 11, 12]
    judged = judge_foreground(case, session, 1, others)
    assert judged.dice == pytest.approx(np.mean([dice(half[i], balls.labels[i]) for i in others]))


def test_protocols_drive_a_session(tmp_path: Path, balls: Balls, backend: Backend) -> None:
    case = load_case(_write_case(tmp_path / "balls", balls.image[4:20], balls.labels[4:20]))
    for protocol, least in (("box", 0.9), ("click", 0.7), ("stack", 0.6)):
        items = list(run_protocol(case, protocol, backend))
        assert [item.value for item in items] == [t.value for t in case.targets()]
        row = Row(case.name, protocol, tuple(items))
        assert row.dice > least, protocol
        assert row.seconds > 0
        assert all(0 <= c <= 1 and 0 <= d <= 1 for item in items for c, d in item.pairs)
    assert not list(run_protocol(case, "collection", backend)), "a z-stack is no collection"
    with pytest.raises(InputError, match="unknown protocol 'boxes'"):
        list(run_protocol(case, "boxes", backend))


def test_a_collection_is_judged_from_several_first_images(tmp_path: Path, balls: Balls, backend: Backend) -> None:
    image, labels = balls.image[8:14].copy(), balls.labels[8:14].copy()
    labels[1] = 0
    case = load_case(_write_case(tmp_path / "set", image, labels, "collection", "NYX"))
    items = list(run_protocol(case, "collection", backend))
    assert [item.index for item in items] == [0, 2, 3], "an image without foreground is no prompt"
    assert all(len(item.pairs) == 5 for item in items)
    # By hand, for the first.
    session = AnnotationSession(ImageStack(image, "NYX"), backend=backend, kind="collection")
    session.add_mask(session.add_object(), 0, labels[0] > 0)
    for _ in session.propagate():
        pass
    by_hand = np.mean([dice(session.slice_labels(i) > 0, labels[i] > 0) for i in range(1, 6)])
    assert items[0].dice == pytest.approx(by_hand, abs=1e-6)


def test_labels_without_objects_cannot_be_judged(tmp_path: Path, backend: Backend) -> None:
    empty = np.zeros((2, 32, 32), np.uint8)
    case = load_case(_write_case(tmp_path / "empty", empty, empty, "collection", "NYX"))
    for protocol, words in (("box", "no object of 30 pixels"), ("collection", "no foreground")):
        with pytest.raises(InputError, match=words):
            list(run_protocol(case, protocol, backend))


def test_a_row_says_what_its_items_say() -> None:
    scores = [0.2, 0.4, 0.9]
    items = tuple(
        Item(n, 0, s, {"box filled": s / 2, "Otsu": 0.5}, 0.1 * n, ((0.1 + s / 2, s),)) for n, s in enumerate(scores)
    )
    row = Row("a case", "box", items)
    assert row.dice == pytest.approx(0.5)
    assert row.baselines == pytest.approx({"box filled": 0.25, "Otsu": 0.5})
    assert row.correlation == pytest.approx(1)
    columns = header().split()
    cells = format_row(row).split()
    assert cells == ["a", "case", "box", "3", "0.500", "0.250", "0.500", "–", "–", "1.00", "0.10"]
    assert columns[:4] == ["case", "protocol", "n", "model"]
    assert Row("a", "box", items[:2]).correlation is None
    written = json.loads(json.dumps(to_json([row], model="m")))
    assert written["model"] == "m"
    assert [item["dice"] for item in written["rows"][0]["items"]] == scores


def test_a_stack_says_what_confidence_is_worth_to_a_review() -> None:
    # Twenty slices: eight bad ones, of which one is among the two of least confidence; two masks are empty.
    dices = [0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.69, *np.linspace(0.7, 1, 9), 1.0, 1.0]
    pairs = tuple((0.02 * n, d) for n, d in enumerate(dices))
    masks = [(c, d) for c, d in pairs if c < 0.355]
    row = Row(
        "a",
        "stack",
        (
            Item(1, 0, 0.5, {}, 1.0, pairs[:7], {}, tuple(masks[:7])),
            Item(2, 0, 0.5, {}, 1.0, pairs[7:], {}, tuple(masks[7:])),
        ),
    )
    # By hand: ranks of 18 masks, 0.9 in the second place instead of the fifteenth or so.
    ranks = np.argsort(np.argsort([d for _, d in masks]))
    by_hand = 1 - 6 * ((ranks - np.arange(18)) ** 2).sum() / (18 * (18**2 - 1))
    assert row.review == pytest.approx({"carried": by_hand, "worst tenth": 1 / 8, "of": 2 / 8})
    assert format_row(row).split()[-7:] == ["carried", f"{by_hand:.2f}", "worst", "tenth", "0.12", "of", "0.25"]
    assert Row("a", "box", (Item(1, 0, 0.5, {}, 1.0, pairs),)).review == {}


_PUBLISHED = {
    "dsb2018-fluo-256x256": (0.87, 0.82),
    "dsb2018-fluo-360x360": (0.85, 0.92),
    "dsb2018-he-256x320": (0.82, 0.84),
}


@pytest.mark.parametrize("name", _PUBLISHED)
def test_the_box_baselines_are_those_of_the_readme(shared_data: Path, name: str) -> None:
    case = load_case(shared_data / name)
    filled, thresholds = [], []
    pictures = {}
    for target in case.targets():
        truth = case.labels(target.index) == target.value
        if target.index not in pictures:
            pictures[target.index] = grey(case.stack.pixels(target.index))
        filled.append(dice(fill_box(truth.shape, tight_box(truth)), truth))
        thresholds.append(dice(otsu_in_box(pictures[target.index], tight_box(truth)), truth))
    assert (np.mean(filled), np.mean(thresholds)) == pytest.approx(_PUBLISHED[name], abs=0.006)


@pytest.mark.parametrize(("name", "expected"), [("nuclei-3d", 0.28), ("ct-thorax-abdomen-3mm", 0.43)])
def test_the_copy_baseline_is_that_of_the_readme(shared_data: Path, name: str, expected: float) -> None:
    case = load_case(shared_data / name)
    assert np.mean(copy_through(case, case.targets())) == pytest.approx(expected, abs=0.006)


def test_a_case_of_the_shared_data_has_its_own_shape(shared_data: Path) -> None:
    case = load_case(shared_data / "dsb2018-he-256x320")
    assert isinstance(case, Case)
    assert (case.kind, len(case.stack), case.stack.slice_shape(0)) == ("collection", 20, (256, 320))

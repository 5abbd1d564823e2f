from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_medsam2 import ImageStack, InputError
from napari_medsam2.prompts import Prompt, SlicePrompt, load_prompts, parse_entry, save_prompts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stack() -> ImageStack:
    return ImageStack(np.zeros((5, 20, 30), np.uint8), "ZYX")


def _write(path: Path, entries: Any, **changes: Any) -> Path:
    data = {"format": "napari-medsam2-prompts", "version": 1, "prompts": entries, **changes}
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("window", [(slice(0), slice(0)), (slice(3, 4), slice(7, 8)), (slice(None), slice(2, 13))])
def test_a_painted_mask_comes_back_as_it_was_given(window: tuple[slice, slice]) -> None:
    mask = np.zeros((11, 17), bool)
    mask[window] = True
    mask[window][1::2] = False
    given = mask.copy()
    prompt = replace(SlicePrompt(mask=mask), corrects=True)
    mask[:] = True
    assert prompt.mask is not None
    np.testing.assert_array_equal(prompt.mask, given)
    assert prompt.mask.dtype == bool
    assert not prompt.empty
    assert prompt.painted == SlicePrompt(mask=given).painted != SlicePrompt(mask=~given).painted
    cleared = replace(prompt, mask=None)
    assert cleared.mask is None
    assert cleared.empty
    assert cleared.corrects


def test_a_file_with_every_kind_of_prompt(tmp_path: Path, stack: ImageStack) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 3:12] = 255
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "m.tif", mask)
    path = _write(
        tmp_path / "p.json",
        [
            {"object": 1, "index": 2, "box": [3.5, 2.5, 10.5, 12.5]},
            {"object": 1, "index": 2, "points": [[5, 6], [7, 8]], "labels": [1, 0]},
            {"object": 2, "index": 3, "mask": "masks/m.tif"},
            {"object": 2, "index": 0, "points": [[0, 29]]},
        ],
    )
    one, two, three, four = load_prompts(path, stack)
    assert (one.label, one.index, one.content.box) == (1, 2, (3.5, 2.5, 10.5, 12.5))
    np.testing.assert_array_equal(two.content.points, [[5, 6], [7, 8]])
    np.testing.assert_array_equal(two.content.labels, [1, 0])
    assert three.content.mask is not None
    np.testing.assert_array_equal(three.content.mask, mask > 0)
    np.testing.assert_array_equal(four.content.labels, [1])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_mask_is_read_whatever_colours_its_picture_has(tmp_path: Path, stack: ImageStack, mode: str) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 3:12] = 255
    picture = Image.fromarray(mask).convert(mode)
    assert mode[-1] != "A" or picture.getchannel("A").getextrema() == (255, 255)
    picture.save(tmp_path / "m.png")
    (prompt,) = load_prompts(_write(tmp_path / "p.json", [{"object": 1, "index": 0, "mask": "m.png"}]), stack)
    assert prompt.content.mask is not None
    np.testing.assert_array_equal(prompt.content.mask, mask > 0)


def test_what_is_saved_is_read_again(tmp_path: Path, stack: ImageStack) -> None:
    mask = np.zeros((20, 30), bool)
    mask[1:4, 2:9] = True
    prompts = [
        Prompt(1, 0, SlicePrompt(box=(0.5, 0.5, 9.5, 9.5), points=np.array([[3.0, 4.5]]), labels=np.array([0]))),
        Prompt(5, 4, SlicePrompt(mask=mask)),
    ]
    save_prompts(tmp_path / "out.json", prompts)
    again = load_prompts(tmp_path / "out.json", stack)
    assert [(p.label, p.index, p.content.box) for p in again] == [(1, 0, (0.5, 0.5, 9.5, 9.5)), (5, 4, None)]
    np.testing.assert_array_equal(again[0].content.points, [[3.0, 4.5]])
    np.testing.assert_array_equal(again[0].content.labels, [0])
    assert again[1].content.mask is not None
    np.testing.assert_array_equal(again[1].content.mask, mask)


def test_a_collections_images_go_by_name(tmp_path: Path) -> None:
    images = [np.zeros((20, 30), np.uint8), np.zeros((25, 10), np.uint8)]
    stack = ImageStack(images, names=["a.png", "b.png"])
    path = _write(tmp_path / "p.json", [{"object": 1, "image": "b.png", "box": [0, 0, 20, 9]}])
    assert load_prompts(path, stack)[0].index == 1
    path = _write(tmp_path / "p.json", [{"object": 1, "image": "c.png", "box": [0, 0, 20, 9]}])
    with pytest.raises(InputError, match=r"c\.png"):
        load_prompts(path, stack)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"object": 0, "index": 0, "box": [0, 0, 5, 5]}, r'"object" in prompt 1 of p.json must be a whole number'),
        ({"object": True, "index": 0, "box": [0, 0, 5, 5]}, '"object"'),
        ({"object": "nucleus", "index": 0, "box": [0, 0, 5, 5]}, '"object"'),
        ({"object": 1, "index": 5, "box": [0, 0, 5, 5]}, "slice 5 .* has slices 0 to 4"),
        ({"object": 1, "index": -1, "box": [0, 0, 5, 5]}, "slice -1"),
        ({"object": 1, "index": 1.5, "box": [0, 0, 5, 5]}, '"index"'),
        ({"object": 1, "box": [0, 0, 5, 5]}, '"index"'),
        ({"object": 1, "index": 0}, 'needs "box", "points" or "mask"'),
        ({"object": 1, "index": 0, "box": [0, 0, 5]}, "four"),
        ({"object": 1, "index": 0, "box": [0, 0, 5, "x"]}, "four numbers"),
        ({"object": 1, "index": 0, "box": [0, 0, float("nan"), 5]}, "finite"),
        ({"object": 1, "index": 0, "box": [40, 0, 50, 5]}, "outside the slice of 20 rows and 30 columns"),
        ({"object": 1, "index": 0, "box": [3, 3, 3, 9]}, "less than one pixel"),
        ({"object": 1, "index": 0, "points": []}, "no points"),
        ({"object": 1, "index": 0, "points": [[1, 2, 3]], "labels": [1]}, "pairs"),
        ({"object": 1, "index": 0, "points": "many", "labels": [1]}, "pairs"),
        ({"object": 1, "index": 0, "points": [[1, 2]], "labels": [1, 1]}, "1 points"),
        ({"object": 1, "index": 0, "points": [[1, 2]], "labels": [2]}, r"1 \(positive\) or 0 \(negative\)"),
        ({"object": 1, "index": 0, "points": [[20, 2]], "labels": [1]}, r"\(20, 2\).* outside the slice"),
        ({"object": 1, "index": 0, "points": [[float("nan"), 2]], "labels": [1]}, "outside the slice"),
        ({"object": 1, "index": 0, "points": [[10**400, 2]]}, "pairs of numbers"),
        ({"object": 1, "index": 0, "points": [[1, 2]], "labels": [10**400]}, "pairs of numbers"),
        ({"object": 1, "index": 0, "box": [1, 2, 3, -(10**400)]}, "four numbers"),
        ({"object": 1, "index": 0, "points": [[1, 2]], "label": [0]}, "'label' in prompt 1 of p.json; .* 'labels'"),
        ({"object": 1, "index": 0, "point": [[1, 2]]}, "unknown key 'point'.* did you mean 'points'"),
        ({"object": 1, "index": 0, "points": [[1, 2]], "boxes": [0, 0, 5, 5]}, "unknown key 'boxes'.* 'box'"),
        ({"object": 1, "index": 0, "box": [0, 0, 5, 5], "score": 1}, "unknown key 'score'.* there are object, index"),
        ({"object": 1, "index": 0, "mask": "missing.tif"}, "missing.tif"),
        ({"object": 1, "index": 0, "mask": 3}, '"mask"'),
        (["object", 1], "must be an object"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, stack: ImageStack, entry: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_prompts(_write(tmp_path / "p.json", [entry]), stack)
    assert "\n" not in str(caught.value)


def test_what_numpy_makes_is_taken(stack: ImageStack) -> None:
    labels, masks = np.array([0, 3, 7], np.uint16), np.zeros((5, 20, 30), bool)
    masks[2, 4:9, 3:12] = True
    for label in labels[1:]:
        entry = {"object": label, "index": masks.any((1, 2)).argmax(), "mask": masks[2]}
        prompt = parse_entry(entry, "", stack)
        assert (prompt.label, prompt.index) == (label, 2)
        assert type(prompt.label) is type(prompt.index) is int
    for points in (np.array([[5.0, 6.0], [7.0, 8.0]]), ((5, 6), (7, 8)), [np.array([5, 6]), (7, 8)]):
        content = parse_entry({"object": 1, "index": 0, "points": points}, "", stack).content
        np.testing.assert_array_equal(content.points, [[5, 6], [7, 8]])
        np.testing.assert_array_equal(content.labels, [1, 1])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"object": np.bool_(True)}, '"object" must be a whole number'),
        ({"object": np.float64(1)}, '"object" must be a whole number'),
        ({"index": True}, '"index" must be a whole number'),
        ({"points": np.array(5.0)}, "pairs"),
        ({"points": 5}, "pairs"),
    ]
    for change, message in wrong:
        with pytest.raises(InputError, match=message):
            parse_entry({"object": 1, "index": 0, "points": [[1, 2]], **change}, "", stack)


def test_a_name_and_a_comment_are_for_people(tmp_path: Path, stack: ImageStack) -> None:
    entry = {"object": 1, "index": 0, "box": [2, 2, 9, 9], "name": "nucleus", "comment": "blurred"}
    (prompt,) = load_prompts(_write(tmp_path / "p.json", [entry]), stack)
    assert prompt.content.box == (2, 2, 9, 9)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path, stack: ImageStack) -> None:
    cases: list[tuple[str, np.ndarray, str]] = [
        ("size", np.ones((10, 30), np.uint8), r"\(10, 30\) does not fit the slice, which is \(20, 30\)"),
        ("empty", np.zeros((20, 30), np.uint8), "empty"),
        ("nan", np.full((20, 30), np.nan, np.float32), "NaN|not a number|finite"),
        ("many", np.ones((7, 20, 30), np.uint8), "7 slices"),
    ]
    for name, mask, message in cases:
        tifffile.imwrite(tmp_path / f"{name}.tif", mask, photometric="minisblack")
        path = _write(tmp_path / "p.json", [{"object": 1, "index": 0, "mask": f"{name}.tif"}])
        with pytest.raises(InputError, match=message):
            load_prompts(path, stack)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (100_000 * "[", "not valid JSON"),
        ("[1]", "not a prompts file"),
        ('{"format": "coco"}', "not a prompts file"),
        ('{"format": "napari-medsam2-prompts", "version": 9, "prompts": [1]}', "version 9"),
        ('{"format": "napari-medsam2-prompts", "version": 1, "prompts": []}', "holds no prompts"),
        ('{"format": "napari-medsam2-prompts", "version": 1}', "holds no prompts"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, stack: ImageStack, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_prompts(path, stack)


def test_a_missing_or_binary_file_is_named(tmp_path: Path, stack: ImageStack) -> None:
    with pytest.raises(InputError, match="no prompts file"):
        load_prompts(tmp_path / "none.json", stack)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="cannot read"):
        load_prompts(tmp_path / "b.json", stack)


def test_boxes_are_put_in_order_and_clipped(tmp_path: Path, stack: ImageStack) -> None:
    path = _write(tmp_path / "p.json", [{"object": 1, "index": 0, "box": [12, 40, -8, 3]}])
    assert load_prompts(path, stack)[0].content.box == (-0.5, 3, 12, 29.5)

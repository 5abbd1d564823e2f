from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2._canvas import Frame, colour, dashed_box, dot, label_map, outlines, picture, tint
from napari_medsam2.overlay import choose_slices, draw_montage, write_overlay
from napari_medsam2.results import ObjectResult

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.backend.protocol import Backend

_GREEN, _RED = (40, 190, 60), (225, 50, 50)


def _disk(y: float, x: float, radius: float, side: int = 64) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def _session(backend: Backend, slices: int, side: int = 64, kind: str = "ZYX") -> AnnotationSession:
    image = np.random.default_rng(0).integers(20, 60, (slices, side, side), np.uint8)
    return AnnotationSession(ImageStack(image, kind, window=(0.0, 255.0)), backend=backend)


def _has(image: Image.Image, rgb: tuple[int, int, int], tolerance: int = 12) -> np.ndarray:
    return np.asarray((np.abs(np.asarray(image, int) - rgb) <= tolerance).all(2))


def test_colours_can_be_told_apart_and_from_the_picture() -> None:
    for bright in (False, True):
        colours = [colour(n, bright) for n in range(12)]
        gaps = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(colours) for b in colours[:i]]
        assert min(gaps) >= 30
        lightness = [np.dot(c, (0.2126, 0.7152, 0.0722)) for c in colours]
        assert (max(lightness) < 170) if bright else (min(lightness) > 110)


@pytest.mark.parametrize("scale", [6.0, 1.3, 0.5])
def test_masks_are_drawn_where_they_are(scale: float) -> None:
    masks = [_disk(20, 24, 9), _disk(44, 40, 12)]
    results = [ObjectResult.from_mask(n, 0, m) for n, m in enumerate(masks, 1)]
    frame = Frame(0, 0, 64, 64, scale)
    labels = label_map(results, frame, 2)
    assert labels.shape == (frame.size[1] * 2, frame.size[0] * 2)
    area = (labels.shape[0] / 64) ** 2
    for number, mask in enumerate(masks, 1):
        drawn = labels == number
        assert drawn.sum() / area == pytest.approx(mask.sum(), rel=0.06)
        centre = (np.array(ndimage.center_of_mass(drawn)) + 0.5) / (labels.shape[0] / 64) - 0.5
        assert centre == pytest.approx(ndimage.center_of_mass(mask), abs=0.3)


def test_an_outline_follows_logits_between_pixels() -> None:
    # The true edge of a ramp is a quarter of a pixel past column 10.
    logits = np.clip(np.round((10.25 - np.arange(32.0)) * 8), -100, 100).astype(np.int8)
    result = ObjectResult(1, 0, (32, 32), 0, 0, np.tile(logits, (32, 1)), 1.0, 1.0, "propagated")
    drawn = label_map([result], Frame(0, 0, 32, 32, 16), 1)
    columns = (np.flatnonzero(drawn[256])[-1] + 1) / 16 - 0.5
    assert columns == pytest.approx(10.25, abs=1 / 16)


def test_overlaps_are_drawn_as_in_the_labels(backend: Backend) -> None:
    session = _session(backend, 1, 32)
    for label, peak in ((1, 30), (2, 60)):
        session.add_object(label=label)
        logits = np.full((20, 20), peak, np.int8)
        session.results.put(ObjectResult(label, 0, (32, 32), 4 * label, 2, logits, 1, 1, "propagated"))
    drawn = label_map(list(session.results.on(0)), Frame(0, 0, 32, 32, 4), 1)
    labels = session.slice_labels(0)
    np.testing.assert_array_equal(drawn[2::4, 2::4], labels)


def test_outlines_are_thin_closed_and_leave_the_inside_alone() -> None:
    mask = _disk(32, 32, 16)
    frame = Frame(0, 0, 64, 64, 5.0)
    tile = Image.new("RGB", frame.size, (40, 40, 40))
    labels = label_map([ObjectResult.from_mask(1, 0, mask)], frame, 2)
    drawn = np.asarray(outlines(tile, labels, [(250, 200, 0)], 2, 2), int)
    touched = (drawn != 40).any(2)
    inside = (labels == 1).reshape(320, 2, 320, 2).any((1, 3))
    assert (touched <= inside).all(), "the line lies inside the edge"
    depth = ndimage.distance_transform_edt(inside)
    assert depth[touched].max() <= 4
    filled = ndimage.binary_fill_holes(touched)
    assert filled.sum() == pytest.approx(inside.sum(), rel=0.03), "the line is closed"


def test_neighbours_keep_a_line_each() -> None:
    labels = np.repeat(np.array([[1] * 40 + [2] * 40], np.int32), 80, axis=0)
    drawn = outlines(Image.new("RGB", (40, 40)), labels, [(255, 0, 0), (0, 0, 255)], 2, 2)
    row = np.asarray(drawn)[20]
    assert (row[18:20] == (255, 0, 0)).all()
    assert (row[20:22] == (0, 0, 255)).all()
    assert not row[:17].any()
    assert not row[23:].any()


def test_a_painted_mask_is_tinted() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[:20] = 1
    drawn = np.asarray(tint(Image.new("RGB", (20, 20)), labels, {1: (200, 100, 0)}, 2, 0.5))
    assert (drawn[:10] == (100, 50, 0)).all()
    assert not drawn[10:].any()


def test_prompts_are_drawn_where_they_were_given() -> None:
    from PIL import ImageDraw

    frame = Frame(10, 20, 32, 32, 8.0)
    tile = Image.new("RGB", frame.size, (90, 90, 90))
    dashed_box(ImageDraw.Draw(tile), (*frame.place(15.5, 25.5), *frame.place(30.5, 40.5)))
    white = np.argwhere(_has(tile, (255, 255, 255)))
    assert white.min(0) == pytest.approx(((15.5 + 0.5 - 10) * 8, (25.5 + 0.5 - 20) * 8), abs=1)
    assert white.max(0) == pytest.approx(((30.5 + 0.5 - 10) * 8, (40.5 + 0.5 - 20) * 8), abs=1)
    tile = Image.new("RGB", frame.size, (90, 90, 90))
    dot(tile, frame.place(20, 30), True)
    dot(tile, frame.place(35, 45), False)
    for rgb, (y, x) in ((_GREEN, (20, 30)), (_RED, (35, 45))):
        centre = np.argwhere(_has(tile, rgb)).mean(0) + 0.5
        assert centre == pytest.approx(((y + 0.5 - 10) * 8, (x + 0.5 - 20) * 8), abs=0.6)


def test_a_slice_is_shown_as_it_is() -> None:
    pixels = np.zeros((3, 16, 16), np.float32)
    pixels[0, 4:8, 8:12] = 1
    shown = np.asarray(picture(pixels, Frame(0, 0, 16, 16, 8.0)), int)
    assert (shown[40:56, 72:88] == (255, 0, 0)).all()
    assert np.asarray(picture(pixels, Frame(4, 8, 4, 4, 8.0)), int)[..., 0].min() == 255, "cut to the part"


def test_slices_are_chosen_from_where_the_objects_are(backend: Backend) -> None:
    session = _session(backend, 200)
    label = session.add_object()
    session.add_mask(label, 70, _disk(32, 32, 12))
    for index in range(50, 91):
        if index != 70:
            session.results.put(ObjectResult.from_mask(label, index, _disk(32, 32, 10)))
    chosen = choose_slices(session, 12)
    assert len(chosen) == 12
    assert chosen == sorted(set(chosen))
    assert {49, 70, 91} <= set(chosen), "the prompt, and that the object has ended at both ends"
    assert max(np.diff(chosen)) <= 6
    assert choose_slices(_session(backend, 5)) == [0, 1, 2, 3, 4]


def test_prompts_on_every_slice_do_not_crowd_out_the_rest(backend: Backend) -> None:
    session = _session(backend, 60)
    for index in range(40):
        session.add_mask(session.add_object(), index, _disk(32, 32, 12))
    chosen = choose_slices(session, 12)
    assert len(chosen) == 12
    assert chosen[0] == 0
    assert chosen[-1] == 40


def test_the_montage_shows_outlines_prompts_and_frames(backend: Backend) -> None:
    session = _session(backend, 6)
    label = session.add_object()
    session.add_mask(label, 2, _disk(30, 34, 14))
    for index in (1, 3):
        session.results.put(ObjectResult.from_mask(label, index, _disk(30, 34, 12)))
    plain = _session(backend, 6)
    plain.add_mask(plain.add_object(), 2, _disk(30, 34, 14))
    montage, without = draw_montage(session), draw_montage(plain)
    assert montage.size == without.size
    line = colour(0)
    assert _has(montage, line, 30).sum() > 2.2 * _has(without, line, 30).sum() > 0
    frames, _ = ndimage.label(_has(montage, (255, 196, 61), 2))
    wide = [s for s in ndimage.find_objects(frames) if s[0].stop - s[0].start > 300 and s[1].stop - s[1].start > 300]
    assert len(wide) == 1, "one slice was prompted"
    assert draw_montage(session, indices=[2]).width < montage.width


def test_a_small_object_of_a_large_stack_is_seen_from_near(backend: Backend) -> None:
    session = _session(backend, 3, side=512)
    label = session.add_object()
    session.add_mask(label, 1, _disk(100, 300, 14, 512))
    montage = draw_montage(session)
    found = ndimage.find_objects(_has(montage, colour(0), 40).astype(int))[0]
    assert found[1].stop - found[1].start > 150, "28 pixels have grown"


def test_pictures_of_different_sizes_and_names(tmp_path: Path, backend: Backend) -> None:
    folder = tmp_path / "bilder"
    folder.mkdir()
    for name, shape in (("größe 1.png", (40, 90)), ("b.png", (120, 60)), ("c.png", (700, 900))):
        Image.fromarray(np.full((*shape, 3), 230, np.uint8)).save(folder / name)
    session = AnnotationSession(ImageStack.open(folder), backend=backend)
    session.add_mask(session.add_object(), 0, np.ones((120, 60), bool))
    write_overlay(tmp_path / "picture.png", session)
    with Image.open(tmp_path / "picture.png") as montage:
        assert montage.mode == "RGB"
        assert min(montage.size) > 500


def test_a_picture_needs_a_mask_and_a_format(tmp_path: Path, backend: Backend) -> None:
    session = _session(backend, 2)
    with pytest.raises(InputError, match="no mask yet"):
        draw_montage(session)
    session.add_mask(session.add_object(), 0, _disk(30, 30, 9))
    with pytest.raises(InputError, match=r"\.png"):
        write_overlay(tmp_path / "picture.pdf", session)
    for suffix in ("png", "jpg", "tif"):
        write_overlay(tmp_path / f"picture.{suffix}", session)
        with Image.open(tmp_path / f"picture.{suffix}") as image:
            image.load()

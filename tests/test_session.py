from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import dice

from napari_medsam2 import AnnotationSession, ImageStack, InputError, segment_stack

if TYPE_CHECKING:
    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend


@pytest.fixture
def session(backend: Backend, balls: Balls) -> AnnotationSession:
    return AnnotationSession(ImageStack(balls.image, "ZYX"), backend=backend)


def test_a_box_gives_the_object(session: AnnotationSession, balls: Balls) -> None:
    label = session.add_object(name="ball")
    result = session.add_box(label, 12, balls.box(1, 12))
    assert result.mask.shape == (96, 112)
    assert result.mask.dtype == bool
    assert 0 <= result.confidence <= 1
    assert dice(result.mask, balls.labels[12] == 1) > 0.9
    np.testing.assert_array_equal(session.slice_labels(12) == label, result.mask)
    assert session.objects[label].name == "ball"


def test_one_click_gives_the_object(session: AnnotationSession, balls: Balls) -> None:
    label = session.add_object()
    result = session.add_points(label, 11, [(64, 78)], [1])
    assert dice(result.mask, balls.labels[11] == 2) > 0.85


def test_clicks_add_up_and_correct(session: AnnotationSession, balls: Balls) -> None:
    label = session.add_object()
    session.add_points(label, 12, [(30, 32)], [1])
    both = session.add_points(label, 12, [(64, 78)], [1])
    assert dice(both.mask, balls.labels[12] > 0) > 0.7
    assert len(session.prompts[label, 12].points) == 2

    other = session.add_object()
    loose = session.add_box(other, 12, (46, 60, 84, 98))
    assert loose.mask[64, 78]
    cut = session.add_points(other, 12, [(64, 78)], [0])
    assert not cut.mask[64, 78]

    mended = session.add_points(label, 12, [(64, 78)], [0])
    assert not mended.mask[64, 78]
    assert dice(mended.mask, balls.labels[12] == 1) > 0.7


def test_a_click_on_the_spot_of_another_takes_it_back(session: AnnotationSession, balls: Balls) -> None:
    label = session.add_object()
    session.add_points(label, 12, [(30, 32)], [1])
    wrong = session.add_points(label, 12, [(64, 78)], [1])
    assert wrong.mask[64, 78]
    mended = session.add_points(label, 12, [(65, 77)], [0])
    assert session.prompts[label, 12].points.tolist() == [[30, 32], [65, 77]]
    assert session.prompts[label, 12].labels.tolist() == [1, 0]
    assert dice(mended.mask, balls.labels[12] == 1) > 0.95
    session.undo()
    assert session.prompts[label, 12].labels.tolist() == [1, 1]

    # Of one sign, or further apart, clicks only add up.
    session.add_points(label, 12, [(64, 78)], [1])
    session.add_points(label, 12, [(64, 75)], [0])
    assert session.prompts[label, 12].labels.tolist() == [1, 1, 1, 0]


def test_a_click_taken_back_leaves_the_mask_that_was_painted_or_carried(
    session: AnnotationSession, balls: Balls
) -> None:
    label = session.add_object()
    painted = np.zeros(balls.labels[12].shape, bool)
    painted[4:24, 60:100] = True
    session.add_mask(label, 12, painted)
    session.add_points(label, 12, [(64, 78)], [1])
    mended = session.add_points(label, 12, [(64, 78)], [0])
    assert not mended.mask[64, 78]
    assert (mended.mask & painted).sum() > 0.9 * painted.sum()

    carried = session.add_object()
    session.add_box(carried, 12, balls.box(1, 12))
    for _ in session.propagate():
        pass
    before = session.results.get(carried, 13)
    assert before is not None
    session.add_points(carried, 13, [(64, 78)], [1])
    mended = session.add_points(carried, 13, [(64, 78)], [0])
    assert not mended.mask[64, 78]
    assert (mended.mask & before.mask).sum() > 0.9 * before.area


def test_a_scribble_gives_the_object(session: AnnotationSession, balls: Balls) -> None:
    label = session.add_object()
    result = session.add_scribble(label, 12, [(22, 30), (30, 32), (38, 34)])
    assert dice(result.mask, balls.labels[12] == 1) > 0.85


def test_a_painted_mask_is_taken_as_it_is(session: AnnotationSession) -> None:
    label = session.add_object()
    painted = np.zeros((96, 112), bool)
    painted[10:30, 5:40] = True
    painted[50, 60] = True
    result = session.add_mask(label, 3, painted)
    np.testing.assert_array_equal(result.mask, painted)
    assert result.confidence == 1
    np.testing.assert_array_equal(session.slice_labels(3) > 0, painted)


def test_prompts_are_taken_back(session: AnnotationSession, balls: Balls) -> None:
    label = session.add_object()
    session.add_box(label, 12, balls.box(1, 12))
    session.clear_prompts(label, 12)
    assert not session.slice_labels(12).any()
    assert not session.prompts
    with pytest.raises(InputError, match="prompt to start from"):
        session.propagate()


def test_objects_are_removed_with_all_that_is_theirs(session: AnnotationSession, balls: Balls) -> None:
    one, two = session.add_object(), session.add_object()
    session.add_box(one, 12, balls.box(1, 12))
    session.add_box(two, 12, balls.box(2, 12))
    seen: list[int] = []
    session.events.slice_changed.connect(seen.append)
    session.remove_object(one)
    assert set(np.unique(session.slice_labels(12))) == {0, two}
    assert seen == [12]
    assert set(session.prompts) == {(two, 12)}


def test_events_tell_what_changed(session: AnnotationSession, balls: Balls) -> None:
    objects: list[int] = []
    slices: list[int] = []
    session.events.objects_changed.connect(lambda: objects.append(1))
    session.events.slice_changed.connect(slices.append)
    label = session.add_object()
    session.rename_object(label, "new name")
    session.add_box(label, 12, balls.box(1, 12))
    assert (len(objects), slices) == (2, [12])


def test_labels_choose_their_type_and_stay_unique(session: AnnotationSession) -> None:
    assert session.add_object() == 1
    assert session.add_object(label=9) == 9
    assert session.add_object() == 10
    assert session.dtype == np.uint16
    session.add_object(label=70_000)
    assert session.dtype == np.uint32
    with pytest.raises(InputError, match="label 9 is taken"):
        session.add_object(label=9)
    for bad in (0, -3, 2**31, 1.5, True, "a"):
        with pytest.raises(InputError, match="whole number from 1"):
            session.add_object(label=bad)  # type: ignore[arg-type]


def test_new_objects_need_no_larger_type_while_small_numbers_are_free(session: AnnotationSession) -> None:
    session.add_object(label=2)
    session.add_object(label=65_534)
    assert [session.add_object() for _ in range(4)] == [65_535, 1, 3, 4]
    assert session.dtype == np.uint16
    session.add_object(label=70_000)
    assert session.add_object() == 70_001
    session.add_object(label=2**31 - 1)
    assert session.add_object() == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_box(7, 0, (0, 0, 5, 5)), "no object 7.* objects are: 1"),
        (lambda s: s.add_box(1, 24, (0, 0, 5, 5)), "slice 24 does not exist: .* 0 to 23"),
        (lambda s: s.add_box(1, -1, (0, 0, 5, 5)), "slice -1"),
        (lambda s: s.add_box(1, 0, (200, 0, 210, 5)), "outside the slice"),
        (lambda s: s.add_box(1, 0, (3, 3, 3, 3)), "less than one pixel"),
        (lambda s: s.add_points(1, 0, [], []), "no points"),
        (lambda s: s.add_points(1, 0, [(500, 0)], [1]), "outside the slice"),
        (lambda s: s.add_points(1, 0, [(np.nan, 0)], [1]), "outside the slice"),
        (lambda s: s.add_points(1, 0, [(5, 5)], [0]), "first click on an object must be positive"),
        (lambda s: s.add_points(1, 0, [(5, 5)], [3]), "1 .positive. or 0"),
        (lambda s: s.add_mask(1, 0, np.zeros((96, 112))), "empty"),
        (lambda s: s.add_mask(1, 0, np.ones((112, 96))), "does not fit"),
        (lambda s: s.add_mask(1, 0, np.full((96, 112), np.nan)), "NaN"),
        (lambda s: s.add_mask(1, 0, np.full((96, 112), "x")), "bool or numbers"),
        (lambda s: s.propagate(), "no object has a prompt"),
        (lambda s: s.propagate(labels=[1]), "object 1 has a prompt to start|object 1 has"),
        (lambda s: s.propagate(labels=[8]), "no object 8"),
        (lambda s: s.propagate(direction="up"), "unknown direction 'up'"),
        (lambda s: s.propagate(start=5, stop=5), "not a range"),
        (lambda s: s.propagate(start=0, stop=99), "slices 0 to 99 are not a range of the 24 there are"),
        (lambda s: s.propagate(patience=0), "patience"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(session: AnnotationSession, call: Any, message: str) -> None:
    session.add_object()
    with pytest.raises(InputError, match=message) as caught:
        call(session)
    assert "\n" not in str(caught.value)
    assert len(session.results) == 0
    assert not session.prompts


def test_unknown_policies_kinds_and_stacks_are_refused(backend: Backend) -> None:
    stack = ImageStack(np.zeros((2, 20, 20), np.uint8), "ZYX")
    with pytest.raises(InputError, match="memory policy 'lifo'"):
        AnnotationSession(stack, backend=backend, memory="lifo")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown kind 'volume'"):
        AnnotationSession(stack, backend=backend, kind="volume")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs an ImageStack"):
        AnnotationSession(np.zeros((2, 20, 20)), backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float16", "float32", "float64", "bool"])
def test_every_pixel_type_works(backend: Backend, dtype: str) -> None:
    image = np.zeros((3, 64, 64))
    image[:, 20:40, 22:44] = 1 if dtype == "bool" else 100
    session = AnnotationSession(ImageStack(image.astype(dtype), "ZYX"), backend=backend)
    label = session.add_object()
    result = session.add_box(label, 1, (19.5, 21.5, 39.5, 43.5))
    assert dice(result.mask, image[1] > 0) > 0.9


def test_constant_and_nan_slices_are_survived(backend: Backend) -> None:
    image = np.full((5, 40, 40), 7, np.float32)
    image[2, 10:20, 10:20] = 9
    image[3] = np.nan
    image[4, :5] = np.inf
    session = AnnotationSession(ImageStack(image, "ZYX"), backend=backend)
    label = session.add_object()
    session.add_box(label, 2, (9.5, 9.5, 19.5, 19.5))
    for result in session.propagate(patience=None):
        assert np.isfinite(result.confidence)
    assert np.asarray(session.labels()).shape == image.shape


@pytest.mark.parametrize(
    ("shape", "axes"), [((60, 60), "YX"), ((1, 60, 60), "ZYX"), ((60, 60, 3), "YXC"), ((60, 60, 4), "YXC")]
)
def test_a_single_image_needs_no_stack(backend: Backend, shape: tuple[int, ...], axes: str) -> None:
    image = np.full(shape, 40, np.uint8)
    window = (slice(20, 40), slice(15, 35))
    image[(0, *window) if axes == "ZYX" else window] = 200
    session = AnnotationSession(ImageStack(image, axes), backend=backend, kind="stack")
    label = session.add_object()
    result = session.add_box(label, 0, (19.5, 14.5, 39.5, 34.5))
    assert dice(result.mask, np.pad(np.ones((20, 20), bool), ((20, 20), (15, 25)))) > 0.9
    assert list(session.propagate()) == []
    assert session.labels().shape == tuple(n for n, a in zip(shape, axes, strict=True) if a != "C")


def test_time_points_are_stacks_of_their_own(backend: Backend, balls: Balls) -> None:
    image = np.stack([balls.image, balls.image[::-1]])
    session = AnnotationSession(ImageStack(image, "TZYX"), backend=backend)
    label = session.add_object()
    session.add_box(label, 24 + 11, balls.box(1, 12))
    touched = [r.index for r in session.propagate()]
    assert touched
    assert min(touched) >= 24
    labels = np.asarray(session.labels())
    assert labels.shape == image.shape
    assert not labels[0].any()
    assert dice(labels[1] == label, balls.labels[::-1] == 1) > 0.8


def test_segment_stack_is_the_whole_job(balls: Balls) -> None:
    prompts = [{"object": 4, "index": 12, "box": list(balls.box(1, 12))}]
    labels = segment_stack(balls.image, prompts, axes="ZYX")
    assert labels.shape == balls.image.shape
    assert set(np.unique(labels)) == {0, 4}
    assert dice(labels == 4, balls.labels == 1) > 0.8
    mask = balls.labels[11] == 2
    labels = segment_stack(balls.image, [{"object": 1, "index": 11, "mask": mask}])
    np.testing.assert_array_equal(labels[11] == 1, mask)
    with pytest.raises(InputError, match="no prompts"):
        segment_stack(balls.image, [])
    with pytest.raises(InputError, match="prompt 1"):
        segment_stack(balls.image, [{"object": 1, "index": 99, "box": [0, 0, 5, 5]}])
    with pytest.raises(InputError, match="unknown model"):
        segment_stack(balls.image, prompts, model="gigantic")


def test_segment_stack_takes_pictures_for_a_collection(balls: Balls) -> None:
    # What lies in the first picture is not looked for in its place in the others, as a stack's is.
    picture = balls.image[11]
    pictures = np.stack([picture, picture[::-1], picture[:, ::-1]])
    prompts = [{"object": 1, "index": 0, "mask": balls.labels[11] > 0}]
    wanted = segment_stack(pictures, prompts, axes="NYX", kind="collection")
    np.testing.assert_array_equal(segment_stack(pictures, prompts, axes="NYX"), wanted)
    np.testing.assert_array_equal(segment_stack(ImageStack(pictures, "NYX"), prompts), wanted)
    as_stack = segment_stack(pictures, prompts, axes="NYX", kind="stack")
    assert (as_stack != wanted).any()
    np.testing.assert_array_equal(segment_stack(pictures, prompts), as_stack)


def test_pictures_of_different_sizes_are_no_stack(backend: Backend) -> None:
    pictures = ImageStack([np.zeros((20, 30), np.uint8), np.zeros((25, 30), np.uint8)])
    with pytest.raises(InputError, match="differ in size, so they are no stack; choose the kind 'collection'"):
        AnnotationSession(pictures, backend=backend, kind="stack")
    assert AnnotationSession(pictures, backend=backend).kind == "collection"
    # Said at once: not after all images were computed, nor after a model was loaded.
    prompts = [{"object": 1, "index": 0, "box": [2, 2, 9, 9]}]
    with pytest.raises(InputError, match=r"differ in size.* AnnotationSession, and slice_labels\(index\)"):
        segment_stack(pictures, prompts, model="gigantic")
    same = ImageStack([np.zeros((20, 30), np.uint8)] * 2)
    assert AnnotationSession(same, backend=backend, kind="stack").kind == "stack"


class _Slide:
    """A slide in blocks, drawn where it is read, with a nucleus of 24 pixels and a vessel of 200."""

    shape, dtype, chunks = (12_000, 15_000, 3), np.dtype(np.uint8), (512, 512, 3)
    nucleus, vessel = (9000, 3000, 12), (2500, 11_000, 100)

    def __init__(self) -> None:
        self.read = 0

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        rows, columns = (np.arange(size)[part] for part, size in zip(key[:2], self.shape[:2], strict=True))
        self.read += len(rows) * len(columns)
        grey = ((rows[:, None] * 7 + columns * 13) % 17 + 210).astype(np.uint8)
        for y, x, r in (self.nucleus, self.vessel):
            grey[(rows[:, None] - y) ** 2 + (columns - x) ** 2 <= r * r] -= 120
        return np.repeat(grey[..., None], 3, 2)


def test_a_click_on_a_slide_reads_what_is_around_it(backend: Backend) -> None:
    slide = _Slide()
    session = AnnotationSession(ImageStack(slide, "YXC"), backend=backend)
    for name in ("nucleus", "vessel"):
        y, x, radius = getattr(slide, name)
        label = session.add_object(name)
        session.add_points(label, 0, [(y, x)], [1])
        found = session.results.get(label, 0)
        assert found is not None
        assert abs(found.area / (np.pi * radius**2) - 1) < 0.2
    # Each click looked at regions of up to 4096 × 4096 pixels.
    assert slide.read < 0.3 * 12_000 * 15_000
    # Clicks that are farther apart than that are one object as well.
    session.add_points(session.add_object(), 0, [(1000, 1000), (8000, 12_000)], [1, 1])

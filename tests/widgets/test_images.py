"""Images of every kind in a real viewer: a click lands on the pixel under the mouse, and the mask lies on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt
from tests.widgets.docking import Patch, begin, fast_model, hear, open_dock, settle
from tests.widgets.driving import click, drag, key, wait_until

from napari_medsam2 import ImageStack
from napari_medsam2.widgets.panels import GalleryPanel
from napari_medsam2.widgets.stack_array import StackArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.dock import MedSam2Dock

SHAPE = (60, 84)
PATCH = Patch(SHAPE, 12, 48, 18, 24)


class Desk:
    """A viewer, what is in it, and what was said."""

    def __init__(self, viewer: Any, notes: list[str]) -> None:
        self.viewer, self.notes = viewer, notes
        self.docks: list[MedSam2Dock] = []

    def open(self, data: Any, **kwargs: Any) -> MedSam2Dock:
        """Show an image, the only one, beside the dock."""
        if self.docks:
            self.docks[0].bench.finish()
            self.viewer.layers.clear()
        self.viewer.dims.ndisplay = 2
        self.viewer.add_image(data, name="cells", **kwargs)
        self.viewer.dims.order = tuple(range(self.viewer.dims.ndim))
        self.viewer.reset_view()
        if not self.docks:
            self.docks.append(open_dock(self.viewer))
        return self.docks[0]


@pytest.fixture
def desk(make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    fast_model(monkeypatch)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(820, 560)
    made = Desk(viewer, hear(monkeypatch))
    yield made
    for dock in made.docks:
        dock.shut()


def full(lead: tuple[int, ...] = (), dtype: Any = np.uint8, patch: Patch = PATCH) -> np.ndarray:
    """The same picture everywhere."""
    return np.broadcast_to(patch.picture(dtype), (*lead, *patch.mask.shape)).copy()


def lazily(array: np.ndarray) -> Any:
    make: Any = da.from_array
    return make(array, chunks=(2, 30, 84))


def prompt_and_check(
    dock: MedSam2Dock, at: tuple[int, ...], index: int, patch: Patch = PATCH, plane: tuple[int, int] = (-2, -1)
) -> Annotation:
    """Click the patch where napari draws it, on the slice ``at``; the frame that the plugin uses is not asked.

    The mask is then compared with the image at positions in the world, as napari's own status line does.
    """
    annotation = dock.bench.annotation or begin(dock)
    viewer, image = dock.bench.viewer, annotation.image
    ndim = len(annotation.masks.layer.data.shape)
    down, across = (axis % ndim for axis in plane)

    def data_at(y: float, x: float) -> np.ndarray:
        place = np.zeros(ndim)
        place[[axis for axis in range(ndim) if axis not in (down, across)]] = at
        place[[down, across]] = y, x
        return place

    def world_at(y: float, x: float) -> np.ndarray:
        own = np.asarray(image.data_to_world(data_at(y, x)))
        units = viewer.dims.units[-ndim:] if hasattr(viewer.dims, "units") else image.units
        factors = [(1 * unit).to(other).magnitude for unit, other in zip(image.units, units, strict=True)]
        out = np.array(viewer.dims.point, float)
        out[len(out) - ndim :] = own * factors
        return out

    viewer.dims.point = tuple(world_at(*patch.middle))
    viewer.reset_view()
    key(viewer, "P")
    click(viewer, world_at(*patch.middle))
    settle(annotation)
    label = annotation.label
    assert set(annotation.session.prompts) == {(label, index)}
    np.testing.assert_allclose(annotation.session.prompts[label, index].points, [patch.middle], atol=0.75)
    points = annotation.prompts.points
    np.testing.assert_allclose(
        np.asarray(points.data_to_world(points.data[0]))[[down, across]],
        np.asarray(image.data_to_world(data_at(*patch.middle)))[[down, across]],
        atol=0.8 * float(np.abs(image.scale).max()),
    )
    assert patch.overlap(annotation.session.slice_labels(index) == label) > 0.8
    height, width = patch.mask.shape
    rng = np.random.default_rng(1)
    for y, x in np.column_stack([rng.integers(0, height, 40), rng.integers(0, width, 40)]):
        found = annotation.masks.layer.get_value(image.data_to_world(data_at(y, x)), world=True)
        assert (found or 0) == annotation.session.slice_labels(index)[y, x], (y, x)
    assert annotation.masks.layer.get_value(image.data_to_world(data_at(*patch.middle)), world=True) == label
    assert not annotation.session.slice_labels(index)[height - 3 :, :5].any()
    return annotation


_TURN = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
_AFFINE = np.array([[1, 0, 0, 5], [0, 0.8, 0.3, -7], [0, -0.2, 1.1, 3], [0, 0, 0, 1]], float)

PLACES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": (4, 0.5, 2)},
    "moved": {"scale": (4, 0.5, 0.5), "translate": (100, -20, 7.25)},
    "rotated": {"rotate": _TURN, "scale": (1, 0.7, 0.7)},
    "sheared": {"shear": [0, 0, 0.4]},
    "affine": {"affine": _AFFINE},
    "units": {"units": ("um", "um", "nm"), "scale": (2, 0.5, 500)},
    "flipped": {"scale": (1, -1, 1)},
}


def test_the_prompt_is_under_the_mouse_and_the_mask_on_the_image(desk: Desk) -> None:
    for place, kwargs in PLACES.items():
        annotation = prompt_and_check(desk.open(full((5,)), **kwargs), (3,), 3)
        assert annotation.frame.spec.axes == "ZYX", place
        assert desk.notes == [], place


KINDS: dict[str, tuple[Callable[[], tuple[Any, dict[str, Any]]], str, tuple[int, ...], int]] = {
    "YX": (lambda: (full(), {}), "YX", (), 0),
    "one slice": (lambda: (full((1,)), {"scale": (3, 1, 1)}), "ZYX", (0,), 0),
    "RGB": (lambda: (np.repeat(full()[..., None], 3, -1), {"rgb": True}), "YX", (), 0),
    "RGBA stack": (lambda: (np.repeat(full((3,))[..., None], 4, -1), {"rgb": True}), "NYX", (2,), 2),
    "TZYX": (lambda: (full((5, 6)), {}), "TZYX", (3, 4), 22),
    "dask": (lambda: (lazily(full((6,))), {}), "ZYX", (4,), 4),
    "multiscale": (lambda: ([full((6,)), full((6,))[:, ::2, ::2]], {}), "ZYX", (4,), 4),
    "bool": (lambda: (full((5,)) > 100, {}), "ZYX", (1,), 1),
    "float64": (lambda: (full((5,), np.float64) / 255, {}), "ZYX", (1,), 1),
    "float16": (lambda: (full((5,), np.float16), {}), "ZYX", (1,), 1),
    "int64": (lambda: (full((5,), np.int64) * 1000 - 5000, {}), "ZYX", (1,), 1),
    "big-endian": (lambda: (full((5,), ">u2"), {}), "ZYX", (1,), 1),
}


def test_every_kind_of_image(desk: Desk, tmp_path: Any) -> None:
    for kind, (make, axes, at, index) in KINDS.items():
        data, kwargs = make()
        annotation = prompt_and_check(desk.open(data, **kwargs), at, index)
        assert annotation.frame.spec.axes == axes, kind
        assert desk.notes == [], kind
    array = zarr.create_array(tmp_path / "a.zarr", shape=(6, *SHAPE), chunks=(1, *SHAPE), dtype="u2")
    array[:] = full((6,), np.uint16)
    prompt_and_check(desk.open(array, contrast_limits=(0, 255)), (4,), 4)
    assert desk.notes == []


def test_rows_and_columns_need_not_be_the_last_axes(desk: Desk) -> None:
    data = np.moveaxis(full((5,)), 0, 2)
    dock = desk.open(data, metadata={"axes": "YXZ"})
    annotation = begin(dock)
    assert annotation.frame.spec.axes == "YXZ"
    click(desk.viewer, (*PATCH.middle, 2.0))
    assert not annotation.session.prompts
    assert len(desk.notes) == 1
    desk.viewer.dims.order = (2, 0, 1)
    prompt_and_check(dock, (2,), 2, plane=(0, 1))


# -- channels ----------------------------------------------------------------------------------------------------------


def channels() -> np.ndarray:
    """Three channels of four slices; the patch is in channel 1 only, another one in channel 2."""
    out = np.full((3, 4, *SHAPE), 20, np.uint8)
    out[1] = PATCH.picture()
    out[2] = Patch(SHAPE, 40, 4, 12, 20).picture()
    return out


def test_a_channel_is_chosen_and_its_masks_lie_in_all(desk: Desk) -> None:
    for order in ("CZYX", "ZCYX"):
        _annotate_channel(desk, order)


def _annotate_channel(desk: Desk, order: str) -> None:
    data = channels() if order == "CZYX" else np.swapaxes(channels(), 0, 1)
    dock = desk.open(data, metadata={"axes": order})
    assert dock.image.axes.currentData() == order
    assert [dock.image.channel.itemText(i) for i in range(4)] == [
        "All channels", "Channel 0", "Channel 1", "Channel 2",
    ]  # fmt: skip
    dock.image.channel.setCurrentIndex(dock.image.channel.findData(1))
    at = (0, 2) if order == "CZYX" else (2, 0)
    annotation = prompt_and_check(dock, at, 2)
    assert len(annotation.session.stack) == 4
    labels = annotation.session.slice_labels(2)
    for channel in range(3):
        place = (channel, 2) if order == "CZYX" else (2, channel)
        np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[place]), labels)
    # The slice stays, the channel changes: it is the same slice to the plugin.
    axis = order.index("C")
    for channel in (2, 1):
        desk.viewer.dims.set_point(axis, channel)
        assert annotation.index == 2
        assert annotation.masks.layer.get_value((*desk.viewer.dims.point[:2], *PATCH.middle), world=True) == 1
    key(desk.viewer, "B")
    annotation.masks.layer.brush_size = 3
    point = desk.viewer.dims.point
    drag(desk.viewer, [(*point[:2], 50.0, 40.0), (*point[:2], 50.0, 50.0)])
    settle(annotation)
    assert annotation.session.slice_labels(2)[50, 45] == 1
    for channel in range(3):
        place = (channel, 2) if order == "CZYX" else (2, channel)
        assert np.asarray(annotation.masks.layer.data[place])[50, 45] == 1


@pytest.mark.parametrize("order", ["CZYX", "ZCYX"])
def test_prompts_are_there_in_every_channel(desk: Desk, order: str) -> None:
    data = channels() if order == "CZYX" else np.swapaxes(channels(), 0, 1)
    dock = desk.open(data, metadata={"axes": order})
    viewer, axis = desk.viewer, order.index("C")
    annotation = begin(dock)
    viewer.dims.set_point((axis, 1 - axis), (1, 2))
    at = tuple(viewer.dims.point[:2])
    click(viewer, (*at, *PATCH.middle))
    settle(annotation)
    drag(viewer, [(*at, 10, 46), (*at, 20, 60), (*at, 32, 74)])
    settle(annotation)
    points, boxes = annotation.prompts.points, annotation.prompts.boxes
    for channel in (2, 0, 1):
        viewer.dims.set_point(axis, channel)
        # What napari has under the mouse on the slice that is shown.
        here = *viewer.dims.point[:2], *PATCH.middle
        assert points.get_value(here, world=True) == 0
        assert boxes.get_value(here, world=True)[0] == 0
        assert [corner[axis] for corner in boxes.data[0]] == [channel] * 4
    viewer.dims.set_point(1 - axis, 1)
    assert points.get_value((*viewer.dims.point[:2], *PATCH.middle), world=True) is None
    (said,) = annotation.session.prompts.values()
    assert said.box == pytest.approx((10, 46, 32, 74), abs=1)
    # It can still be deleted there.
    viewer.dims.set_point((axis, 1 - axis), (2, 2))
    boxes.selected_data = {0}
    boxes.remove_selected()
    settle(annotation)
    (said,) = annotation.session.prompts.values()
    assert said.box is None
    assert len(said.points) == 1
    assert desk.notes == []


def test_all_channels_are_seen_as_one(desk: Desk) -> None:
    dock = desk.open(channels(), metadata={"axes": "CZYX"})
    dock.image.channel.setCurrentIndex(0)
    annotation = begin(dock)
    seen = annotation.session.stack.pixels(1)
    assert len({plane.tobytes() for plane in seen}) > 1
    assert len(annotation.session.stack) == 4


def test_the_guess_can_be_overruled(desk: Desk) -> None:
    dock = desk.open(np.swapaxes(channels(), 0, 1)[:, :2])
    assert dock.image.axes.currentData() == "ZCYX"
    dock.image.axes.setCurrentIndex(dock.image.axes.findData("TZYX"))
    assert dock.image.channel.currentText() == "Grey values"
    assert not dock.image.channel.isEnabled()
    annotation = prompt_and_check(dock, (3, 1), 7)
    assert annotation.session.stack.axes == "TZYX"


# -- time, collections -------------------------------------------------------------------------------------------------


def test_masks_are_carried_on_within_a_time_point_only(desk: Desk) -> None:
    dock = desk.open(full((5, 6)))
    annotation = prompt_and_check(dock, (3, 2), 20)
    key(desk.viewer, "G")
    settle(annotation)
    drawn = [index for index in range(30) if annotation.session.slice_labels(index).any()]
    assert drawn == list(range(18, 24))
    assert dock.propagate.last.maximum() == 29
    desk.viewer.dims.set_point(0, 1)
    assert annotation.index == 8
    assert not np.asarray(annotation.masks.layer.data[1, 2]).any()
    assert np.asarray(annotation.masks.layer.data[3, 5]).any()


def pictures() -> list[tuple[np.ndarray, Patch]]:
    out = []
    for number, (height, width) in enumerate([(60, 80), (40, 100), (90, 50), (64, 64)]):
        patch = Patch((height, width), 6 + 2 * number, 8 + 3 * number, 18, 22)
        out.append((patch.picture(), patch))
    return out


def test_one_prompt_for_pictures_of_different_sizes(desk: Desk) -> None:
    made = pictures()
    padded = StackArray(ImageStack([picture for picture, _ in made]))
    dock = desk.open(padded, contrast_limits=(0, 255))
    assert dock.image.kind.currentData() == "collection"
    annotation = begin(dock)
    assert annotation.session.kind == "collection"
    assert annotation.masks.layer.data.shape == (4, 90, 100)
    patch = made[1][1]
    desk.viewer.dims.set_point(0, 1)
    y, x = patch.middle
    drag(desk.viewer, [(1.0, y - 11, x - 14), (1.0, y, x), (1.0, y + 11, x + 14)])
    settle(annotation)
    assert patch.overlap(np.asarray(annotation.masks.layer.data[1]) == 1) > 0.8
    # Beside a picture, in what pads it, nothing can be prompted.
    click(desk.viewer, (1.0, 70.0, 20.0))
    assert len(desk.notes) == 1
    assert "outside the image" in desk.notes[0]
    dock.propagate.go.click()
    settle(annotation)
    # What is in no order has no slices.
    assert dock.next_step.said.whole().startswith("Propagated: 3 images in ")
    assert dock.propagate.ranged.text() == "Images"
    key(desk.viewer, "W")
    wait_until(lambda: " left" in dock.next_step.said.whole())
    assert dock.next_step.said.whole().startswith(f"Object 1, image {annotation.index}: confidence 0.")
    for index, (picture, one) in enumerate(made):
        labels = annotation.session.slice_labels(index)
        assert labels.shape == picture.shape
        shown = np.asarray(annotation.masks.layer.data[index])
        np.testing.assert_array_equal(shown[: labels.shape[0], : labels.shape[1]], labels)
        assert shown.any() == labels.any()
        assert not shown[labels.shape[0] :].any()
        assert (index, bool(labels.any())) == (index, True)
        assert one.overlap(labels == 1) > 0.5, index
    panel = dock._panels[-1]
    assert isinstance(panel, GalleryPanel)
    wait_until(lambda: not dock.board._timer.isActive())
    panel.view.jumped.emit(2)
    assert annotation.index == 2
    assert desk.viewer.dims.point[0] == 2
    # Painting over the edge of a picture keeps what is on it.
    key(desk.viewer, "B")
    annotation.masks.layer.brush_size = 6
    drag(desk.viewer, [(2.0, 70.0, 40.0), (2.0, 70.0, 60.0)])
    settle(annotation)
    assert annotation.session.slice_labels(2)[70, 45] == 1
    shown = np.asarray(annotation.masks.layer.data[2])
    assert not shown[:, 50:].any()


def _title(dock: Any, column: int) -> str:
    return str(dock.objects.table.view.model().headerData(column, Qt.Orientation.Horizontal))


def test_a_stack_is_annotated_as_a_collection_where_one_says_so(desk: Desk) -> None:
    dock = desk.open(full((6,)))
    dock.image.kind.setCurrentIndex(1)
    begin(dock)
    # The table says what it will hold before it holds anything.
    assert not dock.objects.table.view.model().rowCount()
    assert [_title(dock, column) for column in (3, 4)] == ["Images", "Mean px"]
    annotation = prompt_and_check(dock, (2,), 2)
    assert annotation.session.kind == "collection"
    assert not dock.propagate.direction.isEnabled()
    dock.propagate.go.click()
    settle(annotation)
    assert all(annotation.session.slice_labels(index).any() for index in range(6))


# -- views in which prompts make no sense ------------------------------------------------------------------------------


def _roll(viewer: Any) -> None:
    viewer.dims.roll()


def _transpose(viewer: Any) -> None:
    viewer.dims.transpose()


def _three(viewer: Any) -> None:
    viewer.dims.ndisplay = 3


@pytest.mark.parametrize("change", [_roll, _transpose, _three])
def test_in_another_view_nothing_is_prompted_or_painted(desk: Desk, change: Callable[[Any], None]) -> None:
    dock = desk.open(full((30,)))
    annotation = prompt_and_check(dock, (3,), 3)
    before, steps = annotation.session.slice_labels(3), len(annotation.session.history)
    prompts = dict(annotation.session.prompts)
    for tool in "PSLBE":
        del desk.notes[:]
        key(desk.viewer, tool)
        change(desk.viewer)
        drag(desk.viewer, [(3.0, 20.0, 50.0), (4.0, 22.0, 56.0), (6.0, 28.0, 60.0), (3.0, 20.0, 52.0)])
        settle(annotation)
        assert len(desk.notes) == 1, (tool, desk.notes)
        assert "button" in desk.notes[0]
        assert len(annotation.session.history) == steps
        assert dict(annotation.session.prompts) == prompts
        np.testing.assert_array_equal(annotation.session.slice_labels(3), before)
        np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[3]), before)
        desk.viewer.dims.ndisplay = 2
        desk.viewer.dims.order = (0, 1, 2)
        desk.viewer.dims.set_point(0, 3)
    key(desk.viewer, "P")
    y, x = PATCH.middle
    click(desk.viewer, (3.0, y + 4, x + 4))
    settle(annotation)
    assert len(annotation.session.prompts[1, 3].points) == 2


@pytest.mark.parametrize("first", ["tool", "view"])
def test_in_another_view_naparis_own_box_is_put_away(desk: Desk, first: str) -> None:
    """Between two pixels, where the middle of an even number lies, napari's box would end in a traceback."""
    dock = desk.open(full((30,)))
    annotation = prompt_and_check(dock, (3,), 3)
    boxes, viewer = annotation.prompts.boxes, desk.viewer
    viewer.layers.selection.active = boxes

    def change() -> None:
        viewer.dims.roll()
        viewer.dims.set_point(2, 83.5)

    def take() -> None:
        boxes.mode = "add_rectangle"

    for step in (take, change) if first == "tool" else (change, take):
        step()
    assert str(boxes.mode) == "pan_zoom"
    controls = viewer.window._qt_viewer.controls.widgets[boxes]
    assert controls.panzoom_button.isChecked()
    assert not controls.rectangle_button.isChecked()
    assert len(desk.notes) == 1
    assert "button" in desk.notes[0]
    drag(viewer, [(3.0, 20.0, 83.5), (9.0, 60.0, 83.5)])
    assert len(boxes.data) == 0

    viewer.dims.order = (0, 1, 2)
    viewer.dims.set_point(0, 3)
    take()
    drag(viewer, [(3.0, 20.0, 50.0), (3.0, 50.0, 90.0)])
    settle(annotation)
    assert annotation.session.prompts[1, 3].box is not None
    assert len(desk.notes) == 1


def test_a_brush_that_goes_through_several_slices_is_one_step(desk: Desk) -> None:
    dock = desk.open(full((9,)))
    annotation = prompt_and_check(dock, (4,), 4)
    steps = len(annotation.session.history)
    key(desk.viewer, "B")
    layer = annotation.masks.layer
    layer.n_edit_dimensions, layer.brush_size = 3, 7
    click(desk.viewer, (4.0, 50.0, 20.0))
    settle(annotation)
    assert len(annotation.session.history) == steps + 1
    assert [i for i in range(9) if annotation.session.slice_labels(i)[50, 20]] == [1, 2, 3, 4, 5, 6, 7]
    key(desk.viewer, "Ctrl+Z")
    assert not any(annotation.session.slice_labels(i)[50, 20] for i in range(9))


# -- other layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_beside_a_layer_with_more_axes(desk: Desk, first: bool) -> None:
    more = np.zeros((3, 5, 120, 168), np.uint8)
    if first:
        desk.viewer.add_image(more, name="more", scale=(1, 2, 0.5, 0.5))
    dock = desk.open(full((5,)), scale=(2, 1, 1))
    annotation = begin(dock)
    if not first:
        desk.viewer.add_image(more, name="more", scale=(1, 2, 0.5, 0.5))
    assert desk.viewer.dims.ndim == 4
    desk.viewer.dims.set_point(0, 2)
    prompt_and_check(dock, (3,), 3)
    desk.viewer.dims.set_point(0, 0)
    assert annotation.index == 3
    dock.board.flush()
    annotation.show(1)
    assert desk.viewer.dims.point[1] == 2.0
    desk.viewer.layers.remove("more")
    assert desk.viewer.dims.ndim == 3
    annotation.show(3)
    y, x = PATCH.middle
    click(desk.viewer, (6.0, y + 3, x))
    settle(annotation)
    assert len(annotation.session.prompts[1, 3].points) == 2


def test_a_moved_image_takes_its_layers_along(desk: Desk) -> None:
    dock = desk.open(full((5,)))
    annotation = prompt_and_check(dock, (3,), 3)
    annotation.image.translate = (0, 30, -12)
    annotation.image.scale = (1, 2, 2)
    for layer in annotation.own_layers():
        np.testing.assert_allclose(layer.translate, (0, 30, -12))
        np.testing.assert_allclose(layer.scale, (1, 2, 2))
    annotation.session.clear_prompts(1, 3)
    prompt_and_check(dock, (3,), 3)


# -- values ------------------------------------------------------------------------------------------------------------


def test_slices_without_contrast_and_without_numbers(desk: Desk) -> None:
    data = full((6,), np.float32)
    data[0] = 7
    data[1] = np.nan
    data[2, :30] = np.nan
    data[2, 5:9] = np.inf
    dock = desk.open(data, contrast_limits=(0, 255))
    annotation = prompt_and_check(dock, (4,), 4)
    for index in (0, 1, 2):
        annotation.show(index)
        click(desk.viewer, (float(index), 40.0, 60.0))
        settle(annotation)
    assert desk.notes == []
    key(desk.viewer, "G")
    settle(annotation)
    assert PATCH.overlap(annotation.session.slice_labels(5) == 1) > 0.7
    for result in annotation.session.results.summary():
        assert np.isfinite(result[2])


def test_what_cannot_be_annotated_is_said_in_a_sentence(desk: Desk) -> None:
    dock = desk.open(np.zeros((2, 2, 2, 2, 2, 30, 30), np.uint8))
    assert not dock.image.start.isEnabled()
    assert "axes" in dock.image.about.whole()
    key(desk.viewer, "P")
    assert len(desk.notes) == 1
    assert "axes" in desk.notes[0]
    assert dock.bench.annotation is None
    assert [layer.name for layer in desk.viewer.layers] == ["cells"]


def test_an_image_that_cannot_be_read_is_said_once_for_each_click(desk: Desk) -> None:
    class Drive:
        shape, dtype, ndim = (6, *SHAPE), np.dtype(np.uint8), 3
        there = True

        def __getitem__(self, key: Any) -> np.ndarray:
            if not self.there:
                raise OSError("the drive was unplugged")
            part: np.ndarray = full((6,))[key]
            return part

    drive = Drive()
    dock = desk.open(drive, contrast_limits=(0, 255))
    annotation = prompt_and_check(dock, (3,), 3)
    drive.there = False
    label = annotation.new_object()
    annotation.prompting.points(label, 5, [PATCH.middle], [1])
    settle(annotation)
    assert len(desk.notes) == 1
    assert "unplugged" in desk.notes[0]
    assert len(annotation.prompts.points.data) == 1
    drive.there = True
    annotation.prompting.points(label, 5, [PATCH.middle], [1])
    settle(annotation)
    assert PATCH.overlap(annotation.session.slice_labels(5) == label) > 0.8


def test_the_pick_button_lets_go_of_the_mouse(desk: Desk) -> None:
    dock = desk.open(full((5,)))
    annotation = prompt_and_check(dock, (3,), 3)
    dock.objects.table.picking.emit(True)
    dock.objects.table.picking.emit(False)
    y, x = PATCH.middle
    click(desk.viewer, (3.0, y + 4, x))
    settle(annotation)
    assert len(annotation.session.prompts[1, 3].points) == 2


def test_prompts_hide_no_nucleus_of_a_large_image_that_is_zoomed_into(desk: Desk) -> None:
    whole = np.zeros((3000, 3000), np.uint8)
    whole[1500:1520, 1500:1520] = 200
    dock, viewer = desk.open(whole), desk.viewer
    annotation = begin(dock)
    assert dock.image.about.whole() == "1 slice of 3000×3000, YX"
    camera = viewer.scene.camera
    camera.center, camera.zoom = (1510, 1510), 5

    def coloured(channel: int) -> int:
        shown = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        return int(np.count_nonzero((shown[..., channel] > 150) & (shown.min(-1) < 80)))

    annotation.masks.layer.visible = False
    click(viewer, (1505, 1505))
    settle(annotation)
    # The nucleus is 100 pixels wide on the screen.
    assert 20 < coloured(1) < 1000
    annotation.prompts.points.visible = False
    drag(viewer, [(1498, 1498), (1510, 1510), (1522, 1522)])
    settle(annotation)
    assert 200 < coloured(0) < 3000

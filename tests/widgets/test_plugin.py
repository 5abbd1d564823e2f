"""What napari sees of the plugin: reader, writers, samples, commands, menus."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import napari
import nibabel
import npe2
import numpy as np
import pytest
import tifffile
import zarr
from app_model.types import Action
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManager, PluginManifest
from tests.dummy import DummyBackend, squares

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2._canvas import colour
from napari_medsam2.importing import open_labels
from napari_medsam2.reading.hashing import run_through
from napari_medsam2.samples import SAMPLES
from napari_medsam2.widgets import commands, docks
from napari_medsam2.widgets.coordinates import Frame, guess_axes, stack_of
from napari_medsam2.widgets.persist import keep, preparing
from napari_medsam2.widgets.reader import companions, get_reader, session_of
from napari_medsam2.widgets.stack_array import StackArray
from napari_medsam2.widgets.views_file import source_of, view_of, write_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "napari-medsam2"
OTHER = "#{:02x}{:02x}{:02x}".format(*colour(1))
MANIFEST = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture
def plugins() -> Iterator[PluginManager]:
    """Napari's plugin manager, with this plugin as the manifest says and napari's own."""
    manager = PluginManager.instance()
    manager.discover()
    if NAME not in manager._manifests:
        manager.register(PluginManifest.from_file(MANIFEST))
    yield manager


@pytest.fixture
def viewer(plugins: PluginManager, make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer()


@pytest.fixture
def model(plugins: PluginManager) -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


def _saved(folder: Path, stack: ImageStack) -> Path:
    session = AnnotationSession(stack, backend=DummyBackend())
    keep(session, run_through(preparing(stack, folder=folder)))
    cell = session.add_object("cell", color="#ff8000")
    session.add_box(cell, 2, (2.5, 2.5, 10.5, 11.5))
    session.add_box(session.add_object("other"), 3, (3.5, 3.5, 9.5, 9.5))
    session.close()
    return folder


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_session_opens_as_layers(model: ViewerModel, tmp_path: Path) -> None:
    stack = ImageStack(squares(), "ZYX", spacing={"z": 4, "y": 0.5, "x": 0.5, "unit": "um"}, name="cells")
    folder = _saved(tmp_path / "s", stack)
    image, labels = model.open(folder / "session.journal", plugin=None)
    assert (type(image), type(labels)) == (Image, Labels)
    assert (image.name, labels.name) == ("cells", "cells masks")
    np.testing.assert_array_equal(image.data, squares())
    session = AnnotationSession.open(folder, backend=DummyBackend())
    np.testing.assert_array_equal(labels.data, np.asarray(session.labels()))
    assert set(np.unique(labels.data)) == {0, 1, 2}
    np.testing.assert_allclose(labels.get_color(1), (1, 128 / 255, 0, 1), atol=0.01)
    for layer in (image, labels):
        assert tuple(layer.scale) == (4, 0.5, 0.5)
        assert {str(unit) for unit in layer.units} == {"micrometer"}
        assert session_of(layer) == folder
    assert companions(model.layers, folder) == [labels]
    assert companions(model.layers, tmp_path) == []
    assert guess_axes(image) == "ZYX"
    # It is not locked by having been looked at.
    assert not session.read_only
    session.close()


def test_large_labels_have_their_colours(model: ViewerModel, tmp_path: Path) -> None:
    session = AnnotationSession(ImageStack(squares(), "ZYX", name="cells"), backend=DummyBackend())
    session.add_object("cell", label=70_000, color="#ff0000")
    session.add_box(70_000, 2, (2.5, 2.5, 10.5, 11.5))
    session.save_as(tmp_path / "s", embed=True)
    session.close()
    _, labels = model.open(tmp_path / "s" / "session.journal", plugin=None)
    drawn = np.asarray(labels.data[2])
    assert set(np.unique(drawn)) == {0, 70_000}
    np.testing.assert_array_equal(labels.colormap.map(drawn)[drawn == 70_000][0], (1, 0, 0, 1))


def test_it_lies_where_it_lay(model: ViewerModel, tmp_path: Path) -> None:
    layer = Image(
        squares(), scale=(3, 1, 2), translate=(5, 6, 7), affine=np.diag([1, 2, 2, 1]), contrast_limits=(7, 70)
    )
    folder = _saved(tmp_path / "s", stack_of(layer, "ZYX"))
    write_view(folder, view_of(layer, "ZYX"))
    image, labels = model.open(folder, plugin=NAME)
    for again in (image, labels):
        np.testing.assert_allclose(again.data_to_world((1, 2, 3)), layer.data_to_world((1, 2, 3)))
    assert image.contrast_limits == [7, 70]


def test_channels_and_pictures_of_different_sizes(model: ViewerModel, tmp_path: Path) -> None:
    data = np.stack([squares()] * 3, axis=1)
    folder = _saved(tmp_path / "c", ImageStack(data, "ZCYX", channel=1))
    image, labels = model.open(folder, plugin=NAME)
    assert image.data.shape == labels.data.shape == data.shape
    assert all((labels.data[:, 0] == labels.data[:, c]).all() for c in range(3))
    assert guess_axes(image) == "ZCYX"
    labels.data[2, 1, 0, 0] = 5
    model.layers.clear()
    pictures = ImageStack([picture[: 20 + n] for n, picture in enumerate(squares()[:5])])
    folder = _saved(tmp_path / "p", pictures)
    image, labels = model.open(folder, plugin=NAME)
    assert isinstance(image.data, StackArray)
    assert labels.data.shape == image.data.shape == (5, 24, 24)
    assert labels.data[2].any()


def test_other_files_and_folders_are_left_alone(plugins: PluginManager, tmp_path: Path) -> None:
    folder = _saved(tmp_path / "s", ImageStack(squares(), "ZYX"))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "a.tif").write_bytes(b"")
    (tmp_path / "session.journal").write_text("dear diary")
    for path in ("pictures", "a.tif", "session.journal", "none.journal"):
        assert get_reader(str(tmp_path / path)) is None
    assert get_reader([str(folder), str(folder)]) is None
    assert get_reader(str(folder)) is not None
    assert get_reader([str(folder / "session.journal")]) is not None
    for path, claimed in [("a.tif", False), ("x.journal", False), ("s/session.journal", True)]:
        readers = {reader.plugin_name for reader in plugins.iter_compatible_readers(str(tmp_path / path))}
        assert (NAME in readers) is claimed, path
        if claimed:
            # Napari does not ask which plugin to take.
            assert readers == {NAME}
    with pytest.raises(ValueError, match="refused"):
        npe2.read([str(tmp_path / "pictures")], stack=False, plugin_name=NAME)
    read = npe2.read([str(folder)], stack=False, plugin_name=NAME)
    assert [kind for *_, kind in read] == ["image", "labels"]


def test_a_session_without_its_image_says_what_to_do(plugins: PluginManager, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", squares(), photometric="minisblack", metadata={"axes": "ZYX"})
    folder = _saved(tmp_path / "s", ImageStack.open(tmp_path / "a.tif"))
    (tmp_path / "a.tif").unlink()
    reader = get_reader(str(folder))
    assert reader is not None
    with pytest.raises(InputError, match="is missing; give its new place"):
        reader(str(folder))


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def masks() -> np.ndarray:
    out = np.zeros((6, 20, 30), np.int32)
    out[2, 3:9, 4:12], out[3:5, 10:15, 5:25] = 1, 7
    return out


def test_labels_are_saved(model: ViewerModel, masks: np.ndarray, tmp_path: Path) -> None:
    layer = model.add_labels(
        masks, name="cells", scale=(3, 0.5, 0.25), units=("um",) * 3, axis_labels=("z", "y", "x"),
        colormap={None: "transparent", 1: "#ff0000", 7: "#0000ff"},
    )  # fmt: skip
    for name in ("a.ome.tif", "b.zarr", "c.nii.gz", "d.nii"):
        assert layer.save(str(tmp_path / name), plugin=NAME) == [str(tmp_path / name)], name
    for name in ("a.ome.tif", "b.zarr", "c.nii.gz", "d.nii"):
        again = ImageStack.open(tmp_path / name)
        np.testing.assert_array_equal(np.stack([again.raw(i) for i in range(6)]), masks, err_msg=name)
        assert again.spacing == pytest.approx({"z": 3, "y": 0.5, "x": 0.25, "unit": "um"}), name
    # Read by others too.
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "ZYX"
        assert "object 7" in str(file.ome_metadata)
    found = open_labels(tmp_path / "a.ome.tif", ImageStack(masks, "ZYX"))
    assert {label: entry.hex for label, entry in found.objects.items()} == {1: "#ff0000", 7: "#0000ff"}
    assert np.asarray(nibabel.load(tmp_path / "c.nii.gz").dataobj).shape == (30, 20, 6)  # type: ignore[attr-defined]
    assert "image-label" in str(dict(zarr.open_group(tmp_path / "b.zarr", mode="r").attrs))


def test_napari_itself_stays_first_for_its_formats(model: ViewerModel, masks: np.ndarray, tmp_path: Path) -> None:
    layer = model.add_labels(masks)
    layer.save(str(tmp_path / "plain.tif"))
    with tifffile.TiffFile(tmp_path / "plain.tif") as file:
        assert not file.is_ome


def test_names_and_colours_of_a_session_are_saved(model: ViewerModel, tmp_path: Path) -> None:
    folder = _saved(tmp_path / "s", ImageStack(squares(), "ZYX"))
    _, labels = model.open(folder, plugin=NAME)
    labels.save(str(tmp_path / "a.ome.tif"), plugin=NAME)
    found = open_labels(tmp_path / "a.ome.tif", ImageStack(squares(), "ZYX"))
    assert {entry.name: entry.hex for entry in found.objects.values()} == {"cell": "#ff8000", "other": OTHER}


def test_channels_films_and_collections_of_labels(model: ViewerModel, masks: np.ndarray, tmp_path: Path) -> None:
    several = np.repeat(masks[:, None], 2, axis=1)
    model.add_labels(several, axis_labels=("z", "c", "y", "x")).save(str(tmp_path / "c.ome.tif"), plugin=NAME)
    again = ImageStack.open(tmp_path / "c.ome.tif")
    assert again.axes == "ZYX"
    np.testing.assert_array_equal(again.raw(2), masks[2])
    model.add_labels(masks, metadata={"axes": "NYX"}).save(str(tmp_path / "n.ome.tif"), plugin=NAME)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "n.ome.tif"), masks)
    model.add_labels(masks[None] * 20000).save(str(tmp_path / "t.ome.tif"), plugin=NAME)
    again = ImageStack.open(tmp_path / "t.ome.tif", axes="TZYX")
    assert again.raw(3).max() == 140000
    model.add_labels(masks[2]).save(str(tmp_path / "p.ome.tif"), plugin=NAME)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "p.ome.tif"), masks[2])


def test_what_cannot_be_written_is_named(model: ViewerModel, masks: np.ndarray, tmp_path: Path) -> None:
    from napari_medsam2.widgets.writers import write_nifti, write_ome_tiff

    with pytest.raises(InputError, match="has the label -3; labels are from 1"):
        write_ome_tiff(str(tmp_path / "a.ome.tif"), masks - 3, {"name": "odd"})
    with pytest.raises(InputError, match="holds float64, not whole numbers"):
        write_ome_tiff(str(tmp_path / "a.ome.tif"), masks.astype(float), {"name": "odd"})
    with pytest.raises(InputError, match="collection"):
        write_nifti(str(tmp_path / "a.nii"), masks, {"metadata": {"axes": "NYX"}})
    assert list(tmp_path.iterdir()) == []


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_sample_is_ready_to_annotate(model: ViewerModel, name: str) -> None:
    image, labels = model.open_sample(NAME, name)
    made = SAMPLES[name]
    assert guess_axes(image) == made.axes.removesuffix("C")
    assert source_of(image) == made.image
    np.testing.assert_array_equal(image.scale, labels.scale)
    assert not labels.visible
    stack = stack_of(image, guess_axes(image), window=image.metadata.get("window"))
    assert stack.is_collection is (made.kind == "collection")
    prepared = run_through(preparing(stack, source_of(image)))
    assert prepared.reference.path == str(made.image)
    if made.window is not None:
        assert tuple(image.contrast_limits) == made.window == stack.window
        assert stack.spacing == {"z": 3, "y": 3, "x": 3, "unit": "mm"}
    assert Frame(image, guess_axes(image), model.dims).displayed(model.dims) is None


# -- commands ----------------------------------------------------------------------------------------------------------


class FakeDock:
    """Stands where the dock is, and writes down what is asked of it."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked
        button = SimpleNamespace
        self.save = SimpleNamespace(
            keep=button(click=lambda: asked.append("keep")), export=button(click=lambda: asked.append("export"))
        )
        self.bench = self
        self.annotation = None

    def calls(self) -> Any:
        asked = self.asked

        class Calls(dict[str, Any]):
            def __missing__(self, name: str) -> Callable[[], None]:
                return lambda: asked.append(name)

        return Calls()

    def attempt(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except InputError as error:
            self.asked.append(str(error))

    def start(self) -> None:
        self.asked.append("annotate")

    def open_folder(self, folder: Path) -> None:
        self.asked.append(f"open {folder.name}")

    def show_help(self) -> None:
        self.asked.append("help")

    def parentWidget(self) -> None:
        return None


@pytest.fixture
def asked(viewer: Any) -> Iterator[list[str]]:
    out: list[str] = []
    dock: Any = FakeDock(out)
    docks.register(viewer, dock)
    yield out
    docks.forget(dock)


def test_every_command_is_in_the_palette_and_does_what_it_says(
    viewer: Any, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari._app_model import get_app_model
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    app = get_app_model()
    manifest = PluginManifest.from_file(MANIFEST)
    ours = [c for c in manifest.contributions.commands or () if str(c.python_name).startswith(f"{commands.__name__}:")]
    expected = {
        "annotate": "annotate", "propagate": "propagate", "propagate_corrections": "repropagate", "stop": "stop",
        "next_to_review": "next", "accept_and_go_on": "approve", "accept_mask": "accept", "reject_mask": "reject",
        "skip_mask": "skip", "new_object": "new", "discard": "discard", "undo": "undo", "redo": "redo",
        "show_help": "help", "save_as": "keep", "export": "export", "open_session": f"open {tmp_path.name}",
        "resume": "there is no session to go on with; press Annotate to begin one",
    }  # fmt: skip
    assert {c.id.split(".")[1] for c in ours} == {*expected, "open_dock", "open_pictures"}
    assert {str(c.python_name).split(":")[1] for c in ours} == set(commands.__all__)
    for command in ours:
        action = app.registered_actions[command.id]
        assert isinstance(action, Action)
        assert "(Medical SAM 2)" in action.title
        name = command.id.split(".")[1]
        if name in expected:
            asked.clear()
            app.commands.execute_command(command.id).result()
            assert asked == [expected[name]], name


def test_menus(viewer: Any) -> None:
    from napari._app_model import get_app_model

    app = get_app_model()
    for menu, name in [
        ("napari/layers/segment", "open_dock"),
        ("napari/layers/annotate", "annotate"),
        ("napari/file/io_utilities", "open_session"),
        ("napari/file/io_utilities", "resume"),
        ("napari/file/io_utilities", "open_pictures"),
    ]:
        items = [item.command.id for item in app.menus.get_menu(menu) if hasattr(item, "command")]
        assert f"{NAME}.{name}" in items


def test_the_last_session_is_gone_on_with(asked: list[str]) -> None:
    stack = ImageStack(squares(), "ZYX", name="last")
    session = AnnotationSession(stack, backend=DummyBackend())
    keep(session, run_through(preparing(stack)))
    session.add_object("cell")
    session.close()
    commands.resume()
    assert session.folder is not None
    assert asked == [f"open {session.folder.name}"]


def test_nobody_chose_a_folder(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    commands.open_session()
    commands.open_pictures()
    assert asked == []


def test_docks_of_viewers(make_napari_viewer: Callable[..., Any]) -> None:
    first, second = make_napari_viewer(), make_napari_viewer()
    one: Any = FakeDock([])
    two: Any = FakeDock([])
    docks.register(first, one)
    docks.register(first, two)
    assert docks.dock_of(second) is None
    assert set(docks.docks_of(first)) == {one, two}
    two.annotation = object()
    assert (docks.dock_of(first) is two) is True
    docks.forget(two)
    assert (docks.dock_of(first) is one) is True
    del one
    gc.collect()
    assert docks.dock_of(first) is None


def test_without_a_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(napari, "current_viewer", lambda: None)
    with pytest.raises(InputError, match="there is no viewer"):
        commands.open_dock()


def test_the_dock_is_opened_where_there_is_none(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    dock = FakeDock(asked)

    def add(*names: str) -> tuple[None, FakeDock]:
        asked.append(names)
        return None, dock

    monkeypatch.setattr(viewer.window, "add_plugin_dock_widget", add)
    commands.propagate()
    assert asked == [(NAME, "Medical SAM 2"), "propagate"]

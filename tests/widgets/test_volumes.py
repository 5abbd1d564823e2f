"""NIfTI in napari: opened, looked at, annotated, saved and opened again, wherever the patient lies in it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.layers._layer_actions import _convert_to_labels
from npe2 import PluginManager, PluginManifest
from tests.widgets import driving
from tests.widgets.docking import Patch, begin, fast_model, open_dock, settle

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.start import open_window
from napari_medsam2.widgets.takeover import begin as begin_to_take_over
from napari_medsam2.widgets.volumes import get_reader, read_volume
from napari_medsam2.widgets.writers import write_nifti

if TYPE_CHECKING:
    from collections.abc import Callable

nib: Any = untyped
NAME = "napari-medsam2"
SHAPE = (6, 40, 50)
# Depth, row and column in the middle of what is bright in all volumes here.
PATCH = Patch(SHAPE[1:], 8, 30, 9, 12)


@pytest.fixture
def plugins() -> PluginManager:
    """Napari's plugin manager, with this plugin as the manifest says and napari's own."""
    manager = PluginManager.instance()
    manager.discover()
    if NAME not in manager._manifests:
        manager.register(PluginManifest.from_file(Path(__file__).parents[2] / "napari.yaml"))
    return manager


@pytest.fixture
def model(plugins: PluginManager) -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


def _affine(codes: str) -> np.ndarray:
    """Voxels of 2 × 3 × 4 mm whose x, y and z run in these directions."""
    turn = nib.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for voxel, (space, sign) in enumerate(turn):
        affine[int(space), voxel] = sign * (2, 3, 4)[voxel]
    affine[:3, 3] = (-20, 30, 110)
    return affine


def _volume(folder: Path, codes: str = "RAS", name: str = "ct.nii.gz") -> Path:
    data = np.broadcast_to(PATCH.picture(np.int16), SHAPE)
    nib.save(nib.Nifti1Image(data.T, _affine(codes)), folder / name)
    return folder / name


# -- looking -----------------------------------------------------------------------------------------------------------

_ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("LR", "AP", "IS")) for codes in itertools.product(*axes)
]


@pytest.mark.parametrize("codes", _ORIENTATIONS)
def test_the_patient_is_upright_and_right_is_on_the_left(tmp_path: Path, codes: str) -> None:
    data, arguments, _ = read_volume(_volume(tmp_path, codes))
    layer = Image(data, **arguments)
    assert layer.data.shape == SHAPE
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert np.abs(layer.scale).tolist() == [4, 3, 2]
    down = np.subtract(layer.data_to_world((0, 1, 0)), layer.data_to_world((0, 0, 0)))
    across = np.subtract(layer.data_to_world((0, 0, 1)), layer.data_to_world((0, 0, 0)))
    # Of rows and columns the end that is further down, or to the right of the window.
    seen = [
        {"L": "R", "R": "L", "A": "P", "P": "A", "I": "S", "S": "I"}[code] if step < 0 else code
        for code, step in ((codes[1], down[1]), (codes[0], across[2]))
    ]
    assert set(seen) <= {"L", "P", "I"}


def test_napari_opens_nifti(model: ViewerModel, plugins: PluginManager, tmp_path: Path) -> None:
    file = _volume(tmp_path)
    assert NAME in {reader.plugin_name for reader in plugins.iter_compatible_readers(str(file))}
    (image,) = model.open(str(file), plugin=NAME)
    assert isinstance(image, Image)
    assert (image.name, image.metadata["axes"], image.metadata["path"]) == ("ct", "ZYX", str(file))
    np.testing.assert_array_equal(image.data[3], PATCH.picture(np.int16))
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 4, 3), np.float32), np.eye(4)), tmp_path / "bold.nii")
    (film,) = model.open(str(tmp_path / "bold.nii"), plugin=NAME)
    assert (film.data.shape, film.metadata["axes"]) == ((3, 4, 6, 5), "TZYX")
    assert get_reader([str(file), str(tmp_path / "bold.nii")]) is not None
    assert get_reader([str(file), "a.tif"]) is None
    nib.save(nib.MGHImage(np.zeros((5, 6, 4), np.int32), _affine("LIA")), tmp_path / "aseg.mgz")
    (aseg,) = model.open(str(tmp_path / "aseg.mgz"), plugin=NAME)
    assert isinstance(aseg, Image), "FreeSurfer's files do not say that they hold labels"
    assert aseg.scale.tolist() == [4, 3, 2]
    (tmp_path / "torn.nii.gz").write_bytes(file.read_bytes()[:200])
    reader = get_reader(str(tmp_path / "torn.nii.gz"))
    assert reader is not None
    with pytest.raises(InputError, match=r"torn\.nii\.gz"):
        reader(None)


def test_a_window_is_opened_with_nifti(
    make_napari_viewer: Callable[..., Any], plugins: PluginManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fast_model(monkeypatch)
    monkeypatch.setattr("napari.Viewer", lambda **arguments: make_napari_viewer(**arguments))
    viewer, dock = open_window([_volume(tmp_path)])
    assert [layer.name for layer in viewer.layers] == ["ct"]
    dock.shut()


# -- from a click to a file and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIL"])
def test_masks_lie_where_the_image_lies_however_they_are_saved(
    make_napari_viewer: Callable[..., Any],
    plugins: PluginManager,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    codes: str,
) -> None:
    fast_model(monkeypatch)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    file = _volume(tmp_path, codes)
    viewer.open(str(file), plugin=NAME)
    dock = open_dock(viewer)
    annotation = begin(dock)
    driving.click(viewer, annotation.frame.to_world(annotation.index, *PATCH.middle))
    settle(annotation)
    annotation.session.rename_object(1, "left kidney")
    mask = annotation.session.slice_labels(annotation.index) == 1
    assert PATCH.overlap(mask) > 0.6, "the click is where it was made"
    dock.bench.export(tmp_path / "exported.nii.gz", "nifti")
    driving.wait_until((tmp_path / "exported.nii.gz").exists)
    annotation.masks.layer.save(str(tmp_path / "saved.nii.gz"), plugin=NAME)
    for name in ("exported", "saved"):
        labels: Any = nib.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(labels.affine, _affine(codes))
        np.testing.assert_array_equal(np.asarray(labels.dataobj)[:, :, annotation.index].T == 1, mask)
        (again,) = viewer.open(str(tmp_path / f"{name}.nii.gz"), plugin=NAME)
        assert isinstance(again, Labels)
        np.testing.assert_array_equal(again.scale, annotation.image.scale)
        np.testing.assert_allclose(again.colormap.map(1), annotation.masks.layer.colormap.map(1))
        # What was opened and painted on goes back to its place, and keeps the names.
        again.data[0, 0, 0] = 1
        again.save(str(tmp_path / f"{name}.nii.gz"), plugin=NAME)
        labels = nib.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(labels.affine, _affine(codes))
        assert labels.dataobj[0, 0, 0] == 1
        assert b"left kidney" in labels.header.extensions[0].get_content()
    with pytest.raises(InputError, match="is the image that is annotated"):
        write_nifti(str(file), *annotation.masks.layer.as_layer_data_tuple()[:2])
    dock.shut()


@pytest.mark.filterwarnings("ignore:projection mode")
@pytest.mark.parametrize("named", [False, True])
def test_labels_of_another_orientation_are_taken_over_where_they_lie(
    make_napari_viewer: Callable[..., Any],
    plugins: PluginManager,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    named: bool,
) -> None:
    fast_model(monkeypatch)
    viewer = make_napari_viewer()
    file = _volume(tmp_path, "LPS")
    data = np.zeros(SHAPE, np.int16)
    data[4] = PATCH.mask
    # The same place, with rows and slices counted from the other end.
    affine = _affine("LPS") @ np.array([[1, 0, 0, 0], [0, -1, 0, 39], [0, 0, -1, 5], [0, 0, 0, 1]])
    labels = nib.Nifti1Image(data[::-1, ::-1].T, affine)
    if named:
        table = b'<CaretExtension><Label Key="1" Red="1" Green="0" Blue="0">kidney</Label></CaretExtension>'
        labels.header.extensions.append(nib.nifti1.Nifti1Extension(0, table))
    nib.save(labels, tmp_path / "organ.nii")
    (organ,) = viewer.open(str(tmp_path / "organ.nii"), plugin=NAME)
    assert isinstance(organ, Labels) is named, "a file with a table of labels says that it holds labels"
    if not named:
        viewer.layers.selection = {organ}
        _convert_to_labels(viewer.layers)
        organ = viewer.layers["organ"]
    assert isinstance(organ, Labels)
    (image,) = viewer.open(str(file), plugin=NAME)
    viewer.layers.selection.active = image
    annotation = begin(open_dock(viewer))
    begin_to_take_over(annotation, organ, "review")
    driving.wait_until(lambda: 1 in annotation.session.objects)
    assert annotation.session.objects[1].name == ("kidney" if named else "organ")
    np.testing.assert_array_equal([annotation.session.slice_labels(i) for i in range(6)], data)
    annotation.session.undo()
    beside = affine.copy()
    beside[0, 3] += 1
    nib.save(nib.Nifti1Image(data.T, beside), tmp_path / "organ.nii")
    with pytest.raises(InputError, match="organ lies on another grid than ct"):
        begin_to_take_over(annotation, organ, "review")


def test_labels_with_sizes_of_their_own_keep_them(model: ViewerModel, tmp_path: Path) -> None:
    (image,) = model.open(str(_volume(tmp_path)), plugin=NAME)
    labels = model.add_labels(
        (image.data > 100).astype(int), scale=(1, 1, 1), metadata={"napari-medsam2-image": str(tmp_path / "ct.nii.gz")}
    )
    labels.save(str(tmp_path / "a.nii"), plugin=NAME)
    assert np.abs(np.diag(nib.load(tmp_path / "a.nii").affine)).tolist() == [1, 1, 1, 1]

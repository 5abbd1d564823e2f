from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image
from tests.dummy import DummyBackend, squares, stack_of_squares
from tests.saving import annotate, content

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.export import export_labels
from napari_medsam2.reading.hashing import run_through
from napari_medsam2.samples import SAMPLES, sample
from napari_medsam2.widgets import persist
from napari_medsam2.widgets.coordinates import Frame, guess_axes, stack_of
from napari_medsam2.widgets.persist import Prepared, keep, open_session, preparing, prune, recent_sessions
from napari_medsam2.widgets.stack_array import StackArray
from napari_medsam2.widgets.views_file import image_layer, read_view, source_of, view_of, write_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

nib: Any = untyped


def _session(stack: ImageStack | None = None) -> AnnotationSession:
    return AnnotationSession(stack_of_squares() if stack is None else stack, backend=DummyBackend())


def _prepare(stack: ImageStack, *args: Any, **kwargs: Any) -> Prepared:
    return run_through(preparing(stack, *args, **kwargs))


def _do_something(session: AnnotationSession) -> None:
    session.add_box(session.add_object("cell"), 2, (2.5, 2.5, 10.5, 11.5))


@pytest.fixture
def root() -> Path:
    return persist.sessions_folder()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "squares.tif"
    tifffile.imwrite(path, squares(), photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def test_new_folders_have_the_name_and_the_date(root: Path) -> None:
    day = time.strftime("%Y-%m-%d")
    first = persist.new_folder("my cells/α 1.tif")
    assert first == root / f"my-cells-α-1.tif-{day}"
    assert not first.exists()
    first.mkdir(parents=True)
    assert persist.new_folder("my cells/α 1.tif") == root / f"my-cells-α-1.tif-{day}-2"
    assert persist.new_folder("///").name == f"session-{day}"
    assert persist.new_folder("../../etc").parent == root


def test_an_image_in_memory_is_copied_and_the_session_goes_on(root: Path) -> None:
    stack = stack_of_squares()
    prepared = _prepare(stack)
    assert prepared.reference.embedded
    assert prepared.notice == ""
    session = _session(stack)
    steps = annotate(session)
    for _ in range(5):
        next(steps)
    keep(session, prepared)
    assert session.folder == prepared.folder
    assert session.folder is not None
    assert session.folder.parent == root
    for _ in steps:
        pass
    expected = content(session)
    session.close()
    opened = open_session(prepared.folder, DummyBackend())
    assert content(opened.session) == expected
    np.testing.assert_array_equal(opened.stack.raw(3), stack.raw(3))
    opened.session.close()


def test_saving_reads_no_pixel_on_the_main_thread() -> None:
    reads: list[int] = []

    class Counted:
        shape, dtype = (10, 24, 24), np.dtype(np.uint8)

        def __getitem__(self, key: Any) -> Any:
            reads.append(1)
            return squares()[key]

    stack = ImageStack(Counted(), "ZYX")
    session = _session(stack)
    prepared = _prepare(stack, embed=False)
    reads.clear()
    keep(session, prepared)
    assert reads == []
    assert prepared.reference.sha256 == stack.fingerprint()
    session.close()


def test_an_image_of_a_file_is_referred_to(file: Path, tmp_path: Path) -> None:
    layer = Image(tifffile.imread(file))
    stack = stack_of(layer, "ZYX", window=(0, 200), name="squares")
    prepared = _prepare(stack, file)
    assert prepared.reference.path == str(file)
    assert not prepared.reference.embedded
    assert not prepared.folder.exists()
    session = _session(stack)
    keep(session, prepared)
    _do_something(session)
    expected = content(session)
    session.close()
    opened = open_session(prepared.folder, DummyBackend())
    assert opened.stack.path == file
    assert opened.stack.window == pytest.approx((0, 200))
    assert content(opened.session) == expected
    opened.session.close()
    # With the image beside it, the session may move; without the image a person hears what to do.
    file.rename(tmp_path / "elsewhere.tif")
    with pytest.raises(InputError, match="is missing; give its new place"):
        open_session(prepared.folder, DummyBackend())
    moved = open_session(prepared.folder, DummyBackend(), image=tmp_path / "elsewhere.tif")
    assert content(moved.session) == expected
    moved.session.close()


@pytest.mark.parametrize("change", ["pixels", "shape", "dtype", "gone", "no image"])
def test_a_file_that_is_not_the_image_is_not_referred_to(file: Path, change: str) -> None:
    data = squares()
    if change == "pixels":
        data[3, 4, 5] += 1
    elif change == "shape":
        data = data[:-1]
    elif change == "dtype":
        data = data.astype(np.uint16)
    elif change == "gone":
        file.unlink()
    else:
        file.write_bytes(b"text")
    prepared = _prepare(ImageStack(data, "ZYX", name="changed"), file)
    assert prepared.reference.path is None
    assert prepared.reference.embedded


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_sample_is_referred_to(name: str) -> None:
    made = sample(name)
    stack = made.open()
    layer = Image(np.stack([stack.raw(i) for i in range(len(stack))]), rgb=made.axes.endswith("C"))
    own = stack_of(layer, made.axes.removesuffix("C"), name=name)
    prepared = _prepare(own, made.image)
    assert prepared.reference.path == str(made.image)
    session = _session(own)
    keep(session, prepared)
    session.close()
    opened = open_session(prepared.folder, DummyBackend())
    assert opened.stack.axes == made.axes
    assert opened.session.kind == made.kind
    assert opened.stack.fingerprint() == own.fingerprint()
    opened.session.close()


def test_a_folder_of_pictures_is_referred_to(tmp_path: Path) -> None:
    from PIL import Image as Picture

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(20, 30), (25, 10), (20, 30, 3)]):
        Picture.fromarray(rng.integers(0, 255, size).astype(np.uint8)).save(folder / f"p{number}.png")
    stack = ImageStack.open(folder)
    prepared = _prepare(stack)
    assert prepared.reference.path == str(folder)
    session = _session(stack)
    keep(session, prepared)
    session.close()
    opened = open_session(prepared.folder, DummyBackend())
    assert opened.stack.names == ("p0.png", "p1.png", "p2.png")
    opened.session.close()


def test_the_spacing_that_was_annotated_with_comes_back(file: Path) -> None:
    layer = Image(tifffile.imread(file), scale=(4, 0.5, 0.5), units=("um",) * 3)
    stack = stack_of(layer, "ZYX")
    session = _session(stack)
    keep(session, _prepare(stack, file))
    folder = session.folder
    session.close()
    assert folder is not None
    opened = open_session(folder, DummyBackend())
    assert opened.stack.spacing == {"z": 4, "y": 0.5, "x": 0.5, "unit": "um"}
    opened.session.close()


def _oblique(folder: Path) -> Path:
    """The squares as NIfTI, with x to the left, slices downwards, and turned."""
    affine = np.array([[-0.7, -0.1, 0, 12.5], [0.1, 0.8, 0, -30], [0, 0, -2.5, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image(squares().T, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, 4)
    nib.save(image, folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


@pytest.mark.parametrize("embed", [False, True])
def test_nifti_of_a_layer_lies_where_its_file_lies(tmp_path: Path, embed: bool) -> None:
    file = _oblique(tmp_path)
    stack = stack_of(Image(squares(), scale=(4, 0.5, 0.5), units=("um",) * 3), "ZYX")
    session = _session(stack)
    keep(session, _prepare(stack, file, embed=embed))
    _do_something(session)
    export_labels(tmp_path / "first.nii.gz", session, "nifti")
    first = nib.load(tmp_path / "first.nii.gz")
    np.testing.assert_array_equal(first.affine, nib.load(file).affine)
    assert (first.header["sform_code"], first.header.get_xyzt_units()[0]) == (4, "mm")
    folder = session.folder
    session.close()
    assert folder is not None
    if embed:
        file.unlink()
    opened = open_session(folder, DummyBackend())
    export_labels(tmp_path / "again.nii.gz", opened.session, "nifti")
    opened.session.close()
    np.testing.assert_array_equal(nib.load(tmp_path / "again.nii.gz").affine, first.affine)
    if not embed:
        assert (tmp_path / "again.nii.gz").read_bytes() == (tmp_path / "first.nii.gz").read_bytes()


def test_an_image_that_was_changed_is_not_placed_by_its_file(tmp_path: Path) -> None:
    stack = stack_of(Image(squares()[:, ::-1]), "ZYX")
    _prepare(stack, _oblique(tmp_path))
    assert (stack.affine, stack.path) == (None, None)


def test_a_large_image_in_memory_is_not_copied_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persist, "_COPIED", 100)
    prepared = _prepare(stack_of_squares())
    assert not prepared.reference.embedded
    assert "not known which file" in prepared.notice
    assert "choose Save as… to keep a copy" in prepared.notice
    assert _prepare(stack_of_squares(), embed=True).reference.embedded


def test_large_files_are_compared_in_part(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(persist, "_COMPARED", 100)
    data = squares()
    assert _prepare(ImageStack(data, "ZYX"), file).reference.path == str(file)
    data[-1, 0, 0] += 1
    assert _prepare(ImageStack(data, "ZYX"), file).reference.path is None


def test_progress_and_giving_up(root: Path) -> None:
    steps = preparing(stack_of_squares())
    seen = [next(steps) for _ in range(5)]
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 1
    steps.close()
    steps = preparing(stack_of_squares())
    while next(steps) < 1:
        pass
    assert len(list(root.iterdir())) == 1
    steps.close()
    assert list(root.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the session"):
        _prepare(stack_of_squares(), folder=tmp_path / "file" / "session")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("")
    session = _session()
    with pytest.raises(InputError, match="not an empty folder"):
        keep(session, _prepare(stack_of_squares(), folder=tmp_path / "full"))
    assert session.folder is None
    assert (tmp_path / "full" / "letter.txt").exists()


# -- the list ----------------------------------------------------------------------------------------------------------


def _kept(work: bool, folder: Path | None = None, at: float | None = None) -> Path:
    stack = stack_of_squares()
    session = _session(stack)
    keep(session, _prepare(stack, folder=folder))
    if work:
        _do_something(session)
    session.close()
    assert session.folder is not None
    if at is not None:
        os.utime(session.folder / "session.journal", (at, at))
    return session.folder


def test_recent_sessions_and_the_last_one(tmp_path: Path) -> None:
    assert recent_sessions() == []
    assert persist.last_session() is None
    old, empty = _kept(True, at=1000), _kept(False, at=3000)
    away = _kept(True, tmp_path / "away", at=2000)
    assert [entry.folder for entry in recent_sessions()] == [empty, away, old]
    assert [entry.has_work for entry in recent_sessions()] == [False, True, True]
    last = persist.last_session()
    assert last is not None
    assert (last.folder, last.name, last.changed) == (away, "away", 2000)
    # One that is open is not offered.
    session = open_session(away, DummyBackend()).session
    last = persist.last_session()
    assert last is not None
    assert last.folder == old
    session.close()
    shutil.rmtree(away)
    assert [entry.folder for entry in recent_sessions()] == [empty, old]


def test_only_empty_sessions_are_pruned(root: Path, tmp_path: Path) -> None:
    empty, worked, noted, undone = _kept(False), _kept(True), _kept(False), _kept(True)
    away = _kept(False, tmp_path / "away")
    write_view(empty, {"axes": "ZYX"})
    (noted / "notes.txt").write_text("mine")
    session = open_session(undone, DummyBackend()).session
    while session.can_undo:
        session.undo()
    session.close()
    damaged = _kept(True)
    journal = damaged / "session.journal"
    journal.write_bytes(journal.read_bytes()[:40])
    opened_empty = _kept(False)
    in_use = open_session(opened_empty, DummyBackend()).session
    begun = root / "begun"
    begun.mkdir()
    np.save(begun / "image.npy", np.zeros(3))
    abandoned = root / "abandoned"
    shutil.copytree(begun, abandoned)
    os.utime(abandoned, (1000, 1000))
    (root / "recent.txt").touch()
    assert sorted(prune()) == sorted([empty, abandoned])
    for folder in (worked, noted, undone, away, damaged, opened_empty, begun):
        assert folder.is_dir()
    assert not empty.exists()
    in_use.close()
    assert prune() == [opened_empty]


def test_what_is_a_session(tmp_path: Path) -> None:
    folder = _kept(False)
    assert persist.is_session(folder)
    assert persist.is_session(str(folder))
    assert not persist.is_session(tmp_path)
    assert not persist.is_session(tmp_path / "nothing")
    (tmp_path / "session.journal").write_bytes(b"another program's")
    assert not persist.is_session(tmp_path)


def test_the_list_of_others_is_bounded_and_lives_with_damage(root: Path, tmp_path: Path) -> None:
    for number in range(30):
        persist.remember(tmp_path / f"s{number}")
    lines = (root / "recent.txt").read_text().splitlines()
    assert len(lines) == 20
    assert lines[0] == str(tmp_path / "s29")
    persist.remember(tmp_path / "s20")
    assert (root / "recent.txt").read_text().splitlines()[0] == str(tmp_path / "s20")
    (root / "recent.txt").write_bytes(b"\xff\xfe\x00")
    assert recent_sessions() == []
    persist.remember(tmp_path / "again")
    assert (root / "recent.txt").read_text().splitlines()[0] == str(tmp_path / "again")


def test_without_the_variable_it_is_the_persons_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv(persist.FOLDER_VARIABLE)
    expected = platformdirs.user_data_path("napari-medsam2", appauthor=False) / "sessions"
    assert persist.sessions_folder() == expected


# -- how it lay in the viewer ------------------------------------------------------------------------------------------


def _turned(n: int) -> np.ndarray:
    turn = np.eye(n)
    turn[-2:, -2:] = [[0.6, -0.8], [0.8, 0.6]]
    return turn


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda: Image(squares(), name="a", scale=(3, 1, 2), translate=(5, 6, 7), rotate=_turned(3)), "ZYX"),
        (lambda: Image(squares(), shear=(0, 0, 0.5), units=("um",) * 3, axis_labels=("t", "a", "b")), "TYX"),
        (lambda: Image(np.zeros((2, 3, 5, 6), np.uint16), scale=(1, 2, 3, 4), contrast_limits=(3, 9)), "CZYX"),
        (lambda: Image(np.zeros((3, 5, 6, 3), np.uint8), affine=np.diag([1, 2, 3, 1]), rgb=True), "NYX"),
        (lambda: Image(squares()[0], colormap="green", contrast_limits=(7, 99)), "YX"),
    ],
)
def test_the_image_lies_again_where_it_lay(tmp_path: Path, make: Callable[[], Image], axes: str) -> None:
    layer = make()
    write_view(tmp_path, view_of(layer, axes))
    stack = stack_of(layer, axes)
    data, arguments, kind = image_layer(stack, read_view(tmp_path))
    assert kind == "image"
    again = Image(data, **arguments)
    own = guess_axes(again)
    assert sorted(own) == sorted(axes)
    order = [axes.index(letter) for letter in own]
    place = np.arange(1.0, len(axes) + 1)
    expected = np.asarray(layer.data_to_world(place))[order]
    np.testing.assert_allclose(again.data_to_world(place[order]), expected)
    assert again.units == tuple(layer.units[i] for i in order)
    assert again.axis_labels == tuple(layer.axis_labels[i] for i in order)
    assert again.name == layer.name
    if not layer.rgb:
        assert (again.contrast_limits, again.colormap.name) == (layer.contrast_limits, layer.colormap.name)
    viewer = ViewerModel()
    viewer.add_layer(again)
    frame = Frame(again, own, viewer.dims)
    raw = stack.raw(frame.spec.length - 1)
    shown = np.asarray(again.data[frame.key(frame.spec.length - 1)])
    np.testing.assert_array_equal(shown if layer.rgb or raw.ndim == 2 else np.moveaxis(shown, 0, -1), raw)


def test_without_a_view_it_lies_as_the_stack_says(file: Path) -> None:
    stack = ImageStack(squares(), "ZYX", spacing={"z": 3, "y": 0.5, "x": 0.5, "unit": "um"}, window=(5, 80), name="n")
    data, arguments, _ = image_layer(stack)
    layer = Image(data, **arguments)
    assert tuple(layer.scale) == (3, 0.5, 0.5)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.contrast_limits == [5, 80]
    assert layer.metadata["window"] == (5, 80)
    assert source_of(layer) is None
    data, arguments, _ = image_layer(ImageStack.open(file))
    assert source_of(Image(data, **arguments)) == file
    film = ImageStack(squares(), "TYX", spacing={"y": 0.5, "x": 0.5, "unit": "mm"})
    data, arguments, _ = image_layer(film)
    assert [str(unit) for unit in Image(data, **arguments).units] == ["pixel", "millimeter", "millimeter"]


def test_pictures_of_different_sizes_come_back_padded() -> None:
    stack = ImageStack([squares()[0], squares()[1][:9]])
    data, arguments, _ = image_layer(stack)
    assert isinstance(data, StackArray)
    assert Image(data, **arguments).data.shape == (2, 24, 24)
    assert arguments["metadata"]["kind"] == "collection"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"axes": 3}',
        '{"axes": "TZYX", "scale": [1, 1, 1, 1]}',
        '{"axes": "ZYX", "scale": [0, 1, 1], "translate": ["a", 1, 1], "affine": [[0]], "units": [1, 2, 3], '
        '"contrast_limits": [5, 5], "name": 4, "rotate": [[NaN, 0, 0], [0, 1, 0], [0, 0, 1]], "shear": {}}',
    ],
)
def test_a_view_that_makes_no_sense_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "napari.json").write_text(text)
    stack = ImageStack(squares(), "ZYX", name="n")
    data, arguments, _ = image_layer(stack, read_view(tmp_path))
    layer = Image(data, **arguments)
    np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), (1, 2, 3))
    assert layer.name == "n"


def test_a_layer_knows_where_it_came_from(make_napari_viewer: Callable[..., Any], file: Path) -> None:
    viewer = make_napari_viewer()
    (layer,) = viewer.open(file, plugin="napari")
    assert source_of(layer) == file
    assert _prepare(stack_of(layer, "ZYX"), source_of(layer)).reference.path == str(file)
    assert source_of(viewer.add_image(np.zeros((4, 5)))) is None

"""A session that is opened with File ▸ Open is gone on with by the dock."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers._layer_actions import _duplicate_layer, _project
from npe2 import PluginManager, PluginManifest
from tests.dummy import DummyBackend, squares
from tests.widgets.driving import callbacks_of, wait_until

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.errors import InputError
from napari_medsam2.reading.hashing import run_through
from napari_medsam2.widgets import commands
from napari_medsam2.widgets.persist import keep, open_session, preparing
from napari_medsam2.widgets.reader import mark_session
from napari_medsam2.widgets.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot

NAME = "napari-medsam2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stack = ImageStack(squares(), "ZYX", name="cells")
    session = AnnotationSession(stack, backend=DummyBackend())
    keep(session, run_through(preparing(stack, folder=tmp_path / "mine")))
    session.add_box(session.add_object("cell"), 2, (2.5, 2.5, 10.5, 11.5))
    session.close()
    return tmp_path / "mine"


@pytest.fixture
def bench(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr("napari_medsam2.backend.load_backend", lambda *_, **__: DummyBackend())
    manager = PluginManager.instance()
    manager.discover()
    if NAME not in manager._manifests:
        manager.register(PluginManifest.from_file(Path(__file__).parents[2] / "napari.yaml"))
    made = Workbench(ViewerModel())
    yield made
    made.finish()
    made.close()
    assert callbacks_of(made.viewer.layers) == []


def _names(bench: Workbench) -> list[str]:
    return [layer.name for layer in bench.viewer.layers]


def test_it_is_gone_on_with_by_itself(bench: Workbench, folder: Path) -> None:
    image, _ = bench.viewer.open(folder, plugin=NAME)
    wait_until(lambda: bench.annotation is not None)
    annotation: Any = bench.annotation
    assert annotation.image is image
    assert annotation.session.folder == folder
    assert not annotation.session.read_only
    assert [info.name for info in annotation.session.objects.values()] == ["cell"]
    # One layer of masks, which the session draws.
    assert _names(bench).count("cells masks") == 1
    np.testing.assert_array_equal(np.asarray(annotation.masks.layer.data[2]), annotation.session.slice_labels(2))
    annotation.session.add_object("more")
    bench.finish()
    again = AnnotationSession.open(folder, backend=DummyBackend())
    assert len(again.objects) == 2
    again.close()


def test_a_dock_that_is_opened_later_finds_it(bench: Workbench, folder: Path) -> None:
    bench.adopting.close()
    bench.viewer.open(folder, plugin=NAME)
    bench.adopting.look()
    wait_until(lambda: bench.annotation is not None)
    assert bench.annotation is not None
    assert bench.annotation.session.folder == folder
    bench.viewer.layers.events.inserted.connect(bench.adopting._inserted)


def test_the_palette_reads_it_in_a_thread(bench: Workbench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.adopting.close()
    image, _ = bench.viewer.open(folder, plugin=NAME)
    bench.viewer.layers.events.inserted.connect(bench.adopting._inserted)
    bench.viewer.layers.selection.active = image
    threads: list[threading.Thread] = []

    def read(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return open_session(*given)

    monkeypatch.setattr("napari_medsam2.widgets.adopting.open_session", read)
    monkeypatch.setattr(commands, "open_dock", lambda: SimpleNamespace(bench=bench))
    commands.annotate()
    wait_until(lambda: bench.annotation is not None)
    assert bench.annotation is not None
    assert bench.annotation.session.folder == folder
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_what_is_under_way_stays(bench: Workbench, folder: Path) -> None:
    own = bench.annotate(bench.viewer.add_image(squares(), name="own", contrast_limits=(0, 255)))
    said: list[str] = []
    bench.events.said.connect(said.append)
    image, _ = bench.viewer.open(folder, plugin=NAME)
    assert bench.annotation is own
    assert "cells is a saved session: finish this one, select that image and press Annotate" in said
    bench.finish()
    going_on = bench.annotate(image)
    assert going_on.session.folder == folder
    assert _names(bench).count("cells masks") == 1


def test_it_is_gone_on_with_where_it_was_saved_last(bench: Workbench, folder: Path, tmp_path: Path) -> None:
    image, _ = bench.viewer.open(folder, plugin=NAME)
    wait_until(lambda: bench.annotation is not None)
    annotation: Any = bench.annotation
    bench.save_as(tmp_path / "elsewhere")
    wait_until(lambda: annotation.session.folder == tmp_path / "elsewhere")
    annotation.session.add_object("more")
    bench.finish()
    # Annotate, on the same image.
    again = bench.annotate(image)
    assert again.session.folder == tmp_path / "elsewhere"
    assert [info.name for info in again.session.objects.values()] == ["cell", "more"]
    bench.finish()
    with AnnotationSession.open(folder, backend=DummyBackend()) as before:
        assert [info.name for info in before.objects.values()] == ["cell"]


def test_an_image_that_went_before_it_was_opened(bench: Workbench, folder: Path) -> None:
    bench.viewer.open(folder, plugin=NAME)
    bench.viewer.layers.clear()
    done: list[None] = []
    bench.worker.submit(lambda: None, done.append, lane="io")
    wait_until(lambda: bool(done))
    assert bench.annotation is None
    # It is not locked.
    session = AnnotationSession.open(folder, backend=DummyBackend())
    assert not session.read_only
    session.close()


def test_a_session_that_cannot_be_opened_is_said(
    bench: Workbench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble: list[Exception] = []
    monkeypatch.setattr(bench, "trouble", trouble.append)
    bench.adopting.close()
    layers = bench.viewer.open(folder, plugin=NAME)
    (folder / "session.journal").write_bytes(b"")
    bench.adopting.look()
    wait_until(lambda: bool(trouble))
    assert bench.annotation is None
    assert list(bench.viewer.layers) == layers
    bench.viewer.layers.events.inserted.connect(bench.adopting._inserted)


@pytest.mark.parametrize("how", ["File ▸ Open", "Open…"])
def test_what_napari_makes_of_its_image_is_no_session(bench: Workbench, folder: Path, how: str) -> None:
    if how == "Open…":
        bench.open_folder(folder)
    else:
        bench.viewer.open(folder, plugin=NAME)
    wait_until(lambda: bench.annotation is not None)
    bench.finish()
    layers, (image,) = bench.viewer.layers, bench.viewer.layers
    for make in (_duplicate_layer, _project):
        layers.selection = {image}
        layers.selection.active = image
        make(layers)
    done: list[None] = []
    bench.worker.submit(lambda: None, done.append, lane="io")
    wait_until(lambda: bool(done))
    assert bench.annotation is None
    assert _names(bench) == ["cells", "cells copy", "cells max-proj"]
    for layer in layers[1:]:
        assert bench.annotate(layer).session.folder != folder
        bench.finish()
    assert bench.annotate(image).session.folder == folder


def test_an_image_that_does_not_fit_its_session_is_refused(bench: Workbench, folder: Path) -> None:
    image = bench.viewer.add_image(squares(6), name="cut")
    mark_session(image, folder)
    with pytest.raises(InputError, match="6 slices, but its session has 10"):
        bench.annotate(image)
    image.data = squares(10, 20)
    mark_session(image, folder)
    with pytest.raises(InputError, match="slice 0 of cut is 20 × 20, but that of its session 24 × 24"):
        bench.annotate(image)
    assert _names(bench) == ["cut"]
    with AnnotationSession.open(folder, backend=DummyBackend()) as session:
        assert not session.read_only


def test_an_annotation_that_cannot_begin_leaves_no_layers(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    image = bench.viewer.add_image(squares(), name="own", contrast_limits=(0, 255))

    def broken(*_: Any) -> None:
        raise RuntimeError("no tools")

    monkeypatch.setattr("napari_medsam2.widgets.annotation.Tools", broken)
    with pytest.raises(RuntimeError, match="no tools"):
        bench.annotate(image)
    assert _names(bench) == ["own"]
    assert bench.annotation is None

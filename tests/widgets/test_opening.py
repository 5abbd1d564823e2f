"""Open… and *Go on with*: what was saved is gone on with once, and its image is found or asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from napari.components import ViewerModel
from tests.dummy import DummyBackend, squares, stack_of_squares
from tests.widgets.docking import hear
from tests.widgets.driving import wait_until

from napari_medsam2 import AnnotationSession
from napari_medsam2.widgets.kept import sessions_folder
from napari_medsam2.widgets.sections.save import SaveSection
from napari_medsam2.widgets.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot


@pytest.fixture
def bench(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr("napari_medsam2.backend.load_backend", lambda *_, **__: DummyBackend())
    made = Workbench(ViewerModel())
    yield made
    made.finish()
    made.close()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return hear(monkeypatch)


@pytest.fixture
def said(bench: Workbench) -> list[str]:
    out: list[str] = []
    bench.events.said.connect(out.append)
    return out


def _saved(folder: Path) -> Path:
    with AnnotationSession.create(folder, stack_of_squares(), backend=DummyBackend("compact"), embed=True) as session:
        session.add_object("cell")
    return folder


def _settle(bench: Workbench) -> None:
    """Wait until all files were read, and what was said of them was heard."""
    for _ in range(2):
        done: list[None] = []
        bench.worker.submit(lambda: None, done.append, lane="io")
        wait_until(lambda done=done: bool(done))  # type: ignore[misc]


def _is_open(bench: Workbench, folder: Path) -> bool:
    """Whether it is what is annotated, and can be changed."""
    annotation = bench.annotation
    return annotation is not None and annotation.session.folder == folder and not annotation.session.read_only


def test_a_double_click_opens_the_last_session_once(bench: Workbench, notes: list[str]) -> None:
    folder = _saved(sessions_folder() / "mine")
    section = SaveSection(bench)
    wait_until(lambda: not section.resume.isHidden())
    section.resume.click()
    section.resume.click()
    _settle(bench)
    assert _is_open(bench, folder)
    assert len(bench.images()) == 1
    assert notes == []
    section.close_section()
    section.deleteLater()


def test_opening_what_is_open_says_so(bench: Workbench, notes: list[str], said: list[str], tmp_path: Path) -> None:
    folder = _saved(tmp_path / "mine")
    bench.open_folder(folder)
    wait_until(lambda: bench.annotation is not None)
    annotation = bench.annotation
    (tmp_path / "link").symlink_to(folder)
    for same in (folder, tmp_path / "x" / ".." / "mine", tmp_path / "link"):
        bench.open_folder(same)
        assert said[-1] == f"{same.name} is open already"
    _settle(bench)
    assert bench.annotation is annotation
    assert _is_open(bench, folder)
    assert notes == []
    # Once it is finished it is opened as any other.
    bench.finish()
    bench.open_folder(folder)
    wait_until(lambda: _is_open(bench, folder))


def test_one_is_opened_after_the_other(bench: Workbench, said: list[str], tmp_path: Path) -> None:
    first, second = _saved(tmp_path / "first"), _saved(tmp_path / "second")
    bench.open_folder(first)
    bench.open_folder(second)
    assert said[-1] == "first is still being opened; open second after that"
    _settle(bench)
    assert _is_open(bench, first)
    bench.open_folder(second)
    wait_until(lambda: _is_open(bench, second))


def test_what_cannot_be_opened_is_in_nobodys_way(bench: Workbench, notes: list[str], tmp_path: Path) -> None:
    bench.open_folder(tmp_path)
    wait_until(lambda: bool(notes))
    bench.open_folder(tmp_path)
    wait_until(lambda: len(notes) == 2)
    folder = _saved(tmp_path / "mine")
    bench.open_folder(folder)
    wait_until(lambda: _is_open(bench, folder))


def test_a_session_that_comes_in_as_a_file_is_not_opened_beside_that(
    bench: Workbench, notes: list[str], tmp_path: Path
) -> None:
    """File ▸ Open, and *Go on with* before that is done."""
    folder = _saved(tmp_path / "mine")
    bench.viewer.add_image(squares(), metadata={"napari-medsam2": {"session": str(folder)}})
    bench.open_folder(folder)
    bench.attempt(bench.need)
    _settle(bench)
    assert _is_open(bench, folder)
    assert len(bench.images()) == 1
    assert notes == ["Mine is still being opened; try again in a moment"]

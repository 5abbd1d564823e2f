"""Open… and *Go on with*: what was saved is gone on with once, and its image is found or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QFileDialog, QMessageBox
from tests.dummy import DummyBackend, squares, stack_of_squares
from tests.widgets.docking import hear
from tests.widgets.driving import wait_until

from napari_medsam2 import AnnotationSession, ImageStack, InputError
from napari_medsam2.widgets.kept import sessions_folder
from napari_medsam2.widgets.reader import mark_session, read_session
from napari_medsam2.widgets.sections.save import SaveSection
from napari_medsam2.widgets.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from pytestqt.qtbot import QtBot


@pytest.fixture
def bench(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr("napari_medsam2.backend.load_backend", lambda *_, **__: DummyBackend("compact"))
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


def test_annotate_goes_on_with_what_was_opened_and_finished(bench: Workbench, notes: list[str], tmp_path: Path) -> None:
    folder = _saved(tmp_path / "mine")
    bench.open_folder(folder)
    wait_until(lambda: bench.annotation is not None)
    (image,) = bench.images()
    bench.finish()
    assert bench.annotation is None
    bench.start()
    wait_until(lambda: bench.annotation is not None)
    assert _is_open(bench, folder)
    assert bench.images() == [image]
    bench.save_as(tmp_path / "elsewhere")
    wait_until(lambda: _is_open(bench, tmp_path / "elsewhere"))
    _settle(bench)
    bench.finish()
    bench.start()
    wait_until(lambda: bench.annotation is not None)
    assert _is_open(bench, tmp_path / "elsewhere")
    assert notes == []


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
    image = Image(squares())
    mark_session(image, folder)
    bench.viewer.add_layer(image)
    bench.open_folder(folder)
    bench.attempt(bench.need)
    _settle(bench)
    assert _is_open(bench, folder)
    assert len(bench.images()) == 1
    assert notes == ["Mine is still being opened; try again in a moment"]


# -- images that are not where they were -------------------------------------------------------------------------------


class Person:
    """Answers dialogs, and remembers what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.folder, self.goes_on = "", "", False
        self.asked: list[str] = []
        monkeypatch.setattr(QFileDialog, "getOpenFileName", self._file)
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", self._folder)
        monkeypatch.setattr(QMessageBox, "question", self._question)

    def _file(self, parent: Any, title: str, begin: str) -> tuple[str, str]:
        self.asked.append(f"file: {title}")
        assert Path(begin).is_dir()
        return self.file, ""

    def _folder(self, parent: Any, title: str, begin: str) -> str:
        self.asked.append(f"folder: {title}")
        assert Path(begin).is_dir()
        return self.folder

    def _question(self, parent: Any, title: str, text: str) -> Any:
        self.asked.append(text)
        return QMessageBox.StandardButton.Yes if self.goes_on else QMessageBox.StandardButton.No


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(monkeypatch)


def _write(path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def _referring(folder: Path, stack: ImageStack) -> Path:
    """Save a session that holds no copy of its image."""
    with AnnotationSession.create(folder, stack, backend=DummyBackend("compact")) as session:
        session.add_object("cell")
    return folder


def test_an_image_that_was_moved_is_asked_for_once(
    bench: Workbench, person: Person, notes: list[str], tmp_path: Path
) -> None:
    image = _write(tmp_path / "cells.tif", squares())
    folder = _referring(tmp_path / "mine", ImageStack.open(image))
    person.file = str(image.rename(tmp_path / "elsewhere.tif"))
    for _ in range(2):
        bench.open_folder(folder)
        wait_until(lambda: _is_open(bench, folder))
        assert bench.annotation is not None
        assert bench.annotation.session.stack.path == tmp_path / "elsewhere.tif"
        bench.finish()
    assert person.asked == ["file: cells.tif, the image of mine, is missing: where is it now?"]
    assert notes == []


@pytest.mark.parametrize("pattern", [False, True])
def test_pictures_that_were_moved_are_asked_for_as_a_folder(
    bench: Workbench, person: Person, notes: list[str], tmp_path: Path, pattern: bool
) -> None:
    (tmp_path / "pictures").mkdir()
    for number, pixels in enumerate(squares()[:3]):
        _write(tmp_path / "pictures" / f"{number}.tif", pixels)
    folder = _referring(tmp_path / "mine", ImageStack.open(tmp_path / "pictures" / ("*.tif" if pattern else "")))
    person.folder = str((tmp_path / "pictures").rename(tmp_path / "elsewhere"))
    bench.open_folder(folder)
    wait_until(lambda: _is_open(bench, folder))
    assert [one[:7] for one in person.asked] == ["folder:"]
    assert notes == []


def test_an_image_that_was_in_memory_is_asked_for(bench: Workbench, person: Person, tmp_path: Path) -> None:
    folder = _referring(tmp_path / "mine", stack_of_squares())
    person.file = str(_write(tmp_path / "cells.tif", squares()))
    bench.open_folder(folder)
    wait_until(lambda: _is_open(bench, folder))
    assert person.asked == ["file: Where is the image of mine? It came from no known file"]


def test_nobody_has_to_know_where_it_is(
    bench: Workbench, person: Person, notes: list[str], said: list[str], tmp_path: Path
) -> None:
    image = _write(tmp_path / "cells.tif", squares())
    folder = _referring(tmp_path / "mine", ImageStack.open(image))
    image.unlink()
    bench.open_folder(folder)
    wait_until(lambda: said[-1] == "mine was not opened: its image is missing")
    assert (bench.annotation, notes, len(person.asked)) == (None, [], 1)
    # What is not the image is refused, and asked for again the next time.
    person.file = str(_write(tmp_path / "other.tif", squares()[:5]))
    bench.open_folder(folder)
    wait_until(lambda: bool(notes))
    assert len(notes) == 1
    assert "other.tif is not the session's" in notes[0]
    assert "=" not in notes[0]
    person.file = str(_write(tmp_path / "found.tif", squares()))
    bench.open_folder(folder)
    wait_until(lambda: _is_open(bench, folder))


def test_a_changed_image_is_gone_on_with_only_where_a_person_says_so(
    bench: Workbench, person: Person, said: list[str], notes: list[str], tmp_path: Path
) -> None:
    image = _write(tmp_path / "cells.tif", squares())
    folder = _referring(tmp_path / "mine", ImageStack.open(image))
    _write(image, squares()[::-1])
    bench.open_folder(folder)
    wait_until(lambda: said[-1] == "mine was not opened: its image has changed")
    assert len(person.asked) == 1
    assert person.asked[0].endswith("saved. The masks may no longer fit. Go on all the same?")
    assert (bench.annotation, notes) == (None, [])
    person.goes_on = True
    bench.open_folder(folder)
    wait_until(lambda: _is_open(bench, folder))


def test_names_are_asked_about_letter_by_letter(
    bench: Workbench, person: Person, said: list[str], tmp_path: Path
) -> None:
    image = _write(tmp_path / "CD4<b>low<i>.tif", squares())
    folder = _referring(tmp_path / "mine", ImageStack.open(image))
    _write(image, squares()[::-1])
    bench.open_folder(folder)
    wait_until(lambda: said[-1] == "mine was not opened: its image has changed")
    shown = QTextDocument()
    text = person.asked[0]
    # As a dialog of Qt takes it.
    rich = Qt.mightBeRichText(text)  # type: ignore[attr-defined]
    shown.setHtml(text) if rich else shown.setPlainText(text)
    assert "CD4<b>low<i>.tif" in shown.toPlainText()


def test_a_file_menu_that_cannot_ask_says_what_can(tmp_path: Path) -> None:
    image = _write(tmp_path / "cells.tif", squares())
    folder = _referring(tmp_path / "mine", ImageStack.open(image))
    image.unlink()
    with pytest.raises(InputError, match="is missing; give its new place: choose Open… in the dock of Medical SAM 2"):
        read_session(folder)

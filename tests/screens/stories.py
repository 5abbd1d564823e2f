"""The three uses and every other state of the window, done by hand and photographed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint
from tests.screens.shapes import around, largest, outline, stroke
from tests.screens.stage import Stage

from napari_medsam2.evaluation.annotator import innermost

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QDialog

__all__ = ["STORIES"]

_LARGE = 60
"""Pixels of a mask that a person would correct."""


def _reference(stage: Stage) -> np.ndarray:
    """The sample's reference labels: where a person who knows the image would click."""
    return np.asarray(next(layer for layer in stage.viewer.layers if layer.name.endswith("reference")).data)


def stack(folder: Path | None, sample: str = "nuclei-3d") -> str:
    """Cells of a stack: click, propagate, review, correct, propagate again, export."""
    stage = Stage(folder, sample)
    stage.shot("stack-01-fresh")
    reference = _reference(stage)
    stage.press(stage.dock.image.start)
    stage.shot("stack-02-annotate")
    at = stage.annotation.index
    cells = largest(reference[at], 4)
    first = reference[at] == cells[0]
    stage.click(*innermost(first))
    stage.shot("stack-03-click")
    other = innermost(reference[at] == cells[1])
    stage.click(*other, modifiers=["Ctrl"])
    stage.shot("stack-04-negative-click")
    stage.key("N")
    stage.drag(around(reference[at] == cells[1]))
    stage.shot("stack-05-box")
    stage.key("N")
    stage.key("S")
    stage.drag(stroke(reference[at] == cells[2]))
    stage.shot("stack-06-scribble")
    stage.key("N")
    stage.key("P")
    stage.click(*innermost(reference[at] == cells[3]))
    stage.key("G", settle=False)
    stage.until(lambda: stage.dock.propagate.bar.isVisible() and stage.dock.propagate.bar.value() > 8)
    stage.shot("stack-07-propagating")
    stage.settle()
    stage.rest()
    stage.shot("stack-08-propagated")
    stage.key("W")
    stage.rest()
    stage.shot("stack-09-next-worst")
    true = {number + 1: reference == cell for number, cell in enumerate(cells)}
    for _ in range(2):
        stage.key("A")
        stage.rest()
    _jump_to_worst(stage, true)
    _correct(stage, true)
    stage.shot("stack-10-painted")
    stage.key("Shift+G")
    stage.rest()
    stage.shot("stack-11-corrected")
    for _ in range(3):
        # Prompted slices read no memories; beyond them the walk does.
        stage.key(".")
    stage.key("P")
    stage.tab("Memory bank")
    stage.rest(1.0)
    stage.shot("stack-12-memory-bank")
    stage.press(stage.bank.view._toggle)
    stage.rest()
    stage.shot("stack-13-memory-bank-advanced")
    stage.press(stage.bank.view._toggle)
    stage.tab("Medical SAM 2")
    _export(stage, "stack-14-export")
    said = stage.said()
    stage.close()
    return said


def _review(stage: Stage, true: dict[int, np.ndarray], most: int = 12) -> None:
    """Go through the worst masks as a person does: accept, reject, until one wants a correction; that is painted."""
    for _ in range(most):
        annotation = stage.annotation
        label, index = annotation.label, annotation.index
        right = true[label][index]
        found = annotation.session.results.get(label, index)
        mask = np.zeros(right.shape, bool) if found is None else found.mask
        dice = 2 * (right & mask).sum() / max(right.sum() + mask.sum(), 1)
        # Tips are a matter of opinion; what is large and half wrong is not.
        if right.sum() > _LARGE and 0.1 < dice < 0.85:
            _correct(stage, true)
            return
        stage.key("R" if mask.any() and not right.any() else "A")
        if not right.any() and mask.any():
            stage.key("W")
        stage.rest()


def _mask(stage: Stage, label: int, index: int) -> np.ndarray:
    found = stage.annotation.session.results.get(label, index)
    return np.zeros(stage.annotation.session.stack.slice_shape(index), bool) if found is None else found.mask


def _jump_to_worst(stage: Stage, true: dict[int, np.ndarray]) -> None:
    """Go where a person who looks through the slices sees most of an object missing, with a click on the strip."""
    missing = {}
    for label, right in true.items():
        for index in range(len(right)):
            mask = _mask(stage, label, index)
            if mask.sum() > _LARGE / 2 and (label, index) not in stage.annotation.session.prompts:
                missing[label, index] = int((right[index] & ~mask).sum()) - int((mask & ~right[index]).sum())
    strip = stage.review.strip
    shown = strip.viewport().rect()
    # Rows may be scrolled away, and lie beneath the ruler then.
    seen = [at for at in missing if shown.contains(strip.place(*at)) and strip.at(strip.place(*at)) == at]
    stage.jump(*max(seen, key=lambda at: missing[at]))


def _correct(stage: Stage, true: dict[int, np.ndarray]) -> None:
    """Paint what is missing, erase what is too much."""
    annotation = stage.annotation
    label, index = annotation.label, annotation.index
    right, mask = true[label][index], _mask(stage, label, index)
    for tool, area in (("B", right & ~mask), ("E", mask & ~right)):
        if area.any():
            stage.key(tool)
            annotation.masks.layer.brush_size = 2
            _fill(stage, area)


def _fill(stage: Stage, area: np.ndarray) -> None:
    """Go over an area with the brush, along every other row of its pieces."""
    from scipy.ndimage import label as parts

    pieces, count = parts(area)
    for number in range(1, count + 1):
        piece = pieces == number
        if piece.sum() < 8:
            continue
        for y in np.flatnonzero(piece.any(1))[::2]:
            runs, many = parts(piece[y])
            for run in range(1, many + 1):
                where = np.flatnonzero(runs == run)
                stage.drag([(float(y), float(where[0])), (float(y), float(where[-1]))])


def _export(stage: Stage, name: str, form: str = "") -> Path:
    """Write labels where they are suggested to be written, in a format or as suggested."""
    stage.press(stage.dock.save.export)
    dialog: Any = stage.dock.save._dialog
    if form:
        stage.choose(dialog.form, form)
    path = Path(dialog.path.text()).expanduser()
    stage.shot(name)
    stage.press(dialog.go)
    stage.until(lambda: stage.dock.next_step.said.whole().startswith(f"Exported {path.name}"))
    assert path.exists()
    return path


def _close(dialog: QDialog | None) -> None:
    assert dialog is not None
    dialog.close()


def objects(folder: Path | None) -> str:
    """Many objects: the table, its menu, split and merge."""
    stage = Stage(folder, "nuclei-3d")
    reference = _reference(stage)
    stage.press(stage.dock.image.start)
    at = stage.annotation.index
    for number, cell in enumerate(largest(reference[at], 6)):
        if number:
            stage.key("N")
        stage.click(*innermost(reference[at] == cell))
    stage.key("G")
    stage.rest()
    stage.shot("objects-01-several")
    menu = stage.dock.objects.table.menu()
    menu.popup(stage.dock.objects.table.mapToGlobal(QPoint(-40, 40)))
    stage.rest()
    split: Any = next(action for action in menu.actions() if action.text() == "Split")
    menu.setActiveAction(split)
    split.menu().popup(menu.mapToGlobal(QPoint(-200, menu.actionGeometry(split).top())))
    stage.shot("objects-02-menu")
    split.menu().close()
    menu.close()
    stage.rest()
    stage.dock.show_help()
    stage.shot("help-dark")
    _close(stage.dock._help)
    stage.dock.model.choose.click()
    stage.rest(1.5)
    stage.shot("models-dark")
    _close(stage.dock._dialog)
    stage.viewer.theme = "light"
    stage.rest()
    stage.shot("objects-03-light")
    stage.dock.show_help()
    stage.shot("help-light")
    _close(stage.dock._help)
    stage.dock.model.choose.click()
    stage.rest(0.5)
    stage.shot("models-light")
    _close(stage.dock._dialog)
    stage.close()
    return "pictures only"


def ct(folder: Path | None) -> str:
    """Organs of a CT, in both themes."""
    stage = Stage(folder, "ct-thorax-abdomen-3mm")
    reference = _reference(stage)
    stage.press(stage.dock.image.start)
    at = stage.annotation.index
    organs = [organ for organ in (5, 1, 2, 3) if (reference[at] == organ).any()]
    for number, organ in enumerate(organs):
        if number:
            stage.key("N")
        stage.drag(around(reference[at] == organ))
    stage.shot("ct-01-boxes")
    stage.key("G")
    stage.rest()
    stage.key("W")
    stage.rest()
    stage.shot("ct-02-dark")
    stage.viewer.theme = "light"
    stage.rest()
    stage.shot("ct-03-light")
    said = stage.said()
    stage.close()
    return said


def collection(folder: Path | None, sample: str = "dsb2018-fluo-256x256") -> str:
    """Nuclei of one image painted with the lasso; found in all others; reviewed; exported."""
    stage = Stage(folder, sample)
    name = "collection" if sample.endswith("256x256") else "histology"
    reference = _reference(stage)
    stage.press(stage.dock.image.start)
    stage.shot(f"{name}-01-annotate")
    at = stage.annotation.index
    from scipy.ndimage import label as parts

    pieces, count = parts(reference[at] > 0)
    stage.key("L")
    for number in largest(pieces, min(count, 8)):
        stage.drag(outline(pieces == number))
    stage.shot(f"{name}-02-painted")
    stage.key("G")
    stage.rest(1.0)
    stage.shot(f"{name}-03-propagated")
    stage.tab("Images")
    stage.choose(stage.gallery.order, "Most doubtful")
    stage.rest(1.5)
    stage.shot(f"{name}-04-gallery")
    stage.tab("Medical SAM 2")
    stage.key("W")
    stage.rest()
    if name == "histology":
        # Outlines said what nuclei look like; here the worst image gets some of its own.
        _outline_missed(stage, reference)
        stage.key("Shift+G")
        stage.rest()
        stage.key("W")
        stage.rest()
    for _ in range(3):
        stage.key("A")
        stage.rest()
    stage.shot(f"{name}-05-review")
    written = _export(stage, f"{name}-06-export", "A folder with a PNG")
    assert len(list(written.glob("*.png"))) == len(reference)
    said = stage.said()
    stage.close()
    return said


def _outline_missed(stage: Stage, reference: np.ndarray, most: int = 3) -> None:
    """Draw around the largest nuclei that were missed on the image that is shown."""
    from scipy.ndimage import label as parts

    index = stage.annotation.index
    found = _mask(stage, stage.annotation.label, index)
    pieces, count = parts(reference[index][: found.shape[0], : found.shape[1]] > 0)
    missed = [number for number in largest(pieces, count) if found[pieces == number].mean() < 0.3]
    for number in missed[:most]:
        stage.drag(outline(pieces == number))


def histology(folder: Path | None) -> str:
    """The same with stained tissue."""
    return collection(folder, "dsb2018-he-256x320")


def correcting(folder: Path | None) -> str:
    """Masks from elsewhere: imported, reviewed, corrected, carried on, saved."""
    stage = Stage(folder, "nuclei-3d")
    reference = next(layer for layer in stage.viewer.layers if layer.name.endswith("reference"))
    right = np.asarray(reference.data).copy()
    reference.data = _spoiled(right)
    reference.name = "labels from elsewhere"
    reference.visible = True
    stage.rest()
    stage.shot("correcting-01-labels")
    stage.press(stage.dock.image.start)
    reference.visible = False
    stage.rest()
    stage.press(stage.dock.objects.table.buttons["import"])
    stage.rest()
    dialog: Any = stage.dock.objects._dialog
    stage.shot("correcting-02-import")
    stage.press(dialog.take)
    stage.until(lambda: len(stage.annotation.session.objects) > 3)
    stage.rest(1.0)
    stage.shot("correcting-03-imported")
    stage.key("W")
    stage.rest(1.0)
    stage.shot("correcting-04-worst")
    _review(stage, {label: right == label for label in np.unique(right) if label})
    stage.shot("correcting-05-painted")
    stage.key("Shift+G")
    stage.rest()
    stage.shot("correcting-06-carried-on")
    _export(stage, "correcting-07-export")
    said = stage.said()
    stage.close()
    # As after a restart.
    stage = Stage(folder, "nuclei-3d")
    stage.until(stage.dock.save.resume.isVisible)
    stage.shot("resume")
    stage.press(stage.dock.save.resume)
    stage.until(lambda: stage.dock.bench.annotation is not None)
    stage.rest(1.0)
    stage.shot("resumed")
    stage.close()
    return said


def _spoiled(labels: np.ndarray) -> np.ndarray:
    """Labels as automatic ones are: on one slice of each of three objects, most is missing."""
    out = labels.copy()
    chosen = largest(labels[labels.shape[0] // 2], 3)
    for label in chosen:
        where = np.flatnonzero((labels == label).any((1, 2)))
        middle = int(where[len(where) // 2])
        mask = labels[middle] == label
        columns = np.flatnonzero(mask.any(0))
        keep = columns[0] + (columns[-1] + 1 - columns[0]) // 5
        out[middle][mask & (np.arange(mask.shape[1]) >= keep)] = 0
    return out


STORIES: dict[str, Callable[[Path | None], str]] = {
    "stack": stack,
    "objects": objects,
    "ct": ct,
    "collection": collection,
    "histology": histology,
    "correcting": correcting,
}
"""What is played, by name."""

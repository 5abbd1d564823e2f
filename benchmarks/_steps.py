"""What is done to a whole stack at once, one thing after the other, and how long the window stood still for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._watch import Watch
from napari_medsam2.widgets.keeping import Keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks._watch import Stall
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["Step", "carry_out"]

_OTHERS = 12
"""Objects of the labels that are taken over."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done.

    Parameters
    ----------
    name : str
        What.
    stalls : tuple of Stall
        Those of over 20 ms while it was done.
    """

    name: str
    stalls: tuple[Stall, ...]

    @property
    def worst(self) -> float:
        """The longest time in which this package held the main thread's processor within one stall; seconds."""
        return max((stall.busy * stall.share for stall in self.stalls), default=0.0)

    @property
    def longest(self) -> Stall | None:
        """The stall that this package held longest."""
        return max(self.stalls, key=lambda stall: stall.busy * stall.share, default=None)


def carry_out(bench: Workbench, wait: Callable[..., None]) -> list[Step]:
    """Do everything to what is annotated, which has masks on all slices; it is finished afterwards.

    Parameters
    ----------
    bench : Workbench
        Whose annotation has at least two objects.
    wait : callable
        Runs the event loop until its argument, called, gives True.
    """
    out = []
    with TemporaryDirectory() as place:
        for name, begin, done in _steps(bench, Path(place)):
            with Watch() as watch:
                begin()
                wait(done)
                # What follows a change, such as views, comes a little later.
                _rest(wait)
            out.append(Step(name, tuple(watch.stalls)))
    return out


def _steps(bench: Workbench, place: Path) -> Iterator[tuple[str, Callable[[], Any], Callable[[], bool]]]:
    """Name, what begins it, and whether it is done; each is asked for when the one before it is done."""
    annotation = bench.need()
    session, image = annotation.session, annotation.image
    operations = annotation.operations
    first, second, *_ = session.objects
    said: list[str] = []
    bench.events.said.connect(said.append)

    def told(text: str) -> Callable[[], bool]:
        said.clear()
        return lambda: any(text in one for one in said)

    def gone() -> bool:
        return bench.annotation is None

    yield "export", lambda: bench.export(place / "labels.tif", "ome-tiff"), told("exported ")
    yield "fill holes", lambda: operations.mend([first, second], "fill"), told("fill holes")
    yield "smooth", lambda: operations.mend([first, second], "smooth"), told("done: smooth")
    yield "merge", lambda: operations.merge([first, second]), told("done: merge")
    yield "undo the merge", annotation.undo, told("undone")
    yield "redo the merge", annotation.redo, told("redone")
    yield "split", lambda: operations.split(first, "pieces"), told("done: split")
    yield "undo the split", annotation.undo, told("undone")
    layer = _labels(bench, session.stack.shape)
    yield "take over a layer", lambda: _take_over(annotation, layer), told("objects of ")
    yield "undo it", annotation.undo, told("undone")
    bench.viewer.layers.remove(layer)
    yield "save as", lambda: bench.save_as(place / "elsewhere"), told("kept in ")
    yield "finish", bench.finish, gone
    begin, Keeping.begin = Keeping.begin, lambda *_: None  # type: ignore[method-assign]
    try:
        yield "annotate", lambda: bench.annotate(image), lambda: bench.annotation is not None
        fresh = bench.need()
        label = fresh.new_object()
        mask = np.zeros(fresh.session.stack.slice_shape(0), bool)
        mask[10:50, 10:50] = True
        fresh.prompting.paint({0: {label: mask}})
        # The image has not been read yet, as on a slow disk.
        yield "finish before it was ever saved", bench.finish, gone
    finally:
        Keeping.begin = begin  # type: ignore[method-assign]
    yield "open", lambda: bench.open_folder(place / "elsewhere"), lambda: bench.annotation is not None
    yield "finish again", bench.finish, gone


def _labels(bench: Workbench, shape: tuple[int, ...]) -> Any:
    """A layer of labels, each on every slice."""
    labels = np.zeros(shape, np.uint16)
    side = shape[-1] // _OTHERS
    for number in range(_OTHERS):
        labels[..., 20 : shape[-2] // 2, number * side + 3 : (number + 1) * side - 3] = number + 100
    return bench.viewer.add_labels(labels, name="elsewhere")


def _take_over(annotation: Any, layer: Any) -> None:
    from napari_medsam2.widgets.takeover import begin

    begin(annotation, layer, "review")


def _rest(wait: Callable[..., None], seconds: float = 0.4) -> None:
    import time

    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)

"""Masks that were made elsewhere, in a Labels layer or in a file, taken over into a session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.reading.sources import computed
from napari_medsam2.widgets.views_file import IMAGE, KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_medsam2.importing import LabelFile
    from napari_medsam2.objects import Changes
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.stack import ImageStack
    from napari_medsam2.widgets.annotation import Annotation
    from napari_medsam2.widgets.coordinates import Frame

__all__ = ["Use", "begin", "candidates", "from_file", "from_layer", "numbered", "take_over"]

Use = Literal["review", "accepted", "prompts"]
"""What becomes of the masks: to be reviewed, right as they are, or prompts to start from."""


def candidates(viewer: ViewerModel, annotation: Annotation) -> list[Labels]:
    """List the Labels layers that lie on the image's grid, the topmost first."""
    from napari.layers import Labels

    fitting = _shapes(annotation.frame)
    return [
        layer
        for layer in reversed(viewer.layers)
        if isinstance(layer, Labels) and layer is not annotation.masks.layer and _shape(layer) in fitting
    ]


def from_layer(layer: Labels, frame: Frame, stack: ImageStack) -> LabelFile:
    """Read a Labels layer, pixel by pixel of the image's grid, wherever napari shows it.

    Where layer and image are from NIfTI, what counts is how these lie in space.

    Parameters
    ----------
    layer : napari.layers.Labels
        Of the image's shape, with or without its axis of channels.
    frame : Frame
        The image's.
    stack : ImageStack
        The image.

    Raises
    ------
    InputError
        If its shape is another one, or its file lies on another grid; while reading, if it holds no labels.
    """
    from napari_medsam2.export._source import parse_table
    from napari_medsam2.importing import LabelFile
    from napari_medsam2.importing._grid import turned
    from napari_medsam2.importing._labels import check_labels

    spec = frame.spec
    if _shape(layer) not in _shapes(frame):
        raise InputError(f"{layer.name} has shape {_shape(layer)}, not the image's; choose the labels of this image")
    data: Any = layer.data[0] if layer.multiscale else layer.data
    channels = len(_shape(layer)) == spec.ndim
    name, swapped = layer.name, spec.plane[0] > spec.plane[1]

    def draw(index: int) -> np.ndarray:
        key = list(frame.key(index))
        if spec.channel is not None:
            if channels:
                # All channels have the same labels; the first is as good as any.
                key[spec.channel] = 0
            else:
                del key[spec.channel]
        drawn = computed(data[tuple(key)])
        height, width = shape = stack.slice_shape(index)
        # Smaller images of a collection are shown padded.
        return check_labels((drawn.T if swapped else drawn)[:height, :width], shape, f"slice {index} of {name}")

    return LabelFile(
        name, turned(draw, stack, _other_way(layer, frame, stack)), len(stack), parse_table(layer.metadata.get(KEY))
    )


def _other_way(layer: Labels, frame: Frame, stack: ImageStack) -> str:
    """Return the axes that the file of a layer counts from the other end than the image's file; see `check_grid`."""
    from napari_medsam2.importing._grid import check_grid

    image = stack if stack.affine is not None else _volume(frame.layer.metadata.get("path"), stack)
    labels = _volume(layer.metadata.get(IMAGE) or layer.metadata.get("path"), stack)
    return "" if image is None or labels is None else check_grid(labels, image)


def _volume(said: object, stack: ImageStack) -> ImageStack | None:
    """Open the NIfTI file whose voxels a layer of this plugin shows; None where there is none of the stack's shape."""
    from napari_medsam2.reading.nifti import VOLUMES
    from napari_medsam2.stack import ImageStack

    path = Path(said) if isinstance(said, (str, Path)) and str(said) else None
    if path is None or not path.name.lower().endswith(VOLUMES) or not path.is_file():
        return None
    try:
        found = ImageStack.open(path, axes=stack.axes.replace("C", ""))
    except InputError:
        return None
    return found if found.shape == stack.shape else None


def from_file(path: Path, stack: ImageStack) -> LabelFile:
    """Open a file of labels; see `napari_medsam2.importing.open_labels`."""
    from napari_medsam2.importing import open_labels

    return open_labels(path, stack)


def numbered(
    labels: LabelFile, taken: Collection[int], top: int, indices: Sequence[int] | None = None
) -> tuple[LabelFile, Mapping[int, int]]:
    """Give the objects of a file numbers that are free, their own where possible.

    Parameters
    ----------
    labels : LabelFile
        All slices are read once.
    taken : collection of int
        Numbers of objects that are there already.
    top : int
        The largest number there may be.
    indices : sequence of int, optional
        The slices that count; all by default.

    Returns
    -------
    LabelFile
        The same masks under their new numbers.
    mapping
        Old to new numbers.

    Raises
    ------
    InputError
        If there is no object, or there are more than numbers.
    """
    from napari_medsam2.importing import LabelFile

    found: set[int] = set()
    for index in range(len(labels)) if indices is None else indices:
        found.update(np.unique(labels.slice_labels(index)).tolist())
    names = sorted(found - {0})
    if not names:
        raise InputError(f"{labels.name} holds no object on these slices; choose others")
    shift = max(taken, default=0) if set(taken) & set(names) else 0
    table = {name: name + shift for name in names}
    if max(table.values()) > top:
        free = (number for number in range(1, top + 1) if number not in taken)
        table = dict(zip(names, free, strict=False))
    if len(table) < len(names):
        raise InputError(f"{labels.name} holds {len(names)} objects, more than there are numbers left ({len(table)})")

    def draw(index: int) -> np.ndarray:
        drawn = labels.slice_labels(index)
        values, places = np.unique(drawn, return_inverse=True)
        return np.array([table.get(int(v), 0) for v in values], np.uint32)[places].reshape(drawn.shape)

    objects = {
        table[old]: replace(entry, label=table[old]) for old, entry in labels.objects.items() if old in table
    }  # fmt: skip
    return LabelFile(labels.name, draw, len(labels), objects), table


def take_over(session: AnnotationSession, changes: Changes, use: Use, name: str) -> None:
    """Make the masks the session's, in one step.

    Parameters
    ----------
    session : AnnotationSession
        Whose they become.
    changes : Changes
        From `napari_medsam2.importing.as_changes`.
    use : str
        ``"review"``: masks like any other, which propagation may overwrite. ``"accepted"``: nothing overwrites them.
        ``"prompts"``: they are carried on to other slices.
    name : str
        Of the step.
    """
    from napari_medsam2.state import ObjectInfo

    objects = [ObjectInfo(label, text, changes.colors.get(label)) for label, text in changes.names.items()]
    with session.step(name):
        if use != "prompts":
            session.edit(name, changes.packed(), objects=objects, accepted=use == "accepted")
            return
        session.edit(name, objects=objects)
        for index in changes.results.indices():
            # One at a time: together a large slice's masks do not fit into memory.
            for one in changes.results.on(index):
                session.paint(index, {one.label: one.mask})


def begin(annotation: Annotation, source: Labels | Path, use: Use) -> None:
    """Take over masks into what is annotated; they are read in a thread.

    Parameters
    ----------
    annotation : Annotation
        Whose they become.
    source : Labels or Path
        A layer of the image's shape, or a file of labels.
    use : str
        What becomes of them.

    Raises
    ------
    InputError
        If they do not belong to the image.
    """
    stack = annotation.session.stack
    labels = from_file(source, stack) if isinstance(source, Path) else from_layer(source, annotation.frame, stack)
    annotation.operations.take_over(labels, use, annotation.index, annotation.masks.top)


def _shape(layer: Labels) -> tuple[int, ...]:
    return tuple(map(int, (layer.data[0] if layer.multiscale else layer.data).shape))


def _shapes(frame: Frame) -> list[tuple[int, ...]]:
    """The image's shape, and that without channels."""
    spec = frame.spec
    return [spec.shape, tuple(size for axis, size in enumerate(spec.shape) if axis != spec.channel)]

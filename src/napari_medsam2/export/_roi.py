"""Labels as a zip of ImageJ regions of interest, for its ROI Manager."""

from __future__ import annotations

import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._files import atomic_path
from napari_medsam2._outlines import crops, outlines
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import KEY, ObjectEntry, entries
from napari_medsam2.reading.axes import leading

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.export._source import LabelSource
    from napari_medsam2.stack import ImageStack

__all__ = ["roifile", "write_rois"]

_LONGEST = 32767
"""ImageJ stores a region's box as 16-bit numbers."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def roifile() -> Any:
    """Import the library that reads and writes ImageJ's regions.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import roifile as library
    except ImportError as error:
        raise InputError(
            "ImageJ regions need the package roifile; install it with pip install 'napari-medsam2[export]'"
        ) from error
    return library


def write_rois(path: str | Path, session: LabelSource) -> None:
    """Write a session's labels as a zip of ImageJ regions, one for each object and slice.

    Objects in one piece are traced selections, others (holes, several pieces) composite ones; both run along the edges
    of the pixels, so that ImageJ fills the same pixels. A region has the object's colour, its position in the stack or
    hyperstack, and in its properties the label and the object's name.

    Parameters
    ----------
    path : str or Path
        A file that ends in ``.zip``.
    session : AnnotationSession
        A stack or a collection; for a collection the position is that in the order of its pictures.

    Raises
    ------
    InputError
        If ``roifile`` is not installed, a slice is longer than 32767 pixels, or the file cannot be written.
    """
    library = roifile()
    stack, objects = session.stack, entries(session)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(len(stack)):
            if max(stack.slice_shape(index)) > _LONGEST:
                raise InputError(f"slices of {stack.name} are longer than ImageJ regions reach (32767); choose tiff")
            for label, top, left, mask in crops(session.slice_labels(index)):
                entry = objects.get(label) or ObjectEntry(label, f"object {label}")
                roi = _region(library, mask, top, left)
                roi.name = f"{label:05d}-{index:05d}-{_plain(entry.name)}"
                _describe(roi, entry, stack, index)
                archive.writestr(zipfile.ZipInfo(f"{roi.name}.roi", _EPOCH), roi.tobytes(), zipfile.ZIP_DEFLATED)


def _region(library: Any, mask: np.ndarray, top: int, left: int) -> Any:
    paths = outlines(mask)
    roi = library.ImagejRoi(version=228)
    roi.top, roi.left, roi.bottom, roi.right = top, left, top + mask.shape[0], left + mask.shape[1]
    if len(paths) == 1:
        roi.roitype = library.ROI_TYPE.TRACED
        roi.integer_coordinates = paths[0][:, ::-1].astype(np.int32)
        roi.n_coordinates = len(paths[0])
        return roi
    roi.roitype = library.ROI_TYPE.RECT
    # Java's path segments: 0 moves, 1 draws, 4 closes; ImageJ fills what an odd number of paths goes around.
    segments: list[float] = []
    for path in paths:
        for number, (y, x) in enumerate(path.tolist()):
            segments += (min(number, 1), x + left, y + top)
        segments.append(4)
    roi.multi_coordinates = np.array(segments, np.float32)
    roi.shape_roi_size = len(segments)
    return roi


def _describe(roi: Any, entry: ObjectEntry, stack: ImageStack, index: int) -> None:
    roi.stroke_color = bytes((255, *(entry.color or (128, 128, 128))))
    # Escaped, as ImageJ's properties are lines of "key: value".
    roi.props = f"{KEY}: {json.dumps({'label': entry.label, 'name': entry.name, 'color': entry.hex, 'index': index})}\n"
    coords = dict(zip(leading(stack.axes), stack.unravel(index), strict=True))
    if set(coords) == {"T", "Z"}:
        roi.c_position, roi.z_position, roi.t_position = 1, coords["Z"] + 1, coords["T"] + 1
    elif len(stack) > 1:
        roi.position = index + 1


def _plain(name: str) -> str:
    """Return a name that can be a file's in a zip, and that ImageJ's 16-bit letters can write."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f\U00010000-\U0010ffff]+', "_", name)[:80]

"""What leaves an annotation for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2.reading.nifti import VOLUMES
from napari_medsam2.widgets.persist import recognise
from napari_medsam2.widgets.views_file import source_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_medsam2.widgets.annotation import Annotation

__all__ = ["exporting"]


def exporting(annotation: Annotation, path: Path, form: str) -> Callable[[], None]:
    """Return what writes an annotation as it is now; for the ``"io"`` lane, as masks are drawn and files written.

    Parameters
    ----------
    annotation : Annotation
        What is exported.
    path : Path
        The file or folder.
    form : str
        One of `napari_medsam2.export.FORMATS`.
    """
    from napari_medsam2.export import export_labels

    frozen, source = annotation.session.frozen(), source_of(annotation.image)
    # A layer's file is not to be lost, whether or not it still holds what the layer shows.
    sources = [*annotation.session.sources, *([] if source is None else [source])]

    def write() -> None:
        if form == "nifti" and source is not None and source.name.lower().endswith(VOLUMES):
            # Labels lie where the image lies, even if its file has not been looked at for the session's folder yet.
            recognise(frozen.stack, source)
        export_labels(path, frozen, form, sources)

    return write

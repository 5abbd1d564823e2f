"""What a person is asked about the image of a session that is not as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox

from napari_medsam2.widgets.rows.words import literal
from napari_medsam2.widgets.trouble import explain

if TYPE_CHECKING:
    from napari_medsam2._imageref import ChangedImageError, MissingImageError

__all__ = ["goes_on", "where_is"]


def where_is(folder: Path, error: MissingImageError) -> Path | None:
    """Ask where a session's image is now, a file or a folder as it was; None if a person does not say.

    Parameters
    ----------
    folder : Path
        The session's.
    error : MissingImageError
        Why it was not opened.
    """
    parent = QApplication.activeWindow()
    if error.path is None:
        title, begin = f"Where is the image of {folder.name}? It came from no known file", Path.home()
    else:
        place = Path(error.path)
        title = f"{place.name}, the image of {folder.name}, is missing: where is it now?"
        begin = next((above for above in place.parents if above.is_dir()), Path.home())
    if error.whole_folder:
        chosen = QFileDialog.getExistingDirectory(parent, title, str(begin))
    else:
        chosen, _ = QFileDialog.getOpenFileName(parent, title, str(begin))
    return Path(chosen) if chosen else None


def goes_on(error: ChangedImageError) -> bool:
    """Ask whether a session goes on although the pixels of its image have changed."""
    text = f"{(explain(error) or '').partition(';')[0]}. The masks may no longer fit. Go on all the same?"
    asked = QMessageBox.question(QApplication.activeWindow(), "The image has changed", literal(text))
    return bool(asked == QMessageBox.StandardButton.Yes)

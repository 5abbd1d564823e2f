"""Labels that were made elsewhere, read as prompts or as accepted masks of a stack."""

from __future__ import annotations

from napari_medsam2.importing._labels import LabelFile, open_labels
from napari_medsam2.importing._use import as_changes, as_prompts

__all__ = ["LabelFile", "as_changes", "as_prompts", "open_labels"]

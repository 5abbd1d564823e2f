"""What the views show, computed from a session: numpy only, no Qt.

A `Ledger` follows the session slice by slice; the other functions are pure.
"""

from __future__ import annotations

from napari_medsam2.widgets.rows.bank import BankCard, bank_cards
from napari_medsam2.widgets.rows.gallery import Tile, gallery_tiles
from napari_medsam2.widgets.rows.ledger import ColorOf, Ledger
from napari_medsam2.widgets.rows.models import ModelRow, model_rows
from napari_medsam2.widgets.rows.numbers import format_bytes, format_size, short_unit
from napari_medsam2.widgets.rows.objects import Measure, ObjectRow, measure_of
from napari_medsam2.widgets.rows.strip import Mark, StripAxis, StripRow, names_of, strip_axis
from napari_medsam2.widgets.rows.thumbnail import surroundings, thumbnail

__all__ = [
    "BankCard",
    "ColorOf",
    "Ledger",
    "Mark",
    "Measure",
    "ModelRow",
    "ObjectRow",
    "StripAxis",
    "StripRow",
    "Tile",
    "bank_cards",
    "format_bytes",
    "format_size",
    "gallery_tiles",
    "measure_of",
    "model_rows",
    "names_of",
    "short_unit",
    "strip_axis",
    "surroundings",
    "thumbnail",
]

"""Measuring: annotated cases, a simulated annotator that drives the session as a person does, and what to beat."""

from __future__ import annotations

from napari_medsam2.evaluation.cases import Case, Target, find_cases, load_case
from napari_medsam2.evaluation.protocols import PROTOCOLS, Item, Row, applies, run_protocol
from napari_medsam2.evaluation.report import format_row, header, to_json

__all__ = [
    "PROTOCOLS",
    "Case",
    "Item",
    "Row",
    "Target",
    "applies",
    "find_cases",
    "format_row",
    "header",
    "load_case",
    "run_protocol",
    "to_json",
]

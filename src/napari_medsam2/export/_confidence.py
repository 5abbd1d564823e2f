"""Confidences as CSV."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_medsam2._files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_medsam2.export._source import LabelSource

__all__ = ["CONFIDENCE_COLUMNS", "write_confidence"]

CONFIDENCE_COLUMNS = ("index", "image", "object", "name", "confidence", "object_score", "source", "area")
"""The columns of the confidence file; see `write_confidence`."""


class _Known(NamedTuple):
    """What the file says of an object on a slice; None where nothing was computed."""

    confidence: float | None
    score: float | None
    source: str


_ENDED = _Known(None, None, "ended")


def write_confidence(path: str | Path, session: LabelSource) -> None:
    """Write a CSV with one line for each object that has a prompt and each slice that it was looked for on.

    The columns are the slice's number ``index``, its file name ``image`` (empty for stacks), the label ``object``, its
    ``name``, ``confidence`` and ``object_score`` in [0, 1], the ``source`` of the mask, and the ``area`` in pixels that
    the object has in the labels. ``source`` is ``prompt`` (the model, from a prompt), ``mask`` (a person's, taken as it
    is), ``propagated``, or ``ended``: the object's propagation had ended on an earlier slice without it, so that
    this one was not looked at, and confidence and score are empty.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    stack = session.stack
    known: dict[int, dict[int, _Known]] = {label: {} for label in sorted({label for label, _ in session.prompts})}
    for index, label, confidence, score, source in session.results.summary():
        if label in known:
            known[label][index] = _Known(confidence, score, source)
    for label, of_object in known.items():
        known[label] = _carry_ends(of_object, stack.runs())
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CONFIDENCE_COLUMNS)
        for index in range(len(stack)):
            values, counts = np.unique(session.slice_labels(index), return_counts=True)
            areas = dict(zip(values.tolist(), counts.tolist(), strict=True))
            image = stack.names[index] if stack.names else ""
            for label in known:
                row = known[label].get(index)
                if row is None:
                    continue
                name, area = session.objects[label].name, areas.get(label, 0)
                writer.writerow([index, image, label, name, _text(row.confidence), _text(row.score), row.source, area])


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _carry_ends(known: Mapping[int, _Known], runs: Iterable[range]) -> dict[int, _Known]:
    """Add the slices behind those on which a propagation ended, until another one is known."""
    out = dict(known)
    for run in runs:
        for way in (run, reversed(run)):
            end: _Known | None = None
            for index in way:
                if index in known:
                    # Without an end, nothing was looked for behind: the propagation was stopped or not asked for.
                    here = known[index]
                    absent = here.score is None or here.score < 0.5 or here.confidence == 0
                    end = _ENDED if absent else None
                elif end is not None:
                    out.setdefault(index, end)
    return out

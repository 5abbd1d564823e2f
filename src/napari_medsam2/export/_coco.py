"""Labels as COCO JSON, one annotation for each object and slice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2 import _rle
from napari_medsam2._files import atomic_path
from napari_medsam2._outlines import crops, polygons
from napari_medsam2.export._source import KEY, entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_medsam2.export._source import LabelSource

__all__ = ["write_coco"]


def write_coco(path: str | Path, session: LabelSource, polygon: bool = False) -> None:
    """Write a session's labels as COCO JSON.

    Parameters
    ----------
    path : str or Path
        The file.
    session : AnnotationSession
        Every slice is an image (``id`` is its number + 1), every object a category (``id`` is its label, with name and
        colour) and every object's mask on a slice an annotation, with the confidence as ``score`` where it is known.
    polygon : bool
        Write polygons along the edges of the pixels, in place of compressed run-length codes. They cover the same
        pixels: objects with holes are cut into pieces without.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    stack = session.stack
    objects = entries(session)
    images = []
    for index in range(len(stack)):
        height, width = stack.slice_shape(index)
        name = stack.names[index] if stack.names else f"{stack.name}-{index:04d}.png"
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width, "index": index})
    head = {
        "info": {"description": f"{stack.name}, annotated with {KEY}", "version": "1.0"},
        "licenses": [],
        "images": images,
        "categories": [
            {"id": o.label, "name": o.name, "supercategory": "object", "color": list(o.color or ())}
            for o in objects.values()
        ],
    }
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        # Annotations are appended as their slices are drawn, not collected.
        stream.write(json.dumps(head)[:-1] + ', "annotations": [')
        for number, annotation in enumerate(_annotations(session, polygon), start=1):
            stream.write(("" if number == 1 else ",") + "\n" + json.dumps({"id": number, **annotation}))
        stream.write("\n]}\n")


def _annotations(session: LabelSource, polygon: bool) -> Iterator[dict[str, Any]]:
    confidences: dict[int, dict[int, float]] = {}
    for index, label, confidence, _, _ in session.results.summary():
        confidences.setdefault(index, {})[label] = confidence
    for index in range(len(session.stack)):
        shape = session.stack.slice_shape(index)
        known = confidences.pop(index, {})
        for label, top, left, mask in crops(session.slice_labels(index)):
            height, width = mask.shape
            annotation: dict[str, Any] = {
                "image_id": index + 1,
                "category_id": label,
                "segmentation": _polygons(mask, top, left) if polygon else _code(mask, top, left, shape),
                "area": int(mask.sum()),
                "bbox": [left, top, width, height],
                "iscrowd": 0,
            }
            if label in known:
                annotation["score"] = round(known[label], 4)
            yield annotation


def _polygons(mask: np.ndarray, top: int, left: int) -> list[list[int]]:
    corner = np.array([left, top])
    return [list(map(int, (outline[:, ::-1] + corner).ravel())) for outline in polygons(mask)]


def _code(mask: np.ndarray, top: int, left: int, shape: tuple[int, int]) -> dict[str, Any]:
    return {"size": list(shape), "counts": _rle.pack(_rle.encode(mask, top, left, shape))}

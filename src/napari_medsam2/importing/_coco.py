"""Labels from COCO JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2 import _rle
from napari_medsam2._numbers import LARGEST_LABEL
from napari_medsam2._outlines import fill_window
from napari_medsam2.errors import InputError
from napari_medsam2.export._source import ObjectEntry
from napari_medsam2.importing._labels import LabelFile

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medsam2.stack import ImageStack

__all__ = ["open_coco"]


def open_coco(path: Path, stack: ImageStack) -> LabelFile:
    """Open COCO JSON.

    Images are found by their number in the stack, where this program wrote them, else by ``file_name``, with its
    folders or, where that is one image's only, without them; else in order.
    Where every category has at most one annotation on each image, categories are objects, and their ``id`` is the
    label; else each annotation is an object of its own, numbered from 1, with its category's name. Where masks overlap
    the later one has the pixel. Annotations without a mask are filled boxes.

    Raises
    ------
    InputError
        If the file is no COCO, or an image or annotation does not fit the stack.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check the path") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path.name}: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        raise InputError(f'{path.name} is no COCO file: it must have the lists "images" and "annotations"')
    try:
        places = _places(data["images"], stack, path.name)
        categories = {int(c["id"]): c for c in data.get("categories") or ()}
        by_slice: dict[int, list[tuple[int, Any]]] = {}
        objects: dict[int, ObjectEntry] = {}
        annotations = data["annotations"]
        pairs = {(a["image_id"], a["category_id"]) for a in annotations}
        tracked = len(pairs) == len(annotations) and all(0 < identity <= LARGEST_LABEL for identity in categories)
        if tracked:
            objects = {identity: _entry(identity, category) for identity, category in categories.items()}
        for number, annotation in enumerate(annotations, start=1):
            label = int(annotation["category_id"]) if tracked else number
            objects.setdefault(label, _entry(label, categories.get(int(annotation["category_id"]), {})))
            if annotation["image_id"] in places:
                by_slice.setdefault(places[annotation["image_id"]], []).append((label, annotation))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"an entry of {path.name} is not as COCO wants it ({error}); export it again") from error

    def draw(index: int) -> np.ndarray:
        shape = stack.slice_shape(index)
        labels = np.zeros(shape, np.uint32)
        for label, annotation in by_slice.get(index, ()):
            for window, mask in _masks(annotation, shape, path.name):
                labels[window][mask] = label
        return labels

    return LabelFile(path.stem, draw, len(stack), objects)


def _entry(label: int, category: Any) -> ObjectEntry:
    color = category.get("color")
    known = isinstance(color, list) and len(color) == 3
    name = str(category.get("name") or f"object {label}")
    return ObjectEntry(label, name, (int(color[0]), int(color[1]), int(color[2])) if known else None)


def _places(images: list[Any], stack: ImageStack, name: str) -> dict[Any, int]:
    """Find the slice of each image, by its id."""
    names = {known: index for index, known in enumerate(stack.names or ())}
    # Either may have the folders that the pictures lay in; without them several may have one name.
    often = Counter(map(_last, names))
    names |= {_last(known): index for known, index in names.items() if often[_last(known)] == 1}
    told = Counter(_last(image.get("file_name")) for image in images)
    places: dict[Any, int] = {}
    for number, image in enumerate(images):
        index = names.get(image.get("file_name")) if names else image.get("index", number)
        if names and index is None and told[last := _last(image.get("file_name"))] == 1:
            index = names.get(last)
        if index is None or not isinstance(index, int) or not 0 <= index < len(stack):
            if names:
                # Data sets are often larger than what is looked at.
                continue
            raise InputError(f"{name} has {len(images)} images, but {stack.name} has {len(stack)} slices")
        height, width = stack.slice_shape(index)
        if (image["height"], image["width"]) != (height, width):
            raise InputError(
                f"image {image['id']} of {name} has {image['height']} × {image['width']} pixels, but slice {index} has "
                f"{height} × {width}; choose the labels of this image"
            )
        places[image["id"]] = index
    if images and not places:
        raise InputError(f"no image of {name} has the name of a picture of {stack.name}")
    return places


def _last(name: Any) -> str:
    return re.split(r"[\\/]", str(name))[-1]


def _masks(annotation: Any, shape: tuple[int, int], name: str) -> list[tuple[tuple[slice, slice], np.ndarray]]:
    """Return windows of the slice and the masks there, all of which are the annotation's."""
    code = annotation.get("segmentation")
    where = f"annotation {annotation.get('id')} of {name}"
    try:
        if isinstance(code, dict):
            if list(code["size"]) != list(shape):
                raise InputError(f"{where} is of an image of {code['size']} pixels, not {list(shape)}")
            counts = code["counts"]
            return [_rle.decode(_rle.unpack(counts) if isinstance(counts, str) else counts, shape)]
        if code:
            polygons = [np.asarray(polygon, np.float64).reshape(-1, 2)[:, ::-1] for polygon in code]
        else:
            x, y, width, height = map(float, annotation["bbox"])
            polygons = [np.array([(y, x), (y, x + width), (y + height, x + width), (y + height, x)])]
        if not all(np.isfinite(polygon).all() for polygon in polygons):
            raise ValueError("a corner is not a number")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} is not as COCO wants it ({error}); export it again") from error
    return [fill_window([polygon], shape) for polygon in polygons]

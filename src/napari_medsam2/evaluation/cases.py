"""Annotated cases on disk: a folder with ``case.json``, ``image.tif`` and ``labels.tif``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.importing._indices import open_indices
from napari_medsam2.stack import ImageStack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MIN_PIXELS", "SOFT_TISSUE", "Case", "Target", "find_cases", "load_case"]

MIN_PIXELS = 30
"""Smaller objects are left out: one pixel of their outline changes the Dice by more than a model could."""

SOFT_TISSUE = (-160.0, 240.0)
"""The window in Hounsfield units through which a CT is looked at."""

_AIR = -900
"""Hounsfield images hold air, at about -1000."""


@dataclass(frozen=True, slots=True)
class Target:
    """An object to segment: one of the reference labels, on the slice where it is largest.

    Parameters
    ----------
    value : int
        Its value in the reference labels.
    index : int
        The slice; the first of those where it is largest. In a collection, whose values are per image, its image.
    area : int
        Its pixels on that slice.
    """

    value: int
    index: int
    area: int


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image with reference labels.

    Parameters
    ----------
    name : str
        As ``case.json`` says it.
    kind : str
        ``"stack"`` (values run through the slices) or ``"collection"`` (unordered images with values of their own).
    stack : ImageStack
        The image.
    reference : ImageStack
        The labels, as many slices of the same sizes; 0 is background.
    """

    name: str
    kind: str
    stack: ImageStack
    reference: ImageStack

    def labels(self, index: int) -> np.ndarray:
        """Return a slice's reference labels, ``(H, W)`` integer."""
        return self.reference.raw(index)

    def targets(self, smallest: int = MIN_PIXELS) -> tuple[Target, ...]:
        """Return the objects of at least ``smallest`` pixels on one slice, in order of slice and value."""
        best: dict[tuple[int, int], Target] = {}
        for index in range(len(self.stack)):
            values, areas = np.unique(self.labels(index), return_counts=True)
            for value, area in zip(values.tolist(), areas.tolist(), strict=True):
                # The same value is another object on another image of a collection.
                key = (value, index if self.kind == "collection" else 0)
                if value and area >= smallest and (key not in best or area > best[key].area):
                    best[key] = Target(value, index, area)
        return tuple(sorted(best.values(), key=lambda t: (t.index, t.value)))

    def foregrounds(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each slice's number and foreground, ``(H, W)`` bool, where it is not empty."""
        for index in range(len(self.stack)):
            foreground = self.labels(index) != 0
            if foreground.any():
                yield index, foreground


FILES = ("case.json", "image.tif", "labels.tif")
"""What a case's folder holds."""


def load_case(folder: str | Path, window: tuple[float, float] | None = None) -> Case:
    """Open a case.

    Parameters
    ----------
    folder : str or Path
        It holds ``image.tif``, ``labels.tif`` and ``case.json`` with ``"name"``, ``"kind"`` (``"z-stack"`` or
        ``"collection"``), ``"axes"`` and, if wanted, ``"window"`` (the values shown as black and as white).
    window : (float, float), optional
        Goes before that of ``case.json``. Where neither is given, an image of signed integers in millimetres that
        holds air (-900 and less) is a CT in Hounsfield units, and is looked at through `SOFT_TISSUE`; other images
        through their own percentiles.

    Returns
    -------
    Case
        Its pixels are read when they are needed.

    Raises
    ------
    InputError
        If a file is missing or cannot be read, or image and labels do not fit each other.
    """
    folder = Path(folder)
    meta = _read_meta(folder)
    name = str(meta.get("name") or folder.name)
    kinds = {"z-stack": "stack", "time-series": "stack", "stack": "stack", "collection": "collection"}
    kind, axes = kinds.get(str(meta.get("kind"))), meta.get("axes")
    if kind is None:
        raise InputError(
            f'"kind" in {folder / "case.json"} must be "z-stack" or "collection", not {meta.get("kind")!r}'
        )
    if axes is not None and not isinstance(axes, str):
        raise InputError(f'"axes" in {folder / "case.json"} must be letters such as "ZYX", not {axes!r}')
    chosen = window or _window_of(meta, folder)
    image = ImageStack.open(folder / "image.tif", axes=axes, window=chosen)
    # Labels have no channels.
    plain = None if axes is None else axes.upper().replace("C", "")
    reference = open_indices(folder / "labels.tif", axes=plain)
    _check_fit(name, image, reference)
    if chosen is None and _is_ct(image, meta):
        image = ImageStack.open(folder / "image.tif", axes=axes, window=SOFT_TISSUE)
    return Case(name, kind, image, reference)


def find_cases(folders: Iterable[str | Path]) -> list[Path]:
    """List the folders that hold a case: those given, or the folders directly in them that do.

    Raises
    ------
    InputError
        If one of those given neither is a case nor holds one.
    """
    found: dict[Path, None] = {}
    for given in folders:
        folder = Path(given)
        if folder.is_dir() and not (folder / "case.json").is_file():
            inside = sorted(path.parent for path in folder.glob("*/case.json"))
            if not inside:
                raise InputError(f"{folder} holds no case.json; give folders with case.json, image.tif and labels.tif")
            found |= dict.fromkeys(inside)
        else:
            found[folder] = None
    return list(found)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "case.json"
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give folders that hold a case.json")
    if not path.is_file():
        raise InputError(f"{folder} holds no case.json; give folders that hold case.json, image.tif and labels.tif")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}; it must be valid JSON") from error
    if not isinstance(meta, dict):
        raise InputError(f"{path} must hold a JSON object, not {type(meta).__name__}")
    return meta


def _window_of(meta: dict[str, Any], folder: Path) -> tuple[float, float] | None:
    given = meta.get("window")
    if given is None:
        return None
    numbers = isinstance(given, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    if not numbers or len(given) != 2:
        raise InputError(f'"window" in {folder / "case.json"} must be two numbers [low, high], not {given!r}')
    return float(given[0]), float(given[1])


def _check_fit(name: str, image: ImageStack, reference: ImageStack) -> None:
    if len(image) != len(reference):
        raise InputError(
            f"{name} has {len(image)} slices of image and {len(reference)} of labels; they must be as many"
        )
    if reference.dtype.kind not in "bui":
        raise InputError(f"the labels of {name} must be whole numbers, not {reference.dtype}")
    for index in range(len(image)):
        if image.slice_shape(index) != reference.slice_shape(index):
            raise InputError(
                f"slice {index} of {name} is {image.slice_shape(index)} in the image and "
                f"{reference.slice_shape(index)} in the labels; they must be the same"
            )


def _is_ct(image: ImageStack, meta: dict[str, Any]) -> bool:
    spacing = image.spacing or meta.get("spacing") or {}
    millimetres = isinstance(spacing, dict) and spacing.get("unit") in ("mm", "millimeter")
    if image.dtype.kind != "i" or not millimetres:
        return False
    return any(int(image.raw(i).min()) <= _AIR for i in range(len(image)))

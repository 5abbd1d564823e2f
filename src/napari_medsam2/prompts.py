"""Prompts: what a person says of one object on one slice, and the file that holds them."""

from __future__ import annotations

import difflib
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._files import write_text
from napari_medsam2._painted import Painted
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_medsam2._painted import PackedMask
    from napari_medsam2.geometry import Box
    from napari_medsam2.results import ObjectResult
    from napari_medsam2.stack import ImageStack

__all__ = [
    "Prompt",
    "SlicePrompt",
    "along",
    "check_box",
    "check_mask",
    "check_points",
    "load_prompts",
    "only_cuts",
    "parse_entries",
    "parse_entry",
    "read_entries",
    "save_prompts",
]

_FORMAT, _VERSION = "napari-medsam2-prompts", 1

_KEYS = ("object", "index", "image", "box", "points", "labels", "mask", "name", "comment")
"""What an entry may have. The last two are for people."""

_SPOT = 1.5
"""Clicks within this many pixels are on the same spot."""


def _no_points() -> np.ndarray:
    return np.zeros((0, 2), np.float64)


def _no_labels() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class SlicePrompt:
    """All prompts of one object on one slice, in slice coordinates.

    Parameters
    ----------
    points : ndarray
        ``(P, 2)`` float64 ``(y, x)``; clicks and the samples of scribbles.
    labels : ndarray
        ``(P,)`` int64: 1 positive, 0 negative.
    box : tuple of float, optional
        Edges ``(y0, x0, y1, x1)``.
    mask : ndarray, optional
        ``(H, W)`` bool; taken as it is, it overrides the others. It is kept packed, and made anew when it is read:
        of the thousand nuclei of a large slice each may have one.
    corrects : bool
        Whether the slice had a propagated mask when it was prompted.
    refines : bool
        Whether the clicks began on a painted mask.
    """

    points: np.ndarray = field(default_factory=_no_points)
    labels: np.ndarray = field(default_factory=_no_labels)
    box: Box | None = None
    mask: Painted = Painted()  # noqa: RUF009 a descriptor, which keeps nothing itself
    corrects: bool = False
    refines: bool = False

    def with_points(self, points: np.ndarray, labels: np.ndarray) -> SlicePrompt:
        """Add clicks; earlier ones of the other sign on the same spot go, since who clicks there takes them back."""
        apart = self.points[:, None] - points[None]
        other = self.labels[:, None] != labels[None]
        stay = ~((np.hypot(apart[..., 0], apart[..., 1]) <= _SPOT) & other).any(1)
        return replace(
            self,
            points=np.concatenate([self.points[stay], points]),
            labels=np.concatenate([self.labels[stay], labels]),
            mask=None,
            refines=self.refines or self.painted is not None,
        )

    @property
    def painted(self) -> PackedMask | None:
        """The mask as it is kept; whether there is one is asked here, which costs nothing."""
        found: PackedMask | None = self.__dict__["painted"]
        return found

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return not len(self.points) and self.box is None and self.painted is None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One entry of a prompts file: an object, a slice and what was said.

    Parameters
    ----------
    label : int
        The object's value in the labels; 1 or more.
    index : int
        The slice.
    content : SlicePrompt
        Points, a box or a mask.
    """

    label: int
    index: int
    content: SlicePrompt


def check_points(points: Any, labels: Any, shape: tuple[int, int], where: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Validate clicks against a slice ``(H, W)``; ``(P, 2)`` float64 and ``(P,)`` int64. Labels of None are all 1.

    Raises
    ------
    InputError
        If there are none, the shapes do not fit, a value is not a number or a point lies outside the slice.
    """
    try:
        array = np.asarray(points, dtype=np.float64)
        marks = np.ones(len(array)) if labels is None else np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"points{where} must be [y, x] pairs of numbers, and their labels 1 or 0") from error
    if array.size == 0:
        raise InputError(f"no points given{where}; give at least one [y, x]")
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(f"points{where} must be a list of [y, x] pairs, not an array of shape {array.shape}")
    if marks.shape != (len(array),):
        raise InputError(f"{len(array)} points{where} need as many labels (1 positive, 0 negative), not {marks.size}")
    if not np.isin(marks, (0, 1)).all():
        raise InputError(f"point labels{where} must be 1 (positive) or 0 (negative), not {marks.tolist()}")
    for y, x in array:
        inside = -0.5 <= y <= shape[0] - 0.5 and -0.5 <= x <= shape[1] - 0.5
        if not inside:
            raise InputError(
                f"point ({y:g}, {x:g}){where} lies outside the slice of {shape[0]} rows and {shape[1]} columns"
            )
    return array, marks.astype(np.int64)


def check_box(box: Any, shape: tuple[int, int], where: str = "") -> Box:
    """Validate a box against a slice ``(H, W)`` and clip it to the slice.

    Raises
    ------
    InputError
        If it is not four numbers, has no extent, or lies outside the slice.
    """
    try:
        values = [float(v) for v in box]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a box{where} must be four numbers [y0, x0, y1, x1]") from error
    if len(values) != 4 or not all(math.isfinite(v) for v in values):
        raise InputError(f"a box{where} must be four finite numbers [y0, x0, y1, x1], not {values}")
    y0, x0, y1, x1 = values
    y0, y1, x0, x1 = min(y0, y1), max(y0, y1), min(x0, x1), max(x0, x1)
    if y0 >= shape[0] - 0.5 or x0 >= shape[1] - 0.5 or y1 <= -0.5 or x1 <= -0.5:
        raise InputError(f"box {values}{where} lies outside the slice of {shape[0]} rows and {shape[1]} columns")
    y0, x0 = max(y0, -0.5), max(x0, -0.5)
    y1, x1 = min(y1, shape[0] - 0.5), min(x1, shape[1] - 0.5)
    if y1 - y0 < 1 or x1 - x0 < 1:
        raise InputError(f"box {values}{where} is less than one pixel wide or high; drag a box around the object")
    return y0, x0, y1, x1


def check_mask(mask: Any, shape: tuple[int, int], where: str = "", empty: bool = False) -> np.ndarray:
    """Validate a mask against a slice; ``(H, W)`` bool, a copy. It may be empty only where ``empty`` says so.

    Raises
    ------
    InputError
        If its shape is not the slice's, its values are not numbers, or it is empty.
    """
    array = np.asarray(mask)
    if array.shape != tuple(shape):
        raise InputError(f"a mask{where} of shape {array.shape} does not fit the slice, which is {tuple(shape)}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"a mask{where} must be bool or numbers, not {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"a mask{where} holds NaN or infinity; give zeros outside the object")
    out: np.ndarray = array != 0
    if not empty and not out.any():
        raise InputError(f"the mask{where} is empty; paint the object first")
    return out


def only_cuts(prompt: SlicePrompt, current: ObjectResult | None) -> bool:
    """Whether a prompt says only what an object is not, so that it cuts from the mask so far.

    Raises
    ------
    InputError
        If it does and there is no mask so far.
    """
    cuts = prompt.painted is None and prompt.box is None and not (prompt.labels == 1).any()
    if cuts and current is None:
        raise InputError("the first click on an object must be positive; negative ones then cut from its mask")
    return cuts


def along(line: np.ndarray, count: int = 12) -> np.ndarray:
    """At most ``count`` points evenly spaced along a line."""
    if len(line) < 2:
        return line
    steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    if steps[-1] == 0:
        return line[:1]
    at = np.linspace(0, steps[-1], min(count, max(2, int(steps[-1] / 3) + 1)))
    return np.stack([np.interp(at, steps, line[:, 0]), np.interp(at, steps, line[:, 1])], 1)


def load_prompts(path: str | Path, stack: ImageStack) -> list[Prompt]:
    """Read a prompts file and check it against the stack.

    Raises
    ------
    InputError
        Naming the entry and what is wrong with it.
    """
    return parse_entries(read_entries(path), path, stack)


def read_entries(path: str | Path) -> list[Any]:
    """Read the entries of a prompts file, as they are: at once, since a pipe is read only once.

    Raises
    ------
    InputError
        If it is no prompts file, or holds none.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no prompts file at {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the prompts file {path}: {error}") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise InputError(f'{path} is not a prompts file: it must be an object with "format": "{_FORMAT}"')
    if data.get("version") != _VERSION:
        raise InputError(f"{path} has version {data.get('version')!r}; this program reads version {_VERSION}")
    entries = data.get("prompts")
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path} holds no prompts; "prompts" must be a list with at least one entry')
    return entries


def parse_entries(entries: Iterable[Any], path: str | Path, stack: ImageStack) -> list[Prompt]:
    """Check what `read_entries` has read from a prompts file against the stack.

    Raises
    ------
    InputError
        Naming the entry and what is wrong with it.
    """
    name, folder = Path(path).name, Path(path).parent
    return [parse_entry(e, f" in prompt {i + 1} of {name}", stack, folder) for i, e in enumerate(entries)]


def parse_entry(entry: Any, where: str, stack: ImageStack, folder: Path | None = None) -> Prompt:
    """Check one entry of a prompts file against the stack.

    Parameters
    ----------
    entry : dict
        As in the file; without a ``folder`` its ``"mask"`` must be an array instead of a file's name.
    where : str
        What an error says of the entry's place, for example ``" in prompt 2"``.
    stack : ImageStack
        The images.
    folder : Path, optional
        Where mask files are looked for.

    Raises
    ------
    InputError
        Saying what is wrong with it.
    """
    if not isinstance(entry, Mapping):
        raise InputError(f"an entry{where} must be an object, not {type(entry).__name__}")
    label = _whole(entry.get("object"))
    if label is None or label < 1:
        raise InputError(f'"object"{where} must be a whole number of 1 or more, not {entry.get("object")!r}')
    if "image" in entry:
        index = stack.index_of(str(entry["image"]))
    else:
        number = _whole(entry.get("index"))
        if number is None:
            raise InputError(f'"index"{where} must be a whole number, not {entry.get("index")!r}')
        index = number
        if not 0 <= index < len(stack):
            raise InputError(f"slice {index}{where} does not exist: the stack has slices 0 to {len(stack) - 1}")
    for key in entry:
        if key not in _KEYS:
            # Whoever mistypes "labels" must not get all points as positive ones.
            alike = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean {alike[0]!r}?" if alike else f"there are {', '.join(_KEYS)}"
            raise InputError(f"unknown key {key!r}{where}; {hint}")
    shape = stack.slice_shape(index)
    if sum(key in entry for key in ("box", "points", "mask")) == 0:
        raise InputError(f'an entry{where} needs "box", "points" or "mask"')
    content = SlicePrompt()
    if "mask" in entry:
        content = replace(content, mask=_read_mask(entry["mask"], where, folder, shape))
    if "box" in entry:
        content = replace(content, box=check_box(entry["box"], shape, where))
    if "points" in entry:
        points, labels = check_points(entry["points"], entry.get("labels"), shape, where)
        content = replace(content, points=points, labels=labels)
    return Prompt(label, index, content)


def _whole(value: Any) -> int | None:
    """A whole number, be it Python's or numpy's; None for what is none, as True is."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _read_mask(name: Any, where: str, folder: Path | None, shape: tuple[int, int]) -> np.ndarray:
    from napari_medsam2.stack import ImageStack

    if folder is None:
        return check_mask(name, shape, where)

    if not isinstance(name, str):
        raise InputError(f'"mask"{where} must be the name of an image file, not {name!r}')
    stack = ImageStack.open(folder / name)
    if len(stack) != 1:
        raise InputError(f"the mask file {name}{where} must hold one 2-D image, not {len(stack)} slices")
    raw = stack.raw(0)
    if raw.ndim == 3:
        # Opacity is no mask: as a rule it is full everywhere.
        raw = raw[..., : raw.shape[2] - 1 if raw.shape[2] in (2, 4) else None].max(2)
    return check_mask(raw, shape, where)


def save_prompts(path: str | Path, prompts: Iterable[Prompt]) -> None:
    """Write a prompts file; masks go into TIFF files beside it."""
    import tifffile

    from napari_medsam2._files import atomic_path

    path = Path(path)
    entries: list[dict[str, Any]] = []
    for number, prompt in enumerate(prompts):
        entry: dict[str, Any] = {"object": prompt.label, "index": prompt.index}
        content = prompt.content
        mask = content.mask
        if mask is not None:
            name = f"{path.stem}-mask-{number}.tif"
            with atomic_path(path.parent / name) as temporary:
                tifffile.imwrite(temporary, mask.astype(np.uint8), compression="zlib")
            entry["mask"] = name
        if content.box is not None:
            entry["box"] = list(content.box)
        if len(content.points):
            entry["points"], entry["labels"] = content.points.tolist(), content.labels.tolist()
        entries.append(entry)
    write_text(path, json.dumps({"format": _FORMAT, "version": _VERSION, "prompts": entries}, indent=1))

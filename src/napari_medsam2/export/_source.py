"""What is exported: the part of a session that the writers read, and the table of its objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from napari_medsam2._canvas import colour_of, hex_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

    from napari_medsam2.results import Source
    from napari_medsam2.stack import ImageStack

__all__ = ["KEY", "Color", "LabelSource", "ObjectEntry", "entries", "entry_of", "parse_table", "table"]

KEY = "napari-medsam2"
"""Under this name the table of objects stands in formats that have no place of their own for names and colours."""

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


class _Object(Protocol):
    @property
    def label(self) -> int: ...
    @property
    def name(self) -> str: ...


class _Results(Protocol):
    def summary(self) -> Iterator[tuple[int, int, float, float, Source]]: ...


class LabelSource(Protocol):
    """What a writer needs to know: an `AnnotationSession`, or anything that looks like one from this side."""

    @property
    def stack(self) -> ImageStack:
        """The images."""

    @property
    def objects(self) -> Mapping[int, Any]:
        """The objects by label; each has ``label``, ``name`` and perhaps ``color`` (``#rrggbb``)."""

    @property
    def prompts(self) -> Mapping[tuple[int, int], Any]:
        """What was said, by ``(label, index)``."""

    @property
    def results(self) -> _Results:
        """What is known of confidences."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The labels' type: uint16 or uint32."""

    @property
    def kind(self) -> str:
        """``"stack"`` or ``"collection"``."""

    def slice_labels(self, index: int) -> np.ndarray:
        """Draw one slice's labels ``(H, W)``."""


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object as a file knows it.

    Parameters
    ----------
    label : int
        Its value in the labels.
    name : str
        What a person calls it.
    color : tuple of int, optional
        Red, green and blue, 0 to 255; None where the file gives none.
    """

    label: int
    name: str
    color: Color | None = None

    @property
    def hex(self) -> str:
        """The colour as ``#rrggbb``; grey where there is none."""
        return hex_of(self.color or (128, 128, 128))


def entries(session: LabelSource) -> dict[int, ObjectEntry]:
    """List a session's objects in order of their labels; those without a colour get one that depends on the label."""
    return {label: entry_of(info) for label, info in sorted(session.objects.items())}


def entry_of(info: Any) -> ObjectEntry:
    """Describe one of a session's objects."""
    own = parse_color(getattr(info, "color", None))
    color = colour_of(info.label) if own is None else own
    # Control characters have no place in XML.
    name = re.sub(r"[\x00-\x1f\x7f]+", " ", info.name)
    return ObjectEntry(info.label, name, color)


def table(objects: Mapping[int, ObjectEntry]) -> dict[str, Any]:
    """Return the objects as JSON values; the inverse of `parse_table`."""
    return {"objects": [{"label": o.label, "name": o.name, "color": o.hex} for o in objects.values()]}


def parse_table(value: Any) -> dict[int, ObjectEntry]:
    """Read a table of objects out of a file; entries that make no sense are passed over, the labels are what counts."""
    listed = value.get("objects") if isinstance(value, dict) else None
    out: dict[int, ObjectEntry] = {}
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict):
            continue
        label, name = item.get("label"), item.get("name")
        if isinstance(label, int) and not isinstance(label, bool) and label > 0:
            name = str(name) if name else f"object {label}"
            out[label] = ObjectEntry(label, name, parse_color(item.get("color")))
    return out


def parse_color(text: Any) -> Color | None:
    """Read ``#rrggbb``; None if it is none."""
    if not isinstance(text, str) or not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)

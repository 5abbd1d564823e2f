"""All that a session knows, as entries under keys: what commands change, history takes back and the journal holds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from napari_medsam2._numbers import check_label, is_whole
from napari_medsam2.errors import InputError
from napari_medsam2.prediction import Prediction
from napari_medsam2.prompts import SlicePrompt
from napari_medsam2.results import PackedResult, Results, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "COLOR",
    "Changes",
    "Entry",
    "EntryKind",
    "Key",
    "Mark",
    "ObjectInfo",
    "State",
    "Value",
    "Wish",
    "check_color",
    "weigh",
]

COLOR = re.compile(r"#[0-9a-f]{6}")

_births = itertools.count(1)

Mark = Literal["accepted", "rejected", "skipped"]
"""What a person said of a mask: it is right and stays; it is wrong and was taken away; later."""

Wish = Literal["pinned", "dropped"]
"""What a person wants of a slice's memory: that the bank always holds it, or never."""

EntryKind = Literal["object", "prompt", "prediction", "result", "mark", "pending", "memory"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object of the session.

    Parameters
    ----------
    label : int
        Its value in the labels.
    name : str
        What a person calls it.
    color : str, optional
        ``"#rrggbb"``; None: the viewer chooses.
    born : int, optional
        What tells it from other objects that had its label before, or have it later; by itself. It is not saved.
    """

    label: int
    name: str
    color: str | None = None
    born: int = field(default_factory=lambda: next(_births), compare=False, repr=False)


class Key(NamedTuple):
    """Where an entry belongs.

    Parameters
    ----------
    kind : str
        ``"object"``; ``"prompt"`` (what was said), ``"prediction"`` (what conditions the memory bank), ``"result"``
        (the mask), ``"mark"`` (a person's verdict), ``"pending"`` (True: a change that was not carried on yet;
        False: a propagation came there and was stopped), ``"memory"`` (a person's wish for the memory bank).
    label : int
        The object.
    index : int
        The slice; -1 for ``"object"``.
    """

    kind: EntryKind
    label: int
    index: int = -1  # type: ignore[assignment]  # tuple.index, which nobody calls on a key


Value = ObjectInfo | SlicePrompt | Prediction | PackedResult | str | bool
Changes = Mapping[Key, Value | None]
"""The new value of each entry that changes; None takes it away."""


class Entry(NamedTuple):
    """One entry before and after a change."""

    before: Value | None
    after: Value | None


class State:
    """The entries. Values are immutable; whoever changes the state goes through `put`."""

    def __init__(self) -> None:
        self.objects: dict[int, ObjectInfo] = {}
        self.prompts: dict[tuple[int, int], SlicePrompt] = {}
        self.predictions: dict[tuple[int, int], Prediction] = {}
        self.results = Results()
        self.marks: dict[tuple[int, int], str] = {}
        self.pending: dict[tuple[int, int], bool] = {}
        self.memories: dict[tuple[int, int], str] = {}

    def get(self, key: Key) -> Value | None:
        """Return what stands under a key."""
        kind, label, index = key
        if kind == "object":
            return self.objects.get(label)
        if kind == "result":
            return self.results.packed(label, index)
        return self._table(kind).get((label, index))

    def put(self, key: Key, value: Value | None) -> None:
        """Set or, with None, take away what stands under a key."""
        kind, label, index = key
        if kind == "object":
            self._put_object(label, value)
        elif kind == "result":
            if value is None:
                self.results.discard(label, index)
            elif isinstance(value, PackedResult):
                self.results.put(value)
        elif value is None:
            self._table(kind).pop((label, index), None)
        else:
            self._table(kind)[label, index] = value

    def update(self, changes: Changes) -> dict[Key, Entry]:
        """Carry out changes; what each entry was and is."""
        out = self.entries(changes)
        for key, entry in out.items():
            self.put(key, entry.after)
        return out

    def entries(self, changes: Changes) -> dict[Key, Entry]:
        """What each entry is and would be.

        An object with another name or colour is still the same one. Where a propagation was stopped, what is said
        there since does not make the masks behind it whole.
        """
        out = {key: Entry(self.get(key), after) for key, after in changes.items()}
        for key, (before, after) in out.items():
            if isinstance(before, ObjectInfo) and isinstance(after, ObjectInfo):
                out[key] = Entry(before, replace(after, born=before.born))
            elif before is False and after is True:
                out[key] = Entry(before, before)
        return out

    def check(self, changes: Changes) -> None:
        """Raise InputError where changes would leave an entry without its object, or could not be read once saved."""
        for after in changes.values():
            _check_value(after)
        gone = {key.label for key, after in changes.items() if key.kind == "object" and after is None}
        new = {key.label for key, after in changes.items() if key.kind == "object" and after is not None}
        for key, after in changes.items():
            if key.kind != "object" and after is not None and key.label not in new:
                if key.label not in self.objects or key.label in gone:
                    raise InputError(f"there is no object {key.label} for the {key.kind} on slice {key.index}")
        for key in self.keys(gone):
            if key.kind != "object" and (key not in changes or changes[key] is not None):
                raise InputError(f"object {key.label} cannot go while its {key.kind} on slice {key.index} stays")

    def keys(self, labels: Iterable[int] | None = None) -> Iterator[Key]:
        """Go through the keys of everything, or of all that is some objects', objects first."""
        chosen = None if labels is None else set(labels)
        for known in list(self.objects):
            if chosen is None or known in chosen:
                yield Key("object", known)
        for kind in get_args(EntryKind)[1:]:
            places: Iterable[tuple[int, int]]
            if kind == "result":
                places = [(one, index) for index, one, *_ in self.results.summary(chosen)]
            else:
                places = list(self._table(kind))
            for one, index in places:
                if chosen is None or one in chosen:
                    yield Key(kind, one, index)

    def copy(self) -> State:
        """Return a state of the same values."""
        out = State()
        for key in self.keys():
            out.put(key, self.get(key))
        return out

    def _table(self, kind: str) -> dict[tuple[int, int], Value]:
        tables: dict[str, dict[tuple[int, int], Value]] = {
            "prompt": self.prompts,  # type: ignore[dict-item]
            "prediction": self.predictions,  # type: ignore[dict-item]
            "mark": self.marks,  # type: ignore[dict-item]
            "pending": self.pending,  # type: ignore[dict-item]
            "memory": self.memories,  # type: ignore[dict-item]
        }
        return tables[kind]

    def _put_object(self, label: int, value: Value | None) -> None:
        if value is None:
            self.objects.pop(label, None)
        elif isinstance(value, ObjectInfo):
            last = next(reversed(self.objects), 0)
            known = label in self.objects
            self.objects[label] = value
            if not known and label < last:
                # In order of labels whatever was undone in between.
                for above in [one for one in self.objects if one > label]:
                    self.objects[above] = self.objects.pop(above)


def check_color(color: str | None) -> str | None:
    """Return a colour in small letters; InputError unless it is ``"#rrggbb"`` or None."""
    if color is None:
        return None
    found = str(color).lower()
    if not COLOR.fullmatch(found):
        raise InputError(f'a colour must be "#rrggbb" in hexadecimal, not {color!r}')
    return found


def _check_value(value: Value | None) -> None:
    """Raise InputError for an object or a mask that the journal's reader would refuse, whoever made it."""
    if isinstance(value, ObjectInfo):
        check_label(value.label)
        if not isinstance(value.name, str):
            raise InputError(f"the name of object {value.label} must be text, not {value.name!r}")
        check_color(value.color)
    elif isinstance(value, PackedResult):
        bare = value.bare
        what = f"the mask of object {bare.label} on slice {bare.index}"
        for start, size, whole in zip((bare.top, bare.left), value.size, bare.shape, strict=True):
            if not is_whole(start) or not 0 <= start <= whole - size:
                raise InputError(f"{what} reaches over the slice: {value.size} at ({bare.top}, {bare.left})")
        if bare.source not in get_args(Source):
            raise InputError(f"{what} is of the unknown source {bare.source!r}; choose prompt, mask or propagated")
        for name, number in (("confidence", bare.confidence), ("object score", bare.object_score)):
            if not 0 <= number <= 1:
                raise InputError(f"{what} has the {name} {number}; it must be from 0 to 1")
        if bare.disagreement is not None and not 0 <= bare.disagreement <= 1:
            raise InputError(f"{what} has the disagreement {bare.disagreement}; it must be from 0 to 1")


def weigh(value: Value | None) -> int:
    """Count the bytes that a value takes, about."""
    if isinstance(value, PackedResult):
        return 200 + len(value.data) + len(value.members)
    if isinstance(value, SlicePrompt):
        painted = 0 if value.painted is None else len(value.painted.bits)
        return 200 + value.points.nbytes + value.labels.nbytes + painted
    if isinstance(value, Prediction):
        tensors = (value.decoded.logits, value.decoded.iou, value.decoded.score, value.decoded.pointer)
        return 200 + sum(t.numel() * t.element_size() for t in tensors if t is not None)
    return 100

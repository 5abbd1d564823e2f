"""Rows of the table of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from napari_medsam2.widgets.rows.numbers import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["EntryLike", "ModelRow", "ModelState", "model_rows"]

ModelState = Literal["absent", "waiting", "downloading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model.

    Parameters
    ----------
    key : str
        What `load_backend` takes.
    name : str
        What a person calls it.
    size : int or None
        Bytes of the download or file; None where they are not known.
    licence : str
        Its name, such as ``"Apache-2.0"``.
    good_for : str
        One sentence.
    state : str
        ``"absent"``, ``"waiting"`` (to be downloaded), ``"downloading"``, ``"ready"`` or ``"failed"``.
    progress : float or None
        In [0, 1] while it is downloaded; None where that is not known.
    note : str
        One sentence: what failed and what to do, or how much is left.
    in_use : bool
        Whether the session works with it.
    speed : str
        Such as ``"about 2 s a slice here"``; may be empty.
    """

    key: str
    name: str
    size: int | None
    licence: str
    good_for: str
    state: ModelState = "absent"
    progress: float | None = None
    note: str = ""
    in_use: bool = False
    speed: str = ""


class EntryLike(Protocol):
    """A model of the registry; see `napari_medsam2.backend.registry.ModelEntry`."""

    @property
    def name(self) -> str:
        """What ``load_backend`` takes."""

    @property
    def title(self) -> str:
        """For people."""

    @property
    def size(self) -> int | None:
        """Bytes of the file, where they are known."""

    @property
    def licence(self) -> str:
        """Of the weights."""

    @property
    def use(self) -> str:
        """What it is good for."""


def model_rows(
    entries: Iterable[EntryLike],
    ready: Collection[str],
    in_use: str | None = None,
    downloads: Mapping[str, int | None] | None = None,
    failures: Mapping[str, str] | None = None,
    speeds: Mapping[str, str] | None = None,
) -> tuple[ModelRow, ...]:
    """Make a row of each model.

    Parameters
    ----------
    entries : iterable of ModelEntry
        The registry's.
    ready : collection of str
        Names of those that are on this machine.
    in_use : str, optional
        The name of the session's.
    downloads : mapping, optional
        Bytes that have arrived of those that are being downloaded; None: it waits for its turn.
    failures : mapping, optional
        One sentence for each download that failed.
    speeds : mapping, optional
        How fast a model is here, in a few words.

    Returns
    -------
    tuple of ModelRow
        In the order given.
    """
    going, failed, fast = downloads or {}, failures or {}, speeds or {}
    rows = []
    for one in entries:
        state: ModelState = "ready" if one.name in ready else "absent"
        progress, note = None, ""
        if state == "absent" and one.name in going:
            done = going[one.name]
            state = "waiting" if done is None else "downloading"
            note = "Waits for its turn"
            if done is not None:
                progress = None if not one.size else min(done / one.size, 1.0)
                note = format_bytes(done) if not one.size else f"{format_bytes(done)} of {format_bytes(one.size)}"
        elif state == "absent" and one.name in failed:
            state, note = "failed", failed[one.name]
        rows.append(
            ModelRow(
                one.name, one.title, one.size, one.licence, one.use, state, progress, note,
                state == "ready" and one.name == in_use, fast.get(one.name, ""),
            )
        )  # fmt: skip
    return tuple(rows)

"""Replay: everything that a session holds, computed again from its image and its prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2._progress import quiet
from napari_medsam2.errors import InputError
from napari_medsam2.history import RECOMPUTED
from napari_medsam2.prompts import SlicePrompt
from napari_medsam2.session import AnnotationSession
from napari_medsam2.storage import JOURNAL, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from napari_medsam2._progress import Tell
    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.history import Record
    from napari_medsam2.results import ObjectResult, SliceResult
    from napari_medsam2.state import Key, Value

__all__ = ["Difference", "describe_folder", "replay", "replay_folder"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mask that came out otherwise.

    Parameters
    ----------
    label, index : int
        The object and the slice.
    iou : float
        Of the two masks; 1 where only logits or scores differ, 0 where one of them is missing.
    pixels : int
        Pixels that are in one of the masks only.
    what : str
        ``"mask"``, ``"logits"`` (the mask is the same), ``"scores"`` (the logits are the same), ``"missing"`` (the
        replay has no mask), ``"surplus"`` (the session has none).
    """

    label: int
    index: int
    iou: float
    pixels: int
    what: str


def replay(session: AnnotationSession, backend: Backend | None = None, tell: Tell = quiet) -> tuple[Difference, ...]:
    """Compute all results of a session again, and compare.

    Every step that was not undone is carried out once more, in order, in a session of its own: clicks, boxes and
    painted masks go through the model, propagations run as far as they ran. What a person did to masks directly (edits,
    verdicts, removals) is done as it was.

    Parameters
    ----------
    session : AnnotationSession
        It is not changed.
    backend : Backend, optional
        Another model; the session's own by default.
    tell : callable
        Told how far it is.

    Returns
    -------
    tuple of Difference
        In order of slice and label; empty where every bit is the same.

    Raises
    ------
    InputError
        If a step cannot be carried out any more.
    """
    again = AnnotationSession(
        session.stack, backend=backend or session.backend, memory=session.bank, kind=session.kind, history_bytes=0
    )
    records = list(session._document.history.records())
    waiting = _runs(records)
    walks: dict[int, Iterator[SliceResult]] = {}
    for number, record in enumerate(records):
        tell("steps", number, len(records))
        try:
            _do(again, record, waiting, walks)
        except InputError as error:
            raise InputError(f"step {number + 1} ({record.name}) cannot be done again: {error}") from error
    tell("steps", len(records), len(records))
    return tuple(_compare(session, again))


def _runs(records: Iterable[Record]) -> dict[int, Mapping[str, Any]]:
    """What was asked of each propagation, in the order in which they were begun."""
    out: dict[int, Mapping[str, Any]] = {}
    for record in records:
        call = record.call
        if call["do"] in ("propagate", "repropagate") or (call["do"] == "finish" and "labels" in call):
            run = call.get("run")
            if type(run) is int:
                out.setdefault(run, call)
    return dict(sorted(out.items()))


def _begin(
    session: AnnotationSession,
    record: Record,
    waiting: dict[int, Mapping[str, Any]],
    walks: dict[int, Iterator[SliceResult]],
) -> None:
    """Begin the propagations that had been begun before a step was done, though their first slice came after it."""
    own = record.call.get("run")
    # Steps and runs share their numbers, which are given when one begins.
    for run in [run for run in waiting if run < record.step or run == own]:
        call = {name: value for name, value in waiting[run].items() if name not in ("do", "run")}
        try:
            walks[run] = session.repropagate(**call) if "agreement" in call else session.propagate(**call)
        except InputError:
            # What it began with may have been undone since; then it is begun as late as can be.
            if run == own:
                raise
        else:
            del waiting[run]


def _do(
    session: AnnotationSession,
    record: Record,
    waiting: dict[int, Mapping[str, Any]],
    walks: dict[int, Iterator[SliceResult]],
) -> None:
    call: dict[str, Any] = dict(record.call)
    did = call.pop("do")
    try:
        _begin(session, record, waiting, walks)
        if did not in RECOMPUTED:
            changes: dict[Key, Value | None] = {key: entry.after for key, entry in record.entries.items()}
            session._document.commit(record.name, changes, record.call)
            return
        _recompute(session, record, did, call, walks)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"what was asked for is not recorded as it should be ({error!r})") from error


def _recompute(
    session: AnnotationSession, record: Record, did: str, call: dict[str, Any], walks: dict[int, Iterator[SliceResult]]
) -> None:
    if did in ("propagate", "repropagate"):
        for _ in range(record.count):
            # A slice of which nothing could be taken over has left no record.
            before = session.revision
            while next(walks[call["run"]], None) is not None and session.revision == before:
                pass
    elif did == "finish":
        for _ in walks.pop(call["run"], ()):
            pass
    elif did == "points":
        session.add_points(call["label"], call["index"], call["points"], call["labels"])
    elif did == "box":
        session.add_box(call["label"], call["index"], call["box"])
    else:
        said = next(entry.after for key, entry in record.entries.items() if key.kind == "prompt")
        if not isinstance(said, SlicePrompt):
            raise TypeError("no prompt")
        if did == "mask":
            session.add_mask(call["label"], call["index"], said.mask)  # type: ignore[arg-type]
        else:
            session.set_prompt(call["label"], call["index"], said)


def _compare(session: AnnotationSession, again: AnnotationSession) -> Iterator[Difference]:
    known = {(index, label) for index, label, *_ in session.results.summary()}
    found = {(index, label) for index, label, *_ in again.results.summary()}
    for index, label in sorted(known | found):
        one, other = session.results.get(label, index), again.results.get(label, index)
        if one is None or other is None:
            there = one or other
            area = 0 if there is None else there.area
            yield Difference(label, index, 0.0, area, "missing" if other is None else "surplus")
        elif (what := _how(one, other)) is not None:
            a, b = one.mask, other.mask
            union = int(np.count_nonzero(a | b))
            iou = int(np.count_nonzero(a & b)) / union if union else 1.0
            yield Difference(label, index, iou, int(np.count_nonzero(a ^ b)), what)


def _how(one: ObjectResult, other: ObjectResult) -> str | None:
    if (one.mask != other.mask).any():
        return "mask"
    if (one.top, one.left, one.logits.shape) != (other.top, other.left, other.logits.shape):
        return "logits"
    if (one.logits != other.logits).any():
        return "logits"
    scores = (one.confidence, one.object_score, one.source) == (other.confidence, other.object_score, other.source)
    return None if scores else "scores"


def replay_folder(
    folder: Path, image: Path | None, model: str | None, weights: Path | None, device: str, tell: Tell = quiet
) -> tuple[list[str], bool]:
    """Replay a saved session; what to say of it, and whether every bit came out the same."""
    from napari_medsam2.backend import load_backend

    backend = load_backend(model or load(folder).settings.model, device, weights)
    with AnnotationSession.open(folder, backend=backend, image=image) as session:
        found = replay(session, tell=tell)
        total, notices = len(session.results), session.notices
    lines = [*notices]
    for one in found:
        lines.append(
            f"slice {one.index:>4}  object {one.label:>4}  {one.what:<8} IoU {one.iou:.4f}  {one.pixels} pixels differ"
        )
    lines.append(
        f"{total} masks computed again, {len(found)} of them differ" if found else f"all {total} masks are the same"
    )
    return lines, not found


def describe_folder(folder: Path) -> list[str]:
    """Say in a few lines what a session's folder holds, without its image or a model.

    Raises
    ------
    InputError
        If it is no session, or damaged.
    """
    saved = load(folder)
    image, state, history = saved.settings.image, saved.state, saved.history
    size = f"{image.sizes[0][0]} × {image.sizes[0][1]}" if len(image.sizes) == 1 else "pictures of different sizes"
    lines = [
        f"session     {folder} ({(folder / JOURNAL).stat().st_size / 1024:.0f} KiB, generation {saved.generation})",
        f"image       {image.where}",
        f"            {image.axes}, {len(image)} slices, {size}, {np.dtype(image.dtype)}, SHA-256 {image.sha256[:16]}…",
        f"model       {saved.settings.model}, {saved.settings.kind}, memory {saved.settings.bank.policy}",
        f"history     {len(history.done)} steps can be undone, {len(history.undone)} redone",
        f"open        {sum(state.pending.values())} changed slices that no propagation has carried on",
    ]
    for info in state.objects.values():
        prompts = sum(label == info.label for label, _ in state.prompts)
        slices = sum(label == info.label for _, label, *_ in state.results.summary())
        accepted = sum(mark == "accepted" for (label, _), mark in state.marks.items() if label == info.label)
        color = f" {info.color}" if info.color else ""
        text = f"object {info.label:<4} {info.name}{color}: {prompts} prompted, {slices} slices, {accepted} accepted"
        lines.append(text)
    if saved.tail.torn:
        lines.append(f"notice      the last step was never finished ({len(saved.tail.torn)} bytes); opening drops it")
    return lines

"""The whole job, from files to files: what ``napari-medsam2 segment`` and the demo do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_medsam2._files import check_place
from napari_medsam2._progress import quiet
from napari_medsam2.errors import InputError
from napari_medsam2.export import (
    check_no_session,
    picture_names,
    write_confidence,
    write_labels,
    write_nifti,
    write_picture,
    write_pictures,
)
from napari_medsam2.export._nifti import check_space
from napari_medsam2.prompts import parse_entries, read_entries
from napari_medsam2.reading.nifti import NIFTIS
from napari_medsam2.reading.readers import distinct_names, find_images, natural_key, open_collection
from napari_medsam2.stack import ImageStack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medsam2._progress import Tell
    from napari_medsam2.memory import Policy
    from napari_medsam2.prompts import Prompt
    from napari_medsam2.session import AnnotationSession

__all__ = ["Job", "Outcome", "open_images", "run_job"]


@dataclass(frozen=True, slots=True)
class Job:
    """What to segment, how, and where the results go.

    Parameters
    ----------
    images : sequence of str
        One file, folder or pattern, or several files, which are a collection.
    prompts : Path
        The prompts file.
    output : Path
        A TIFF or NIfTI file; for the pictures of a folder a folder, or where they have one size a TIFF file.
    kind : str, optional
        ``"stack"`` or ``"collection"``; the images' own kind by default.
    axes, window, channel
        As for `ImageStack`.
    model, weights, device, side, precision
        As for `load_backend`.
    memory : str
        The memory bank's policy.
    confidence, overlay : Path, optional
        Where the confidences (CSV) and the picture go; not written by default.
    name : str, optional
        What the images are called; the name of their file or folder by default.
    """

    images: Sequence[str]
    prompts: Path
    output: Path
    kind: Literal["stack", "collection"] | None = None
    axes: str | None = None
    window: tuple[float, float] | None = None
    channel: tuple[int, ...] | None = None
    model: str = "compact"
    weights: Path | None = None
    memory: Policy = "self-sorting"
    device: str = "auto"
    side: int | None = None
    precision: str = "float32"
    confidence: Path | None = None
    overlay: Path | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did.

    Parameters
    ----------
    session : AnnotationSession
        With all its results.
    written : dict
        Files and folders, by what they are: ``labels``, ``confidence``, ``picture``.
    seconds : dict
        How long each step took, by name, in order.
    visited : int
        Slices that the propagation looked at.
    """

    session: AnnotationSession
    written: dict[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    visited: int = 0


def run_job(job: Job, tell: Tell = quiet) -> Outcome:
    """Do a job.

    Everything that can be wrong with its files is found before the model is loaded.

    Parameters
    ----------
    job : Job
        What to do.
    tell : callable
        Told how far it is.

    Returns
    -------
    Outcome
        What was written.

    Raises
    ------
    InputError
        If anything that a person gave cannot be used.
    """
    clock = _Clock()
    stack = open_images(job)
    kind = job.kind or ("collection" if stack.is_collection else "stack")
    entries = read_entries(job.prompts)
    prompts = parse_entries(entries, job.prompts, stack)
    folder = _check_outputs(job, stack, kind, entries)
    clock.lap("read")

    from napari_medsam2.backend import load_backend
    from napari_medsam2.session import AnnotationSession

    backend = load_backend(job.model, job.device, job.weights, side=job.side, precision=job.precision)
    session = AnnotationSession(stack, backend=backend, memory=job.memory, kind=kind)
    clock.lap("load the model")
    for number, prompt in enumerate(prompts):
        tell("prompts", number, len(prompts))
        session.add_prompt(prompt)
    tell("prompts", len(prompts), len(prompts))
    clock.lap("prompts")
    visited = _propagate(session, prompts, tell)
    clock.lap("propagation")

    written = {"labels": job.output}
    if folder:
        write_pictures(job.output, session)
    elif job.output.suffix.lower() == ".png":
        write_picture(job.output, session.slice_labels(0))
    elif _nifti(job.output):
        write_nifti(job.output, session)
    else:
        write_labels(job.output, session)
    if job.confidence is not None:
        write_confidence(job.confidence, session)
        written["confidence"] = job.confidence
    clock.lap("write")
    if job.overlay is not None:
        from napari_medsam2.overlay import write_overlay

        write_overlay(job.overlay, session)
        written["picture"] = job.overlay
        clock.lap("draw")
    return Outcome(session, written, clock.seconds, visited)


def open_images(job: Job) -> ImageStack:
    """Open the images of a job: as neighbouring slices where it says that they are a stack.

    Raises
    ------
    InputError
        If they cannot be opened, or are to be a stack and differ in size.
    """
    stack = _open(job, job.axes)
    if job.kind == "stack":
        if not stack.uniform:
            raise InputError(
                f"the images of {stack.name} differ in size, so they are no stack; use --kind collection, or crop them"
            )
        if job.axes is None and stack.names is not None:
            # Slices kept as files of their own: they share their depth, and one intensity window.
            stack = _open(job, stack.axes.replace("N", "Z"))
    stack.name = job.name or stack.name
    return stack


def _open(job: Job, axes: str | None) -> ImageStack:
    if len(job.images) == 1:
        return ImageStack.open(job.images[0], axes=axes, window=job.window, channel=job.channel)
    # What a shell made of a pattern.
    files = sorted((Path(image).expanduser() for image in job.images), key=lambda path: natural_key(str(path)))
    return ImageStack(
        open_collection(files),
        axes,
        window=job.window,
        channel=job.channel,
        name=files[0].parent.name or "collection",
        names=distinct_names(files),
    )


def _propagate(session: AnnotationSession, prompts: Sequence[Prompt], tell: Tell) -> int:
    total = len(session.stack)
    prompted = {prompt.index for prompt in prompts}
    if total == 1:
        return 0
    visited: set[int] = set()
    tell("slices", len(prompted), total)
    for result in session.propagate():
        visited.add(result.index)
        tell("slices", len(visited | prompted), total)
    tell("slices", total, total)
    return len(visited)


def _check_outputs(job: Job, stack: ImageStack, kind: str, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Check that the results can be written where they go, and over nothing that is read; whether that is a folder."""
    suffix = job.output.suffix.lower()
    tiff = suffix in (".tif", ".tiff")
    folder = kind == "collection" and stack.names is not None and not (tiff and stack.uniform)
    if folder and tiff:
        raise InputError(
            f"the images of {stack.name} differ in size, so their labels are written one by one: give --output a "
            f"folder's name, such as {job.output.with_suffix('')}"
        )
    if not folder and _nifti(job.output):
        check_space(stack)
    elif not folder and not tiff and not (suffix == ".png" and len(stack) == 1):
        raise InputError(f"--output {job.output} must be a file that ends in .tif or .nii.gz")
    if job.overlay is not None and job.overlay.suffix.lower() not in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
        raise InputError(f"--overlay {job.overlay} must be a file that ends in .png, .jpg or .tif")
    single = [path for path in (None if folder else job.output, job.confidence, job.overlay) if path is not None]
    if len({path.resolve() for path in single}) < len(single):
        raise InputError("--output, --confidence and --overlay must be different files")
    pictures: set[str] = set()
    if folder:
        # Labels of 32 bits go into TIFF files, whatever the image was.
        pictures = {name for wide in (False, True) for name in picture_names(stack.names or (), wide)}
    inputs = _inputs(job, entries)
    for target in [*single, *(job.output / name for name in pictures)]:
        check_no_session(target)
        if target.resolve() in inputs:
            raise InputError(f"{target} is one of the inputs and would be overwritten; write to another place")
    if folder:
        if job.output.is_file():
            raise InputError(f"--output {job.output} is a file; the labels of many images need a folder")
        single.append(job.output / "labels.tif" if job.output.is_dir() else job.output)
    for path in single:
        check_place(path)
    return folder


def _nifti(output: Path) -> bool:
    return output.name.lower().endswith(NIFTIS)


def _inputs(job: Job, entries: Sequence[Mapping[str, Any]]) -> set[Path]:
    """List the files that the job reads."""
    files = {job.prompts, *(job.prompts.parent / entry["mask"] for entry in entries if "mask" in entry)}
    for image in job.images:
        place = Path(image).expanduser()
        files |= set(find_images(place) or [place])
    return {path.resolve() for path in files}


class _Clock:
    """Seconds of the steps of a job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now

"""What is trained on: annotated images in memory, and synthetic volumes kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_medsam2._files import atomic_path
from napari_medsam2.errors import InputError
from napari_medsam2.training.synthetic import BODIES, SyntheticVolume, synthesize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_DRAWING = 2
"""Counts the changes of `synthesize`: volumes of an earlier one are not those of this one."""
_WORTH_A_PROCESS = 16
"""How many volumes take as long to draw as a process takes to start."""
_HELD_OUT = {
    # Rows 8 to 519, columns 184 to 695 of it are the image that stardist ships, which is measured on and not trained on
    # (`benchmarks/leaks.py` found it); the Data Science Bowl is where both come from.
    "8b12c0a3f69a9431a32af0364522babafc963913fc97f4517c29d7a33c0c12a7",
}
"""SHA-256 of the pixels of images that are left out, wherever they lie."""

__all__ = ["AnnotatedImage", "fingerprint", "load_images", "synthetic_pool"]


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One real image with its instances.

    Parameters
    ----------
    image : Tensor
        ``(3, H, W)`` uint8, stretched to its intensity window.
    background : Tensor
        ``(3, H, W)`` uint8: the image as if its objects were not there (smooth, from the pixels around them).
    labels : ndarray
        ``(H, W)`` int32 instance ids; 0 is background.
    boxes : ndarray
        ``(K, 5)`` int: id, first and one-past-last row, first and one-past-last column.
    group : str
        The kind of image: collections draw their members from one group.
    """

    image: Tensor
    background: Tensor
    labels: np.ndarray
    boxes: np.ndarray
    group: str


def load_images(folder: Path) -> list[AnnotatedImage]:
    """Load every annotated collection below ``folder`` (``*/case.json``, ``image.tif``, ``labels.tif``).

    An image that the model is measured on, or that holds one, is left out.

    Raises
    ------
    InputError
        If the folder holds no case, or an image of one has not the labels' rows and columns.
    """
    import tifffile

    out: list[AnnotatedImage] = []
    for path in sorted(folder.glob("*/case.json")):
        meta = json.loads(path.read_text())
        images = tifffile.imread(path.parent / "image.tif")
        labels = tifffile.imread(path.parent / "labels.tif")
        group = meta["name"].rsplit("-", 1)[0]
        if images.shape[:3] != labels.shape or images.ndim < 3 or images.shape[3:] not in ((), (3,), (4,)):
            raise InputError(
                f"{path.parent.name} has images of shape {images.shape} and labels of shape {labels.shape}; both must "
                f"be (images, rows, columns), with colours last"
            )
        pairs = zip(images, labels, strict=True)
        out += [_annotated(image, label, group) for image, label in pairs if _digest(image) not in _HELD_OUT]
    if not out:
        raise InputError(f"no training case (a folder with a case.json) in {folder}; give the folder that holds them")
    return out


def fingerprint(images: Sequence[AnnotatedImage]) -> str:
    """Return a SHA-256 that tells these images, and their objects, from others; in hexadecimal."""
    total = hashlib.sha256()
    for one in images:
        total.update(f"{one.group} {one.labels.shape} {_digest(one.image.numpy())} {_digest(one.labels)}\n".encode())
    return total.hexdigest()


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _annotated(image: np.ndarray, labels: np.ndarray, group: str) -> AnnotatedImage:
    values: np.ndarray = image[..., :3].astype(np.float32) if image.ndim == 3 else image.astype(np.float32)
    if image.ndim == 3 and image.dtype == np.uint8:
        values = values / 255
    else:
        known = np.isfinite(values)
        low, high = np.percentile(values[known], [0.5, 99.8]) if known.any() else (0.0, 1.0)
        values = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-6), 0, 1)
        values = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    outside = ~ndimage.binary_dilation(labels > 0, iterations=5)
    sigma = 10.0
    weight = ndimage.gaussian_filter(outside.astype(np.float32), sigma) + 1e-4
    smooth = ndimage.gaussian_filter(values * outside[..., None], (sigma, sigma, 0)) / weight[..., None]
    background = np.where(outside[..., None], values, smooth)
    boxes = [
        (i + 1, s[0].start, s[0].stop, s[1].start, s[1].stop)
        for i, s in enumerate(ndimage.find_objects(labels.astype(np.int32)))
        if s is not None and np.count_nonzero(labels[s] == i + 1) >= 30
    ]

    def stored(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray((array * 255).round().astype(np.uint8).transpose(2, 0, 1)))

    table = np.array(boxes, dtype=np.int64).reshape(-1, 5)
    return AnnotatedImage(stored(values), stored(background), labels.astype(np.int32), table, group)


def synthetic_pool(
    folder: Path,
    count: int,
    slices: int,
    side: int,
    seed: int,
    bodies: float = BODIES,
    colonies: float = 0.0,
    heads: float = 0.0,
    report: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw ``count`` synthetic volumes into ``folder``, those that are not there yet; return their files.

    A quarter of them have slices so far apart that they are unrelated sections of one specimen. Volume ``i`` depends
    on ``seed``, ``i`` and the shares only; another ``seed`` goes with other shares. Many are
    drawn by as many processes as there are processors; ``report`` is told how many of how many are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"volume-{_DRAWING}-{slices}x{side}-{seed}-{i:05d}.npz" for i in range(count)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    work = zip(*((paths[i], seed, i, slices, side, bodies, colonies, heads) for i in missing), strict=True)
    processes = min(os.cpu_count() or 1, len(missing) // _WORTH_A_PROCESS)
    with ExitStack() as stack:
        each: Callable[..., Iterable[None]] = map
        if processes > 1:
            # A new process for each: one that was forked from a process with threads of torch may hang.
            each = stack.enter_context(ProcessPoolExecutor(processes, get_context("spawn"), _begin)).map
        for number, _ in enumerate(each(_draw, *work), count - len(missing) + 1):
            if report is not None:
                report(number, count)
    return paths


def _begin() -> None:
    """Draw with one processor, and not for longer than the process that asked for it lives."""
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End where the parent was killed: the queue that work comes from stays open then, since all who draw hold it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw(
    path: Path, seed: int, number: int, slices: int, side: int, bodies: float, colonies: float, heads: float
) -> None:
    rng = np.random.default_rng([seed, number])
    volume = synthesize(rng, slices, side, 0.4 if number % 4 == 3 else None, bodies, colonies, heads)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            images=(volume.images.numpy() * 255).round().astype(np.uint8),
            labels=volume.labels.numpy().astype(np.int16),
            classes=volume.classes.numpy().astype(np.uint8),
        )


def read_volume(path: Path) -> SyntheticVolume:
    """Read one volume of `synthetic_pool`."""
    with np.load(path, allow_pickle=False) as arrays:
        return SyntheticVolume(
            torch.from_numpy(arrays["images"]).float() / 255,
            torch.from_numpy(arrays["labels"].astype(np.int64)),
            torch.from_numpy(arrays["classes"].astype(np.int64)),
        )

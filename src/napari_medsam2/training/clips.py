"""Clips: a few views with the masks of some objects, cut from annotated images and synthetic volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_medsam2.training.augment import jitter_intensity
from napari_medsam2.training.pool import read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_medsam2.training.pool import AnnotatedImage

__all__ = ["Clip", "ClipSource"]


@dataclass(frozen=True, slots=True)
class Clip:
    """Views of neighbouring slices, or of images of one kind, with the masks of K objects.

    Parameters
    ----------
    images : Tensor
        ``(T, 3, S, S)`` float32 in [0, 1].
    masks : Tensor
        ``(K, T, S, S)`` bool.
    ordered : bool
        Whether the slices are neighbours, so that positions carry over from one to the next.
    pieces : bool
        Whether an object may be several bodies that look alike, which only a box around all of them can ask for.
    """

    images: Tensor
    masks: Tensor
    ordered: bool
    pieces: bool = False
    far: bool = False
    """Whether objects are seen from as far as a click is that says nothing of their size; nobody draws boxes there."""
    given: Tensor | None = None
    """What is painted on a collection's images, ``(K, T, S, S)`` bool, where that is less than all of ``masks``."""


_FILLS = ((0.08, 0.7), (0.03, 0.12))
"""What share of a view's side an object takes, at its own scale and from afar."""
_LEAST = ((0.06, 0.0015), (0.025, 0.0004))
"""The least share of the side, and of the area, of an object that is asked for: at its own scale and from afar."""


class ClipSource:
    """Draws clips.

    Parameters
    ----------
    images : sequence of AnnotatedImage
        The real images.
    volumes : sequence of Path
        Files of `synthetic_pool`.
    side : int
        The views' side S.
    rng : numpy.random.Generator
        All randomness comes from here.
    pieces : float
        Share of the synthetic single views in which an object is joined with others that look alike.
    far : float
        Share of the single views that are seen from farther than an object's own scale.
    some : float
        Share of the collections on whose first image some of the bodies are painted and not all.
    lone, salient : float
        Shares of these on whose first image one body is painted, and those that stand out most.
    """

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        volumes: Sequence[Path],
        side: int,
        rng: np.random.Generator,
        pieces: float = 0.0,
        far: float = 0.0,
        some: float = 0.0,
        lone: float = 0.0,
        salient: float = 0.0,
    ) -> None:
        self._groups: dict[str, list[AnnotatedImage]] = {}
        for image in images:
            if len(image.boxes):
                self._groups.setdefault(image.group, []).append(image)
        self._volumes, self._side, self._rng, self._pieces = list(volumes), side, rng, pieces
        self._far, self._some, self._lone, self._salient = far, some, lone, salient

    def single(self, objects: int, real: bool) -> Clip:
        """One view with up to ``objects`` objects."""
        return self._stack(1, objects, real)

    def stack(self, slices: int, objects: int, real: bool) -> Clip:
        """Views of neighbouring slices with up to ``objects`` objects that are there in the first."""
        return self._stack(slices, objects, real)

    def collection(self, size: int, real: bool) -> Clip:
        """Views of different images of one kind; the one object is everything of one class."""
        return self._collection_real(size) if real else self._collection_synthetic(size)

    # -- real images ---------------------------------------------------------------------------------------------

    def _group(self) -> list[AnnotatedImage]:
        names = sorted(self._groups)
        # Between "every image the same chance" and "every kind of image the same chance".
        weights = np.sqrt([len(self._groups[n]) for n in names])
        return self._groups[names[self._rng.choice(len(names), p=weights / weights.sum())]]

    def _stack(self, slices: int, objects: int, real: bool) -> Clip:
        far = bool(slices == 1 and self._far and self._rng.random() < self._far)
        for _ in range(50):
            clip = (self._stack_real if real else self._stack_synthetic)(slices, objects, far)
            if clip is not None:
                return clip
        raise RuntimeError("no object in fifty views: the training images hold too few objects")

    def _stack_real(self, slices: int, objects: int, far: bool) -> Clip | None:
        rng = self._rng
        group = self._group()
        source = group[rng.integers(len(group))]
        box = source.boxes[rng.integers(len(source.boxes)), 1:]
        window = _window_around(box, source.labels.shape, rng, fill=_FILLS[far])
        labels = _crop_labels(source.labels, window, self._side)
        image = _crop(source.image, window, self._side)
        labels, (image, background) = _turn(rng, labels, [image, _crop(source.background, window, self._side)])
        chosen = _choose(labels, objects, rng, _LEAST[far])
        if not chosen:
            return None
        if slices == 1:
            images, stack = image[None], labels[None]
        else:
            images, stack = _sink(image, background, labels, slices, rng)
        return Clip(jitter_intensity(images, rng), _masks(stack, chosen), ordered=True, far=far)

    def _collection_real(self, size: int) -> Clip:
        rng = self._rng
        group = self._group()
        images, masks = [], []
        share = rng.uniform(0.5, 1.1)
        for i in rng.choice(len(group), size, replace=len(group) < size):
            source = group[i]
            height, width = source.labels.shape
            side = share * max(height, width) * rng.uniform(0.85, 1.15)
            y, x = (rng.uniform(-0.05, 0.05) * n + n / 2 for n in (height, width))
            if side < max(height, width):
                slack = (max(height, width) - side) / 2
                y, x = y + rng.uniform(-slack, slack), x + rng.uniform(-slack, slack)
            window = (y - side / 2, x - side / 2, side)
            bodies = _crop_labels(source.labels, window, self._side)
            bodies, (image,) = _turn(rng, bodies, [_crop(source.image, window, self._side)])
            images.append(image)
            masks.append(bodies)
        return self._kind(jitter_intensity(torch.stack(images), rng, each=0.5), masks)

    def _kind(self, images: Tensor, bodies: list[np.ndarray]) -> Clip:
        """A collection's clip; sometimes what is painted on its first image is some of the bodies, as people do."""
        masks = torch.from_numpy(np.stack(bodies) > 0)[None]
        given = None
        if self._some and self._rng.random() < self._some:
            numbers = np.unique(bodies[0][bodies[0] > 0])
            if len(numbers) > 1:
                count = 1 + int((len(numbers) - 1) * self._rng.random() ** 1.5)
                numbers = self._rng.permutation(numbers)
                # Nothing is drawn that is not asked for, so that other recipes' clips stay what they were.
                if self._lone and self._rng.random() < self._lone:
                    count = 1
                if self._salient and self._rng.random() < self._salient:
                    numbers = numbers[_standing_out(images[0], bodies[0], numbers)]
                given = masks.clone()
                given[0, 0] = torch.from_numpy(np.isin(bodies[0], numbers[:count]))
        return Clip(images, masks, ordered=False, given=given)

    # -- synthetic volumes ---------------------------------------------------------------------------------------

    def _stack_synthetic(self, slices: int, objects: int, far: bool) -> Clip | None:
        rng = self._rng
        # Every fourth volume has unrelated slices: fine for single views, not for clips.
        choices = self._volumes if slices == 1 else [p for i, p in enumerate(self._volumes) if i % 4 != 3]
        volume = read_volume(choices[rng.integers(len(choices))])
        total = len(volume.images)
        stride = int(rng.integers(1, max(2, (total - 1) // max(slices - 1, 1)) + 1)) if slices > 1 else 1
        stride = min(stride, (total - 1) // max(slices - 1, 1)) if slices > 1 else 1
        first = int(rng.integers(0, total - stride * (slices - 1)))
        order = np.arange(slices) * stride + first
        if rng.random() < 0.5:
            order = order[::-1].copy()
        labels = volume.labels[order].numpy().astype(np.int32)
        found = ndimage.find_objects(labels[0])
        boxes = [
            (s[0].start, s[0].stop, s[1].start, s[1].stop)
            for i, s in enumerate(found)
            if s is not None and np.count_nonzero(labels[0][s] == i + 1) >= 40
        ]
        if not boxes:
            return None
        window = _window_around(np.array(boxes[rng.integers(len(boxes))]), labels.shape[1:], rng, _FILLS[far], 48.0)
        images = torch.stack([_crop(volume.images[i], window, self._side) for i in order])
        stack = np.stack([_crop_labels(plane, window, self._side) for plane in labels])
        stack, (images,) = _turn(rng, stack, [images])
        pieces = slices == 1 and not far and rng.random() < self._pieces and _join_alike(stack[0], images[0], rng)
        chosen = _choose(stack[0], objects, rng, _LEAST[far])
        if not chosen:
            return None
        images = jitter_intensity(images, rng, strength=0.6)
        return Clip(images, _masks(stack, chosen), ordered=True, pieces=pieces, far=far)

    def _collection_synthetic(self, size: int) -> Clip:
        rng = self._rng
        far = [p for i, p in enumerate(self._volumes) if i % 4 == 3]
        for _ in range(50):
            volume = read_volume(far[rng.integers(len(far))])
            order = rng.choice(len(volume.images), size, replace=False)
            share = torch.stack([(volume.classes[order] == c).float().mean((1, 2)) for c in range(1, 12)])
            good = ((share > 0.01) & (share < 0.6)).all(1).nonzero()[:, 0].numpy() + 1
            if not len(good):
                continue
            value = int(rng.choice(good))
            images, masks = [], []
            for i in order:
                window = (0.0, 0.0, float(volume.images.shape[-1]))
                # What is of the kind, but of no body, is a body of its own.
                of_kind = torch.where(volume.classes[i] == value, volume.labels[i].int() + 1, 0).numpy()
                bodies = _crop_labels(of_kind, window, self._side)
                bodies, (image,) = _turn(rng, bodies, [_crop(volume.images[i], window, self._side)])
                images.append(image)
                masks.append(bodies)
            return self._kind(jitter_intensity(torch.stack(images), rng, strength=0.6, each=0.3), masks)
        raise RuntimeError("no class in common in fifty synthetic volumes")


def _window_around(
    box: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    fill: tuple[float, float],
    smallest: float = 20.0,
) -> tuple[float, float, float]:
    """A square window ``(y, x, side)`` of whose side the object takes a share of ``fill``, mostly inside the image."""
    y0, y1, x0, x1 = (float(v) for v in box)
    size = max(y1 - y0, x1 - x0)
    side = max(size / float(np.exp(rng.uniform(*np.log(fill)))), smallest)
    side = min(side, max(size * 1.2, max(shape) * rng.uniform(0.9, 1.15)))
    slack = max(side - size, 0) / 2 * 0.85
    shift = rng.uniform(-slack, slack, 2) if rng.random() < 0.7 else rng.uniform(-0.1, 0.1, 2) * slack
    corner = [(y0 + y1) / 2 - side / 2 + shift[0], (x0 + x1) / 2 - side / 2 + shift[1]]
    if rng.random() < 0.85:  # as the views of the engine are: no black margin where it can be avoided
        corner = [
            float(np.clip(c, min(0, n - side), max(0, n - side))) if side < n else (n - side) / 2
            for c, n in zip(corner, shape, strict=True)
        ]
    return corner[0], corner[1], side


def _crop(image: Tensor, window: tuple[float, float, float], side: int) -> Tensor:
    """Cut a square window (it may reach over the edge, where the view is black) and resize it to ``side``."""
    y, x, size = round(window[0]), round(window[1]), max(8, round(window[2]))
    height, width = image.shape[-2:]
    piece = image[..., max(y, 0) : min(y + size, height), max(x, 0) : min(x + size, width)]
    piece = piece.float() / 255 if piece.dtype == torch.uint8 else piece
    piece = F.pad(piece, (max(-x, 0), max(x + size - width, 0), max(-y, 0), max(y + size - height, 0)))
    return F.interpolate(piece[None], size=(side, side), mode="bilinear", align_corners=False, antialias=size > side)[
        0
    ].clamp(0, 1)


def _crop_labels(labels: np.ndarray, window: tuple[float, float, float], side: int) -> np.ndarray:
    y, x, size = round(window[0]), round(window[1]), max(8, round(window[2]))
    take = np.floor((np.arange(side) + 0.5) * size / side).astype(int)
    rows, columns = take + y, take + x
    inside = ((rows >= 0) & (rows < labels.shape[0]))[:, None] & ((columns >= 0) & (columns < labels.shape[1]))[None]
    out = labels[np.clip(rows, 0, labels.shape[0] - 1)[:, None], np.clip(columns, 0, labels.shape[1] - 1)[None]]
    return np.asarray(np.where(inside, out, 0))


def _turn(rng: np.random.Generator, labels: np.ndarray, images: list[Tensor]) -> tuple[np.ndarray, list[Tensor]]:
    """The same quarter turn and mirroring for all."""
    turns, mirror = int(rng.integers(4)), rng.random() < 0.5
    labels = np.rot90(labels, turns, (-2, -1))
    images = [torch.rot90(i, turns, (-2, -1)) for i in images]
    if mirror:
        labels, images = labels[..., ::-1], [i.flip(-1) for i in images]
    return np.ascontiguousarray(labels), images


def _choose(labels: np.ndarray, count: int, rng: np.random.Generator, least: tuple[float, float]) -> list[int]:
    """Some of the objects that show in the view at a size that the network can be asked for: see `_LEAST`."""
    side = labels.shape[-1]
    found = ndimage.find_objects(labels)
    good = []
    for i, s in enumerate(found):
        if s is not None:
            size = max(s[0].stop - s[0].start, s[1].stop - s[1].start) / side
            if least[0] <= size <= 0.95 and np.count_nonzero(labels[s] == i + 1) >= least[1] * side * side:
                good.append(i + 1)
    rng.shuffle(good)
    return good[:count]


def _join_alike(labels: np.ndarray, image: Tensor, rng: np.random.Generator) -> bool:
    """Give an object, in place, the number of one or two others of nearly its brightness, as paired organs have."""
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    ids = ids[counts >= 0.001 * labels.size]
    if len(ids) < 2:
        return False
    means = np.asarray(ndimage.mean(image.mean(0).numpy(), labels, ids))
    own = int(rng.integers(len(ids)))
    order = np.argsort(np.abs(means - means[own]))[1 : 2 + int(rng.random() < 0.3)]
    alike = [i for i in order if abs(means[i] - means[own]) < 0.06]
    for i in alike:
        labels[labels == ids[i]] = ids[own]
    return bool(alike)


def _standing_out(image: Tensor, bodies: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The order of bodies by how much their mean differs from that of what is none of them, largest first."""
    grey = image.mean(0).numpy()
    behind = grey[bodies == 0].mean() if (bodies == 0).any() else 0.0
    return np.argsort(-np.abs(np.asarray(ndimage.mean(grey, bodies, numbers)) - behind), kind="stable")


def _masks(stack: np.ndarray, chosen: list[int]) -> Tensor:
    return torch.from_numpy(stack[None] == np.array(chosen).reshape(-1, 1, 1, 1))


def _sink(
    image: Tensor, background: Tensor, labels: np.ndarray, slices: int, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """Make a stack of one image: every object is a ball-like body that the slices leave at a depth of its own.

    Where a body has ended, the smooth background shows; the whole view drifts and bends a little from slice to slice.
    """
    side = labels.shape[-1]
    padded = np.pad(labels, 1, mode="edge")
    inner = labels > 0
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= padded[dy : dy + side, dx : dx + side] == labels
    distance = ndimage.distance_transform_edt(inner).astype(np.float32)
    count = int(labels.max()) + 1
    radius = np.zeros(count, np.float32)
    np.maximum.at(radius, labels.ravel(), distance.ravel())
    # Depth in units of the slice distance: half of the object's height, and how far the first slice is from its middle.
    height = radius * rng.uniform(0.6, 1.6, count).astype(np.float32) / rng.uniform(2.0, 12.0) + 0.3
    start = height * rng.uniform(-0.7, 0.9, count).astype(np.float32)
    # Some bodies have another one right behind them, as nuclei in tissue have: where the one ends the next begins.
    behind = rng.random(count) < rng.choice([0.0, 0.7])
    next_height = height * rng.uniform(0.5, 1.3, count).astype(np.float32)
    next_start = start - height - next_height + rng.uniform(-0.8, 0.8, count).astype(np.float32)

    def peel(u: np.ndarray) -> np.ndarray:
        gone = np.where(u >= 1, 1e3, 0).astype(np.float32)
        return np.asarray(radius * (1 - np.sqrt(1 - np.clip(u, 0, 1) ** 2)) + gone)

    def cut(z: float) -> tuple[np.ndarray, np.ndarray]:
        """How deep each body's outline is peeled off, and whether what is left is of the body behind."""
        own = peel(np.abs(start + z) / height)
        other = np.where(behind, peel(np.abs(next_start + z) / next_height), 1e3).astype(np.float32)
        return np.minimum(own, other), other < own

    first = peel(np.abs(start) / height)
    drift = rng.normal(0, 0.006, 2)
    images, stack = [], []
    bend = F.interpolate(
        torch.from_numpy(rng.normal(0, 0.006, (2, 1, 4, 4)).astype(np.float32)), size=(side, side), mode="bicubic"
    )[:, 0]
    soft = float(rng.uniform(1.0, 4.0))
    for z in range(slices):
        peeled, replaced = cut(float(z))
        lost = np.maximum(peeled - first, 0)[labels]
        alpha = torch.from_numpy(1 / (1 + np.exp(np.clip(-(distance - lost) / soft, -40, 40)))).float()
        alpha = torch.where(torch.from_numpy(lost > 0), alpha, torch.ones(()))
        # A body near its end is dimmer, since the slice is as thick as what is left of it.
        plane = background * (1 - alpha) + image * alpha
        kept = np.where((distance > lost) | (lost == 0), labels + count * replaced[labels] * (labels > 0), 0)
        moved, moved_labels = _bend(plane, kept, torch.from_numpy(drift * z).float().view(2, 1, 1) + bend * z)
        noise = torch.from_numpy(rng.standard_normal((1, side, side), dtype=np.float32))
        images.append((moved + noise * float(rng.uniform(0, 0.02))).clamp(0, 1))
        stack.append(moved_labels)
    return torch.stack(images), np.stack(stack)


def _bend(image: Tensor, labels: np.ndarray, shift: Tensor) -> tuple[Tensor, np.ndarray]:
    """Resample at positions moved by ``shift`` ``(2, S, S)``, in units of the side."""
    side = labels.shape[-1]
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x + 2 * shift[1], y + 2 * shift[0]], -1)[None]
    moved = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    ids = torch.from_numpy(labels.astype(np.float32))[None, None]
    nearest = F.grid_sample(ids, grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    return moved, nearest.numpy().round().astype(np.int32)

"""Clips: a few views with the masks of some objects, cut from annotated images and synthetic volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_medsam2.training.augment import jitter_intensity
from napari_medsam2.training.cutting import crop, crop_labels, turn, window_around
from napari_medsam2.training.pool import read_volume
from napari_medsam2.training.sinking import sink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_medsam2.training.pool import AnnotatedImage
    from napari_medsam2.training.synthetic import SyntheticVolume

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
_MANY = 4
"""Of how many bodies of one kind one stands for all; of fewer it is meant alone."""


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
    own : float
        Share of the synthetic collections whose object is one body, and none of what is like it.
    inverse : float
        Share of the real collections whose object is all that is no body.
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
        own: float = 0.0,
        inverse: float = 0.0,
    ) -> None:
        self._groups: dict[str, list[AnnotatedImage]] = {}
        for image in images:
            if len(image.boxes):
                self._groups.setdefault(image.group, []).append(image)
        self._volumes, self._side, self._rng, self._pieces = list(volumes), side, rng, pieces
        self._far, self._some, self._lone, self._salient = far, some, lone, salient
        self._own, self._inverse = own, inverse

    def single(self, objects: int, real: bool) -> Clip:
        """One view with up to ``objects`` objects."""
        return self._stack(1, objects, real)

    def stack(self, slices: int, objects: int, real: bool) -> Clip:
        """Views of neighbouring slices with up to ``objects`` objects that are there in the first."""
        return self._stack(slices, objects, real)

    def collection(self, size: int, real: bool) -> Clip:
        """Views of different images of one kind; the one object is everything of one class."""
        if real:
            return self._collection_real(size)
        if self._own and self._rng.random() < self._own:
            return self._collection_of_one(size)
        return self._collection_synthetic(size)

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
        window = window_around(box, source.labels.shape, rng, fill=_FILLS[far])
        labels = crop_labels(source.labels, window, self._side)
        image = crop(source.image, window, self._side)
        labels, (image, background) = turn(rng, labels, [image, crop(source.background, window, self._side)])
        chosen = _choose(labels, objects, rng, _LEAST[far])
        if not chosen:
            return None
        if slices == 1:
            images, stack = image[None], labels[None]
        else:
            images, stack = sink(image, background, labels, slices, rng)
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
            bodies = crop_labels(source.labels, window, self._side)
            bodies, (image,) = turn(rng, bodies, [crop(source.image, window, self._side)])
            images.append(image)
            masks.append(bodies)
        views = jitter_intensity(torch.stack(images), rng, each=0.5)
        if self._inverse and rng.random() < self._inverse:
            return Clip(views, torch.from_numpy(np.stack(masks) == 0)[None], ordered=False)
        return self._kind(views, masks)

    def _kind(self, images: Tensor, bodies: list[np.ndarray], some: bool = True) -> Clip:
        """A collection's clip; sometimes, if so, some of the bodies are painted on its first image, as people do."""
        masks = torch.from_numpy(np.stack(bodies) > 0)[None]
        given = None
        if some and self._some and self._rng.random() < self._some:
            numbers = np.unique(bodies[0][bodies[0] > 0])
            # Of a few large bodies one is rather meant alone, of many small ones it stands for all.
            if len(numbers) >= (_MANY if self._own else 2):
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
        window = window_around(np.array(boxes[rng.integers(len(boxes))]), labels.shape[1:], rng, _FILLS[far], 48.0)
        images = torch.stack([crop(volume.images[i], window, self._side) for i in order])
        stack = np.stack([crop_labels(plane, window, self._side) for plane in labels])
        stack, (images,) = turn(rng, stack, [images])
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
                bodies = crop_labels(of_kind, window, self._side)
                bodies, (image,) = turn(rng, bodies, [crop(volume.images[i], window, self._side)])
                images.append(image)
                masks.append(bodies)
            views = jitter_intensity(torch.stack(images), rng, strength=0.6, each=0.3)
            # One organ of a tissue doesn't stand for all others of it.
            return self._kind(views, masks, some=not self._own or _one_kind(volume))
        raise RuntimeError("no class in common in fifty synthetic volumes")

    def _collection_of_one(self, size: int) -> Clip:
        """Sections through one specimen, in no order; the object is one body, wherever it is seen."""
        rng = self._rng
        near = [p for i, p in enumerate(self._volumes) if i % 4 != 3]
        for _ in range(80):
            volume = read_volume(near[rng.integers(len(near))])
            order = rng.permutation(len(volume.images))[:size]
            labels = volume.labels[order].numpy().astype(np.int32)
            numbers, areas = np.unique(labels[0][labels[0] > 0], return_counts=True)
            share = areas / labels[0].size
            good = (share > 0.002) & (share < 0.5)
            # Of many cells one stands for all; of a body's parts each has a name of its own.
            if not good.any() or (_one_kind(volume) and len(numbers) >= _MANY):
                continue
            value = int(rng.choice(numbers[good]))
            side, images, masks = float(labels.shape[-1]), [], []
            share_of_side = rng.uniform(0.75, 1.15)
            for index, plane in zip(order, labels, strict=True):
                width = side * share_of_side * rng.uniform(0.93, 1.07)
                y, x = (side - width) / 2 + rng.uniform(-0.05, 0.05, 2) * side
                window = (float(y), float(x), width)
                images.append(crop(volume.images[index], window, self._side))
                masks.append(crop_labels(plane, window, self._side) == value)
            stack, (views,) = turn(rng, np.stack(masks), [torch.stack(images)])
            if stack[0].mean() > 0.0015:
                return Clip(jitter_intensity(views, rng, strength=0.6, each=0.3), torch.from_numpy(stack)[None], False)
        raise RuntimeError("no body to be sought alone in eighty synthetic volumes")


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


def _one_kind(volume: SyntheticVolume) -> bool:
    """Whether a volume is of cells or the like, and not of a body, whose parts have names of their own."""
    return int(volume.classes.max()) < 3


def _masks(stack: np.ndarray, chosen: list[int]) -> Tensor:
    return torch.from_numpy(stack[None] == np.array(chosen).reshape(-1, 1, 1, 1))

"""The three exercises of a training step: prompted views, propagation through a stack, and through a collection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_medsam2.backend._planes import draw_planes
from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.training.losses import mask_loss
from napari_medsam2.training.prompting import corrective_click, first_prompt, spoil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.backend._compact_network import CompactNetwork, Features, Prediction
    from napari_medsam2.training.clips import Clip

__all__ = ["Exercise", "collection_exercise", "collection_walk", "prompt_exercise", "stack_exercise"]


@dataclass(slots=True)
class Exercise:
    """Sum of the losses and the IoUs reached, by name."""

    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    ious: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, loss: Tensor, iou: Tensor, present: Tensor, weight: float = 1.0) -> None:
        """Count one prediction."""
        self.loss = self.loss + weight * loss
        self.ious.setdefault(name, []).extend(iou[present].tolist())


def _targets(masks: Tensor) -> Tensor:
    """``(O, S, S)`` bool to ``(O, 1, S/2, S/2)`` shares."""
    return F.avg_pool2d(masks.float().unsqueeze(1), 2)


def _encode(network: CompactNetwork, images: Tensor) -> Features:
    images = images.to(network.sharpness.device)
    return network.encode(images.contiguous(memory_format=torch.channels_last))


def _objects(clips: Sequence[Clip], fixed: int) -> tuple[Tensor, Tensor]:
    """The masks of all objects, ``(O, T, S, S)``, and which clip each is of; ``fixed`` a clip on average, if given."""
    masks = torch.cat([c.masks for c in clips])
    owner = torch.cat([torch.full((len(c.masks),), i) for i, c in enumerate(clips)])
    if not fixed:
        return masks, owner
    # Some are left out, or come twice and then get prompts of their own.
    even = torch.linspace(0, len(masks) - 1, fixed * len(clips)).round().long()
    return masks[even], owner[even]


def prompt_exercise(
    network: CompactNetwork, clips: Sequence[Clip], rng: np.random.Generator, fixed: int = 0
) -> Exercise:
    """A first prompt, then a click into the largest error of what came out."""
    out = Exercise()
    side = clips[0].images.shape[-1]
    features = _encode(network, torch.cat([c.images[:1] for c in clips]))
    masks, owner = _objects(clips, fixed)
    masks, device = masks[:, 0], features.key.device
    features = features.take(owner.to(device))
    target, present = _targets(masks.to(device)), torch.ones(len(masks), dtype=torch.bool, device=device)
    nothing = torch.zeros(len(masks), dtype=torch.bool, device=device)
    arrays = masks.numpy()
    prompts = [first_prompt(m, rng, clips[i].pieces, clips[i].far) for m, i in zip(arrays, owner.tolist(), strict=True)]
    prediction = network.decode(features, draw_planes(prompts, side).to(device), None, nothing)
    loss, iou = mask_loss(prediction, target, present)
    clicked = torch.tensor([p.box is None for p in prompts], device=device)
    out.add("prompt", loss, iou, present)
    out.ious["box"], out.ious["click"] = iou[~clicked].tolist(), iou[clicked].tolist()

    # Clicks until the mask is good come one after the other: sometimes the last of a few is what is learned from.
    rounds = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    for turn in range(rounds):
        prompts = [_corrected(m, p, g) for m, p, g in zip(arrays, prompts, _guess(prediction, side), strict=True)]
        with torch.set_grad_enabled(turn == rounds - 1):
            prediction = network.decode(features, draw_planes(prompts, side).to(device), None, nothing)
    loss, iou = mask_loss(prediction, target, present)
    out.add("corrected", loss, iou, present, 0.7)
    return out


def _guess(prediction: Prediction, side: int) -> Tensor:
    """The mask that came out, ``(O, S, S)`` probabilities, on the CPU, where prompts are drawn."""
    with torch.no_grad():
        logits = prediction.logits.float()
        guess = F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)[:, 0].sigmoid()
        return guess.cpu()


def _corrected(mask: np.ndarray, prompt: ViewPrompt, guess: Tensor) -> ViewPrompt:
    """The prompt with a click into the largest error of what came out, and with that as the mask so far."""
    click = corrective_click(mask, (guess > 0.5).numpy())
    points, labels = prompt.points, prompt.labels
    if click is not None:
        points = np.concatenate([points, np.array([click[0]], np.float32)])
        labels = np.concatenate([labels, np.array([click[1]])])
    return ViewPrompt(points, labels, prompt.box, guess)


def stack_exercise(
    network: CompactNetwork, clips: Sequence[Clip], rng: np.random.Generator, fixed: int = 0
) -> Exercise:
    """From the first slice's mask through the following ones, as the engine does it."""
    out = Exercise()
    slices, side = clips[0].images.shape[0], clips[0].images.shape[-1]
    features = _encode(network, torch.cat([c.images for c in clips]))
    masks, owner = _objects(clips, fixed)
    device = features.key.device
    owner, count, cells = owner.to(device), len(masks), side // 16
    known = torch.ones(count, dtype=torch.bool, device=device)
    axis = (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) / cells
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(-1, 2)
    nearness = network.position_bias(grid, grid)

    keys: list[Tensor] = []
    values: list[Tensor] = []
    carried = masks[:, 0].float()
    for t in range(slices):
        here = features.take(owner * slices + t)
        if t > 0:
            # Sometimes only the first memory, sometimes no carried mask: the bank and the neighbour must each help.
            used = [0] if rng.random() < 0.3 else list(range(len(keys)))
            query, all_keys = here.key, torch.cat([keys[i] for i in used], 2)
            all_values = torch.cat([values[i] for i in used], 2)
            readout = network.read(query, all_keys, all_values, nearness.repeat(1, len(used)).unsqueeze(0))
            with_carried = rng.random(count) < 0.85
            prompts = [
                ViewPrompt(*NO_POINTS, carried=c if w else None) for c, w in zip(carried, with_carried, strict=True)
            ]
            prediction = network.decode(here, draw_planes(prompts, side).to(device), readout, known)
            truth = masks[:, t].to(device)
            present = truth.flatten(1).any(1)
            loss, iou = mask_loss(prediction, _targets(truth), present)
            out.add("stack", loss, iou, present)
            out.ious.setdefault("score", []).extend(((prediction.score > 0) == present).float().tolist())
            guess = _guess(prediction, side)
            # Some of the time the truth goes on, so that early errors do not fill the later slices.
            true = torch.from_numpy(rng.random(count) < 0.3).view(-1, 1, 1)
            carried = torch.where(true, masks[:, t].float(), guess)
        mask = carried
        if t == 0 and rng.random() < 0.3:
            mask = torch.from_numpy(np.stack([spoil(m, rng) for m in masks[:, 0].numpy()])).float()
        keys.append(here.key.flatten(2))
        memory = network.remember(here, F.avg_pool2d(mask.to(device).unsqueeze(1), 4))
        values.append(memory.flatten(2))
    return out


def collection_exercise(
    network: CompactNetwork, clips: Sequence[Clip], rng: np.random.Generator, fixed: int = 0
) -> Exercise:
    """From the masks of one or two images to another image of the kind, whose one object is all of a class.

    Where not all of the first image's bodies are painted, all of the other image's are wanted all the same: who paints
    a few nuclei means nuclei.
    """
    out = Exercise()
    size = clips[0].images.shape[0]
    features = _encode(network, torch.cat([c.images for c in clips]))
    device = features.key.device
    masks = torch.cat([c.masks for c in clips]).to(device)
    first = torch.arange(len(clips), device=device) * size
    painted = torch.cat([c.masks if c.given is None else c.given for c in clips]).to(device)
    known = int(rng.integers(1, size))
    keys, values = [], []
    for t in range(known):
        here = features.take(first + t)
        keys.append(here.key.flatten(2))
        values.append(network.remember(here, F.avg_pool2d(painted[:, t].float().unsqueeze(1), 4)).flatten(2))
    here = features.take(first + size - 1)
    readout = network.read(here.key, torch.cat(keys, 2), torch.cat(values, 2))
    prompts = [ViewPrompt(*NO_POINTS)] * len(clips)
    side = clips[0].images.shape[-1]
    remembered = torch.ones(len(clips), dtype=torch.bool, device=device)
    prediction = network.decode(here, draw_planes(prompts, side).to(device), readout, remembered, collection=True)
    present = masks[:, -1].flatten(1).any(1)
    loss, iou = mask_loss(prediction, _targets(masks[:, -1]), present)
    out.add("collection", loss, iou, present)
    return out


def collection_walk(
    network: CompactNetwork, clips: Sequence[Clip], rng: np.random.Generator, fixed: int = 0
) -> Exercise:
    """From what is painted on the first image through the others, as the engine does it.

    What comes out of an image is remembered for the next ones, so that what was missed there is learned to be found
    nevertheless. Now and then the truth is, as where a person corrected.
    """
    out = Exercise()
    size, side = clips[0].images.shape[0], clips[0].images.shape[-1]
    features = _encode(network, torch.cat([c.images for c in clips]))
    device = features.key.device
    masks = torch.cat([c.masks for c in clips]).to(device)
    painted = torch.cat([c.masks if c.given is None else c.given for c in clips])[:, 0].to(device)
    first = torch.arange(len(clips), device=device) * size
    planes = draw_planes([ViewPrompt(*NO_POINTS)] * len(clips), side).to(device)
    remembered = torch.ones(len(clips), dtype=torch.bool, device=device)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    shares = F.avg_pool2d(painted.float().unsqueeze(1), 4)
    for t in range(size):
        here = features.take(first + t)
        if t > 0:
            readout = network.read(here.key, torch.cat(keys, 2), torch.cat(values, 2))
            prediction = network.decode(here, planes, readout, remembered, collection=True)
            present = masks[:, t].flatten(1).any(1)
            loss, iou = mask_loss(prediction, _targets(masks[:, t]), present)
            out.add("collection", loss, iou, present)
            out.ious.setdefault("first" if t == 1 else "later", []).extend(iou[present].tolist())
            guess = F.avg_pool2d(prediction.logits.detach().float().sigmoid(), 2)
            guess = guess * (prediction.score > 0).view(-1, 1, 1, 1)
            true = torch.from_numpy(rng.random(len(clips)) < 0.2).to(device).view(-1, 1, 1, 1)
            shares = torch.where(true, F.avg_pool2d(masks[:, t].float().unsqueeze(1), 4), guess)
        keys.append(here.key.flatten(2))
        values.append(network.remember(here, shares).flatten(2))
    return out

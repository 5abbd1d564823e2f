"""The trainer: seeded, resumable, with a running average of the weights."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_medsam2._files import atomic_path, write_bytes
from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.backend._compact_weights import convert_imagenet, widen_judge
from napari_medsam2.errors import InputError
from napari_medsam2.training.clips import ClipSource
from napari_medsam2.training.depthwise import quicken
from napari_medsam2.training.shares import Graded, Workers, graded, halves, summed
from napari_medsam2.training.steps import collection_exercise, prompt_exercise, stack_exercise
from napari_medsam2.training.synthetic import BODIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_medsam2.training.pool import AnnotatedImage

__all__ = ["PHASES", "Recipe", "Trainer", "check_material", "export_weights"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out of training, but the data."""

    seed: int = 0
    steps: int = 2000
    side: int = 192
    final_side: int = 256
    final_share: float = 0.0
    """The share of the steps at the end that is made at ``final_side``, while the learning rate, steady until then,
    falls in a straight line to a hundredth."""
    singles: int = 8
    stacks: int = 2
    slices: int = 5
    collections: int = 2
    objects: int = 3
    real: float = 0.5
    """Share of the clips cut from real images; the others are synthetic."""
    learning_rate: float = 1e-3
    encoder_share: float = 0.25
    """The encoder's learning rate relative to the rest's, since it starts from ImageNet."""
    warmup: int = 100
    weight_decay: float = 0.02
    average: float = 0.998
    bfloat16: bool = True
    frozen: int = 0
    """How many of the encoder's blocks, from its stem on, are left as they are; their backward pass is the dearest."""
    pieces: float = 0.1
    """Share of the synthetic prompted views in which an object is several bodies that look alike."""
    pool: int = 0
    """Which drawing of synthetic volumes; another one shows the network bodies that it has not seen yet."""
    bodies: float = BODIES
    """Share of sections through bodies among the synthetic volumes."""


PHASES = (
    Recipe(),
    Recipe(
        seed=1, steps=1500, final_share=0.3, stacks=3, collections=1, real=0.4, learning_rate=5e-4, warmup=30, frozen=3,
        pieces=0.15, pool=1, bodies=0.65,
    ),
    Recipe(
        seed=2, steps=2800, final_share=0.4, stacks=3, collections=1, real=0.5, learning_rate=5e-4, warmup=30, frozen=3,
        pieces=0.15, pool=2, bodies=0.6,
    ),
)  # fmt: skip
"""The recipes, one after the other; each goes on from the averaged weights of the one before."""


class Trainer:
    """Trains a `CompactNetwork`; `save` and `load` hold all of its state.

    Parameters
    ----------
    recipe : Recipe
        The settings.
    images : sequence of AnnotatedImage
        Real images.
    volumes : sequence of Path
        Synthetic volumes, from `synthetic_pool`.
    imagenet : dict, optional
        EfficientNet-Lite0 weights to start the encoder from; random where not given.
    weights : dict, optional
        Weights of this network to start from, such as an earlier phase's.
    material : mapping, optional
        What it is trained on and started from, see `check_material`; checkpoints of other material are refused.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Sequence[AnnotatedImage],
        volumes: Sequence[Path],
        imagenet: dict[str, torch.Tensor] | None = None,
        weights: dict[str, torch.Tensor] | None = None,
        material: Mapping[str, str] | None = None,
    ) -> None:
        self._material = dict(material or {})
        torch.manual_seed(recipe.seed)
        self.recipe, self.step, self.seconds = recipe, 0, 0.0
        self._images, self._volumes, self._workers = images, volumes, Workers()
        self.network = CompactNetwork()
        if imagenet is not None:
            self.network.encoder.load_state_dict(convert_imagenet(imagenet), strict=False)
        if weights is not None:
            self.network.load_state_dict({k: v.float() for k, v in widen_judge(weights).items()}, strict=False)
        quicken(self.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train()
        if recipe.frozen:
            early = self.network.encoder
            for part in (early.stem, early.stem_norm, *early.blocks[: recipe.frozen]):
                part.requires_grad_(False)
        self.average = {k: v.detach().clone().float() for k, v in self.network.state_dict().items()}
        encoder = [p for n, p in self.network.named_parameters() if n.startswith("encoder.")]
        rest = [p for n, p in self.network.named_parameters() if not n.startswith("encoder.")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.ndim > 1], "share": 1.0},
                {"params": [p for p in rest if p.ndim <= 1], "share": 1.0, "weight_decay": 0.0},
                {"params": encoder, "share": recipe.encoder_share, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )

    def _rate(self) -> float:
        r = self.recipe
        if self.step < r.warmup:
            return (self.step + 1) / r.warmup
        left = (r.steps - self.step) / max(1.0, r.steps * r.final_share)
        return 0.01 + 0.99 * min(1.0, left)

    def advance(self) -> tuple[float, dict[str, float]]:
        """Make one step; the loss, and the mean IoU of each exercise.

        The step's randomness depends on the seed and the step's number only, so that a run that was interrupted and
        resumed makes the same steps as one that was not.
        """
        started = time.monotonic()
        r = self.recipe
        side = r.final_side if self.step >= r.steps * (1 - r.final_share) else r.side
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = r.learning_rate * rate * group["share"]
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        shares = self._workers.all([partial(self._share, *s, side, parameters) for s in self._shares()])
        summed(shares, parameters)
        ious: dict[str, list[float]] = {}
        for share in shares:
            for name, values in share.ious.items():
                ious.setdefault(name, []).extend(values)
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimizer.step()
        self.step += 1
        decay = min(r.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value.float(), 1 - decay)
        self.seconds += time.monotonic() - started
        return sum(s.loss for s in shares), {name: float(np.mean(v)) for name, v in ious.items() if v}

    def _shares(self) -> list[tuple[int, str, int, float]]:
        """The step's parts, the dearest first: number, kind, how many clips, and what they weigh in the loss."""
        r = self.recipe
        parts = [("prompt", n, n / r.singles) for n in halves(r.singles)]
        parts += [("stack", n, 0.6 * n / r.stacks) for n in halves(r.stacks)]
        parts += [("collection", r.collections, 0.6)] if r.collections else []
        return [(i, *p) for i, p in enumerate(parts)]

    def _share(
        self, number: int, kind: str, count: int, weight: float, side: int, parameters: Sequence[Tensor]
    ) -> Graded:
        r = self.recipe
        rng = np.random.default_rng([r.seed, 1, self.step, number])
        source = ClipSource(self._images, self._volumes, side, rng, r.pieces)
        real = [bool(v) for v in rng.random(count) < r.real]
        if kind == "prompt":
            exercise = partial(prompt_exercise, self.network, [source.single(r.objects, v) for v in real], rng)
        elif kind == "stack":
            exercise = partial(stack_exercise, self.network, [source.stack(r.slices, r.objects, v) for v in real], rng)
        else:
            exercise = partial(collection_exercise, self.network, [source.collection(3, v) for v in real], rng)
        return graded(exercise, weight, parameters, r.bfloat16)

    def save(self, path: Path) -> None:
        """Write the whole state, atomically."""
        state = {
            "recipe": asdict(self.recipe),
            "material": self._material,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from `save`.

        Raises
        ------
        InputError
            If the file is of another recipe or other material, or cannot be read.
        """
        state = _read(path)
        _check(path, state, self._material)
        if state["recipe"] != asdict(self.recipe) and not self._same_so_far(state["recipe"], state["step"]):
            raise InputError(f"{path} was trained with another recipe; give another output folder or delete it")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]

    def _same_so_far(self, other: dict[str, Any], step: int) -> bool:
        """Whether another recipe made the same steps until here: a steady rate does not depend on when it will fall."""
        own = asdict(self.recipe)
        ends = {"steps", "final_share"}
        falls = [r["steps"] * (1 - r["final_share"]) for r in (own, other)]
        alike = {k: v for k, v in own.items() if k not in ends} == {k: v for k, v in other.items() if k not in ends}
        return bool(alike and step <= min(falls))


def check_material(path: Path, material: Mapping[str, str]) -> None:
    """Refuse a checkpoint that was made of something else.

    Parameters
    ----------
    path : Path
        The checkpoint.
    material : mapping
        What must be the same, by what a person calls it (``"images"``), with what tells it from others: a digest.
        What a checkpoint does not say, as those of earlier versions, may be anything.

    Raises
    ------
    InputError
        If the file is of other material or cannot be read.
    """
    _check(path, _read(path), material)


def _check(path: Path, state: dict[str, Any], material: Mapping[str, str]) -> None:
    known = state.get("material", {})
    for what, value in material.items():
        if known.get(what, value) != value:
            raise InputError(f"{path} was trained with other {what}; give another output folder or delete it")


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"cannot resume from {path}: it is damaged ({error}); delete it to start anew") from error
    return state


def export_weights(trainer: Trainer, path: Path) -> None:
    """Write the averaged weights as fp16 safetensors, with what they are in the header."""
    from safetensors.torch import save

    tensors = {k: v.half().contiguous() for k, v in trainer.average.items() if not k.endswith("num_batches_tracked")}
    header = {
        "format": "napari-medsam2-compact",
        "version": "1",
        "recipe": json.dumps(asdict(trainer.recipe)),
        "step": str(trainer.step),
    }
    write_bytes(path, save(tensors, metadata=header))

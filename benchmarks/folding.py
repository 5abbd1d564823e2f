"""What it is worth to fold the embedded encoder's batch norms into its convolutions, and to pad in these.

Run: ``python -m benchmarks.folding [--device cpu]``: the encoder as it is trained and as it is used, in turn, on
batches of views; medians in milliseconds, and the largest difference of a map relative to its largest value.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

import napari_medsam2
from benchmarks._machine import machine, median_seconds
from napari_medsam2.backend._compact_folding import folded
from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.backend._compact_weights import load_state

if TYPE_CHECKING:
    from collections.abc import Callable

_SHIPPED = Path(napari_medsam2.__file__).parent / "backend" / "weights" / "compact.safetensors"
_BATCHES = (1, 2, 4, 8)


def _encode(encoder: Callable[[torch.Tensor], object], views: torch.Tensor, _: int) -> object:
    return encoder(views)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=15)
    args = parser.parse_args()
    print(machine())
    network = CompactNetwork()
    load_state(network, load_file(_SHIPPED), "the shipped weights")
    network.eval().to(args.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ways = {"trained": network.encoder, "folded": folded(network.encoder)}
    print(f"{'views':>5}{'trained':>12}{'folded':>12}{'times as fast':>16}{'difference':>14}")
    for count in _BATCHES:
        views = torch.rand(count, 3, 256, 256, device=args.device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            one, other = (encoder(views) for encoder in ways.values())
            apart = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(one, other, strict=True))
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            # In turn, so that what else the machine does falls on both alike.
            for _ in range(args.repeat):
                for name, encoder in ways.items():
                    seconds[name].append(median_seconds(1, args.device, partial(_encode, encoder, views)))
        plain, quick = (sorted(times)[len(times) // 2] for times in seconds.values())
        print(f"{count:>5}{plain * 1e3:>9.1f} ms{quick * 1e3:>9.1f} ms{plain / quick:>16.2f}{apart:>14.0e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Peak memory of a propagation through 200 and through 2,000 slices that are made when they are read.

``python -m benchmarks.memory``: the peak must not grow with the number of slices. Each size runs in a process of its
own, since a process never gives its peak back. ``--most RATIO`` fails where it grows by more.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_SIDE = 512


class Slices:
    """A stack of noisy disks that drift, made slice by slice; nothing is kept."""

    dtype = np.dtype(np.uint16)

    def __init__(self, count: int) -> None:
        self.shape = (count, _SIDE, _SIDE)
        self._y, self._x = np.ogrid[:_SIDE, :_SIDE]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Make the slices at ``key``."""
        number, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(number, slice):
            made = [self._make(n) for n in range(*number.indices(self.shape[0]))]
            return np.stack(made)[(slice(None), *rest)]
        return np.asarray(self._make(int(number))[tuple(rest)])

    def _make(self, number: int) -> np.ndarray:
        image = np.random.default_rng(number).normal(200, 20, self.shape[1:])
        for cy, cx, radius in ((150, 160, 40), (350, 330, 60)):
            y, x = cy + 20 * np.sin(number / 40), cx + 20 * np.cos(number / 55)
            image[(self._y - y) ** 2 + (self._x - x) ** 2 <= radius**2] += 300
        return image.clip(0, 4095).astype(np.uint16)


def _peak() -> float:
    """Peak resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _run(count: int) -> dict[str, float]:
    """Propagate two boxes through a stack, write its labels, and give the peak memory and the seconds a slice."""
    import tempfile

    from napari_medsam2 import AnnotationSession, ImageStack, load_backend
    from napari_medsam2.export import write_labels

    stack = ImageStack(Slices(count), "ZYX")
    session = AnnotationSession(stack, backend=load_backend("compact", device="cpu"))
    session.add_box(session.add_object(), 0, (109.5, 139.5, 190.5, 220.5))
    session.add_box(session.add_object(), 0, (289.5, 289.5, 410.5, 410.5))
    before, began = _peak(), time.perf_counter()
    # Without patience every slice is computed, whatever the model thinks of it.
    visited = sum(1 for _ in session.propagate(patience=None))
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        write_labels(Path(folder) / "labels.tif", session)
    return {"slices": count, "visited": visited, "before": before, "peak": _peak(), "seconds": seconds / visited}


def main() -> int:
    """Measure both sizes, print them and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--most", type=float, help="fail where the last peak is so many times the first, or more")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_run(args.child)))
        return 0
    from benchmarks._machine import machine

    print(machine())
    peaks = []
    for count in args.slices:
        command = [sys.executable, "-m", "benchmarks.memory", "--child", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        peaks.append(row["peak"])
        print(
            f"{count:>6} slices of {_SIDE} × {_SIDE}, 2 objects: peak {row['peak']:.0f} MiB "
            f"({row['before']:.0f} before propagating), {row['seconds']:.3f} s a slice, {row['visited']} computed"
        )
    ratio = peaks[-1] / peaks[0]
    print(f"ratio of the peaks: {ratio:.2f}")
    return int(args.most is not None and ratio >= args.most)


if __name__ == "__main__":
    sys.exit(main())

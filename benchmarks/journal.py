"""What the journal adds to a click, and how long a session takes to open.

Run: ``python -m benchmarks.journal [FOLDER]``. The folder's disk decides: give one on the disk that matters.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._machine import machine
from napari_medsam2 import AnnotationSession, ImageStack, load_backend

_CLICKS = 60


def main() -> None:
    """Print medians in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu")
    rng = np.random.default_rng(0)
    stack = ImageStack(rng.integers(0, 255, (8, 256, 256)).astype(np.uint8), "ZYX", window=(0, 255))
    print(machine())
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        session = AnnotationSession.create(Path(place) / "s", stack, backend=backend)
        session.add_object()
        journal, whole, sizes = [], [], []
        write = session._document._save

        def timed(piece: object) -> None:
            began = time.perf_counter()
            write(piece)  # type: ignore[arg-type]
            journal.append(time.perf_counter() - began)

        session._document._save = timed  # type: ignore[method-assign]
        commit = session._document.commit

        def committed(*args: object, **kwargs: object) -> bool:
            began = time.perf_counter()
            done = commit(*args, **kwargs)  # type: ignore[arg-type]
            whole.append(time.perf_counter() - began)
            return done

        session._document.commit = committed  # type: ignore[method-assign]
        assert session.folder is not None
        path = session.folder / "session.journal"
        for number in range(_CLICKS):
            before = path.stat().st_size
            session.add_points(1, number % 8, [rng.uniform(20, 230, 2)], [1])
            sizes.append(path.stat().st_size - before)
        session.close()
        handle = os.open(Path(place) / "probe", os.O_CREAT | os.O_WRONLY)
        bare = []
        for _ in range(_CLICKS):
            began = time.perf_counter()
            os.write(handle, bytes(int(np.median(sizes))))
            getattr(os, "fdatasync", os.fsync)(handle)
            bare.append(time.perf_counter() - began)
        os.close(handle)
        began = time.perf_counter()
        AnnotationSession.open(Path(place) / "s", backend=backend, stack=stack).close()
        opened = time.perf_counter() - began
    for name, values in (("append and sync", journal), ("with packing", whole), ("this disk alone", bare)):
        print(
            f"{name:<18}{1000 * np.median(values):7.2f} ms median, {1000 * np.percentile(values, 90):7.2f} ms of 90 %"
        )
    print(f"{'a click takes':<18}{np.median(sizes) / 1024:7.1f} KiB; {_CLICKS} clicks open in {opened:.2f} s")


if __name__ == "__main__":
    main()

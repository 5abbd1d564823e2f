"""How far half precision is from float32, on the sample images.

``python -m benchmarks.precision``: a narrow SAM 2.1 with random weights (of the tests) looks at the middle of each
sample, is given a box around each of up to eight objects, and carries the masks on for five slices; in float32 and in
bfloat16, on the CPU.
Random weights amplify differences more than trained ones do, so that these figures are a bound rather than a forecast.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

_SIDE, _SLICES, _OBJECTS = 256, 5, 8


def network(precision: str, device: str = "cpu") -> Any:
    """A narrow SAM 2.1 with weights from a seed."""
    import torch
    from tests.sam2 import recorded
    from tests.sam2.cases import values

    from napari_medsam2.backend._sam2_model import filled
    from napari_medsam2.backend.conversion import read_config, translate
    from napari_medsam2.backend.sam2 import Sam2Backend

    records = Path(__file__).parents[1] / "tests" / "sam2" / "records" / "sam2.1.npz"
    with np.load(records) as data:
        made = values(recorded.unpack_shapes(data["shapes"]), 1)
    tensors, _ = translate({k: torch.from_numpy(np.asarray(v)) for k, v in made.items()})
    return Sam2Backend(filled(read_config(tensors, _SIDE), tensors, "random weights"), device, precision=precision)


def masks(backend: Any, stack: Any, labels: np.ndarray, middle: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks of the objects on the slices from the middle on, and the middle's features."""
    from napari_medsam2 import AnnotationSession
    from napari_medsam2.geometry import mask_box, whole_slice

    session = AnnotationSession(stack, backend=backend, memory="fifo")
    found = []
    for label in np.unique(labels)[1 : _OBJECTS + 1]:
        box = mask_box(labels == label)
        assert box is not None
        found.append(session.add_box(session.add_object(), middle, box).mask)
    for number, result in enumerate(session.propagate(direction="forward", patience=None, part=False)):
        found += [one.mask for one in result.objects]
        if number + 1 == _SLICES:
            break
    view = whole_slice(stack.slice_shape(middle), backend.views)
    return found, backend.encode(view.cut(stack.pixels(middle))[None]).descriptor[0].cpu().numpy()


def main() -> int:
    """Print a line a sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    import tifffile
    from tests.sam2.cases import iou

    from napari_medsam2.samples import SAMPLES

    exact, half = network("float32"), network("bfloat16")
    for name, sample in SAMPLES.items():
        stack = sample.open()
        middle = len(stack) // 2
        labels = tifffile.imread(sample.labels)[middle]
        (a, x), (b, y) = (masks(backend, stack, labels, middle) for backend in (exact, half))
        overlaps = [iou(p, q) for p, q in zip(a, b, strict=True)]
        print(
            f"{name:28} features' cosine {float(x @ y):.5f}  IoU of {len(overlaps)} masks: "
            f"mean {np.mean(overlaps):.3f}, least {min(overlaps):.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

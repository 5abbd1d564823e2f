"""Objects that are followed alone: one prompt, no other objects whose prompts would say where this one ends.

``python -m benchmarks.alone [--weights FILE]``: every object of 200 voxels or more of the sample stacks, from a click
in its middle and from a box, on its largest slice, carried through the stack. 3-D Dice; the share of objects under 0.5;
and of those that came out more than twice as large as they are, which is what becomes of a walk that goes over into a
neighbour.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._machine import machine

if TYPE_CHECKING:
    from napari_medsam2 import ImageStack
    from napari_medsam2.backend.protocol import Backend

_LEAST = 200


def followed(stack: ImageStack, backend: Backend, truth: np.ndarray, box: bool) -> np.ndarray:
    """Prompt one object on its largest slice and carry it on.

    Parameters
    ----------
    stack : ImageStack
        The images.
    backend : Backend
        The model.
    truth : ndarray
        ``(Z, Y, X)`` bool.
    box : bool
        Whether a box is given; a click in the middle otherwise.

    Returns
    -------
    ndarray
        ``(Z, Y, X)`` bool.
    """
    from napari_medsam2 import AnnotationSession
    from napari_medsam2.evaluation.annotator import innermost
    from napari_medsam2.geometry import tight_box

    index = int(truth.sum((1, 2)).argmax())
    session = AnnotationSession(stack, backend=backend)
    label = session.add_object()
    if box:
        session.add_box(label, index, tight_box(truth[index]))
    else:
        session.add_points(label, index, [innermost(truth[index])], [1])
    for _ in session.propagate():
        pass
    found: np.ndarray = np.asarray(session.labels()) == label
    return found


def main() -> int:
    """Print a line a stack and kind of prompt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="in place of the embedded model's own")
    given = parser.parse_args()
    import tifffile

    from napari_medsam2 import load_backend
    from napari_medsam2.metrics import dice
    from napari_medsam2.samples import SAMPLES

    print(machine())
    backend = load_backend("compact", device="cpu", weights=given.weights)
    for name, sample in SAMPLES.items():
        if sample.kind != "stack":
            continue
        stack = sample.open()
        labels = tifffile.imread(sample.labels)
        objects = [label for label in np.unique(labels)[1:] if np.count_nonzero(labels == label) >= _LEAST]
        for box in (False, True):
            scores, sizes = [], []
            for label in objects:
                truth = labels == label
                mask = followed(stack, backend, truth, box)
                scores.append(dice(mask, truth))
                sizes.append(mask.sum() / truth.sum())
            print(
                f"{name:24}{'box' if box else 'click':6} {len(objects)} objects: mean {np.mean(scores):.3f}, "
                f"median {np.median(scores):.3f}, under 0.5 {np.mean(np.array(scores) < 0.5):.0%}, "
                f"more than twice as large {np.mean(np.array(sizes) > 2):.0%}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

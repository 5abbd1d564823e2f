"""Where the embedded model fails: each case's worst objects from one box, at full zoom, with the reference.

Run: ``python -m benchmarks.failures ../shared/data --output docs/images/failures [--weights FILE] [--count 12]``

White: the reference; orange: the model; dashed: the box that was given. Under each the Dice, and in how many pieces the
reference is. Also prints the mean Dice of references in one piece and in several.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_medsam2 import AnnotationSession, load_backend
from napari_medsam2._canvas import Frame, dashed_box, font, picture
from napari_medsam2._files import atomic_path
from napari_medsam2._outlines import outlines
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.geometry import tight_box
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from napari_medsam2.evaluation.cases import Case, Target

TILE, CAPTION, GAP = 220, 22, 6
WHITE, ORANGE = (255, 255, 255), (255, 140, 0)

Found = tuple[float, int, "Target", np.ndarray]
"""Dice, the reference's pieces, the object and the model's mask."""


def find(case: Case, backend: object) -> list[Found]:
    """Give every object one box; the worst first."""
    out: list[Found] = []
    for target in case.targets():
        session = AnnotationSession(case.stack, backend=backend, kind=case.kind)  # type: ignore[arg-type]
        truth = case.labels(target.index) == target.value
        label = session.add_object()
        session.add_box(label, target.index, tight_box(truth))
        mask = session.slice_labels(target.index) == label
        # Specks of a pixel or two that the reference has lost on its way do not count.
        pieces = sum(size >= 5 for size in np.bincount(ndimage.label(truth)[0].ravel())[1:])
        out.append((dice(mask, truth), int(pieces), target, mask))
    return sorted(out, key=lambda found: found[0])


def tile(case: Case, found: Found) -> Image.Image:
    """Draw one object."""
    score, pieces, target, mask = found
    truth = case.labels(target.index) == target.value
    box = tight_box(truth)
    side = math.ceil(max(box[2] - box[0], box[3] - box[1]) * 1.5) + 4
    top, left = (round((box[i] + box[i + 2] - side) / 2 + 0.5) for i in (0, 1))
    frame = Frame(top, left, side, side, TILE / side)
    pixels = case.stack.pixels(target.index)
    padded = np.zeros((3, side, side), pixels.dtype)
    rows, columns = (range(max(0, at), min(n, at + side)) for at, n in zip((top, left), pixels.shape[1:], strict=True))
    if rows and columns:
        within = padded[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        within[:] = pixels[:, rows.start : rows.stop, columns.start : columns.stop]
    image = picture(padded, Frame(0, 0, side, side, TILE / side))
    draw = ImageDraw.Draw(image)
    for one, colour in ((truth, WHITE), (mask, ORANGE)):
        for line in outlines(one):
            draw.line([frame.place(y - 0.5, x - 0.5) for y, x in (*line, line[0])], fill=colour, width=2)
    corners = (*frame.place(box[0], box[1]), *frame.place(box[2], box[3]))
    dashed_box(draw, corners)
    out = Image.new("RGB", (TILE, TILE + CAPTION))
    out.paste(image.convert("RGB").resize((TILE, TILE)))
    said = f"{score:.2f}" + (f", {pieces} pieces" if pieces > 1 else "")
    ImageDraw.Draw(out).text((4, TILE + 3), said, fill=WHITE, font=font(14))
    return out


def main() -> None:
    """Write a picture and print two lines a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="in place of the embedded model's own")
    parser.add_argument("--count", type=int, default=12)
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu", **({} if given.weights is None else {"weights": given.weights}))
    given.output.mkdir(parents=True, exist_ok=True)
    for folder in find_cases(given.folders):
        case = load_case(folder)
        every = find(case, backend)
        for name, some in (("one piece", [f for f in every if f[1] == 1]), ("several", [f for f in every if f[1] > 1])):
            if some:
                scores = [f[0] for f in some]
                print(f"{case.name}: {len(some)} of {name}: mean {np.mean(scores):.3f}, median {np.median(scores):.3f}")
        worst = every[: given.count]
        columns = min(6, len(worst))
        rows = math.ceil(len(worst) / columns)
        sheet = Image.new("RGB", (columns * (TILE + GAP) - GAP, rows * (TILE + CAPTION + GAP) - GAP))
        for number, found in enumerate(worst):
            sheet.paste(
                tile(case, found), (number % columns * (TILE + GAP), number // columns * (TILE + CAPTION + GAP))
            )
        with atomic_path(given.output / f"{case.name}.png") as temporary:
            sheet.save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    main()

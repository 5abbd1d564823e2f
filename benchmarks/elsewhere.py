"""The same objects through another microscope or scanner: how far the embedded model's masks hold.

Run: ``python -m benchmarks.elsewhere ../shared/data [--objects 60] [--only CHANGE...] [--weights FILE]``

Every case is shown as it is, and changed: at other magnifications, its grey values turned round, dimmed or made
uneven, noisier, less sharp, turned by a quarter, in one colour, or as a part of a picture many times as large. The same
objects get a box, and a click at their innermost pixel. Printed is the mean Dice over the objects that are still of 30
pixels and more, and its difference from that of the same objects in the image as it is, with its standard error.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from benchmarks._machine import machine
from napari_medsam2 import AnnotationSession, ImageStack, load_backend
from napari_medsam2.evaluation import find_cases, load_case
from napari_medsam2.evaluation.annotator import innermost
from napari_medsam2.evaluation.cases import MIN_PIXELS
from napari_medsam2.geometry import tight_box
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.evaluation.cases import Case

_WHITE = 4095


@dataclass(frozen=True, slots=True)
class View:
    """One slice with the objects that are asked for on it.

    Parameters
    ----------
    pixels : ndarray
        ``(C, H, W)`` float32 in [0, 1], with one channel or three.
    labels : ndarray
        ``(H, W)``: reference values.
    """

    pixels: np.ndarray
    labels: np.ndarray


def _resized(view: View, factor: float) -> View:
    height, width = view.labels.shape
    size = max(1, round(height * factor)), max(1, round(width * factor))
    # Where the new pixels' centres lie among the old ones.
    rows, columns = ((np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(size, (height, width), strict=True))
    # Fewer pixels see the mean of what they cover.
    soft = [ndimage.gaussian_filter(p, 0.5 / factor if factor < 1 else 0) for p in view.pixels]
    grid = np.meshgrid(rows, columns, indexing="ij")
    pixels = np.stack([ndimage.map_coordinates(p, grid, order=1, mode="nearest") for p in soft])
    if factor >= 1:
        near = np.ix_(np.rint(rows).clip(0, height - 1).astype(int), np.rint(columns).clip(0, width - 1).astype(int))
        return View(pixels, view.labels[near])
    labels = np.zeros(size, view.labels.dtype)
    for value in np.unique(view.labels)[1:]:
        # Between two old pixels neither is the nearest one.
        share = ndimage.map_coordinates((view.labels == value).astype(np.float32), grid, order=1, mode="nearest")
        labels[share > 0.499] = value
    return View(pixels, labels)


def _blurred(view: View) -> View:
    return replace(view, pixels=np.stack([ndimage.gaussian_filter(p, 1.5) for p in view.pixels]))


def _noisy(view: View) -> View:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, view.pixels.shape[1:]).astype(np.float32)
    return replace(view, pixels=(view.pixels + noise).clip(0, 1))


def _uneven(view: View) -> View:
    light = np.linspace(0.3, 1, view.labels.shape[1], dtype=np.float32)
    return replace(view, pixels=view.pixels * light)


def _turned(view: View) -> View:
    return View(np.rot90(view.pixels, axes=(1, 2)), np.rot90(view.labels))


def _grey(view: View) -> View:
    return replace(view, pixels=view.pixels.mean(0, keepdims=True))


def _coloured(view: View) -> View:
    """Grey through a table of colours, as a screenshot of it."""
    if len(view.pixels) == 3:
        return replace(view, pixels=view.pixels[[1, 2, 0]])
    grey = view.pixels[0]
    return replace(view, pixels=np.stack([grey.clip(0, 0.5) * 2, grey, (grey - 0.5).clip(0) * 2]))


def _surrounded(view: View) -> View:
    """In the middle of eight mirror images of itself; what its edge cuts is another object there, and left out."""
    height, width = view.labels.shape
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False
    labels = np.where(np.isin(view.labels, np.unique(view.labels[border])), 0, view.labels)
    edges = (height, height), (width, width)
    return View(np.pad(view.pixels, ((0, 0), *edges), mode="symmetric"), np.pad(labels, edges))


CHANGES: dict[str, Callable[[View], View]] = {
    "as it is": lambda view: view,
    "a third as large": lambda view: _resized(view, 1 / 3),
    "half as large": lambda view: _resized(view, 1 / 2),
    "twice as large": lambda view: _resized(view, 2),
    "four times as large": lambda view: _resized(view, 4),
    "inverted": lambda view: replace(view, pixels=1 - view.pixels),
    "gamma 2": lambda view: replace(view, pixels=view.pixels**2),
    "gamma 0.5": lambda view: replace(view, pixels=view.pixels**0.5),
    "half the contrast": lambda view: replace(view, pixels=0.25 + view.pixels / 2),
    "uneven light": _uneven,
    "noise of a tenth": _noisy,
    "blurred by 1.5 px": _blurred,
    "turned by a quarter": _turned,
    "grey": _grey,
    "other colours": _coloured,
    "part of a larger picture": _surrounded,
}


def chosen(case: Case, most: int) -> list[tuple[View, list[int]]]:
    """Take some of a case's objects, at random but always the same; the slices that they are on, and which they are."""
    targets = list(case.targets())
    picked = np.random.default_rng(0).permutation(len(targets))[:most]
    slices: dict[int, list[int]] = {}
    for number in sorted(picked.tolist()):
        slices.setdefault(targets[number].index, []).append(targets[number].value)
    views = []
    for index, values in slices.items():
        pixels = case.stack.pixels(index)
        grey = bool((pixels == pixels[:1]).all())
        views.append((View(pixels[:1] if grey else pixels, case.labels(index)), values))
    return views


def judged(view: View, values: list[int], backend: Backend) -> dict[int, tuple[float, float]]:
    """Ask for each object by a box and by a click; the Dice of both, of those that are large enough."""
    image = np.moveaxis((view.pixels * _WHITE).round().astype(np.uint16), 0, -1)
    colours = image.shape[-1] == 3
    # The values are kept as they were changed: what is dim is seen dim.
    stack = ImageStack(image if colours else image[..., 0], "YXC" if colours else "YX", window=(0, _WHITE))
    session = AnnotationSession(stack, backend=backend)
    out = {}
    for value in values:
        truth = view.labels == value
        if np.count_nonzero(truth) < MIN_PIXELS:
            continue
        box = session.add_box(session.add_object(), 0, tight_box(truth))
        click = session.add_points(session.add_object(), 0, [innermost(truth)], [1])
        out[value] = dice(box.mask, truth), dice(click.mask, truth)
    return out


def main() -> None:
    """Print a line a case and change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--objects", type=int, default=60, help="at most this many of a case")
    parser.add_argument("--only", nargs="+", choices=CHANGES, metavar="CHANGE", help=", ".join(CHANGES))
    parser.add_argument("--weights", type=Path, help="in place of the embedded model's own")
    given = parser.parse_args()
    backend = load_backend("compact", device="cpu", weights=given.weights)
    print(machine())
    for folder in find_cases(given.folders):
        case = load_case(folder)
        views = chosen(case, given.objects)
        plain = [judged(view, values, backend) for view, values in views]
        print(f"\n{case.name}, {sum(map(len, plain))} objects")
        for name in given.only or CHANGES:
            if name == "grey" and all(len(view.pixels) == 1 for view, _ in views):
                continue
            if name == "part of a larger picture" and case.kind == "stack":
                continue  # no scan is of nine bodies
            pairs = []
            for (view, values), before in zip(views, plain, strict=True):
                after = judged(CHANGES[name](view), values, backend)
                pairs += [(after[v], before[v]) for v in after if v in before]
            if not pairs:
                continue
            scores = np.array(pairs)  # (objects, after and before, box and click)
            means, differences = scores.mean(0), scores[:, 0] - scores[:, 1]
            errors = differences.std(0) / np.sqrt(len(pairs))
            print(
                f"  {name:26}{len(pairs):4}",
                *(
                    f"{kind} {means[0, i]:.3f} ({differences.mean(0)[i]:+.3f} ± {errors[i]:.3f})"
                    for i, kind in enumerate(("box", "click"))
                ),
                sep="  ",
                flush=True,
            )


if __name__ == "__main__":
    main()

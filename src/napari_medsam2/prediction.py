"""The click path: one object's prompts on one slice in, its mask out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.backend.protocol import NO_POINTS, Decoded, ViewPrompt
from napari_medsam2.geometry import Box, View, ViewSpec, mask_box, plan_region, whole_slice
from napari_medsam2.refine import local_change
from napari_medsam2.results import ObjectResult, Source
from napari_medsam2.specks import without_specks

if TYPE_CHECKING:
    import torch

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.cache import EmbeddingCache
    from napari_medsam2.prompts import SlicePrompt
    from napari_medsam2.results import Read
    from napari_medsam2.stack import ImageStack

__all__ = ["LARGEST_SEARCHED", "Prediction", "adopt", "model_of", "place", "predict", "view_for", "view_of"]


LARGEST_SEARCHED = 8192
"""Pixels: on slices with a longer side a click is looked for in regions of half of it at most."""

_LARGER = 0.94
"""What a mask of twice the area is worth to a click of unknown scale, if the model believes in it as much."""

_BELIEVED = 0.8
"""How much of the most plausible mask's plausibility one must have to be taken for its size."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A prompted slice as the model sees it: what conditions the memory bank.

    Parameters
    ----------
    view : View
        The window looked through.
    decoded : Decoded
        Of this one object.
    corrected : bool
        Whether the prompt corrected a propagated mask.
    model : str
        See `model_of`; another one cannot read it.
    """

    view: View
    decoded: Decoded
    corrected: bool = False
    model: str = ""


def model_of(backend: Backend) -> str:
    """What tells a network from all others: its name and, for weights of one's own, the start of their SHA-256."""
    return f"{backend.name} {backend.weights[:16]}".rstrip()


def predict(
    stack: ImageStack,
    backend: Backend,
    cache: EmbeddingCache,
    label: int,
    index: int,
    prompt: SlicePrompt,
    current: ObjectResult | None = None,
    whole: bool = False,
) -> tuple[Prediction | None, ObjectResult]:
    """Predict one object's mask on one slice.

    Parameters
    ----------
    stack, backend, cache
        Where pixels, features and kept features come from.
    label, index : int
        The object and the slice.
    prompt : SlicePrompt
        Everything that was said of the object on this slice; not empty.
    current : ObjectResult, optional
        The mask so far, which clicks refine.
    whole : bool
        Look at the whole slice whatever the object's size, as collections do.

    Returns
    -------
    tuple
        The `Prediction` and the `ObjectResult`. A mask prompt comes back as it is, with no prediction, and a click on
        one changes it where the click is: such a mask conditions the bank as `adopt` has it, once there is one.
    """
    shape = stack.slice_shape(index)
    if (painted := prompt.mask) is not None:
        return None, ObjectResult.from_mask(label, index, painted)

    extent = _extent(prompt, current)
    if extent is None:
        view, decoded = _search(stack, backend, cache, index, prompt, whole)
    else:
        view = whole_slice(shape, backend.views) if whole else plan_region(shape, extent, backend.views)
        (embedding,) = cache.get(stack, backend, index, [view])
        previous = current if current is not None and current.area else None
        decoded = backend.decode(embedding, [view_prompt(prompt, view, previous)])
    tidy = backend.views.tidy and not whole
    result = place(label, index, shape, view, decoded, "prompt", True, tidy=tidy, points=prompt.points)
    if current is not None and (prompt.refines or current.source == "mask"):
        changed = local_change(current, result, prompt)
        if changed is not result:
            # What conditions the bank is the mask itself: the network's answer is not what is kept.
            return None, changed
    return Prediction(view, decoded, prompt.corrects, model_of(backend)), result


def adopt(
    stack: ImageStack,
    backend: Backend,
    cache: EmbeddingCache,
    index: int,
    mask: np.ndarray,
    corrected: bool = False,
    whole: bool = False,
) -> Prediction:
    """Make of a mask ``(H, W)`` bool what conditions the memory bank, as if the model had drawn it."""
    view = view_for(stack.slice_shape(index), mask_box(mask), backend.views, whole)
    (embedding,) = cache.get(stack, backend, index, [view])
    return Prediction(view, backend.adopt(embedding, view.cut_mask(mask)[None]), corrected, model_of(backend))


def view_for(shape: tuple[int, int], box: Box | None, spec: ViewSpec, whole: bool) -> View:
    """The window through which a mask with this box is seen."""
    return whole_slice(shape, spec) if whole or box is None else plan_region(shape, box, spec)


def place(
    label: int,
    index: int,
    shape: tuple[int, int],
    view: View,
    decoded: Decoded,
    source: Source,
    present: bool = False,
    read: tuple[Read, ...] = (),
    tidy: bool = False,
    points: np.ndarray | None = None,
) -> ObjectResult:
    """Bring one object's decoded mask back to the slice.

    ``present`` says that a person knows it is there; ``tidy`` takes specks away, but where ``points`` ``(P, 2)`` were
    clicked.
    """
    score = 1.0 if present else float(decoded.score[0].sigmoid())
    top, left, logits = view.paste(decoded.logits[0], shape)
    if tidy:
        logits = without_specks(logits, None if points is None else points - (top, left))
    found = top, left, logits
    result = ObjectResult.from_logits(label, index, shape, found, float(decoded.iou[0]), score, source, view)
    return replace(result, read=read) if read else result


def view_of(result: ObjectResult, view: View) -> torch.Tensor:
    """A stored mask's probability as a view sees it: ``(S, S)`` float32 in [0, 1]."""
    canvas = np.zeros((1, view.height, view.width), np.float32)
    h, w = result.logits.shape
    y, x = result.top - view.top, result.left - view.left
    y0, y1, x0, x1 = max(y, 0), min(y + h, view.height), max(x, 0), min(x + w, view.width)
    if y1 > y0 and x1 > x0:
        piece = result.logits[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)
        canvas[0, y0:y1, x0:x1] = 1 / (1 + np.exp(-piece / 8))
    return View(0, 0, view.height, view.width, view.side).cut(canvas)[0]


def view_prompt(prompt: SlicePrompt, view: View, previous: ObjectResult | None = None) -> ViewPrompt:
    """A slice's prompts in a view's coordinates; points outside of it say nothing and are left out."""
    points, labels = NO_POINTS
    if len(prompt.points):
        moved = view.to_view(prompt.points)
        inside = ((moved >= -0.5) & (moved <= view.side - 0.5)).all(1)
        points, labels = moved[inside].astype(np.float32), prompt.labels[inside]
    box = None if prompt.box is None else view.box_to_view(prompt.box)
    return ViewPrompt(points, labels, box, None if previous is None else view_of(previous, view))


def _extent(prompt: SlicePrompt, current: ObjectResult | None) -> Box | None:
    """What the view must show: box, mask so far and positive points; None where nothing tells the object's size."""
    boxes = [b for b in (prompt.box, None if current is None else current.box) if b is not None]
    positive = prompt.points[prompt.labels == 1]
    if len(positive) > 1:
        low, high = positive.min(0) - 0.5, positive.max(0) + 0.5
        boxes.append((low[0], low[1], high[0], high[1]))
    if not boxes or (len(boxes) == 1 and prompt.box is None and current is None and _dots(positive)):
        return None
    boxes += [(y - 0.5, x - 0.5, y + 0.5, x + 0.5) for y, x in positive]
    array = np.array(boxes)
    low, high = array[:, :2].min(0), array[:, 2:].max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _dots(points: np.ndarray) -> bool:
    """Whether clicks are too few to outline an object's extent, as a scribble's samples do."""
    return len(points) < 5


def _search(
    stack: ImageStack, backend: Backend, cache: EmbeddingCache, index: int, prompt: SlicePrompt, whole: bool
) -> tuple[View, Decoded]:
    """Find the scale of an object of which only clicks are known.

    The click is tried in regions of doubling size, all in one batch; the mask that the model believes in most, and
    that lies well inside its region, tells the object's size; it is then looked at once more at its own scale. A
    group of objects looks like an object too, and the model may be surer of it than of one alone: so each doubling of
    the area has to be paid for with a share of the belief (`_best`).
    """
    shape = stack.slice_shape(index)
    spec = backend.views
    # On a slide one clicks nuclei and glands: nobody waits until all of it was looked at.
    slide = spec.regions and not whole and max(shape) > LARGEST_SEARCHED
    views = [] if slide else [whole_slice(shape, spec)]
    positive = prompt.points[prompt.labels == 1]
    anchor = positive if len(positive) else prompt.points
    low, high = anchor.min(0) - 0.5, anchor.max(0) + 0.5
    if spec.regions and not whole:
        size = max(2.0 * spec.smallest, 2.0 * float((high - low).max()))
        while size < 0.7 * min(max(shape), LARGEST_SEARCHED):
            centre = (low + high) / 2
            around = (centre[0] - 0.5, centre[1] - 0.5, centre[0] + 0.5, centre[1] + 0.5)
            views.append(plan_region(shape, around, spec, fraction=1.0 / size))
            size *= 2
    # None where the clicks themselves are farther apart than that.
    views = list(dict.fromkeys(views)) or [plan_region(shape, (low[0], low[1], high[0], high[1]), spec)]
    embeddings = cache.get(stack, backend, index, views)
    decoded = backend.decode(backend.join(embeddings), [view_prompt(prompt, v) for v in views])
    if len(views) == 1:
        return views[0], decoded
    results = [place(1, index, shape, v, decoded.take([i]), "prompt", True) for i, v in enumerate(views)]
    best = _best(results, [_plausibility(r, v, shape) for r, v in zip(results, views, strict=True)])
    box = results[best].box
    if box is None:
        return views[best], decoded.take([best])
    view = plan_region(shape, box, spec)
    (embedding,) = cache.get(stack, backend, index, [view])
    again = backend.decode(embedding, [view_prompt(prompt, view, results[best])])
    return view, again


def _best(results: list[ObjectResult], plausible: list[float]) -> int:
    """Choose among the answers to a click: of those that are about as plausible as the best, rather a small one."""
    least = _BELIEVED * max(plausible)
    worth = [
        p * _LARGER ** math.log2(r.area) if r.area and p >= least else -math.inf
        for r, p in zip(results, plausible, strict=True)
    ]
    return int(np.argmax(worth if max(worth) > 0 else plausible))


def _plausibility(result: ObjectResult, view: View, shape: tuple[int, int]) -> float:
    """Predicted IoU, less where the mask is cut by the view's edge or has a size that the model is not good at."""
    box = result.box
    if box is None:
        return -1.0
    score = result.confidence
    fill = view.fill(box)
    score -= 0.3 * max(0.0, math.log2(0.10 / fill)) + 0.6 * max(0.0, fill - 0.75)
    cut = (
        (box[0] <= view.top + 0.5 and view.top > 0)
        or (box[1] <= view.left + 0.5 and view.left > 0)
        or (box[2] >= view.top + view.height - 1.5 and view.top + view.height < shape[0])
        or (box[3] >= view.left + view.width - 1.5 and view.left + view.width < shape[1])
    )
    return score - (0.3 if cut else 0.0)

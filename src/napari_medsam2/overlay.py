"""The picture: a montage of slices with every object's outline, the prompts, and the confidence of all slices."""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2._canvas import (
    Frame,
    colour,
    dashed_box,
    dot,
    font,
    label_map,
    outlines,
    picture,
    tint,
)
from napari_medsam2._files import atomic_path
from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import leading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from PIL.ImageDraw import ImageDraw

    from napari_medsam2.session import AnnotationSession

__all__ = ["choose_slices", "draw_montage", "write_overlay"]

_TILE, _LARGE_TILE = 400, 560
"""About how many pixels a slice's longer side takes; more where six slices or fewer are shown."""

_GAP, _CAPTION, _MARGIN, _HEAD, _STRIP = 12, 26, 24, 62, 112
_SHAPE, _NARROWEST = 1.5, 720
"""The montage is about so many times as wide as it is high, and so many pixels wide at least."""

_FINER = 2
"""Outlines are drawn at twice the resolution."""

_PAPER, _INK, _FAINT = (18, 20, 24), (232, 234, 237), (150, 156, 164)
_PROMPTED, _BAR, _LOW = (255, 196, 61), (86, 156, 214), (240, 100, 80)


def write_overlay(path: str | Path, session: AnnotationSession, count: int = 12) -> None:
    """Write the picture of `draw_montage` as PNG, JPEG or TIFF, by the path's suffix.

    Raises
    ------
    InputError
        If the suffix is none that can be written, or the file cannot be written.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise InputError(f"the picture cannot be written as {path}: give a name that ends in .png, .jpg or .tif")
    image = draw_montage(session, count=count)
    with atomic_path(path) as temporary:
        image.save(temporary, format=formats[suffix])


def choose_slices(session: AnnotationSession, count: int = 12) -> list[int]:
    """Choose slices that show what happened: prompted ones, and an even spread over those where there is an object.

    Parameters
    ----------
    session : AnnotationSession
        With results.
    count : int
        At most so many.

    Returns
    -------
    list of int
        In order. All slices where they are so few.
    """
    total = len(session.stack)
    if total <= count:
        return list(range(total))
    prompted = sorted({index for _, index in session.prompts})
    # One more at each end shows that the objects have ended there.
    first, last = max(_outermost(session, 1) - 1, 0), min(_outermost(session, -1) + 1, total - 1)
    chosen = {first, last, *_spread(prompted, max(1, count // 3))}
    while len(chosen) < count:
        known = sorted(chosen)
        gap, before = max((b - a, -a) for a, b in pairwise(known))
        if gap < 2:
            break
        chosen.add(gap // 2 - before)
    return sorted(chosen)


def _outermost(session: AnnotationSession, step: int) -> int:
    """Find the first or, with a step of -1, the last slice that has an object."""
    for index in session.results.indices()[::step]:
        if any(result.area for result in session.results.on(index)):
            return index
    return 0 if step > 0 else len(session.stack) - 1


def _spread(values: Sequence[int], count: int) -> list[int]:
    """Choose evenly from a list."""
    if len(values) <= count:
        return list(values)
    return [values[round(i)] for i in np.linspace(0, len(values) - 1, count).tolist()]


def draw_montage(session: AnnotationSession, indices: Sequence[int] | None = None, count: int = 12) -> Image.Image:
    """Draw slices with outlines in each object's colour, prompts, captions, and the confidence of all slices.

    Boxes are dashed white, clicks dots (green belongs to the object, red does not), painted masks are filled, and
    prompted slices are framed. Outlines follow the model's logits between pixels.

    Parameters
    ----------
    session : AnnotationSession
        With results.
    indices : sequence of int, optional
        The slices to show; by default `choose_slices` does it.
    count : int
        At most so many are chosen.

    Returns
    -------
    Image
        RGB.

    Raises
    ------
    InputError
        If the session holds no result.
    """
    from PIL import Image, ImageDraw

    if not len(session.results):
        raise InputError("there is nothing to show: the session has no mask yet; give a prompt first")
    shown = choose_slices(session, count) if indices is None else list(indices)
    crop = _crop(session, shown)
    tiles = [_tile(session, index, crop, _TILE if len(shown) > 6 else _LARGE_TILE) for index in shown]
    width, height = max(t.width for t in tiles) + _GAP, max(t.height for t in tiles) + _CAPTION + _GAP
    columns = min(range(1, len(tiles) + 1), key=lambda c: _ungainly(c, len(tiles), width / height))
    rows = -(-len(tiles) // columns)
    size = max(2 * _MARGIN + columns * width - _GAP, _NARROWEST), 2 * _MARGIN + _HEAD + rows * height + _STRIP
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, (text, points, ink) in enumerate(zip(_title(session, crop), (20, 14), (_INK, _FAINT), strict=True)):
        draw.text(
            (_MARGIN, _MARGIN - 6 + 30 * line), _fit(draw, text, size[0] - 2 * _MARGIN, points), ink, font(points)
        )
    for number, (index, tile) in enumerate(zip(shown, tiles, strict=True)):
        row, column = divmod(number, columns)
        # Images of other proportions stand in the middle of their place.
        left = _MARGIN + column * width + (width - _GAP - tile.width) // 2
        top = _MARGIN + _HEAD + row * height + (height - _CAPTION - _GAP - tile.height) // 2
        canvas.paste(tile, (left, top))
        prompted = any(i == index for _, i in session.prompts)
        if prompted:
            frame = (left - 3, top - 3, left + tile.width + 2, top + tile.height + 2)
            draw.rectangle(frame, outline=_PROMPTED, width=3)
        ink = _PROMPTED if prompted else _INK
        end = left
        for words, points_out in _caption(session, index):
            text = _fit(draw, words, left + tile.width - end, 14)
            draw.text((end, top + tile.height + 5), text, _LOW if points_out else ink, font(14))
            end += round(draw.textlength(text, font(14)))
    area = (_MARGIN, size[1] - _MARGIN - _STRIP + 24, size[0] - 2 * _MARGIN, _STRIP - 24)
    _confidence_strip(draw, session, shown, area)
    return canvas


def _ungainly(columns: int, count: int, shape: float) -> float:
    """How far a montage is from its best proportions, and how much of it would be empty."""
    rows = -(-count // columns)
    return abs(math.log(columns * shape / rows / _SHAPE)) + (rows * columns - count) / count


def _crop(session: AnnotationSession, shown: Sequence[int]) -> tuple[int, int, int, int] | None:
    """Rows and columns around all objects of a stack; None where that is most of the slice."""
    if session.kind == "collection" or not session.stack.uniform:
        return None
    boxes = [result.box for index in shown for result in session.results.on(index)]
    boxes += [prompt.box for (_, index), prompt in session.prompts.items() if index in shown]
    edges = np.array([box for box in boxes if box is not None]).reshape(-1, 4)
    shape = session.stack.slice_shape(0)
    if not len(edges):
        return None
    low, high = edges[:, :2].min(0), edges[:, 2:].max(0)
    # Enough of the surroundings to see that nothing was missed.
    side = max(float((high - low).max()) * 1.6, 48.0)
    middle = (low + high) / 2
    first = [int(min(max(m - side / 2, 0), max(n - side, 0))) for m, n in zip(middle, shape, strict=True)]
    last = [min(math.ceil(f + side), n) for f, n in zip(first, shape, strict=True)]
    if all(b - a > 0.7 * n for a, b, n in zip(first, last, shape, strict=True)):
        return None
    return first[0], first[1], last[0], last[1]


def _tile(session: AnnotationSession, index: int, crop: tuple[int, int, int, int] | None, goal: int) -> Image.Image:
    """Draw one slice with its outlines and prompts."""
    from PIL import ImageDraw

    shape = session.stack.slice_shape(index)
    top, left, bottom, right = crop or (0, 0, *shape)
    scale = goal / max(bottom - top, right - left)
    # Whole numbers keep all pixels of small slices alike.
    frame = Frame(top, left, bottom - top, right - left, float(round(scale)) if scale >= 2 else scale)
    pixels = session.stack.pixels(index)
    bright = float(np.median(pixels)) > 0.5
    tile = picture(pixels, frame)
    results = list(session.results.on(index))
    places = {label: number for number, label in enumerate(sorted(session.objects))}
    colours = [colour(places[result.label], bright) for result in results]
    labels = label_map(results, frame, _FINER)
    painted = {n: c for n, (r, c) in enumerate(zip(results, colours, strict=True), 1) if r.source == "mask"}
    tile = outlines(tint(tile, labels, painted, _FINER, 0.35), labels, colours, 2 if frame.scale >= 1.2 else 1, _FINER)
    draw = ImageDraw.Draw(tile)
    for (_, at), prompt in sorted(session.prompts.items(), key=lambda entry: entry[0]):
        if at != index:
            continue
        if prompt.box is not None:
            y0, x0, y1, x1 = prompt.box
            dashed_box(draw, (*frame.place(y0, x0), *frame.place(y1, x1)))
        for (y, x), mark in zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True):
            dot(tile, frame.place(y, x), bool(mark))
    return tile


def _title(session: AnnotationSession, crop: tuple[int, int, int, int] | None) -> tuple[str, str]:
    """Say what was segmented, from what, and how to read the picture."""
    prompts = session.prompts.values()
    counts = {
        ("box", "boxes"): sum(p.box is not None for p in prompts),
        ("click", "clicks"): sum(len(p.points) for p in prompts),
        ("mask", "masks"): sum(p.painted is not None for p in prompts),
    }
    given = ", ".join(f"{n} {names[n != 1]}" for names, n in counts.items() if n)
    objects, slices = len(session.objects), len(session.stack)
    noun = session.noun
    first = (
        f"{_plain(session.stack.name)}: {objects} object{'s' if objects != 1 else ''} "
        f"on {slices} {noun}{'s' if slices != 1 else ''}, from {given}"
    )
    signs = {"box": "dashed: box", "click": "dots: clicks (red: not the object)", "mask": "filled: painted mask"}
    legend = [signs[names[0]] for names, n in counts.items() if n] + [f"yellow frame: prompted {noun}"]
    if crop is not None:
        legend.append(f"rows {crop[0]} to {crop[2] - 1}, columns {crop[1]} to {crop[3] - 1}")
    return first, " · ".join([*legend, f"model {session.backend.name}, {session.bank.policy} memory"])


def _caption(session: AnnotationSession, index: int) -> list[tuple[str, bool]]:
    """Name a slice and its confidence, in pieces; and whether a piece points out that it is below a half."""
    stack = session.stack
    letters = ["image" if letter == "N" else letter.lower() for letter in leading(stack.axes)]
    if stack.names:
        where = _plain(stack.names[index])
    elif letters:
        where = "  ".join(f"{a} {n}" for a, n in zip(letters, stack.unravel(index), strict=True))
    else:
        where = _plain(stack.name)
    present = [result.confidence for result in session.results.on(index) if result.area]
    if not present:
        return [(f"{where}   no object", False)]
    low, high = f"{min(present):.2f}", f"{max(present):.2f}"
    count = f"{len(present)} object{'s' if len(present) != 1 else ''}, " if len(session.objects) > 1 else ""
    shown = f"confidence {low}" if low == high else f"confidence {low} to {high}"
    return [(f"{where}   {count}", False), (shown, min(present) < 0.5)]


def _plain(name: str) -> str:
    """Spell a name with the letters that the font has."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or "image"


def _fit(draw: ImageDraw, text: str, width: int, points: int) -> str:
    """Shorten a text to a width in pixels."""
    if draw.textlength(text, font(points)) <= width:
        return text
    while text and draw.textlength(text + "…", font(points)) > width:
        text = text[:-1]
    return text + "…"


def _confidence_strip(
    draw: ImageDraw, session: AnnotationSession, shown: Sequence[int], area: tuple[int, int, int, int]
) -> None:
    """Draw a bar for every slice: its objects' mean confidence, and a tick at the lowest."""
    left, top, width, height = area
    total = len(session.stack)
    found: dict[int, list[float]] = {}
    for index, _, confidence, score, _ in session.results.summary():
        if score >= 0.5:
            found.setdefault(index, []).append(confidence)
    noun = session.noun
    text = (
        f"confidence of every {noun}: mean of its objects; tick: the lowest; red: below 0.5; white below: shown above"
    )
    draw.text((left, top - 22), _fit(draw, text, width, 14), _FAINT, font(14))
    base, full = top + height - 20, height - 24
    pitch = min(width / total, 36.0)
    draw.line((left, base, left + round(pitch * total), base), _FAINT)
    prompted = {index for _, index in session.prompts}
    for index in range(total):
        x0, x1 = left + int(index * pitch), left + int((index + 1) * pitch)
        x1 = max(x0, x1 - 1 - int(pitch >= 4) * 2)
        values = found.get(index, [])
        if values:
            mean, low = sum(values) / len(values), min(values)
            shade = _PROMPTED if index in prompted else _BAR if mean >= 0.5 else _LOW
            draw.rectangle((x0, base - round(full * mean), x1, base), fill=shade)
            draw.line((x0, base - round(full * low), x1, base - round(full * low)), _PAPER if low < mean else shade)
        if index in shown:
            draw.rectangle((x0, base + 3, x1, base + 5), fill=_INK)
    for index in {0, total - 1}:
        text = str(index)
        at = left + int(index * pitch)
        draw.text((at, base + 7), text, _FAINT, font(12))

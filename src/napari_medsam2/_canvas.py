"""Drawing on tiles: colours that can be told apart, outlines from logits, prompts; with numpy and Pillow only."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.overlap import share_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from napari_medsam2.results import ObjectResult

__all__ = [
    "Frame",
    "colour",
    "colour_of",
    "dashed_box",
    "dot",
    "font",
    "hex_of",
    "label_map",
    "outlines",
    "picture",
    "tint",
]

Colour = tuple[int, int, int]

_GOLDEN = 137.50776405003785
"""The golden angle in degrees: hues that follow each other by it are far apart however many there are."""


class Frame:
    """A part of a slice and its place on a tile.

    Parameters
    ----------
    top, left, height, width : int
        The part, in slice pixels.
    scale : float
        Tile pixels a slice pixel.
    """

    def __init__(self, top: int, left: int, height: int, width: int, scale: float) -> None:
        self.top, self.left, self.height, self.width, self.scale = top, left, height, width, scale
        self.size = max(1, round(width * scale)), max(1, round(height * scale))

    def place(self, y: float, x: float) -> tuple[float, float]:
        """Turn slice ``(y, x)``, pixel centres at integers, into tile ``(x, y)``, pixel edges at integers."""
        columns, rows = self.size
        return (x + 0.5 - self.left) * columns / self.width, (y + 0.5 - self.top) * rows / self.height


def colour(number: int, bright: bool = False) -> Colour:
    """Return the RGB colour of an object: hues a golden angle apart at one lightness (OKLCH).

    Parameters
    ----------
    number : int
        The object's place among the objects, from 0.
    bright : bool
        Whether the picture is bright, so that the line has to be dark.
    """
    # Lightnesses take turns, so that objects that come near each other on the circle of hues differ too.
    lightness = (0.64, 0.52, 0.42)[number % 3] if bright else (0.85, 0.75, 0.66)[number % 3]
    # The first is green on bright pictures, which mostly are stained pink and blue, and cyan on dark ones.
    hue = math.radians((145 if bright else 195) + _GOLDEN * number)
    chroma = 0.20
    while True:
        rgb = _oklab(lightness, chroma * math.cos(hue), chroma * math.sin(hue))
        if chroma <= 0 or all(0 <= v <= 1 for v in rgb):
            break
        # Screens do not show every hue as strongly.
        chroma -= 0.005
    red, green, blue = (round(255 * min(max(v, 0.0), 1.0)) for v in rgb)
    return red, green, blue


@cache
def _palette(number: int) -> Colour:
    return colour(number)


def colour_of(label: int) -> Colour:
    """Return the RGB colour of an object that has none of its own, wherever it is shown or written."""
    # Neighbouring numbers differ most; after some hundred no eye tells colours apart anyway.
    return _palette((label - 1) % 512)


def hex_of(rgb: Colour) -> str:
    """Write a colour as ``"#rrggbb"``."""
    red, green, blue = rgb
    return f"#{red:02x}{green:02x}{blue:02x}"


def _oklab(lightness: float, a: float, b: float) -> list[float]:
    """Turn OKLab (B. Ottosson, 2020) into sRGB in [0, 1], or beyond where the screen cannot show it."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return [12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in linear]


def picture(pixels: np.ndarray, frame: Frame) -> Image.Image:
    """Cut and resize a slice ``(3, H, W)`` in [0, 1]: smoothly where it grows, averaged where it shrinks."""
    from PIL import Image

    rows, columns = slice(frame.top, frame.top + frame.height), slice(frame.left, frame.left + frame.width)
    part = np.rint(np.moveaxis(pixels[:, rows, columns], 0, 2) * 255).astype(np.uint8)
    way = Image.Resampling.BICUBIC if frame.scale > 1 else Image.Resampling.BOX
    return Image.fromarray(part).resize(frame.size, way)


def label_map(results: Sequence[ObjectResult], frame: Frame, finer: int) -> np.ndarray:
    """Draw masks at a tile's own resolution, their edges between pixels where the logits cross zero.

    Parameters
    ----------
    results : sequence of ObjectResult
        Of one slice.
    frame : Frame
        The part of the slice.
    finer : int
        Map pixels a tile pixel along each axis.

    Returns
    -------
    ndarray
        ``(rows, columns)`` int32: the place of the object in ``results``, from 1; 0 where there is none. Objects that
        overlap lie over each other as in the labels.
    """
    columns, rows = frame.size[0] * finer, frame.size[1] * finer
    ys = (np.arange(rows) + 0.5) * frame.height / rows - 0.5 + frame.top
    xs = (np.arange(columns) + 0.5) * frame.width / columns - 0.5 + frame.left

    def piece(place: int) -> tuple[tuple[slice, slice], np.ndarray]:
        result = results[place]
        # A rim that is surely outside closes the line where a mask fills its window.
        logits = np.pad(result.logits.astype(np.float32), 1, constant_values=-float(np.abs(result.logits).max()))
        y, in_y = _within(ys - (result.top - 1), logits.shape[0])
        x, in_x = _within(xs - (result.left - 1), logits.shape[1])
        if not len(y) or not len(x):
            return (slice(0), slice(0)), np.zeros((0, 0), np.float32)
        y0, x0 = np.minimum(y.astype(int), logits.shape[0] - 2), np.minimum(x.astype(int), logits.shape[1] - 2)
        fy, fx = (y - y0)[:, None], (x - x0)[None]
        upper = logits[y0][:, x0] * (1 - fx) + logits[y0][:, x0 + 1] * fx
        lower = logits[y0 + 1][:, x0] * (1 - fx) + logits[y0 + 1][:, x0 + 1] * fx
        return (in_y, in_x), upper * (1 - fy) + lower * fy

    return share_out(results, (rows, columns), piece)


def _within(coordinates: np.ndarray, length: int) -> tuple[np.ndarray, slice]:
    """Select the coordinates, which rise, that lie between the first and the last sample."""
    first, last = np.searchsorted(coordinates, [0, length - 1], side="left")
    return coordinates[first:last], slice(int(first), int(last))


def outlines(tile: Image.Image, labels: np.ndarray, colours: Sequence[Colour], width: int, finer: int) -> Image.Image:
    """Draw the outline of every object just inside its edge, so that neighbours keep a line each.

    Parameters
    ----------
    tile : Image
        RGB.
    labels : ndarray
        From `label_map`.
    colours : sequence of tuple
        RGB, of the objects 1, 2, ….
    width : int
        Of the line, in tile pixels.
    finer : int
        As for `label_map`; lines are averaged over so many pixels, which smooths their steps.
    """
    from PIL import Image
    from scipy import ndimage

    reach = width * finer
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = y * y + x * x <= reach * reach
    low = ndimage.minimum_filter(labels, footprint=disk, mode="nearest")
    high = ndimage.maximum_filter(labels, footprint=disk, mode="nearest")
    line = ((labels > 0) & (low != high)).astype(np.float32)
    paint = np.array([(0, 0, 0), *colours], np.float32)[labels] * line[..., None]
    base = np.asarray(tile, np.float32)
    rows, columns = base.shape[:2]
    cover = line.reshape(rows, finer, columns, finer).mean((1, 3))[..., None]
    mixed = base * (1 - cover) + paint.reshape(rows, finer, columns, finer, 3).mean((1, 3))
    return Image.fromarray(np.rint(np.clip(mixed, 0, 255)).astype(np.uint8))


def tint(tile: Image.Image, labels: np.ndarray, fill: dict[int, Colour], finer: int, strength: float) -> Image.Image:
    """Lay a see-through colour over some objects of a `label_map`."""
    from PIL import Image

    base = np.asarray(tile, np.float32)
    rows, columns = base.shape[:2]
    for number, shade in fill.items():
        cover = (labels == number).reshape(rows, finer, columns, finer).mean((1, 3))[..., None] * strength
        base = base * (1 - cover) + np.array(shade, np.float32) * cover
    return Image.fromarray(np.rint(base).astype(np.uint8))


def dashed_box(draw: ImageDraw, corners: tuple[float, float, float, float], dash: int = 6) -> None:
    """Draw a white dashed box with a dark rim from ``(x0, y0)`` to ``(x1, y1)`` on a tile."""
    x0, y0, x1, y1 = (round(v) for v in corners)
    dashes: list[tuple[int, int, int, int]] = []
    for start in range(x0, x1 + 1, 2 * dash):
        end = min(start + dash, x1)
        dashes += [(start, y0, end, y0 + 1), (start, y1 - 1, end, y1)]
    for start in range(y0, y1 + 1, 2 * dash):
        end = min(start + dash, y1)
        dashes += [(x0, start, x0 + 1, end), (x1 - 1, start, x1, end)]
    for rim, shade in ((1, (0, 0, 0)), (0, (255, 255, 255))):
        for left, top, right, bottom in dashes:
            draw.rectangle((left - rim, top - rim, right + rim, bottom + rim), fill=shade)


def dot(tile: Image.Image, place: tuple[float, float], positive: bool, radius: int = 5) -> None:
    """Draw a click, green or, negative, red, with a white ring and a dark rim, centred at ``(x, y)`` of a tile."""
    from PIL import Image, ImageDraw

    finer, size = 4, 2 * (radius + 2)
    mark = Image.new("RGBA", (size * finer, size * finer))
    draw, middle = ImageDraw.Draw(mark), size * finer / 2
    shades = ((0, 0, 0, 200), (255, 255, 255, 255), (40, 190, 60, 255) if positive else (225, 50, 50, 255))
    for reach, shade in zip((radius + 1, radius, radius - 2), shades, strict=True):
        edge = reach * finer
        draw.ellipse((middle - edge, middle - edge, middle + edge, middle + edge), fill=shade)
    mark = mark.resize((size, size), Image.Resampling.BOX)
    tile.paste(mark, (round(place[0] - size / 2), round(place[1] - size / 2)), mark)


def font(size: int) -> FreeTypeFont | ImageFont:
    """Return the font that Pillow carries."""
    from PIL import ImageFont

    return ImageFont.load_default(size)

"""Views: which window of a slice the model sees, and the exact map between the two.

Slice coordinates are ``(y, x)`` with pixel centres at integers; view coordinates are the same on the view's own
pixels. Boxes are edges ``(y0, x0, y1, x1)`` in either. A window is a rectangle of whole slice pixels, which may reach
over the slice's edge (there the view is black).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike
    from torch import Tensor

__all__ = ["Box", "View", "ViewSpec", "mask_box", "plan_region", "tight_box", "whole_slice"]

Box = tuple[float, float, float, float]

_BAND = 512
"""Rows that are read at once of a window that is read in parts."""


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """How a model wants its views, and what comes of them.

    Parameters
    ----------
    side : int
        Side S of the square input, in view pixels.
    regions : bool
        Whether small objects are looked at through a region around them. Without it every view is the whole slice.
    stretch : bool
        Whether a whole slice is stretched to the square (as SAM 2 does) instead of letterboxed.
    fraction : float
        The share of a region's side that the object's longer side should take.
    smallest : int
        The smallest side of a region, in slice pixels.
    tidy : bool
        Whether the masks that prompts give are freed of specks. Published models are left as their authors' code is.
    """

    side: int
    regions: bool = True
    stretch: bool = False
    fraction: float = 0.35
    smallest: int = 32
    tidy: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A window of a slice, resized to the model's square input.

    Parameters
    ----------
    top, left : int
        First row and column of the window; may be negative.
    height, width : int
        Rows and columns of the window, in slice pixels.
    side : int
        Rows and columns of the view, in view pixels.
    """

    top: int
    left: int
    height: int
    width: int
    side: int

    def to_view(self, points: ArrayLike) -> np.ndarray:
        """Slice coordinates ``(..., 2)`` to view coordinates."""
        points = np.asarray(points, dtype=np.float64)
        return np.asarray((points + 0.5 - (self.top, self.left)) * self._scale() - 0.5)

    def to_slice(self, points: ArrayLike) -> np.ndarray:
        """View coordinates ``(..., 2)`` to slice coordinates; the inverse of `to_view`."""
        points = np.asarray(points, dtype=np.float64)
        return np.asarray((points + 0.5) / self._scale() - 0.5 + (self.top, self.left))

    def box_to_view(self, box: Box) -> Box:
        """A box's edges, from slice to view coordinates."""
        (y0, x0), (y1, x1) = self.to_view([[box[0], box[1]], [box[2], box[3]]])
        return float(y0), float(x0), float(y1), float(x1)

    def contains(self, box: Box, margin: float = 0.0) -> bool:
        """Whether a box lies in the window with at least ``margin`` of the window's side left on each side."""
        dy, dx = margin * self.height, margin * self.width
        return (
            box[0] >= self.top - 0.5 + dy
            and box[1] >= self.left - 0.5 + dx
            and box[2] <= self.top + self.height - 0.5 - dy
            and box[3] <= self.left + self.width - 0.5 - dx
        )

    def fill(self, box: Box) -> float:
        """The larger share of the window's height and width that a box takes."""
        return max((box[2] - box[0]) / self.height, (box[3] - box[1]) / self.width)

    def cut(self, pixels: np.ndarray) -> Tensor:
        """Cut and resize an image.

        Parameters
        ----------
        pixels : ndarray
            ``(C, H, W)`` float32.

        Returns
        -------
        Tensor
            ``(C, S, S)`` float32; bilinear, averaged where it shrinks; 0 outside the slice.
        """
        import torch
        import torch.nn.functional as F

        height, width = pixels.shape[-2:]
        piece = pixels[
            :,
            max(self.top, 0) : max(0, min(self.top + self.height, height)),
            max(self.left, 0) : max(0, min(self.left + self.width, width)),
        ]
        over = (
            max(-self.left, 0),
            max(self.left + self.width - width, 0),
            max(-self.top, 0),
            max(self.top + self.height - height, 0),
        )
        tensor = F.pad(torch.from_numpy(np.ascontiguousarray(piece, dtype=np.float32)), over)
        shrinks = self.height > self.side or self.width > self.side
        return _resized(tensor, (self.side, self.side), shrinks)

    def cut_parts(self, read: Callable[[slice, slice], np.ndarray], shape: tuple[int, int]) -> Tensor:
        """Cut and resize an image that is read in parts; the same as `cut`, but for rounding.

        Parameters
        ----------
        read : callable
            Takes rows and columns, gives ``(C, rows, columns)`` float32.
        shape : tuple of int
            ``(H, W)`` of the slice.

        Returns
        -------
        Tensor
            ``(C, S, S)`` float32.
        """
        import torch
        import torch.nn.functional as F

        first, last = max(self.top, 0), max(0, min(self.top + self.height, shape[0]))
        columns = slice(max(self.left, 0), max(0, min(self.left + self.width, shape[1])))
        # Bands as high as a row of a file's blocks, so that hardly any is decoded twice.
        edges = [first, *range(first - first % _BAND + _BAND, last, _BAND), last]
        bands = [
            View(top, self.left, bottom - top, self.width, self.side)._narrow(read(slice(top, bottom), columns), shape)
            for top, bottom in itertools.pairwise(edges)
        ]
        whole = F.pad(torch.cat(bands, 1), (0, 0, max(-self.top, 0), max(self.top + self.height - last, 0)))
        shrinks = self.height > self.side or self.width > self.side
        return _resized(whole, (self.side, self.side), shrinks)

    def _narrow(self, piece: np.ndarray, shape: tuple[int, int]) -> Tensor:
        """Resize the columns of all rows of a window."""
        import torch
        import torch.nn.functional as F

        over = max(-self.left, 0), max(self.left + self.width - shape[1], 0)
        padded = F.pad(torch.from_numpy(np.ascontiguousarray(piece, dtype=np.float32)), (*over, 0, 0))
        return _resized(padded, (self.height, self.side), self.width > self.side)

    def cut_mask(self, mask: np.ndarray) -> Tensor:
        """A mask ``(H, W)`` in [0, 1] (bool or float) as the view sees it: ``(S, S)`` float32 in [0, 1]."""
        return self.cut(mask[None].astype(np.float32))[0].clamp(0, 1)

    def paste(self, logits: Tensor, shape: tuple[int, int]) -> tuple[int, int, np.ndarray]:
        """Bring mask logits back to slice pixels.

        Parameters
        ----------
        logits : Tensor
            ``(h, w)``, covering the view at any resolution.
        shape : tuple of int
            ``(H, W)`` of the slice.

        Returns
        -------
        tuple
            First row and column, and the logits ``(rows, columns)`` float32 of the window's part inside the slice.
        """
        import torch.nn.functional as F

        shrinks = logits.shape[0] > self.height or logits.shape[1] > self.width
        full = F.interpolate(
            logits.float()[None, None],
            size=(self.height, self.width),
            mode="bilinear",
            align_corners=False,
            antialias=shrinks,
        )[0, 0]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.height, shape[0]), min(self.left + self.width, shape[1])
        piece = full[top - self.top : max(bottom, top) - self.top, left - self.left : max(right, left) - self.left]
        return top, left, piece.detach().cpu().numpy()

    def _scale(self) -> np.ndarray:
        return np.array([self.side / self.height, self.side / self.width])


def mask_box(mask: np.ndarray) -> Box | None:
    """Edges of the tight box around a mask ``(H, W)``, or None where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return float(rows[0]) - 0.5, float(columns[0]) - 0.5, float(rows[-1]) + 0.5, float(columns[-1]) + 0.5


def tight_box(mask: np.ndarray) -> Box:
    """Edges of the tight box around a mask ``(H, W)``.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    box = mask_box(mask)
    if box is None:
        raise InputError("an empty mask has no box; give one with at least one pixel")
    return box


def _resized(tensor: Tensor, size: tuple[int, int], shrinks: bool) -> Tensor:
    """Resize ``(C, H, W)``, averaged where it shrinks."""
    import torch.nn.functional as F

    return F.interpolate(tensor[None], size=size, mode="bilinear", align_corners=False, antialias=shrinks)[0]


def whole_slice(shape: tuple[int, int], spec: ViewSpec) -> View:
    """The view of a whole slice ``(H, W)``: stretched, or letterboxed in the middle of a square."""
    height, width = shape
    if spec.stretch:
        return View(0, 0, height, width, spec.side)
    size = max(height, width)
    return View(-((size - height) // 2), -((size - width) // 2), size, size, spec.side)


def plan_region(shape: tuple[int, int], box: Box, spec: ViewSpec, fraction: float | None = None) -> View:
    """The view in which a box takes about ``fraction`` (the spec's, if not given) of the side.

    Sides are powers of the square root of 2 and corners are multiples of an eighth of the side, so that neighbouring
    objects, and the same object on its next click, get the same view and share one embedding. Windows stay inside the
    slice where they can; a window that would show nearly all of the slice becomes the whole slice.
    """
    if not spec.regions:
        return whole_slice(shape, spec)
    size = max(box[2] - box[0], box[3] - box[1], 1.0)
    ideal = max(size / (fraction or spec.fraction), spec.smallest)
    side = round(2 ** (round(2 * math.log2(ideal)) / 2))
    if side >= 0.85 * max(shape):
        return whole_slice(shape, spec)
    step = max(1, side // 8)
    corner = []
    for low, high, length in ((box[0], box[2], shape[0]), (box[1], box[3], shape[1])):
        first = round(((low + high) / 2 - side / 2) / step) * step
        first = min(max(first, 0), length - side) if side <= length else -((side - length) // 2)
        corner.append(first)
    return View(corner[0], corner[1], side, side, spec.side)

"""What a person wants to annotate, and how it is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_medsam2.session_base import Kind

__all__ = ["Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image layer, and the choices with which `Workbench.annotate` begins.

    Parameters
    ----------
    image : Image
        The layer.
    axes : str, optional
        A letter for each of its axes; guessed by default.
    channel : int, optional
        What the model looks at; see `ImageStack`.
    window : (float, float), optional
        The intensities shown to the model as black and white.
    kind : str, optional
        ``"stack"`` or ``"collection"``.
    """

    image: Image
    axes: str | None = None
    channel: int | None = None
    window: tuple[float, float] | None = None
    kind: Kind | None = None

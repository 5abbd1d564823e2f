"""Numbers of pictures as they are stored, which for an image are colours or shades."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from napari_medsam2.stack import ImageStack

__all__ = ["open_indices", "read_indices"]

_PALETTED = (".png", ".bmp")


def open_indices(path: Path, axes: str | None = None) -> ImageStack:
    """Open labels as `ImageStack.open` does, but of a TIFF with a palette the stored numbers instead of its colours.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from napari_medsam2.stack import ImageStack

    stored = _stored(path, axes)
    return ImageStack.open(path, axes=axes) if stored is None else stored


def _stored(path: Path, axes: str | None = None) -> ImageStack | None:
    """Return the numbers in a TIFF with a palette; None for all others."""
    from napari_medsam2.reading.axes import check_letters
    from napari_medsam2.reading.colours import PaletteArray
    from napari_medsam2.reading.naming import rename_axes
    from napari_medsam2.reading.readers import open_image, short_name
    from napari_medsam2.stack import ImageStack

    image = open_image(path) if path.is_file() else None
    if image is None or not isinstance(image.data, PaletteArray):
        return None
    image = replace(image, data=image.data.stored, axes=image.axes.removesuffix("C"))
    if axes is not None:
        image = rename_axes(image, check_letters(axes))
    return ImageStack(image.data, image.axes, name=short_name(path))


def read_indices(path: Path) -> np.ndarray | None:
    """Read the stored numbers of a picture with a palette, or of a PNG of 2 or 4 bits; None for all others.

    Returns
    -------
    ndarray or None
        ``(H, W)`` uint8. `ImageStack` gives the palette's colours, and shades that are spread to 255.

    Raises
    ------
    InputError
        If it is damaged.
    """
    import numpy as np

    from napari_medsam2.errors import InputError
    from napari_medsam2.reading.pictures import pillow_image
    from napari_medsam2.reading.readers import reason

    if not path.name.lower().endswith(_PALETTED):
        numbers = _stored(path)
        return None if numbers is None else numbers.raw(0)
    try:
        with path.open("rb") as stream:
            head = stream.read(26)
        grey = head.startswith(b"\x89PNG") and head[25] == 0
        bits = head[24] if grey and head[24] in (2, 4) else 8
        with pillow_image(path) as picture:
            if picture.mode != "P" and not (picture.mode == "L" and bits < 8):
                return None
            stored = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read {path.name}: {reason(error)}; check that it is whole") from error
    # Pillow spreads shades of few bits to 255, but leaves a palette's numbers alone.
    return stored if bits == 8 else stored // np.uint8(255 // (2**bits - 1))

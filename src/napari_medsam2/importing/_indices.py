"""Numbers of pictures as they are stored, which for an image are colours or shades."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

__all__ = ["read_indices"]

_PALETTED = (".png", ".bmp")


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
        return None
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

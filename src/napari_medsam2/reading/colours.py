"""Colours that a file stores as something else: places in a palette, printing inks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_medsam2.reading.sources import Key, full_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_medsam2.reading.sources import Source

__all__ = ["InkArray", "PaletteArray"]


class PaletteArray:
    """Pictures whose pixels are places in a palette, in its colours; in grey values where no palette has colours.

    Parameters
    ----------
    stored : Source
        The places, whose last two axes are rows and columns.
    colormaps : sequence of ndarray
        TIFF's colour map of each page, ``(3, places)`` uint16; a page holds as many slices as any other.

    Attributes
    ----------
    stored : Source
        The places themselves, which for labels are the numbers that count.
    shape : tuple of int
        That of ``stored``, then 3 where there are colours.
    """

    def __init__(self, stored: Source, colormaps: Sequence[NDArray[Any]]) -> None:
        import numpy as np

        if all(np.array_equal(colormaps[0], other) for other in colormaps):
            colormaps = colormaps[:1]
        # Some programs write bytes where the format wants 16 bits.
        tables = [(c if c.max() < 256 else c >> 8).astype(np.uint8).T for c in colormaps]
        self._tables = np.stack(tables)
        if (self._tables == self._tables[..., :1]).all():
            self._tables = self._tables[..., 0]
        self.stored = stored
        self.shape = (*stored.shape, *self._tables.shape[2:])
        self.dtype: np.dtype[Any] = self._tables.dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        axes = len(self.stored.shape)
        whole = full_key(key, len(self.shape))
        places = np.asarray(self.stored[whole[:axes]])
        lead = self.stored.shape[:-2]
        count = math.prod(lead)
        slices = np.arange(count).reshape(lead)[whole[: axes - 2]]
        pages = slices.reshape(slices.shape + (1,) * (places.ndim - slices.ndim)) * len(self._tables) // count
        # As an index a bool would choose instead of count.
        found: NDArray[Any] = self._tables[pages, places.astype(np.uint8) if places.dtype == bool else places]
        return found[(..., *whole[axes:])]


class InkArray:
    """Cyan, magenta, yellow and black in the last axis as red, green and blue, by the formula that Pillow has.

    Parameters
    ----------
    inks : Source
        uint8 or uint16; what follows the four inks is passed over.
    """

    def __init__(self, inks: Source) -> None:
        self._inks = inks
        self.shape = (*inks.shape[:-1], 3)
        self.dtype = inks.dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        whole = full_key(key, len(self.shape))
        # Products of 16 bits fit 32.
        inks = np.asarray(self._inks[(*whole[:-1], slice(None))], dtype=np.uint32)
        full = np.uint32(np.iinfo(self.dtype).max)
        paper = full - inks[..., 3:4]
        colours: NDArray[Any] = paper - (inks[..., :3] * paper + full // 2) // full
        return colours.astype(self.dtype)[..., whole[-1]]

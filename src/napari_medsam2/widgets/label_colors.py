"""Colours of labels that may be large."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LabelColors"]


class LabelColors(DirectLabelColormap):  # type: ignore[misc]  # napari ships no types
    """A colour for each label, whatever its number.

    Without numba napari holds a table with a place for every number up to the largest, and refuses to beyond 65536.
    """

    @cached_property
    def _array_map(self) -> Any:
        if max((label for label in self.color_dict if label is not None), default=0) <= 2**16:
            return super()._array_map
        # As napari chooses the type of its texture.
        dtype = np.dtype(np.uint8 if self._num_unique_colors + 2 <= np.iinfo(np.uint8).max else np.uint16)
        return _Lookup(self._values_mapping_to_minimum_values_set()[0], dtype)


class _Lookup:
    """What napari asks of its table, for labels that are few but large."""

    def __init__(self, places: Mapping[int | None, int], dtype: np.dtype[Any]) -> None:
        known = sorted((label, place) for label, place in places.items() if label is not None)
        self._labels = np.array([label for label, _ in known], np.uint32)
        self._places = np.array([place for _, place in known], dtype)
        self.shape = (known[-1][0] + 2,)

    def __getitem__(self, drawn: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self._labels, drawn), len(self._labels) - 1)
        # 0 stands for what has no colour of its own.
        return np.where(self._labels[at] == drawn, self._places[at], self._places.dtype.type(0))

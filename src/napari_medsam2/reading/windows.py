"""The intensity windows of a stack's slices, found when they are first needed."""

from __future__ import annotations

import threading
from math import prod
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import leading
from napari_medsam2.reading.intensity import (
    MAX_PIXELS,
    Sample,
    Window,
    apply_window,
    finite_range,
    robust_window,
    sample,
    slices_looked_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_medsam2.reading.layout import Layout

__all__ = ["Windows"]


class Windows:
    """One window for all slices of a stack, or one for each image of a collection; each channel has its own.

    Parameters
    ----------
    layout : Layout
        Where the slices lie.
    read : callable
        Reads one slice by its number.
    describe : callable
        Says what a slice is called in an error.
    fixed : (float, float) or None
        What a person asked for, which holds everywhere.
    channel : tuple of int or None
        The channels that a person asked for.
    """

    def __init__(
        self,
        layout: Layout,
        read: Callable[[int], NDArray[Any]],
        describe: Callable[[int], str],
        fixed: Window | None,
        channel: tuple[int, ...] | None,
    ) -> None:
        self._layout = layout
        self._read = read
        self._describe = describe
        self.fixed = fixed
        self.channel = channel
        self._found: dict[int, tuple[Window, ...]] = {}
        self._lock = threading.Lock()

    def shown(self, index: int) -> tuple[int, ...]:
        """Return the numbers of the channels that are shown of one slice, three at most."""
        channels = self._layout.channels(index)
        if channels is None:
            return (0,)
        return self.channel if self.channel is not None else tuple(range(min(channels, 3)))

    def known(self, index: int) -> tuple[Window, ...] | None:
        """Return the windows of one slice's shown channels where no pixel decides them, else None."""
        dtype = self._layout.slice_dtype(index)
        if self.fixed is not None:
            window = self.fixed
        elif dtype == "bool":
            window = (0.0, 1.0)
        elif dtype == "uint8" and self._layout.colour(index):
            window = (0.0, 255.0)
        else:
            return None
        return (window,) * len(self.shown(index))

    def of(self, index: int, image: NDArray[Any] | None = None) -> tuple[Window, ...]:
        """Return the windows of one slice's shown channels.

        Parameters
        ----------
        index : int
            The slice.
        image : ndarray, optional
            The slice itself, if it was read already.

        Raises
        ------
        InputError
            If there is no finite pixel to go by, or none of the slices that are looked at can be read.
        """
        known = self.known(index)
        if known is not None:
            return known
        group = self._group(index)
        found = self._found.get(group)
        if found is None:
            # One thread computes, the others wait for it.
            with self._lock:
                found = self._found.get(group) or self._find(index, self._members(group), image)
                self._found[group] = found
        return found

    def seen(self, index: int, image: NDArray[Any]) -> NDArray[Any]:
        """Turn a slice, or a part of it, to what a network sees: see `ImageStack.pixels`."""
        import numpy as np

        if image.ndim == 2:
            image = image[..., None]
        pairs = zip(self.shown(index), self.of(index, image), strict=True)
        planes = [apply_window(image[..., c], window) for c, window in pairs]
        if len(planes) == 3:
            return np.stack(planes)
        plane = planes[0] if len(planes) == 1 else np.maximum(planes[0], planes[1])
        return np.repeat(plane[None], 3, axis=0)

    def _group(self, index: int) -> int:
        """Return the number of the image that a slice belongs to: all of a stack is one."""
        axis = leading(self._layout.axes).find("N")
        if axis < 0:
            return 0
        lead = self._layout.lead
        return index // prod(lead[axis + 1 :]) % lead[axis]

    def _members(self, group: int) -> list[int]:
        """Return some slices of an image, from end to end."""
        import numpy as np

        lead = self._layout.lead
        numbers = np.arange(prod(lead)).reshape(lead)
        axis = leading(self._layout.axes).find("N")
        if axis >= 0:
            numbers = numbers.take([group], axis)
        numbers = numbers.ravel()
        most = slices_looked_at(prod(self._layout.slice_shape(int(numbers[0]))))
        picks = np.linspace(0, numbers.size - 1, min(numbers.size, most)).round().astype(int)
        return [int(number) for number in numbers[picks]]

    def _find(self, index: int, members: list[int], image: NDArray[Any] | None) -> tuple[Window, ...]:
        errors: list[InputError] = []

        def contents() -> Iterator[NDArray[Any]]:
            for number in members:
                try:
                    content = image if image is not None and number == index else self._read(number)
                except InputError as error:
                    # One damaged slice does not change how the others look; who asks for it itself is told.
                    errors.append(error)
                    continue
                yield content[..., None] if content.ndim == 2 else content

        shown = self.shown(index)
        samples: dict[int, list[Sample]] = {c: [] for c in shown}
        for content in contents():
            for c, found_there in samples.items():
                found_there.append(sample(content[..., c], MAX_PIXELS // len(members)))
        if len(errors) == len(members):
            raise errors[0]
        found: list[Window] = []
        # Colours share a window, so that hues stay.
        for together in [shown] if self._layout.colour(index) else [(c,) for c in shown]:
            window = robust_window([taken for c in together for taken in samples[c]])
            if window is None or window[0] == window[1]:
                # What the sample passed over may still be there.
                window = finite_range(content[..., c] for content in contents() for c in together)
            if window is None:
                raise InputError(
                    f"{self._describe(index)} has no finite pixel (all are NaN or infinite); check where it comes from"
                )
            found += [window] * len(together)
        return tuple(found)

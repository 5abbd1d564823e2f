"""The image that a session speaks of: where it is, and how to know that it is the same one."""

from __future__ import annotations

import contextlib
import glob
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import leading
from napari_medsam2.reading.checks import check_spacing
from napari_medsam2.reading.hashing import run_through
from napari_medsam2.reading.readers import find_images
from napari_medsam2.stack import ImageStack
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["EMBEDDED", "ChangedImageError", "ImageReference", "MissingImageError"]

_ONE, _MANY = EMBEDDED = "image.npy", "image"
"""Names of an embedded image: one array, or a folder of pictures that differ in size or type."""
_TRUSTED = 2**28
"""Larger images whose file has the size and time it had are not read through to compare their hash."""


class MissingImageError(InputError):
    """A session's image is not where it was, or was in memory only.

    Parameters
    ----------
    message : str
        What a person reads.
    path : str, optional
        Where it was; None for an array in memory.
    whole_folder : bool
        Whether that was a folder, or pictures of one, not a file.
    """

    def __init__(self, message: str, path: str | None, whole_folder: bool = False) -> None:
        super().__init__(message)
        self.path, self.whole_folder = path, whole_folder


class ChangedImageError(InputError):
    """A session's image is where it was, and of the same size and type, but has other pixels."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What a session's file says of its image.

    Parameters
    ----------
    axes, dtype : str
        The image's.
    lead : tuple of int
        Sizes of the axes before rows and columns; their product is the number of slices.
    sizes : tuple of (int, int)
        ``(H, W)`` of every slice, or once where all have the same.
    sha256 : str
        `ImageStack.fingerprint`, in which a slice that cannot be read counts as such.
    name : str
        What the image is called.
    names : tuple of str, optional
        The pictures' names.
    window, channel
        As the image was opened with.
    path, relative : str, optional
        Where it is: absolute, and from the session's folder. None for an array in memory.
    stat : (int, int), optional
        The file's size and time of change in nanoseconds.
    embedded : bool
        Whether the session's folder holds a copy of the pixels.
    spacing, affine
        The image's, which a copy of the pixels would lose.
    """

    axes: str
    dtype: str
    lead: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    sha256: str
    name: str = "stack"
    names: tuple[str, ...] | None = None
    window: tuple[float, float] | None = None
    channel: tuple[int, ...] | None = None
    path: str | None = None
    relative: str | None = None
    stat: tuple[int, int] | None = None
    embedded: bool = False
    spacing: Mapping[str, Any] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None

    @classmethod
    def of(cls, stack: ImageStack, folder: Path, sha256: str | None = None) -> ImageReference:
        """Describe a stack for a session in ``folder``; reads every pixel, for the hash, where that is not given."""
        every = [stack.slice_shape(i) for i in range(1 if stack.uniform else len(stack))]
        window, channel = stack.display
        digest = sha256 or stack.fingerprint()
        found = cls(
            stack.axes, stack.dtype.str, _lead(stack), tuple(every), digest, stack.name, stack.names,
            window, channel, spacing=stack.spacing,
            affine=None if stack.affine is None else tuple(map(tuple, stack.affine.tolist())),
        )  # fmt: skip
        return found.moved(stack.path, folder)

    def moved(self, path: Path | None, folder: Path) -> ImageReference:
        """Return the reference with another place."""
        if path is None:
            return replace(self, path=None, relative=None, stat=None)
        place = path.expanduser().absolute()
        relative = None
        with contextlib.suppress(ValueError):
            # Another drive of Windows has no way there.
            relative = Path(os.path.relpath(place, folder.absolute())).as_posix()
        return replace(self, path=str(place), relative=relative, stat=_stat(place))

    def __len__(self) -> int:
        """Return the number of slices."""
        return int(np.prod(self.lead, dtype=np.int64)) if self.lead else 1

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)`` of a slice."""
        return self.sizes[0 if len(self.sizes) == 1 else index]

    @property
    def where(self) -> str:
        """Say where the image is."""
        return "a copy in the session's folder" if self.embedded else self.path or "an array in memory"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `from_json` is the inverse."""
        out = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in out.items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> ImageReference:
        """Check what a session's file says.

        Raises
        ------
        ValueError
            Saying what is wrong.
        """
        if not isinstance(data, dict) or not isinstance(data.get("spacing", {}), dict):
            raise ValueError("the image is no object")
        read = _Fields(data)
        lead = read.wholes("lead", 0, 2**31)
        sizes = data.get("sizes")
        if not isinstance(sizes, list) or not sizes:
            raise ValueError("the image has no sizes")
        pairs = [tuple(_whole(v, 1, 2**24) for v in pair) if isinstance(pair, list) else () for pair in sizes]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("the image's sizes are no pairs")
        window, stat, channel = data.get("window"), data.get("stat"), data.get("channel")
        if window is not None:
            window = (read.number(window, 0), read.number(window, 1))
        names = data.get("names")
        if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
            raise ValueError("the image's names are no texts")
        out = cls(
            read.text("axes"), read.text("dtype"), tuple(lead), tuple((p[0], p[1]) for p in pairs), read.text("sha256"),
            read.text("name"), None if names is None else tuple(names), window,
            None if channel is None else tuple(read.wholes("channel", 0, 2**31)),
            read.text("path") if "path" in data else None,
            read.text("relative") if "relative" in data else None,
            None if stat is None else tuple(read.wholes("stat", -(2**63), 2**63)[:2]),  # type: ignore[arg-type]
            data.get("embedded") is True, check_spacing(data.get("spacing")), read.affine(),
        )  # fmt: skip
        if out.stat is not None and len(out.stat) != 2:
            raise ValueError("the image's file has no size and time")
        if len(out.dtype) > 9 or np.dtype(out.dtype).kind not in "biuf":
            raise ValueError(f"the image cannot be of the type {out.dtype!r}")
        if len(out.sizes) not in (1, len(out)) or len(out) < 1:
            raise ValueError("the image has not as many sizes as slices")
        return out

    def find(self, folder: Path, image: str | Path | None, changed: bool = False) -> tuple[ImageStack, ImageReference]:
        """Open the image and make sure that it is the same.

        Parameters
        ----------
        folder : Path
            The session's.
        image : str or Path, optional
            A new place to look.
        changed : bool
            Take an image of the same shape and type even where its pixels have changed.

        Returns
        -------
        tuple
            The image, and the reference to where it was found.

        Raises
        ------
        InputError
            If it is missing or another one.
        """
        if self.embedded and image is None:
            stack, found = self._restore(self._open_embedded(folder)), self
        else:
            place = self._place(folder, image)
            # The pictures of a folder say themselves which of them have colours.
            axes = None if "N" in self.axes and find_images(place) is not None else self.axes
            stack = ImageStack.open(place, axes=axes, window=self.window, channel=self.channel)
            if self.spacing is not None:
                stack._spacing = check_spacing(self.spacing)
            found = replace(self.moved(stack.path, folder), embedded=False)
        stack.name = self.name
        return stack, self.check(stack, found, changed)

    def check(self, stack: ImageStack, found: ImageReference, changed: bool = False) -> ImageReference:
        """Compare an image with this reference; returns ``found``, with a new hash where a change is accepted.

        Raises
        ------
        InputError
            If it is another one.
        """
        name = stack.path or self.name
        sizes = tuple(stack.slice_shape(i) for i in range(1 if stack.uniform else len(stack)))
        if (_lead(stack), sizes) != (self.lead, self.sizes) or stack.dtype != np.dtype(self.dtype):
            raise InputError(
                f"the image {name} is not the session's: that had {self._describe()}, this has "
                f"{' × '.join(map(str, _lead(stack)))} slices of {sizes[0]} {stack.dtype}; give the right one"
            )
        nbytes = sum(h * w for h, w in self.sizes) * (len(self) if len(self.sizes) == 1 else 1) * stack.dtype.itemsize
        if nbytes > _TRUSTED and self.stat is not None and found.stat == self.stat:
            return found
        unread: list[int] = []
        digest = run_through(stack.fingerprint_steps(unread))
        if digest != self.sha256 and not changed:
            damaged = f", {counted(len(unread), 'slice')} cannot be read" if unread else ""
            raise ChangedImageError(
                f"the pixels of the image {name} have changed since the session was saved{damaged}; give the right "
                f"one, or accept the change"
            )
        return replace(found, sha256=digest)

    def _describe(self) -> str:
        return f"{' × '.join(map(str, self.lead))} slices of {self.sizes[0]} {np.dtype(self.dtype)}"

    def _place(self, folder: Path, image: str | Path | None) -> Path:
        if image is not None:
            return Path(image).expanduser()
        if self.path is None:
            raise MissingImageError(
                f"the image of the session {folder} was an array in memory, of {self._describe()}; give it again", None
            )
        for place in (Path(self.path), folder / (self.relative or self.path)):
            if place.exists() or next(glob.iglob(str(place), recursive=True), None) is not None:
                return place
        raise MissingImageError(
            f"the image {self.path} of the session {folder} is missing; give its new place",
            self.path,
            # Of a file there is the size, of folders and patterns there is not.
            self.stat is None,
        )

    def embed(self, stack: ImageStack, folder: Path) -> ImageReference:
        """Copy the pixels into the session's folder, slice by slice."""
        return run_through(self.embedding(stack, folder))

    def embedding(self, stack: ImageStack, folder: Path) -> Generator[int, None, ImageReference]:
        """Do what `embed` does one slice at a time, so that a thread can be ended in between; yields how many."""
        try:
            first, alike = stack.raw(0), len(self.sizes) == 1
            for index in range(1, len(stack) if alike else 1):
                raw = stack.raw(index)
                alike = alike and (raw.shape, raw.dtype) == (first.shape, first.dtype)
                yield 0
            if alike:
                out = np.lib.format.open_memmap(folder / _ONE, "w+", first.dtype, self.lead + first.shape)
                flat = out.reshape(-1, *first.shape)
                for index in range(len(stack)):
                    flat[index] = stack.raw(index)
                    yield index + 1
                out.flush()
            else:
                (folder / _MANY).mkdir()
                for index in range(len(stack)):
                    np.save(folder / _MANY / f"{index:06}.npy", stack.raw(index), allow_pickle=False)
                    yield index + 1
        except OSError as error:
            raise InputError(f"cannot copy the image to {folder}: {error.strerror or error}") from error
        return replace(self, embedded=True)

    def _open_embedded(self, folder: Path) -> ImageStack:
        keep: dict[str, Any] = {"window": self.window, "channel": self.channel, "name": self.name}
        keep |= {"names": self.names, "spacing": self.spacing}
        try:
            if (folder / _ONE).is_file():
                array = np.load(folder / _ONE, mmap_mode="r", allow_pickle=False)
                axes = leading(self.axes) + "YX"
                if array.ndim > len(self.lead) + 2:
                    axes += "C"
                    if not self.axes.endswith("YXC"):
                        # Three channels are no colours only because they are stored as such.
                        array, axes = np.moveaxis(array, -1, len(self.lead)), leading(self.axes) + "CYX"
                return ImageStack(array, axes, **keep)
            items = [
                np.load(folder / _MANY / f"{i:06}.npy", mmap_mode="r", allow_pickle=False) for i in range(len(self))
            ]
        except (OSError, ValueError, EOFError) as error:
            raise MissingImageError(
                f"the image in the session {folder} is missing or damaged ({error}); get a copy", self.path
            ) from error
        return ImageStack(items, None if "N" in self.axes else self.axes, **keep)

    def _restore(self, stack: ImageStack) -> ImageStack:
        return stack if self.affine is None else stack.placed(stack.path, np.array(self.affine))


def _lead(stack: ImageStack) -> tuple[int, ...]:
    return stack.shape[:-2] if stack.uniform else (len(stack),)


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if path.is_file() else None


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} is no whole number from {low} to {high}")
    return value


class _Fields:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def text(self, name: str) -> str:
        value = self._data.get(name)
        if not isinstance(value, str):
            raise ValueError(f"{name} of the image is no text")
        return value

    def wholes(self, name: str, low: int, high: int) -> list[int]:
        value = self._data.get(name)
        if not isinstance(value, list):
            raise ValueError(f"{name} of the image is no list")
        return [_whole(v, low, high) for v in value]

    def affine(self) -> tuple[tuple[float, ...], ...] | None:
        rows = self._data.get("affine")
        if rows is None:
            return None
        found = np.asarray(rows, dtype=np.float64)
        if found.shape != (4, 4) or not np.isfinite(found).all():
            raise ValueError("the image's affine is no 4 × 4 numbers")
        return tuple(map(tuple, found.tolist()))

    def number(self, values: Any, at: int) -> float:
        if not isinstance(values, list) or len(values) != 2 or type(values[at]) not in (int, float):
            raise ValueError("the image's window is no pair of numbers")
        return float(values[at])

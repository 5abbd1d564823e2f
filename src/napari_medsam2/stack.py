"""The image being annotated: ordered slices or unordered pictures, read one at a time."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError
from napari_medsam2.reading.axes import check_letters
from napari_medsam2.reading.checks import check_channel, check_names, check_spacing, check_window
from napari_medsam2.reading.hashing import fingerprint_steps, run_through
from napari_medsam2.reading.layout import Layout, Pile, layout_of
from napari_medsam2.reading.naming import rename_axes
from napari_medsam2.reading.numbering import check_index, ravel, runs, unravel
from napari_medsam2.reading.readers import distinct_names, find_images, open_collection, open_image, reason, short_name
from napari_medsam2.reading.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_medsam2.reading.intensity import Window

__all__ = ["ImageStack"]


class ImageStack:
    """Slices of an image, read lazily: one at a time, and only when asked for.

    A *stack* is ordered (the depth of a volume, the frames of a film), a *collection* is not (the pictures of a
    folder). Slices are numbered from 0 by ``index``, in the order of the leading axes. Reads of opened files are
    thread-safe; those of an array are if the array's are.

    Parameters
    ----------
    data : array-like or sequence of array-like
        A numpy, dask or zarr array, or anything with ``shape``, ``dtype`` and ``__getitem__``, bool, integer or float;
        or a list of pictures, ``(H, W)`` or ``(H, W, C)``, of the same or of different sizes, which is a collection.
    axes : str, optional
        A letter for each axis: T time, Z depth, N image number, Y row, X column, C channel; such as ``"TZYX"``.
        Guessed from shape and type where not given: ``YX``; ``YXC`` for 8-bit colour or ``ZYX``; ``ZYXC`` where the
        last axis is 3 or 4 long, or ``TZYX``; likewise ``TZYXC`` or ``TZCYX``.
    window : (float, float), optional
        The values shown as black and as white, such as (-160, 240) Hounsfield units for the soft tissue of a CT.
        Found from the data where not given, see `window`.
    channel : int or sequence of int, optional
        The channel to look at, or up to three, which become red, green and blue. Without it one channel is shown as
        grey, two as the brighter of both at each pixel, three as red, green and blue, and of more the first three.
    spacing : mapping, optional
        Distance between pixel centres along ``"z"``, ``"y"``, ``"x"``, and their ``"unit"``.
    name : str
        What it is called.
    names : sequence of str, optional
        The names of the pictures of a collection, each different.

    Raises
    ------
    InputError
        If the data cannot be a stack: its type, shape, axes, or nothing but NaN.

    Examples
    --------
    >>> import numpy as np
    >>> stack = ImageStack(np.zeros((5, 64, 48), dtype=np.uint16), axes="ZYX")
    >>> len(stack), stack.shape, stack.pixels(0).shape
    (5, (5, 64, 48), (3, 64, 48))
    """

    def __init__(
        self,
        data: Any,
        axes: str | None = None,
        *,
        window: tuple[float, float] | None = None,
        channel: int | Sequence[int] | None = None,
        spacing: Mapping[str, Any] | None = None,
        name: str = "stack",
        names: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self._layout: Layout = layout_of(data, axes, "the image" if name == "stack" else name)
        self._length = math.prod(self._layout.lead)
        # Only pictures of a list can differ in size and channels.
        self._distinct = range(self._length) if isinstance(self._layout, Pile) else range(1)
        self._uniform = len({self._layout.slice_shape(i) for i in self._distinct}) == 1
        self._spacing = check_spacing(spacing)
        self._names = check_names(names, self._length)
        self._numbers = {known: number for number, known in enumerate(self._names or ())}
        self._affine: NDArray[Any] | None = None
        self._path: Path | None = None
        self._windows = Windows(
            self._layout,
            self.raw,
            self._describe,
            check_window(window),
            check_channel(channel, {self._layout.channels(i) for i in self._distinct}),
        )
        self._check_finite(data)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        axes: str | None = None,
        window: tuple[float, float] | None = None,
        channel: int | Sequence[int] | None = None,
    ) -> ImageStack:
        """Open an image file, a folder of images, or a glob.

        Parameters
        ----------
        path : str or Path
            TIFF, OME-TIFF or ImageJ TIFF; the folder of an OME-Zarr image (0.4, 0.5 and older); NIfTI (``.nii``,
            ``.nii.gz``), FreeSurfer's ``.mgz``; PNG, JPEG, BMP; ``.npy``. A folder of TIFF, PNG, JPEG or BMP pictures,
            or a pattern such as ``"cells/*.png"``, is a collection in natural order (2 before 10), or with
            ``axes="ZYX"`` or ``"TYX"`` a stack.
        axes, window, channel
            As for `ImageStack`; axes and spacing are the file's own where it says them. Axes of length 1 may be left
            out of ``axes`` or added; in another order spacing and affine go with the axes, not with their letters.

        Returns
        -------
        ImageStack
            Nothing but headers has been read.

        Raises
        ------
        InputError
            If there is nothing at that path, or it cannot be read.
        """
        place = Path(path).expanduser()
        files = find_images(place)
        if files is None:
            return cls._open_one(place, axes, window, channel)
        return cls(
            open_collection(files),
            axes,
            window=window,
            channel=channel,
            name=place.name if place.is_dir() else place.parent.name or "collection",
            names=distinct_names(files),
        ).placed(place)

    @classmethod
    def _open_one(
        cls,
        path: Path,
        axes: str | None,
        window: tuple[float, float] | None,
        channel: int | Sequence[int] | None,
    ) -> ImageStack:
        image = open_image(path)
        if axes is not None:
            image = rename_axes(image, check_letters(axes))
        return cls(
            image.data, image.axes, window=window, channel=channel, spacing=image.spacing, name=short_name(path)
        ).placed(path, image.affine)

    def placed(self, path: Path | None, affine: NDArray[Any] | None = None) -> ImageStack:
        """Take it for what is at this path, its voxels for where this affine has them; returns the stack itself."""
        self._path, self._affine = path, affine
        return self

    def __len__(self) -> int:
        """Return the number of slices."""
        return self._length

    def __repr__(self) -> str:
        """Return name, axes, sizes and type."""
        sizes = "×".join(map(str, self.shape)) if self.uniform else f"{len(self)} pictures of different sizes"
        return f"<ImageStack {self.name!r} {self.axes} {sizes} {self.dtype}>"

    @property
    def axes(self) -> str:
        """The axes as given, guessed or said by the file, in capitals, such as ``TZYXC``."""
        return self._layout.axes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The image's own type; of pictures of several types, the one that holds them all."""
        return self._layout.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The labels' shape: the leading axes, then rows and columns; ``(H, W)`` for a single picture.

        Raises
        ------
        InputError
            If the pictures of a collection differ in size.
        """
        self.require_uniform()
        return self._layout.lead + self._layout.slice_shape(0)

    @property
    def uniform(self) -> bool:
        """Whether all slices have the same height and width."""
        return self._uniform

    def require_uniform(self) -> None:
        """Raise InputError where the slices differ in size, so that no one array can hold their labels."""
        if not self.uniform:
            raise InputError(f"the pictures of {self.name} differ in size: take their labels picture by picture")

    @property
    def is_collection(self) -> bool:
        """Whether the slices are unordered pictures: a folder, a glob, a list, or axes with ``N``."""
        return "N" in self.axes

    @property
    def spacing(self) -> dict[str, Any] | None:
        """Distance between pixel centres, ``{"z": 2.0, "y": 0.5, "x": 0.5, "unit": "um"}``, or None if unknown.

        It holds the axes that are known. The unit is a short name (um, nm, mm, …), ``"pixel"`` where none is known.
        """
        return None if self._spacing is None else dict(self._spacing)

    @property
    def affine(self) -> NDArray[Any] | None:
        """NIfTI's 4 × 4 map from voxels ``(x, y, z)``, in that order, to millimetres; None for other images.

        None as well where ``axes`` make depth, rows or columns of times or channels, which it says nothing of.
        """
        return None if self._affine is None else self._affine.copy()

    @property
    def names(self) -> tuple[str, ...] | None:
        """The pictures' file names, for a collection that has them."""
        return self._names

    @property
    def path(self) -> Path | None:
        """What was opened: a file, a folder or a pattern; None for an array."""
        return self._path

    def slice_shape(self, index: int) -> tuple[int, int]:
        """Return ``(H, W)`` of one slice without reading it."""
        return self._layout.slice_shape(self._check_index(index))

    def unravel(self, index: int) -> tuple[int, ...]:
        """Return a slice's coordinates along the leading axes: ``(t, z)`` for ``TZYX``, ``()`` for a picture."""
        return unravel(self._check_index(index), self._layout.lead)

    def ravel(self, coords: Sequence[int]) -> int:
        """Return the number of the slice at these coordinates along the leading axes; the inverse of `unravel`.

        Raises
        ------
        InputError
            If there are too many or too few, or one is outside the stack.
        """
        return ravel(coords, self._layout.lead, self.axes)

    def runs(self) -> tuple[range, ...]:
        """Return the groups of slices through which a mask can be followed from neighbour to neighbour.

        All slices of a ``ZYX`` or ``TYX`` stack or a collection are one run. With more leading axes the mask is
        followed along depth, or along time where depth is one slice: a deep ``TZYX`` has one run for each time point.
        """
        return runs(self.axes, self._layout.lead)

    def index_of(self, name: str) -> int:
        """Return the number of the picture with this file name.

        Raises
        ------
        InputError
            If there is none; the message names those that are alike.
        """
        if self._names is None:
            raise InputError(f"{self.name} has no picture names; give the slice's number instead of {name!r}")
        if name in self._numbers:
            return self._numbers[name]
        alike = difflib.get_close_matches(str(name), self._names, n=3)
        hint = f"did you mean {', '.join(alike)}?" if alike else f"the first is {self._names[0]}"
        raise InputError(f"there is no picture {name!r} in {self.name}; {hint}")

    def raw(self, index: int) -> NDArray[Any]:
        """Read one slice.

        Parameters
        ----------
        index : int
            Its number.

        Returns
        -------
        ndarray
            ``(H, W)`` or ``(H, W, C)``, in the image's own type and native byte order; a copy.

        Raises
        ------
        InputError
            If there is no such slice, or its file cannot be read (any more).
        """
        return self._read(self._check_index(index))

    def _read(self, number: int, rows: slice = slice(None), columns: slice = slice(None)) -> NDArray[Any]:
        try:
            return self._layout.read(number, self.unravel(number), rows, columns)
        except InputError:
            raise
        except Exception as error:
            where = f"{self._names[number]} of {self.name}" if self._names else f"slice {number} of {self.name}"
            raise InputError(
                f"cannot read {where}: {reason(error)}; the file may be damaged, or changed since it was opened"
            ) from error

    def pixels(self, index: int) -> NDArray[Any]:
        """Read one slice as a network sees it.

        Parameters
        ----------
        index : int
            Its number.

        Returns
        -------
        ndarray
            ``(3, H, W)`` float32 in [0, 1]: the intensity window applied, grey repeated three times, 8-bit colour as it
            is, opacity dropped. NaN and infinities are 0.
        """
        return self._windows.seen(index, self.raw(index))

    def parts(self, index: int) -> Callable[[slice, slice], NDArray[Any]]:
        """Return what reads rows and columns of a slice, as `pixels` has them, and where it can nothing but them."""
        image = None if self._layout.divisible(self._check_index(index)) else self._read(index)
        # Intensities are found in the slice, not in a part of it.
        self._windows.of(index, image)
        return lambda *part: self._windows.seen(index, self._read(index, *part) if image is None else image[part])

    @property
    def window(self) -> Window | None:
        """The values shown as black and as white, where one window holds for all that is shown.

        It is what was given as ``window``, else 0 and 255 for 8-bit colour, 0 and 1 for bool, else robust percentiles
        (0.5 and 99.8, see `napari_medsam2.reading.intensity`) of 2 million pixels of at most 64 slices (32 of half a
        megapixel and more), found at the first use and kept. Both ends are equal for a constant image, which is shown
        as black. None where the channels, or the pictures of a collection, have windows of their own: see `windows`.
        """
        if self.is_collection and self._length > 1:
            each = {self._windows.known(i) for i in self._distinct}
            found = set(each.pop() or ()) if len(each) == 1 else set()
        else:
            found = set(self.windows(0))
        return found.pop() if len(found) == 1 else None

    @property
    def display(self) -> tuple[Window | None, tuple[int, ...] | None]:
        """The window and channels that were asked for; None where the image decides."""
        return self._windows.fixed, self._windows.channel

    def windows(self, index: int) -> tuple[Window, ...]:
        """Return the window of each channel that is shown of one slice.

        The slices of a stack share their windows; each image of a collection has its own, since exposures differ.
        Colours (``…YXC`` with 3 or 4 channels) share one, so that hues stay.

        Raises
        ------
        InputError
            If the image has no finite pixel.
        """
        return self._windows.of(self._check_index(index))

    def fingerprint(self) -> str:
        """Return a SHA-256 of shape, type and every pixel, in hexadecimal; slices are read one after the other.

        The same pixels in another file format have the same fingerprint. Slices that cannot be read count as such.
        """
        return run_through(self.fingerprint_steps())

    def fingerprint_steps(self, unread: list[int] | None = None) -> Generator[int, None, str]:
        """Compute the `fingerprint` a slice at a time, see `reading.hashing.fingerprint_steps`."""
        return fingerprint_steps(self._layout.lead, self.dtype, len(self), self.raw, unread)

    def _check_index(self, index: int) -> int:
        return check_index(index, self._length, self.name)

    def _describe(self, index: int) -> str:
        """Say which part of the image shares its window with this slice."""
        if not self.is_collection:
            return self.name
        return f"{self._names[index]} of {self.name}" if self._names else f"picture {index} of {self.name}"

    def _check_finite(self, data: Any) -> None:
        """Raise InputError where an array in memory is all NaN: cheap, as the first finite pixel ends the search."""
        import numpy as np

        if isinstance(data, np.ndarray) and data.dtype.kind == "f":
            if not any(np.isfinite(self.raw(i)).any() for i in range(self._length)):
                raise InputError(f"{self.name} has no finite pixel (all are NaN or infinite); check its source")

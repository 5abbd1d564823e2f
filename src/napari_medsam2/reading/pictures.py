"""PNG, JPEG and BMP files."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any, cast

from napari_medsam2.reading.imagefile import ImageFile

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from napari_medsam2.reading.sources import Key

__all__ = ["open_picture", "pillow_image"]

_TAIL = 4096


def pillow_image(path: Path) -> Image.Image:
    """Open a picture with Pillow, however large it is.

    ``Image.open`` refuses 179 million pixels and more, to defend servers from strangers' files; a slide has as many.

    Raises
    ------
    OSError, SyntaxError
        If it is no picture.
    """
    from PIL import Image

    Image.preinit()
    with path.open("rb") as stream:
        head = stream.read(16)
    for kind in ("PNG", "JPEG", "BMP"):
        factory, accepts = Image.OPEN[kind]
        if accepts is not None and accepts(head) is True:
            # It opens paths as well, and closes what it opened itself.
            return factory(cast("IO[bytes]", path), "")
    return Image.open(path)


class _Picture:
    """A PNG, JPEG or BMP file, decoded when it is indexed."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], deep: bool) -> None:
        self._path = path
        self._deep = deep
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: Key) -> NDArray[Any]:
        """Return the part at ``key``."""
        import numpy as np

        if self._deep:
            import imagecodecs

            pixels: NDArray[Any] = imagecodecs.png_decode(self._path.read_bytes())
            # Of what it decodes opacity is the last, even where a file says it by a colour.
            extra = pixels.ndim == 3 and pixels.shape[2] in (2, 4) and pixels.shape != self.shape
            pixels = pixels[..., :-1].reshape(self.shape) if extra else pixels
        else:
            with pillow_image(self._path) as picture:
                mode = _plain_mode(picture.mode)
                pixels = np.asarray(picture if mode == picture.mode else picture.convert(mode))
        if pixels.shape != self.shape:
            raise ValueError(f"it has shape {pixels.shape} instead of {self.shape}")
        return pixels[key].astype(self.dtype, copy=False)


def _plain_mode(mode: str) -> str:
    """Return the mode of Pillow's in which a picture of this mode is read: grey without alpha, or RGB(A)."""
    if mode in {"1", "L", "I", "F", "RGB", "RGBA"} or mode.startswith("I;16"):
        return mode
    return {"LA": "L", "La": "L", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, "RGB")


def open_picture(path: Path) -> ImageFile:
    """Open a picture file, unread; one whose end is missing is decoded, to see whether it can be.

    Raises
    ------
    OSError, SyntaxError, ValueError
        If it is no picture, or cut short.
    """
    import numpy as np

    with pillow_image(path) as picture:
        width, height = picture.size
        mode = _plain_mode(picture.mode)
    with path.open("rb") as stream:
        head = stream.read(26)
    # Pillow reduces PNG colours and transparencies of 16 bits to 8.
    deep = head.startswith(b"\x89PNG") and head[24] == 16
    channels = {0: 1, 2: 3, 4: 1, 6: 4}.get(head[25], 1) if deep else {"RGB": 3, "RGBA": 4}.get(mode, 1)
    kind = (
        "uint16" if deep or mode.startswith("I;16") else {"1": "bool", "I": "int32", "F": "float32"}.get(mode, "uint8")
    )
    shape = (height, width) if channels == 1 else (height, width, channels)
    data = _Picture(path, shape, np.dtype(kind), deep)
    if not _ends(path, head):
        data[()]
    return ImageFile(data=data, axes="YX" if channels == 1 else "YXC")


def _ends(path: Path, head: bytes) -> bool:
    """Whether the end of a picture is there, as far as its last bytes say it."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        tail = stream.read()
    if head.startswith(b"BM"):
        return size >= int.from_bytes(head[2:6], "little")
    return (b"IEND" if head.startswith(b"\x89PNG") else b"\xff\xd9") in tail

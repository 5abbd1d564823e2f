"""The sample images that ship with the package, with reference labels, for the demo and napari's File ▸ Open Sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_medsam2.stack import ImageStack

__all__ = [
    "SAMPLES",
    "Sample",
    "open_ct_thorax_abdomen",
    "open_fluorescence_nuclei",
    "open_he_nuclei",
    "open_nuclei_3d",
    "sample",
]

_FOLDER = Path(__file__).parent / "sample_data"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample image with reference labels.

    Parameters
    ----------
    name : str
        The name of its folder, which is laid out as an evaluation case (``case.json``, ``image.tif``, ``labels.tif``).
    title : str
        What a person reads in the menu.
    kind : {"stack", "collection"}
        Whether a mask can be followed from slice to slice.
    axes : str
        The image's axes; those of the labels are the same without ``C``.
    window : (float, float) or None
        The intensity window that suits it; None for the one found from the data.
    licence : str
        SPDX identifier of the licence of image and labels; the text is beside them.
    source : str
        Where they come from.
    """

    name: str
    title: str
    kind: Literal["stack", "collection"]
    axes: str
    window: tuple[float, float] | None
    licence: str
    source: str

    @property
    def folder(self) -> Path:
        """The folder with ``case.json``, ``image.tif``, ``labels.tif``, ``LICENSE`` and ``SOURCE.md``."""
        return _FOLDER / self.name

    @property
    def image(self) -> Path:
        """The image file, a TIFF."""
        return self.folder / "image.tif"

    @property
    def labels(self) -> Path:
        """The reference labels, a TIFF of integers: ids through the stack, or for each image of a collection."""
        return self.folder / "labels.tif"

    def open(self) -> ImageStack:
        """Open the image as a stack or collection, with its window."""
        from napari_medsam2.stack import ImageStack

        stack = ImageStack.open(self.image, axes=self.axes, window=self.window)
        stack.name = self.name
        return stack


_DSB = "2018 Data Science Bowl, stage 1 (BBBC038), with the community's fixes of the annotations"

SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        made.name: made
        for made in (
            Sample(
                name="nuclei-3d",
                title="Nuclei in 3-D, fluorescence (z-stack)",
                kind="stack",
                axes="ZYX",
                window=None,
                licence="BSD-3-Clause",
                source="the example stack of the stardist package",
            ),
            Sample(
                name="ct-thorax-abdomen-3mm",
                title="Thorax and abdomen, CT (z-stack)",
                kind="stack",
                axes="ZYX",
                # Hounsfield units in which radiologists look at soft tissue: level 40, width 400.
                window=(-160.0, 240.0),
                licence="Apache-2.0",
                source="the test files of TotalSegmentator",
            ),
            Sample(
                name="dsb2018-fluo-256x256",
                title="Nuclei, fluorescence (12 images)",
                kind="collection",
                axes="NYX",
                window=None,
                licence="CC0-1.0",
                source=_DSB,
            ),
            Sample(
                name="dsb2018-he-256x320",
                title="Nuclei in tissue, H&E (6 images)",
                kind="collection",
                axes="NYXC",
                window=None,
                licence="CC0-1.0",
                source=_DSB,
            ),
        )
    }
)


def sample(name: str) -> Sample:
    """Return the sample of this name.

    Raises
    ------
    InputError
        If there is none; the message names those that there are.
    """
    try:
        return SAMPLES[name]
    except KeyError:
        raise InputError(f"there is no sample {name!r}; there are {', '.join(SAMPLES)}") from None


LayerData = tuple[Any, dict[str, Any], str]


def _layers(name: str) -> list[LayerData]:
    """Return the layers of a sample for napari: the image, and the reference labels, hidden."""
    import tifffile

    made = sample(name)
    stack = made.open()
    common: dict[str, Any] = {"axis_labels": tuple(made.axes.removesuffix("C").lower())}
    if stack.spacing is not None:
        common["scale"] = tuple(stack.spacing[axis] for axis in "zyx")
        common["units"] = (stack.spacing["unit"],) * 3
    image = {
        **common,
        "name": made.name,
        "rgb": made.axes.endswith("C"),
        "metadata": {
            "axes": made.axes,
            "kind": made.kind,
            "licence": made.licence,
            "source": made.source,
            # A session refers to the file instead of copying it.
            "path": str(made.image),
            **({} if made.window is None else {"window": made.window}),
        },
    }
    if stack.window is not None and not image["rgb"]:
        image["contrast_limits"] = stack.window
    labels = {**common, "name": f"{made.name} reference", "visible": False}
    return [(tifffile.imread(made.image), image, "image"), (tifffile.imread(made.labels), labels, "labels")]


def open_nuclei_3d() -> list[LayerData]:
    """Return napari layers of nuclei in a z-stack, ``(31, 61, 57)`` uint16, and their reference labels."""
    return _layers("nuclei-3d")


def open_ct_thorax_abdomen() -> list[LayerData]:
    """Return napari layers of a CT, ``(30, 101, 122)`` int16 of 3 mm voxels, and its reference labels."""
    return _layers("ct-thorax-abdomen-3mm")


def open_fluorescence_nuclei() -> list[LayerData]:
    """Return napari layers of 12 fluorescence images, ``(12, 256, 256)`` uint8, and their reference labels."""
    return _layers("dsb2018-fluo-256x256")


def open_he_nuclei() -> list[LayerData]:
    """Return napari layers of 6 H&E images, ``(6, 256, 320, 3)`` uint8, and their reference labels."""
    return _layers("dsb2018-he-256x320")

"""Cases from other people's repositories, of kinds that the embedded model never saw: CT, MR, EM, bacteria, plants.

Run: ``python -m benchmarks.abroad CLONES OUTPUT``, then ``napari-medsam2 evaluate OUTPUT``

CLONES holds clones of the repositories in `REPOSITORIES`, as ``git clone`` makes and names them; of those that are not
there nothing is made. The CT needs pydicom, the plants h5py; neither is a part of the test environment. Nothing of
these repositories belongs to this one. Where the reference masks come from stands beside each case.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from napari_medsam2.evaluation.cases import MIN_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Made = tuple[str, np.ndarray, np.ndarray, str]

REPOSITORIES = {
    "TotalSegmentator": "wasserth/TotalSegmentator at 0e65a448d557",
    "unet": "zhixuhao/unet at b45af4d45843",
    "niivue": "niivue/niivue at 9255c43ce83c",
    "omnipose": "kevinjohncutler/omnipose at 871f2c93a63a",
    "plant-seg": "kreshuklab/plant-seg at 9d748063cc9d",
}
"""Where each clone is from on GitHub, and the commit that was looked at."""

_STRUCTURES = (4,), (43,), (10,), (49,), (11,), (50,), (12,), (51,), (13,), (52,), (17,), (53,), (18,), (54,), (7, 8), (
    46, 47), (16,), (251, 252, 253, 254, 255), (15,), (14,)  # fmt: skip
"""FreeSurfer's numbers of ventricles, deep nuclei, hippocampi, cerebellum, brain stem and corpus callosum."""


def axial(path: Path) -> np.ndarray:
    """Read a volume as axial slices ``(Z, Y, X)``, feet first, each with the front up and the right side right."""
    import nibabel

    nib: Any = nibabel
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1]


def ct(clone: Path) -> Iterator[Made]:
    """Twenty slices of 512 × 512; organs as TotalSegmentator predicts them."""
    import imagecodecs
    import pydicom
    from pydicom.encaps import generate_frames

    folder = clone / "tests" / "reference_files"
    slices = [pydicom.dcmread(path, force=True) for path in (folder / "example_ct_dicom").iterdir()]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    frames = [imagecodecs.jpeg2k_decode(next(generate_frames(s.PixelData, number_of_frames=1))) for s in slices]
    values = np.stack(
        [f * float(s.RescaleSlope) + float(s.RescaleIntercept) for f, s in zip(frames, slices, strict=True)]
    )
    # DICOM's columns run to the patient's left.
    yield "ct-512", values.astype(np.int16), axial(folder / "example_seg_dicom.nii.gz")[..., ::-1], "mm"


def mr_abdomen(clone: Path) -> Iterator[Made]:
    """Twenty slices at 3 mm; organs as TotalSegmentator predicts them."""
    folder = clone / "tests" / "reference_files"
    yield "mr-abdomen", axial(folder / "example_mr_sm.nii.gz"), axial(folder / "example_seg_mr.nii.gz"), "mm"


def mr_brain(clone: Path) -> Iterator[Made]:
    """Every second slice of a T1-weighted head; structures as FreeSurfer segments them."""
    folder = clone / "packages" / "niivue" / "demos" / "images"
    image, found = axial(folder / "norm.mgz"), axial(folder / "aparc.a2009s+aseg.mgz")
    labels = np.zeros(found.shape, np.uint16)
    for value, numbers in enumerate(_STRUCTURES, 1):
        labels[np.isin(found, numbers)] = value
    seen = labels.any((1, 2)), (image > 0).any((0, 2)), (image > 0).any((0, 1))
    used = tuple(slice(*np.flatnonzero(along)[[0, -1]] + (0, 1)) for along in seen)
    yield "mr-brain", image[used][::2], labels[used][::2], "mm"


def membranes(clone: Path) -> Iterator[Made]:
    """Five electron micrographs of 512 × 512 (ISBI 2012); a neurite is what membranes enclose, from 150 pixels on."""
    folder = clone / "data" / "membrane" / "train"
    images, labels = [], []
    for number in range(0, 30, 6):
        images.append(np.asarray(Image.open(folder / "image" / f"{number}.png").convert("L")))
        found, _ = ndimage.label(np.asarray(Image.open(folder / "label" / f"{number}.png").convert("L")) > 127)
        small = np.flatnonzero(np.bincount(found.ravel()) < 5 * MIN_PIXELS)
        labels.append(np.where(np.isin(found, small), 0, found))
    yield "em-neurites", np.stack(images), np.stack(labels), ""


def bacteria(clone: Path) -> Iterator[Made]:
    """Seven images of bacteria, most in phase contrast; cells as Omnipose segments them."""
    folder = clone / "docs" / "test_files"
    for path in sorted((folder / "masks").glob("*_cp_masks.tif")):
        name = path.stem.removesuffix("_cp_masks")
        (source,) = folder.glob(f"{name}.*")
        pixels = np.asarray(Image.open(source)) if source.suffix == ".png" else tifffile.imread(source)
        if pixels.ndim == 3:
            pixels = pixels[..., :3] if np.ptp(pixels[..., :3].astype(int), axis=-1).any() else pixels[..., 0]
        yield f"bacteria-{name}", pixels[None], tifffile.imread(path)[None], ""


def shows_anything(image: np.ndarray) -> bool:
    """Whether neighbouring pixels have anything in common.

    Their correlation is 0.57 and 0.53 in two stacks of nuclei, and 0.001 in a third, in which nuclei are 2 of 255
    brighter than what is around them, with a standard deviation of 73: what a click gives there says nothing.
    """
    pairs = image[..., 1:].ravel(), image[..., :-1].ravel()
    return bool(np.corrcoef(*pairs)[0, 1] > 0.1)


def plants(clone: Path) -> Iterator[Made]:
    """Two noisy stacks of nuclei and one of cells; masks as the repository gives them. A third is noise only."""
    import h5py

    folder = clone / "tests" / "resources"
    for path in (*sorted((folder / "data").glob("*/*_mini.h5")), folder / "sample_ovule.h5"):
        with h5py.File(path) as file:
            image, labels = file["raw"][:], file["label"][:]
        if not shows_anything(image):
            continue
        if path.stem.endswith("_mini"):
            # What surrounds the nuclei has a number as well: the one of most voxels.
            values, counts = np.unique(labels, return_counts=True)
            labels[labels == values[counts.argmax()]] = 0
        yield f"plants-{path.stem}", image, labels, "px"


CASES: tuple[tuple[str, Callable[[Path], Iterator[Made]]], ...] = (
    ("TotalSegmentator", ct),
    ("TotalSegmentator", mr_abdomen),
    ("niivue", mr_brain),
    ("unet", membranes),
    ("omnipose", bacteria),
    ("plant-seg", plants),
)
"""The clone that each kind of case is made of."""


def write(folder: Path, name: str, image: np.ndarray, labels: np.ndarray, unit: str) -> None:
    """Write a case as `napari_medsam2.evaluation.load_case` reads it; without a unit it is a collection."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = image.shape[-1] == 3
    tifffile.imwrite(folder / "image.tif", image, photometric="rgb" if colours else "minisblack")
    tifffile.imwrite(folder / "labels.tif", labels.astype(np.uint16), photometric="minisblack")
    axes = ("ZYX" if unit else "NYX") + ("C" if colours else "")
    about = {"name": name, "kind": "z-stack" if unit else "collection", "axes": axes, "spacing": {"unit": unit}}
    (folder / "case.json").write_text(json.dumps(about), encoding="utf-8")


def main() -> None:
    """Make the cases of the clones that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    for clone, make in CASES:
        if not (given.clones / clone).is_dir():
            print(f"no {clone} in {given.clones} ({REPOSITORIES[clone]}): left out")
            continue
        try:
            for name, image, labels, unit in make(given.clones / clone):
                write(given.output / name, name, image, labels, unit)
                print(f"{name}: {image.shape}, {len(np.unique(labels)) - 1} values")
        except ModuleNotFoundError as error:
            print(f"{make.__name__} needs {error.name}: left out")


if __name__ == "__main__":
    main()

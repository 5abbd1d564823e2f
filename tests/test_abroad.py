from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import tifffile
from benchmarks.abroad import axial, bacteria, shows_anything, write
from PIL import Image

from napari_medsam2.evaluation import load_case

if TYPE_CHECKING:
    from pathlib import Path


def test_volumes_are_turned_as_scans_are_looked_at(tmp_path: Path) -> None:
    nib: Any = nibabel
    voxels = np.zeros((4, 5, 6), np.uint8)
    voxels[3, 0, 0] = 1  # right, back, feet
    for flip in ((1, 1, 1), (-1, 1, -1)):
        turned = voxels[tuple(slice(None, None, step) for step in flip)]
        nib.save(nib.Nifti1Image(turned, np.diag((*flip, 1.0))), tmp_path / "volume.nii.gz")
        assert np.argwhere(axial(tmp_path / "volume.nii.gz")).tolist() == [[0, 4, 3]]


def test_a_stack_of_noise_is_no_case() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (10, 60, 60), np.uint8)
    y, x = np.ogrid[:60, :60]
    disc = 60 * ((y - 30) ** 2 + (x - 30) ** 2 < 15**2)
    assert not shows_anything(noise)
    assert shows_anything((noise // 2 + disc).astype(np.uint8))


def test_cases_are_written_as_they_are_evaluated(tmp_path: Path) -> None:
    folder = tmp_path / "omnipose" / "docs" / "test_files"
    (folder / "masks").mkdir(parents=True)
    grey = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    labels = np.kron([[1, 0], [0, 2]], np.ones((15, 20), np.uint8)).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)).save(folder / "a.png")
    tifffile.imwrite(folder / "masks" / "a_cp_masks.tif", labels)
    ((name, image, found, unit),) = bacteria(tmp_path / "omnipose")
    write(tmp_path / "case", name, image, found, unit)
    case = load_case(tmp_path / "case")
    assert (case.name, case.kind) == ("bacteria-a", "collection")
    assert [(t.value, t.area) for t in case.targets()] == [(1, 300), (2, 300)]
    np.testing.assert_array_equal(case.stack.raw(0), grey)

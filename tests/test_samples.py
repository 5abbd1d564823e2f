from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_medsam2 import InputError, samples
from napari_medsam2.samples import SAMPLES, sample

NAMES = ["nuclei-3d", "ct-thorax-abdomen-3mm", "dsb2018-fluo-256x256", "dsb2018-he-256x320"]


def test_there_are_four() -> None:
    assert list(SAMPLES) == NAMES
    with pytest.raises(InputError, match=r"no sample 'nuclei'; there are nuclei-3d, ct-"):
        sample("nuclei")


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_agrees_with_its_case(name: str) -> None:
    made = sample(name)
    case = json.loads((made.folder / "case.json").read_text(encoding="utf-8"))
    image, labels = tifffile.imread(made.image), tifffile.imread(made.labels)
    assert case["name"] == name
    assert case["axes"] == made.axes
    assert case["kind"] == {"stack": "z-stack", "collection": "collection"}[made.kind]
    assert case["shape"] == list(image.shape)
    assert case["dtype"] == str(image.dtype)
    assert case["licence"].split()[0] in made.licence
    assert labels.shape == image.shape[:3]
    assert labels.dtype.kind == "u"
    assert case["n_labels"] == np.unique(labels).size - 1


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_opens_as_what_it_is(name: str) -> None:
    made = sample(name)
    stack = made.open()
    image = tifffile.imread(made.image)
    assert (stack.name, stack.axes, stack.shape) == (name, made.axes, image.shape[:3])
    assert stack.is_collection is (made.kind == "collection")
    np.testing.assert_array_equal(stack.raw(2), image[2])
    pixels = stack.pixels(2)
    assert pixels.shape == (3, *image.shape[1:3])
    assert pixels.std() > 0.05


def test_the_ct_is_shown_in_a_soft_tissue_window_with_its_voxels_size() -> None:
    stack = sample("ct-thorax-abdomen-3mm").open()
    assert stack.window == (-160.0, 240.0)
    assert stack.spacing == {"z": 3.0, "y": 3.0, "x": 3.0, "unit": "mm"}


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("nuclei-3d", "Redistribution and use in source and binary forms"),
        ("ct-thorax-abdomen-3mm", "Apache License"),
        ("dsb2018-fluo-256x256", "CC0 1.0 Universal"),
        ("dsb2018-he-256x320", "CC0 1.0 Universal"),
    ],
)
def test_licence_and_source_are_beside_a_sample(name: str, licence: str) -> None:
    folder = sample(name).folder
    assert licence in (folder / "LICENSE").read_text(encoding="utf-8")
    assert name in (folder / "SOURCE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_the_beginning_of_the_development_case(name: str, shared_data: Any) -> None:
    for file in ("image.tif", "labels.tif"):
        ours = tifffile.imread(sample(name).folder / file)
        np.testing.assert_array_equal(ours, tifffile.imread(shared_data / name / file)[: len(ours)])


@pytest.mark.parametrize(
    ("opener", "name"),
    list(
        zip(
            ("open_nuclei_3d", "open_ct_thorax_abdomen", "open_fluorescence_nuclei", "open_he_nuclei"),
            NAMES,
            strict=True,
        )
    ),
)
def test_layers_for_napari(opener: str, name: str) -> None:
    image, labels = getattr(samples, opener)()
    made = sample(name)
    assert (image[2], labels[2]) == ("image", "labels")
    assert (image[1]["name"], labels[1]["visible"]) == (name, False)
    assert image[1]["rgb"] is (made.axes == "NYXC")
    assert image[0].shape[:3] == labels[0].shape
    for data in (image[1], labels[1]):
        assert len(data["axis_labels"]) == 3
        assert data.get("scale") == ((3.0, 3.0, 3.0) if name.startswith("ct") else None)
        assert data.get("units") == (("mm",) * 3 if name.startswith("ct") else None)
    assert image[1]["metadata"]["licence"] == made.licence
    low, high = image[1].get("contrast_limits", (0, 1))
    assert low < high

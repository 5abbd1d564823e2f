from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_medsam2 import cli, demo
from napari_medsam2.evaluation import load_case
from napari_medsam2.metrics import dice
from napari_medsam2.samples import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_segments_a_sample_and_says_how_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = SAMPLES["dsb2018-he-256x320"]
    demo.main(output=tmp_path, sample=[sample.name])
    out = capsys.readouterr().out
    folder = tmp_path / sample.name
    for name in ("labels.tif", "confidence.csv", "picture.png"):
        assert str(folder / name) in out
        assert (folder / name).stat().st_size > 100
    labels, truth = tifffile.imread(folder / "labels.tif"), tifffile.imread(sample.labels)
    np.testing.assert_array_equal(labels[0] > 0, truth[0] > 0, "the painted image is taken as it is")
    scores = [dice(labels[i], truth[i]) for i in range(1, 6)]
    assert f"{np.mean(scores):.2f} with the reference" in out
    assert np.mean(scores) > 0.5
    with (folder / "confidence.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 6
    # The line "again" is a command that does the same.
    (again,) = [line for line in out.splitlines() if line.startswith("again")]
    program, *args = shlex.split(again.removeprefix("again"))
    assert program == "napari-medsam2"
    (folder / "labels.tif").unlink()
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(args)
    np.testing.assert_array_equal(tifffile.imread(folder / "labels.tif"), labels)


def test_every_sample_has_prompts_that_a_person_would_give(tmp_path: Path) -> None:
    for sample in SAMPLES.values():
        case = load_case(sample.folder, sample.window)
        prompts, objects = demo.make_prompts(sample, case)
        if sample.kind == "collection":
            assert [(p.label, p.index, p.content.box) for p in prompts] == [(1, 0, None)]
            continue
        assert len(prompts) == len(objects) >= 6
        for prompt in prompts:
            truth = case.labels(prompt.index) == prompt.label
            assert prompt.content.box is not None
            y0, x0, y1, x1 = (round(v + 0.5) for v in prompt.content.box)
            assert truth[y0:y1, x0:x1].sum() == truth.sum() >= 30


def test_the_demo_refuses_an_unknown_sample(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_medsam2.demo", "--output", tmp_path, "--sample", "cat"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nuclei-3d" in done.stderr


def test_the_prompts_file_of_the_demo_is_what_the_readme_says(tmp_path: Path) -> None:
    sample = SAMPLES["ct-thorax-abdomen-3mm"]
    case = load_case(sample.folder, sample.window)
    from napari_medsam2.prompts import load_prompts, save_prompts

    prompts, _ = demo.make_prompts(sample, case)
    save_prompts(tmp_path / "p.json", prompts)
    written = json.loads((tmp_path / "p.json").read_text())
    assert (written["format"], written["version"]) == ("napari-medsam2-prompts", 1)
    assert len(load_prompts(tmp_path / "p.json", case.stack)) == len(prompts)

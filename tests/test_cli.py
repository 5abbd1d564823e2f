from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as untyped
import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_medsam2
from napari_medsam2 import _progress, cli
from napari_medsam2.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.conftest import Balls

    Run = Callable[..., tuple[int, str, str]]

nib: Any = untyped
_PACKAGED = Path(napari_medsam2.__file__).parent / "backend" / "weights"
_MODULE = [sys.executable, "-m", "napari_medsam2"]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process: exit code, standard output, standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, out, err

    return call


def _prompts(path: Path, entries: Sequence[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"format": "napari-medsam2-prompts", "version": 1, "prompts": list(entries)}))
    return path


@pytest.fixture
def stack(tmp_path: Path, balls: Balls) -> Path:
    """A stack of ten slices on disk."""
    tifffile.imwrite(tmp_path / "stack.tif", balls.image[7:17], imagej=True, metadata={"axes": "ZYX"})
    return tmp_path / "stack.tif"


@pytest.fixture
def prompts(tmp_path: Path, balls: Balls) -> Path:
    """A box around either ball."""
    boxes = [{"object": n, "index": 4, "box": list(map(float, balls.box(n, 11)))} for n in (1, 2)]
    return _prompts(tmp_path / "prompts.json", boxes)


def _pictures(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Write pictures of bright disks; return the truth."""
    folder.mkdir()
    truth = []
    rng = np.random.default_rng(3)
    for number, (height, width) in enumerate(sizes):
        y, x = np.ogrid[:height, :width]
        mask = np.zeros((height, width), bool)
        for _ in range(4):
            cy, cx = rng.uniform(12, height - 12), rng.uniform(12, width - 12)
            mask |= (y - cy) ** 2 + (x - cx) ** 2 <= 90
        noise = rng.normal(0, 6, mask.shape)
        Image.fromarray(np.clip(30 + 150 * mask + noise, 0, 255).astype(np.uint8)).save(folder / f"cell {number}.png")
        truth.append(mask)
    return truth


def test_the_program_starts_fast_and_without_torch() -> None:
    code = "import sys, napari_medsam2.cli as c\ntry: c.main({args})\nexcept SystemExit: pass\n"
    code += "sys.exit(int(any(n in sys.modules for n in ('torch', 'transformers', 'napari', 'qtpy', 'scipy'))))"
    for args in (["--version"], ["models"], ["--help"], []):
        done = subprocess.run(
            [sys.executable, "-c", code.format(args=args)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{args} loaded a heavy module"
        assert done.stdout.strip()
        assert not done.stderr


def test_version_and_models(run: Run) -> None:
    assert run("--version") == (0, f"napari-medsam2 {napari_medsam2.__version__}\n", "")
    code, out, err = run("models")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["name", "compact"]
    assert not err


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("napari-medsam2")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert napari_medsam2.__version__ in done.stdout


def test_nifti_in_nifti_out(run: Run, tmp_path: Path, stack: Path, prompts: Path) -> None:
    affine = np.array([[-0.7, -0.1, 0, 12.5], [0.1, 0.8, 0, -30], [0, 0, -2.5, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(tifffile.imread(stack).T, affine), tmp_path / "ct.nii.gz")
    assert run("segment", stack, "--prompts", prompts, "--output", tmp_path / "labels.tif")[0] == 0
    code, out, err = run(
        "segment", tmp_path / "ct.nii.gz", "--prompts", prompts, "--output", tmp_path / "labels.nii.gz"
    )
    assert (code, err) == (0, "")
    assert str(tmp_path / "labels.nii.gz") in out
    labels = nib.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(labels.dataobj).T, tifffile.imread(tmp_path / "labels.tif"))
    np.testing.assert_allclose(labels.affine, affine, atol=1e-6)


def test_a_stack_from_boxes(run: Run, tmp_path: Path, stack: Path, prompts: Path, balls: Balls) -> None:
    out_file, table, picture = tmp_path / "labels.tif", tmp_path / "c.csv", tmp_path / "p.png"
    code, out, err = run(
        "segment", stack, "--prompts", prompts, "--output", out_file, "--confidence", table, "--overlay", picture
    )
    assert (code, err) == (0, ""), "no bar where there is no terminal"
    assert all(str(path) in out for path in (out_file, table, picture))
    assert "2 objects from 2 prompts on 10 slices" in out
    labels = tifffile.imread(out_file)
    truth = balls.labels[7:17]
    assert labels.shape == truth.shape
    assert labels.dtype == np.uint16
    for value in (1, 2):
        assert dice(labels == value, truth == value) > 0.6
        assert dice(labels[4] == value, truth[4] == value) > 0.85
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(int(r["index"]), int(r["object"])) for r in rows} == {(i, n) for i in range(10) for n in (1, 2)}
    assert all(0 <= float(r["confidence"]) <= 1 for r in rows if r["source"] != "ended")
    assert {r["confidence"] for r in rows if r["source"] == "ended"} <= {""}
    for row in rows:
        assert int(row["area"]) == (labels[int(row["index"])] == int(row["object"])).sum()
    with Image.open(picture) as image:
        assert min(image.size) > 500


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_prompts_from_a_pipe(run: Run, tmp_path: Path, stack: Path, prompts: Path) -> None:
    assert run("segment", stack, "--prompts", prompts, "--output", tmp_path / "wanted.tif")[0] == 0
    reading, writing = os.pipe()
    try:
        os.write(writing, prompts.read_bytes())
        os.close(writing)
        code, out, err = run("segment", stack, "--prompts", f"/dev/fd/{reading}", "--output", tmp_path / "labels.tif")
    finally:
        os.close(reading)
    assert (code, err) == (0, "")
    assert "2 objects from 2 prompts" in out
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), tifffile.imread(tmp_path / "wanted.tif"))


def test_a_folder_of_pictures_of_different_sizes(run: Run, tmp_path: Path) -> None:
    truth = _pictures(tmp_path / "cells", [(96, 96), (80, 128), (120, 100), (96, 96)])
    tifffile.imwrite(tmp_path / "painted.tif", truth[1].astype(np.uint8) * 255)
    file = _prompts(tmp_path / "p.json", [{"object": 3, "image": "cell 1.png", "mask": "painted.tif"}])
    code, out, err = run(
        "segment",
        tmp_path / "cells",
        "--prompts",
        file,
        "--output",
        tmp_path / "labels",
        "--confidence",
        tmp_path / "c.csv",
    )
    assert (code, err) == (0, "")
    assert "1 object from 1 prompt on 4 images" in out
    for number, mask in enumerate(truth):
        labels = np.asarray(Image.open(tmp_path / "labels" / f"cell {number}.png"))
        assert labels.shape == mask.shape
        assert dice(labels == 3, mask) > (0.99 if number == 1 else 0.5)
    with (tmp_path / "c.csv").open(newline="") as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == [f"cell {n}.png" for n in range(4)]


def test_a_pattern_several_files_and_one_file_of_labels(run: Run, tmp_path: Path) -> None:
    truth = _pictures(tmp_path / "cells", [(64, 64)] * 3)
    tifffile.imwrite(tmp_path / "painted.tif", truth[0].astype(np.uint8))
    file = _prompts(tmp_path / "p.json", [{"object": 1, "index": 0, "mask": "painted.tif"}])
    for number, images in enumerate(([tmp_path / "cells" / "*.png"], sorted((tmp_path / "cells").iterdir())[::-1])):
        folder = tmp_path / f"out{number}"
        assert run("segment", *images, "--prompts", file, "--output", folder)[0] == 0
        assert sorted(path.name for path in folder.iterdir()) == ["cell 0.png", "cell 1.png", "cell 2.png"]
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "cell 0.png")), truth[0])
        assert run("segment", *images, "--prompts", file, "--output", tmp_path / f"{number}.tif")[0] == 0
        labels = tifffile.imread(tmp_path / f"{number}.tif")
        for index in range(3):
            np.testing.assert_array_equal(labels[index], np.asarray(Image.open(folder / f"cell {index}.png")))


def test_slices_in_files_of_their_own_are_a_stack_when_asked(run: Run, tmp_path: Path, balls: Balls) -> None:
    (tmp_path / "slices").mkdir()
    for number, image in enumerate(balls.image[8:14]):
        tifffile.imwrite(tmp_path / "slices" / f"z{number}.tif", image)
    file = _prompts(tmp_path / "p.json", [{"object": 1, "index": 3, "box": list(balls.box(1, 11))}])
    made = []
    for images in ([tmp_path / "slices"], sorted((tmp_path / "slices").iterdir())):
        code, out, _ = run(
            "segment", *images, "--kind", "stack", "--prompts", file, "--output", tmp_path / "labels.tif"
        )
        assert code == 0
        assert "6 slices" in out
        with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
            assert tif.series[0].axes == "ZYX"
            made.append(tif.asarray())
    assert dice(made[0] == 1, balls.labels[8:14] == 1) > 0.6
    np.testing.assert_array_equal(made[0], made[1])


def test_a_single_picture_and_a_window(run: Run, tmp_path: Path, balls: Balls) -> None:
    tifffile.imwrite(tmp_path / "one.tif", balls.image[11])
    file = _prompts(tmp_path / "p.json", [{"object": 2, "index": 0, "points": [[64, 78]]}])
    for name in ("labels.tif", "labels.png"):
        args = ("--prompts", file, "--output", tmp_path / name, "--window", "0,2000", "--memory", "fifo")
        assert run("segment", tmp_path / "one.tif", *args)[0] == 0
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert dice(labels == 2, balls.labels[11] == 2) > 0.7
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels.png")), labels)


def test_evaluate_prints_a_row_a_protocol_and_writes_them(run: Run, tmp_path: Path, balls: Balls) -> None:
    folder = tmp_path / "balls"
    folder.mkdir()
    tifffile.imwrite(folder / "image.tif", balls.image[8:15])
    tifffile.imwrite(folder / "labels.tif", balls.labels[8:15])
    (folder / "case.json").write_text(json.dumps({"name": "balls", "kind": "z-stack", "axes": "ZYX"}))
    code, out, err = run("evaluate", tmp_path, "--json", tmp_path / "e.json")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[1] for line in lines[1:6]] == ["box", "click", "stack", "clicks", "mend"]
    written = json.loads((tmp_path / "e.json").read_text())
    assert [f"{row['dice']:.3f}" for row in written["rows"]] == [line[3] for line in lines[1:6]]
    assert written["rows"][0]["baselines"].keys() == {"box filled", "Otsu"}
    assert written["rows"][2]["baselines"].keys() == {"copied"}
    assert written["rows"][0]["dice"] > 0.9
    # Which weights the figures are of: the package's, or a file.
    assert written["sha256"] == json.loads((_PACKAGED / "compact.json").read_text())["sha256"]
    (tmp_path / "own.safetensors").write_bytes(embedded := (_PACKAGED / "compact.safetensors").read_bytes())
    options = ("--protocol", "click", "--weights", tmp_path / "own.safetensors", "--json", tmp_path / "own.json")
    assert run("evaluate", tmp_path, *options)[0] == 0
    assert json.loads((tmp_path / "own.json").read_text())["sha256"] == hashlib.sha256(embedded).hexdigest()
    code, _, err = run("evaluate", folder, "--protocol", "collection")
    assert code == 2
    assert "does not apply" in err
    # Figures stay until there are new ones.
    before = (tmp_path / "e.json").read_bytes()
    code, _, err = run("evaluate", folder, "--model", "gigantic", "--json", tmp_path / "e.json")
    assert code == 2
    _one_line(err, "gigantic")
    assert (tmp_path / "e.json").read_bytes() == before
    code, _, err = run("evaluate", folder, "--model", "gigantic", "--json", tmp_path / "no" / "e.json")
    assert code == 2
    _one_line(err, "does not exist; create it first")
    (tmp_path / "session.journal").write_text("a session")
    for place, word in ((folder / "case.json", "one of the inputs"), (tmp_path / "session.journal", "saved session")):
        kept = place.read_bytes()
        code, _, err = run("evaluate", folder, "--protocol", "click", "--json", place)
        assert code == 2
        _one_line(err, word)
        assert place.read_bytes() == kept


def _one_line(err: str, *words: str) -> None:
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("napari-medsam2: ")
    for word in words:
        assert word in lines[0]


def test_wrong_usage_is_one_line(run: Run, tmp_path: Path) -> None:
    cases: list[tuple[list[object], str]] = [
        (["segmen"], "segmen"),
        (["segment"], "image"),
        (["segment", "a.tif", "--prompts", "p", "--output", "o.tif", "--kind", "film"], "film"),
        (["segment", "a.tif", "--prompts", "p", "--output", "o.tif", "--memory", "lifo"], "lifo"),
        (["segment", "a.tif", "--prompts", "p", "--output", "o.tif", "--window", "wide"], "-160,240"),
        (["segment", "a.tif", "--prompts", "p", "--output", "o.tif", "--window", "1,2,3"], "-160,240"),
        (["segment", "a.tif", "--prompts", "p", "--output", "o.tif", "--channel", "x"], "0,1,2"),
        (["segment", "a.tif", "--prompts", "p", "--output", "o.tif", "--nonsense"], "--nonsense"),
        (["evaluate"], "case_folder"),
        (["evaluate", tmp_path / "no"], "no folder"),
        (["evaluate", tmp_path], "case.json"),
        (["evaluate", tmp_path, "--protocol", "guess"], "guess"),
    ]
    for args, word in cases:
        code, out, err = run(*args)
        assert (code, out) == (2, ""), args
        _one_line(err, word)


@dataclass(frozen=True)
class _Mistake:
    """How a call differs from a good one, and what the message must say."""

    word: str
    image: str = "stack.tif"
    entry: dict[str, Any] = field(default_factory=dict)
    prompts: str = "bad.json"
    output: str = "out.tif"
    options: tuple[str, ...] = ()


_MISTAKES = {
    "no image": _Mistake("absent.tif", image="absent.tif"),
    "no image inside": _Mistake("text.tif", image="text.tif"),
    "an empty image": _Mistake("empty", image="empty.tif"),
    "an image cut short": _Mistake("cut.tif", image="cut.tif"),
    "an image of nothing but NaN": _Mistake("NaN", image="nan.npy"),
    "complex numbers": _Mistake("complex", image="complex.npy"),
    "an empty folder": _Mistake("no image", image="nothing"),
    "a pattern without a match": _Mistake("no file matches", image="*.nii"),
    "a link": _Mistake("download", image="https://example.org/a.tif"),
    "wrong axes": _Mistake("YX", options=("--axes", "YX")),
    "senseless axes": _Mistake("'Q'", options=("--axes", "ZQX")),
    "no such channel": _Mistake("channel", options=("--channel", "3")),
    "a falling window": _Mistake("window", options=("--window", "9,1")),
    "no prompts": _Mistake("absent.json", prompts="absent.json"),
    "prompts of another kind": _Mistake("JSON", prompts="words.json"),
    "prompts nested too deeply": _Mistake("JSON", prompts="deep.json"),
    "prompts of another program": _Mistake("napari-medsam2-prompts", prompts="other.json"),
    "a slice too far": _Mistake("99", entry={"index": 99}),
    "a box outside": _Mistake("outside", entry={"box": [500, 500, 600, 600]}),
    "a box of a line": _Mistake("less than one pixel", entry={"box": [5, 5, 5, 9]}),
    "a box of words": _Mistake("four numbers", entry={"box": "all"}),
    "a box of NaN": _Mistake("finite", entry={"box": [1, 1, float("nan"), 9]}),
    "a point outside": _Mistake("outside", entry={"box": None, "points": [[-40, 3]]}),
    "an object without a number": _Mistake("whole number", entry={"object": "cell"}),
    "an object below 1": _Mistake("whole number", entry={"object": 0}),
    "nothing said": _Mistake('"box", "points" or "mask"', entry={"box": None}),
    "no mask file": _Mistake("absent.tif", entry={"mask": "absent.tif"}),
    "a mask of another size": _Mistake("does not fit", entry={"mask": "mixed/cell 0.png"}),
    "an unknown model": _Mistake("huge", options=("--model", "huge")),
    "an unknown device": _Mistake("abacus", options=("--device", "abacus")),
    "no weights": _Mistake("absent.safetensors", options=("--weights", "absent.safetensors")),
    "weights that are none": _Mistake("text.tif", options=("--weights", "text.tif")),
    "no folder for the labels": _Mistake("does not exist", output="no/such/out.tif"),
    "labels of another format": _Mistake("ends in .tif or .nii.gz", output="out.nrrd"),
    "pictures as a volume": _Mistake("collection", output="out.nii.gz", options=("--axes", "NYX")),
    "labels over a folder": _Mistake("folder", output="folder.tif"),
    "labels over the image": _Mistake("overwritten", output="stack.tif"),
    "a table over the prompts": _Mistake("overwritten", options=("--confidence", "bad.json")),
    "labels over the pictures": _Mistake("overwritten", image="mixed", output="mixed"),
    "a table over a session": _Mistake("session", options=("--confidence", "saved/session.journal")),
    "a picture over a session's image": _Mistake("session", options=("--overlay", "saved/image/0.png")),
    "labels over a session's image": _Mistake("session", image="mixed", output="saved/image"),
    "a picture of another format": _Mistake(".png", options=("--overlay", "p.pdf")),
    "no folder for the table": _Mistake("does not exist", options=("--confidence", "no/c.csv")),
    "one file for two": _Mistake("different files", options=("--overlay", "out.tif")),
    "mixed sizes in one file": _Mistake("differ in size", image="mixed"),
    "mixed sizes as a stack": _Mistake("differ in size", image="mixed", options=("--kind", "stack")),
    "a file where a folder goes": _Mistake("folder", image="mixed", output="text"),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are wrong."""
    folder = tmp_path_factory.mktemp("mistakes")
    image = np.random.default_rng(0).integers(0, 99, (4, 48, 48), np.uint8)
    tifffile.imwrite(folder / "stack.tif", image, photometric="minisblack")
    (folder / "text.tif").write_text("this is no image")
    (folder / "text").write_text("this is no folder")
    (folder / "empty.tif").write_bytes(b"")
    (folder / "cut.tif").write_bytes((folder / "stack.tif").read_bytes()[:3000])
    np.save(folder / "nan.npy", np.full((4, 48, 48), np.nan, np.float32))
    np.save(folder / "complex.npy", np.zeros((4, 48, 48), np.complex64))
    (folder / "words.json").write_text("{not json")
    (folder / "deep.json").write_text(100_000 * "[")
    (folder / "other.json").write_text("{}")
    for name in ("nothing", "folder.tif", "saved"):
        (folder / name).mkdir()
    (folder / "saved" / "session.journal").write_text("a session")
    (folder / "saved" / "image").mkdir()
    (folder / "saved" / "image" / "0.png").write_bytes(b"")
    _pictures(folder / "mixed", [(40, 40), (50, 60)])
    return folder


@pytest.mark.parametrize("name", _MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    run: Run, mistakes: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(mistakes)
    mistake = _MISTAKES[name]
    entry = {"object": 1, "index": 0, "box": [4, 4, 20, 20]} | mistake.entry
    _prompts(mistakes / "bad.json", [{key: value for key, value in entry.items() if value is not None}])
    before = {path: path.read_bytes() for path in mistakes.rglob("*") if path.is_file()}
    code, out, err = run(
        "segment", mistake.image, "--prompts", mistake.prompts, "--output", mistake.output, *mistake.options
    )
    assert (code, out) == (2, "")
    _one_line(err, mistake.word)
    assert {path: path.read_bytes() for path in mistakes.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "image",
    [
        np.full((3, 40, 40), 7, np.uint16),
        np.zeros((1, 5, 4), bool),
        np.random.default_rng(0).normal(-1e6, 3, (3, 33, 47)).astype(np.float64),
        np.random.default_rng(0).integers(0, 255, (2, 40, 50, 4), np.uint8),
        np.where(np.random.default_rng(0).random((2, 40, 40)) < 0.5, np.nan, 3).astype(np.float32),
    ],
    ids=["constant", "tiny and bool", "negative floats", "RGBA", "half NaN"],
)
def test_a_strange_image_is_segmented_all_the_same(run: Run, tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "image.npy", image)
    file = _prompts(tmp_path / "p.json", [{"object": 1, "index": 0, "points": [[2, 2]]}])
    axes = "ZYXC" if image.ndim == 4 else "ZYX"
    args = ("--axes", axes, "--prompts", file, "--output", tmp_path / "o.tif", "--overlay", tmp_path / "o.png")
    code, _, err = run("segment", tmp_path / "image.npy", *args)
    assert (code, err) == (0, "")
    assert tifffile.imread(tmp_path / "o.tif").size == np.prod(image.shape[:3])


def test_a_full_disk_is_one_line(
    run: Run, tmp_path: Path, stack: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    args = ("segment", stack, "--prompts", prompts, "--output", tmp_path / "labels.tif", "--axes", "ZYX")
    monkeypatch.setattr(os, "fsync", full)
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    _one_line(err, "labels.tif", "No space left")
    assert not [path for path in tmp_path.iterdir() if "labels" in path.name], "no half of a file"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")])
def test_too_little_memory_is_one_line(
    run: Run, tmp_path: Path, stack: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("napari_medsam2.session.AnnotationSession.propagate", fail)
    code, _, err = run("segment", stack, "--prompts", prompts, "--output", tmp_path / "labels.tif")
    assert code == 2
    _one_line(err, "not enough memory")


def test_a_bug_is_not_taken_for_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("napari_medsam2._segment.run_job", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["segment", "a.tif", "--prompts", "p.json", "--output", str(tmp_path / "o.tif")])


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interruption_is_quiet_and_leaves_nothing(tmp_path: Path, balls: Balls) -> None:
    tifffile.imwrite(tmp_path / "long.tif", np.tile(balls.image, (40, 1, 1)), photometric="minisblack")
    file = _prompts(tmp_path / "p.json", [{"object": 1, "index": 12, "box": list(balls.box(1, 12))}])
    folder = tmp_path / "out"
    folder.mkdir()
    args = ["segment", "long.tif", "--prompts", str(file), "--output", "out/o.tif", "--kind", "collection"]
    # A test run in the background of a shell is started deaf to interruptions, and so are its children.
    code = (
        "import signal, napari_medsam2.cli as c; signal.signal(signal.SIGINT, signal.default_int_handler); c.main({})"
    )
    command = [sys.executable, "-c", code.format(args)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            # torch is loaded: it works on the slices now, or is about to.
            maps = Path(f"/proc/{process.pid}/maps")
            until = time.monotonic() + 120
            while maps.exists() and "libtorch" not in maps.read_text() and time.monotonic() < until:
                time.sleep(0.1)
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "")
    assert not list(folder.iterdir())


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen([*_MODULE, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with _progress.shown() as tell:
        for done in range(5):
            tell("slices", done, 4)
    assert "slices" in screen.getvalue()
    assert "4/4" in screen.getvalue()

"""What a person gets who installs the package, from a wheel and for development."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import napari_medsam2

ROOT = Path(__file__).parents[1]
PARTS = ("pyproject.toml", "hatch_build.py", "napari.yaml", "LICENSE", "README.md", ".gitignore")

pytestmark = pytest.mark.skipif(not (ROOT / "hatch_build.py").is_file(), reason="needs the source tree")


@dataclass(frozen=True, slots=True)
class Install:
    """A fresh environment that sees the packages of this one, with ours installed from a copy of the source."""

    python: Path
    source: Path

    def ask(self, code: str) -> Any:
        """What a fresh interpreter of it prints, as JSON."""
        done = subprocess.run(
            [self.python, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            cwd=self.source.parent,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def install(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Install:
    pytest.importorskip("hatchling")
    pytest.importorskip("npe2")
    pytest.importorskip("pip")
    place = tmp_path_factory.mktemp(request.param)
    source = place / "source"
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "napari.yaml"), symlinks=True
    )
    for part in PARTS:
        if (ROOT / part).exists():
            shutil.copy(ROOT / part, source / part)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").write_text("")
    venv.create(place / "env", with_pip=False)
    python = place / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    site = Path(asked.stdout.strip())
    # Its own packages come first; a path file within the other folder is not followed, so ours is not found there.
    (site / "outer.pth").write_text(sysconfig.get_path("purelib"))
    option = ["--editable"] if request.param == "editable" else []
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--ignore-installed", *option, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Install(python, source)


@pytest.mark.parametrize("install", ["wheel", "editable"], indirect=True)
def test_napari_finds_the_manifest_and_opens_the_samples(install: Install, request: pytest.FixtureRequest) -> None:
    found = install.ask(
        """
import json, napari_medsam2
from npe2 import PluginManager, PluginManifest
manifest = PluginManifest.from_distribution("napari-medsam2")
manager = PluginManager()
manager.discover()
manager.activate("napari-medsam2")
layers = {}
for sample in manager.get_manifest("napari-medsam2").contributions.sample_data:
    layers[sample.key] = [[list(data.shape), kind] for data, _, kind in sample.open(_registry=manager.commands)]
print(json.dumps({"name": manifest.display_name, "layers": layers, "file": napari_medsam2.__file__}))
"""
    )
    assert found["name"] == "Medical SAM 2"
    assert found["layers"] == {
        "nuclei-3d": [[[31, 61, 57], "image"], [[31, 61, 57], "labels"]],
        "ct-thorax-abdomen-3mm": [[[30, 101, 122], "image"], [[30, 101, 122], "labels"]],
        "dsb2018-fluo-256x256": [[[12, 256, 256], "image"], [[12, 256, 256], "labels"]],
        "dsb2018-he-256x320": [[[6, 256, 320, 3], "image"], [[6, 256, 320], "labels"]],
    }
    from_source = Path(found["file"]).is_relative_to(install.source)
    assert from_source is ("editable" in request.node.name)


@pytest.mark.parametrize("install", ["editable"], indirect=True)
def test_an_editable_install_follows_the_manifest(install: Install) -> None:
    manifest = install.source / "napari.yaml"
    manifest.write_text(manifest.read_text().replace("display_name: Medical SAM 2", "display_name: Renamed"))
    code = "import json, npe2; print(json.dumps(npe2.PluginManifest.from_distribution('napari-medsam2').display_name))"
    assert install.ask(code) == "Renamed"


@pytest.mark.parametrize("install", ["wheel"], indirect=True)
def test_a_wheel_holds_the_package_and_nothing_else(install: Install) -> None:
    listed = install.ask(
        "import json; from importlib import metadata;"
        "print(json.dumps([str(file) for file in metadata.distribution('napari-medsam2').files]))"
    )
    package = {Path(file).as_posix() for file in listed if "__pycache__" not in file}
    expected = {
        path.relative_to(install.source / "src").as_posix()
        for path in (install.source / "src").rglob("*")
        if path.is_file()
    }
    inside = {file for file in package if file.startswith("napari_medsam2/")}
    assert inside == expected | {"napari_medsam2/napari.yaml"}
    assert {"napari_medsam2/py.typed", "napari_medsam2/sample_data/nuclei-3d/LICENSE"} <= inside
    others = {file.split("/")[0] for file in package - inside} - {"..", "."}
    assert all(name.startswith("napari_medsam2-") and name.endswith(".dist-info") for name in others), others
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in package)


def test_the_manifest_is_valid() -> None:
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_file(ROOT / "napari.yaml")
    manifest.validate_imports()
    assert manifest.name == "napari-medsam2"


def test_metadata() -> None:
    about = metadata.metadata("napari-medsam2")
    assert about["Version"] == napari_medsam2.__version__
    assert about["License-Expression"] == "Apache-2.0"
    classifiers = about.get_all("Classifier") or []
    assert "Framework :: napari" in classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(classifiers)
    assert set(about.get_all("Provides-Extra") or []) >= {"napari", "export", "train", "all", "test"}
    (script,) = metadata.entry_points(group="console_scripts", name="napari-medsam2")
    assert script.value == "napari_medsam2.cli:main"


@pytest.mark.parametrize("module", ["napari_medsam2", "napari_medsam2.stack", "napari_medsam2.samples"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = [
        "torch",
        "transformers",
        "napari",
        "qtpy",
        "dask",
        "zarr",
        "tifffile",
        "nibabel",
        "skimage",
        "scipy",
        "PIL",
    ]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_medsam2

_ROOT = Path(napari_medsam2.__file__).parent

# Each floor may use what stands on it or below it, never what stands above.
_FLOORS = [
    "errors",
    "_compact _files _journal _lock _numbers _outlines _painted _rle geometry ending overlap specks words _progress",
    "stack reading results _compose metrics backend.protocol",
    "prompts samples memory cache backend objects refine",
    "prediction _imageref",
    "_banks _meeting plan question",
    "_meeting propagation state",
    "history _codec _edits correction review",
    "storage",
    "document",
    "session_events",
    "session_base",
    "session_judged",
    "session_propagation",
    "session",
    "segmentation training evaluation export importing overlay replay _canvas _segment",
    "cli demo _models_cli __main__",
    "widgets",
]


def _floor(module: str) -> int:
    name = module.removeprefix("napari_medsam2.")
    for number, names in enumerate(_FLOORS):
        if name in names.split() or (name.split(".")[0] in names.split() and name != "backend.protocol"):
            return number
    raise AssertionError(f"{module} stands on no floor: say in this test where it belongs")


def _imports(path: Path) -> list[str]:
    """The project's modules that a file imports, not counting what only the type checker sees."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("napari_medsam2."):
            found.append(node.module)
    return found


_FILES = [p for p in sorted(_ROOT.rglob("*.py")) if p != _ROOT / "__init__.py"]


@pytest.mark.parametrize("path", _FILES, ids=lambda p: str(p.relative_to(_ROOT)))
def test_arrows_point_downwards(path: Path) -> None:
    module = ".".join(path.relative_to(_ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for other in _imports(path):
        assert _floor(other) <= _floor(module), f"{module} imports {other}, which stands above it"


_CORE = [p for p in _FILES if "widgets" not in p.parts]


@pytest.mark.parametrize("path", _CORE, ids=lambda p: str(p.relative_to(_ROOT)))
def test_only_widgets_know_qt_and_napari(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    heads = {n.split(".")[0] for n in names}
    assert not heads & {"napari", "qtpy", "magicgui", "superqt", "PySide6", "PyQt6", "PyQt5", "vispy"}


def test_the_import_costs_nothing() -> None:
    code = (
        "import time; t = time.perf_counter(); import napari_medsam2; d = time.perf_counter() - t\n"
        "import sys; print(d, sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'numpy', 'qtpy', 'PySide6', 'PyQt6', 'napari', 'transformers', 'zarr', 'dask', 'scipy'}))"
    )
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, _, loaded = done.stdout.partition(" ")
        assert loaded.strip() == "[]"
        times.append(float(seconds))
    assert min(times) < 0.3


def test_the_public_names_are_there() -> None:
    for name in napari_medsam2.__all__:
        assert getattr(napari_medsam2, name) is not None
    assert set(napari_medsam2.__all__) <= set(dir(napari_medsam2))
    with pytest.raises(AttributeError):
        napari_medsam2.nothing  # noqa: B018

"""Seven hundred random actions and more end in no exception, and with everything in step."""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
from qtpy.QtWidgets import QApplication
from tests.widgets.docking import fast_model, hear
from tests.widgets.monkey import Monkey, SlowDummy

if TYPE_CHECKING:
    from collections.abc import Callable

_ASKED = os.environ.get("MONKEY_ACTIONS")
_COUNT = int(_ASKED or 3000)
# On a slow machine a fourth of them has to do, unless a person asked for a number: the whole suite has 40 minutes.
_LEAST, _SECONDS = (_COUNT, 0) if _ASKED else (700, 90)
_SEEDS = [int(seed) for seed in os.environ.get("MONKEY_SEEDS", "1").split(",")]


@pytest.mark.slow
# Of napari, for polygons that are shown in 3-D.
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("seed", _SEEDS)
def test_random_actions(
    make_napari_viewer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, qtbot: Any, seed: int
) -> None:
    fast_model(monkeypatch, SlowDummy(side=24))
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(760, 560)
    monkey = Monkey(viewer, seed, qtbot.capture_exceptions, hear(monkeypatch))
    begun = time.monotonic()
    try:
        for number in range(1, _COUNT + 1):
            monkey.act()
            if number % 25 == 0:
                monkey.check()
            if number % 150 == 0:
                monkey.compare()
            if number % 250 == 0:
                print(f"{number} actions: {_held()}, {time.monotonic() - begun:.0f} s")  # noqa: T201
            if number >= _LEAST and time.monotonic() - begun > _SECONDS:
                break
        monkey.check()
    except BaseException:
        print(f"seed {seed}, action {len(monkey.done)}; the last ones were:", *monkey.done[-40:], sep="\n  ")  # noqa: T201
        raise
    finally:
        monkey.end()
        print(*monkey.foreign, sep="\n")  # noqa: T201
    assert monkey.checked > number // 100
    assert monkey.compared


def _held() -> str:
    """What this process holds, to see whether it grows."""
    gc.collect()
    memory = psutil.Process().memory_info().rss / 1e6
    return f"{memory:.0f} MB, {len(gc.get_objects())} objects, {len(QApplication.allWidgets())} widgets"

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_instant_costs_at_most_the_last_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests._kill_driver", tmp_path, "200"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    # The instants were spread over the whole annotation, and nearly all fell into it.
    reached = found["reached"]
    assert len(reached) > 180
    assert len(set(reached)) > 30
    assert max(reached) > 0.9 * found["commands"]

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# The first example of a test imports what it needs, and the machine may be busy; the same examples in every run.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("project")

_SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The development cases beside the checkout; the test is skipped where they are absent."""
    if not (_SHARED / "load.py").is_file():
        pytest.skip("needs the development data in ../shared/data")
    return _SHARED

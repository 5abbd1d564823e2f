from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend

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


@pytest.fixture(scope="session")
def backend() -> Backend:
    """The embedded model on the CPU, as shipped."""
    from napari_medsam2 import load_backend

    return load_backend("compact", device="cpu")


@dataclass(frozen=True)
class Balls:
    """Bright balls in a dark, noisy stack of 24 slices of 96 × 112 pixels."""

    image: np.ndarray
    labels: np.ndarray

    def box(self, label: int, index: int) -> tuple[float, float, float, float]:
        """The tight box around a ball on a slice."""
        mask = self.labels[index] == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return rows[0] - 0.5, columns[0] - 0.5, rows[-1] + 0.5, columns[-1] + 0.5


@pytest.fixture(scope="session")
def balls() -> Balls:
    """A stack whose truth is known exactly."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:24, :96, :112]
    labels = np.zeros((24, 96, 112), np.uint16)
    for label, (cz, cy, cx, r) in enumerate([(12, 30, 32, 14), (11, 64, 78, 17)], start=1):
        labels[(2 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= r * r] = label
    image = 300 + 900 * (labels > 0) + 200 * (labels == 2) + rng.normal(0, 60, labels.shape)
    return Balls(np.clip(image, 0, None).astype(np.uint16), labels)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |a ∩ b| / (|a| + |b|)."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / max(1, total)

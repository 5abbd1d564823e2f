"""The memories that the ``released`` policy and the published 2-D loop are both offered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IMAGES, SIZE, CELLS = 80, 16, 64 * 64


@dataclass(frozen=True)
class Offered:
    """Of each image: memory features ``(N, 16)``, its embedding ``(N, 4096)``, predicted IoU ``(N,)``; all float32."""

    features: np.ndarray
    embeddings: np.ndarray
    confidences: np.ndarray


def offered() -> Offered:
    """A few kinds of images, so that some memories resemble each other; features are exact in bfloat16."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 5, IMAGES)
    features = rng.normal(0, 1, (5, 16))[kinds] + rng.normal(0, 0.6, (IMAGES, 16))
    features = np.round(features * 32) / 32
    embeddings = (rng.normal(0, 1, (5, 6))[kinds] + rng.normal(0, 0.5, (IMAGES, 6))) @ rng.normal(0, 1, (6, CELLS))
    confidences = rng.uniform(0.4, 1, IMAGES)
    return Offered(features.astype(np.float32), embeddings.astype(np.float32), confidences.astype(np.float32))

"""The published implementations' answers, thinned so that they are small enough to keep; ours to the same questions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.sam2.cases import STILLS

from napari_medsam2.backend.protocol import ViewPrompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sam2.cases import Said

STEP = 4
"""Of a mask's logits every fourth in each direction is kept; and of all the sign."""
POINTER = 8
"""How many of a pointer's numbers are kept, spread over it."""


def thin_stills(answers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"still/{k}": thin(k, v) for k, v in answers.items()}


def thin(key: str, value: np.ndarray) -> np.ndarray:
    if key.endswith("/logits"):
        return value[..., ::STEP, ::STEP]
    if value.ndim == 4:
        step = value.shape[-1] // 8
        return value[:, ::8, ::step, ::step]
    return value


def thin_film(name: str, said: Said) -> dict[str, np.ndarray]:
    frames = sorted(said.logits)
    logits = np.stack([said.logits[f] for f in frames])
    out = {
        "frames": np.array(frames),
        "logits": logits[..., ::STEP, ::STEP],
        "masks": np.packbits(logits > 0),
        "shape": np.array(logits.shape),
        "pointers": np.stack([said.pointers[f] for f in frames])[..., :: _stride(said)],
    }
    if said.scores:
        out["scores"] = np.stack([said.scores[f] for f in frames])
    return {f"{name}/{k}": v for k, v in out.items()}


def _stride(said: Said) -> int:
    return int(next(iter(said.pointers.values())).shape[-1]) // POINTER


def our_stills(backend: Any, frame: Any) -> dict[str, np.ndarray]:
    """Our backend's answers to `cases.STILLS`."""
    import torch

    embedding = backend.encode(frame)
    out = dict(zip(("fine", "middle", "coarse"), (m.numpy() for m in embedding.maps()), strict=True))
    low = torch.linspace(-8, 8, 64).view(8, 8).repeat_interleave(4, 0).repeat_interleave(4, 1)
    for name, prompt in STILLS.items():
        assert isinstance(prompt, ViewPrompt)
        some = len(prompt.labels) > 0 or prompt.box is not None
        for refined in (False, True) if some else (False,):
            asked = ViewPrompt(prompt.points, prompt.labels, prompt.box, low.sigmoid() if refined else None)
            said = backend.decode(embedding, [asked])
            key = f"{name}{', refined' if refined else ''}"
            out |= {
                f"{key}/logits": said.logits.numpy(),
                f"{key}/iou": said.iou.numpy(),
                f"{key}/pointer": said.pointer.numpy(),
                f"{key}/score": said.score.numpy(),
            }
    return out


def shown(logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Masks that were taken as they are, at the size that the published code keeps them in."""
    import torch
    import torch.nn.functional as F

    if logits.shape == shape:
        return logits
    x = torch.from_numpy(logits)[None]
    return F.interpolate(x, size=shape[-2:], mode="bilinear", align_corners=False, antialias=True)[0].numpy()


def pack_shapes(shapes: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    """Tensors' names and shapes as bytes, which compress well."""
    return np.frombuffer(json.dumps({k: list(v) for k, v in shapes.items()}).encode(), np.uint8)


def unpack_shapes(packed: np.ndarray) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v) for k, v in json.loads(packed.tobytes()).items()}

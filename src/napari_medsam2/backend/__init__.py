"""The networks: one protocol, two backends, and the function that loads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    import torch

    from napari_medsam2.backend.protocol import Backend

__all__ = ["MODELS", "choose_device", "load_backend"]

MODELS = {"compact": "embedded, 4.3 M parameters, at once and offline; see docs/model.md for what it can and cannot do"}
"""What ``load_backend`` knows by name."""


def choose_device(device: str) -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"`` into a device that is there.

    Raises
    ------
    InputError
        If it is unknown or not on this machine.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; choose auto, cpu, cuda, cuda:N or mps") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r} is not on this machine; choose auto or cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' is not on this machine; choose auto or cpu")
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {device!r} is not supported; choose auto, cpu, cuda, cuda:N or mps")
    return chosen


def load_backend(model: str = "compact", device: str = "auto", weights: str | Path | None = None) -> Backend:
    """Load a network.

    Parameters
    ----------
    model : str
        ``"compact"``, the embedded network, or a folder with a SAM 2 video model in transformers' format
        (``config.json`` and ``model.safetensors``).
    device : str
        ``"auto"`` (CUDA, else Apple's MPS, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    weights : str or Path, optional
        Another safetensors file of the same network, for example one that ``make train`` wrote.

    Returns
    -------
    Backend
        Ready to use.

    Raises
    ------
    InputError
        If the model or the device is unknown, or the weights are missing, damaged or of another network.
    """
    chosen = choose_device(device)
    if model == "compact":
        from napari_medsam2.backend.compact import CompactBackend

        return CompactBackend.load(weights, chosen)
    if Path(model).is_dir():
        from napari_medsam2.backend.sam2 import Sam2Backend

        return Sam2Backend.load(model, chosen)
    raise InputError(f"unknown model {model!r}; choose one of {', '.join(MODELS)}, or a folder with a SAM 2 model")

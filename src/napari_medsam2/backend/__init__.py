"""The networks: one protocol, two backends, and the function that loads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medsam2._files import expanded
from napari_medsam2.backend._checkpoint_file import SUFFIXES
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    import torch

    from napari_medsam2.backend.protocol import Backend
    from napari_medsam2.backend.registry import ModelEntry
    from napari_medsam2.backend.sam2 import Sam2Backend

__all__ = ["MODELS", "choose_device", "load_backend", "published_sha256"]

MODELS = {"compact": "embedded, 4.3 M parameters, at once and offline; see docs/model.md for what it can and cannot do"}
"""What ``load_backend`` knows by name."""


def choose_device(device: str) -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"`` into a device that is there.

    Raises
    ------
    InputError
        If it is unknown or not on this machine.
    """
    # Read when torch is first imported: what Apple's GPUs cannot do yet is then done on the CPU.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
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


def load_backend(
    model: str = "compact",
    device: str = "auto",
    weights: str | Path | None = None,
    *,
    side: int | None = None,
    precision: str = "float32",
    compiled: bool = False,
) -> Backend:
    """Load a network. Nothing is downloaded: `download.fetch` and ``napari-medsam2 models get`` do that.

    Parameters
    ----------
    model : str
        ``"compact"``, the embedded network; the name of a published model or of one of your own
        (`registry.entries`, ``napari-medsam2 models``); a file of SAM 2 weights; or a folder with a SAM 2 video
        model in transformers' format (``config.json`` and ``model.safetensors``). A folder that has a model's name
        is meant where it is written with a separator, as ``"./medsam2"``.
    device : str
        ``"auto"`` (CUDA, else Apple's MPS, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    weights : str or Path, optional
        Another file of the same network: for example one that ``make train`` wrote, or a fine-tuned SAM 2.
    side : int, optional
        Of SAM 2's input in pixels, a multiple of 32, in place of the one that it was trained with: smaller is faster
        and takes less memory, and finds less.
    precision : str
        ``"float32"``; or, for SAM 2's matrix products and convolutions, ``"bfloat16"`` or (on a GPU) ``"float16"``: on
        a GPU half the memory and less time, and masks that differ a little.
    compiled : bool
        Whether SAM 2's image encoder is compiled by ``torch.compile``: minutes at first, then faster.

    Returns
    -------
    Backend
        Ready to use; its ``name`` is ``model``.

    Raises
    ------
    InputError
        If the model or the device is unknown, or the weights are missing, damaged or of another network.
    """
    chosen = choose_device(device)
    if model == "compact":
        if side is not None or precision != "float32" or compiled:
            raise InputError("side, precision and compiled are settings of SAM 2 models; the model 'compact' has none")
        from napari_medsam2.backend.compact import CompactBackend

        compact = CompactBackend.load(weights, chosen)
        compact.weights = "" if weights is None else _sha256(Path(weights))
        return compact
    one, path = _named(model), expanded(model)
    if one is not None and weights is None:
        from napari_medsam2.backend.download import locate

        path = locate(one)
    path = path if weights is None else Path(weights)
    backend = _from_path(path, chosen, model, side, precision, compiled, one)
    if one is None or one.path is not None or weights is not None:
        backend.weights = _sha256(path)
    return backend


def published_sha256(model: str) -> str | None:
    """The SHA-256 of the weights that a model's name always stands for, once they are here; None for one's own.

    Raises
    ------
    InputError
        If there is no model of that name.
    """
    if model == "compact":
        from napari_medsam2.backend.compact import pinned_sha256

        return pinned_sha256()
    one = _named(model)
    if one is None or one.path is not None:
        return None
    from napari_medsam2.backend.download import pinned

    return pinned(one)


def _sha256(path: Path) -> str:
    """Of a file of weights, or of that in a folder."""
    import hashlib

    with (path / "model.safetensors" if path.is_dir() else path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _named(model: str) -> ModelEntry | None:
    """The entry that is meant; None where a file or a folder is, told by its suffix or by what separates folders."""
    path = expanded(model)
    # Not the path's parts alone: "./" is none of them.
    if path.suffix in SUFFIXES or len(path.parts) > 1 or any(mark in model for mark in ("/", os.sep)):
        return None
    from napari_medsam2.backend.registry import entries, entry

    # A folder that happens to have a model's name, such as a clone of its code, must not hide the model.
    if path.is_dir() and all(known.name != model for known in entries()):
        return None
    return entry(model)


def _from_path(
    path: Path,
    device: torch.device,
    name: str,
    side: int | None,
    precision: str,
    compiled: bool,
    entry: ModelEntry | None = None,
) -> Sam2Backend:
    from napari_medsam2.backend.sam2 import Sam2Backend

    if path.is_dir():
        if entry is not None and entry.path == path:
            side = side or entry.input_size
        return Sam2Backend.load(path, device, side, name, precision, compiled)
    from napari_medsam2.backend.conversion import load_network

    if entry is None:
        network, model = load_network(path, side)
    else:
        network, model = load_network(path, side or entry.input_size, entry.network, entry.variant)
    if network == "edgetam":
        from napari_medsam2.backend.edgetam import EdgeTamBackend

        return EdgeTamBackend(model, device, name, precision, compiled)
    return Sam2Backend(model, device, name, precision, compiled)

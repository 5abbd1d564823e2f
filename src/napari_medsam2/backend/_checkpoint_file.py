"""Tensors out of a file of weights, whatever they are packed in; nothing in a file is ever executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["SUFFIXES", "misfit", "read_tensors"]

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")

_NESTED = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "ema", "weights")
"""Under which key trainers put the network, in the order in which they are looked for; the rest is training state."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "sam2.", "sam2_model.", "sam.")
"""What wrappers put before every name: data parallelism, compilation, a trainer's attribute."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a network's tensors from a PyTorch or safetensors file.

    Nested dictionaries (``{"model": …, "optimizer": …}``) and prefixes that all names share (``module.``) come off.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict of str to Tensor
        On the CPU; floating point ones of any precision become float32.

    Raises
    ------
    InputError
        If it is missing, damaged, holds anything that could run code, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a file of weights ({', '.join(SUFFIXES)})")
    data = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    state = _unwrap(data, path)
    while (prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None)) is not None:
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    out = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            if not tensor.isfinite().all():
                raise InputError(f"{path} holds NaN or infinity in {name}; get the file again")
            tensor = tensor.float()
        out[name] = tensor
    return out


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Say how tensors differ from those that a network has, in names and sizes.

    Returns
    -------
    tuple of str or None
        How many are missing, unknown and of another size, in words, and the name of the first; None where all fit.
    """
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    other = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if not (missing or surplus or other):
        return None
    words = f"{len(missing)} tensors missing, {len(surplus)} unknown, {len(other)} of another size"
    return words, (missing + surplus + other)[0]


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); get it again") from error


def _pickled(path: Path) -> Any:
    import torch

    # Since PyTorch 1.6 its files are zip archives, which can be read as they are needed; older ones cannot.
    archive = zipfile.is_zipfile(path)
    try:
        with warnings.catch_warnings():
            # It is told how the file was pickled, which nobody who opens it can change.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):
            raise InputError(
                f"{path} holds more than numbers, and opening it could run code, so it was not opened; "
                "get the weights as a state dict or as safetensors"
            ) from error
        raise InputError(f"{path} is not a PyTorch file, or is damaged; get it again") from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged, or not a PyTorch file; get it again") from error


def _unwrap(data: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for _ in range(4):
        if not isinstance(data, dict):
            break
        tensors = {k: v for k, v in data.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        if tensors:
            others = sorted(str(k) for k in data.keys() - tensors.keys() if not _plain(data[k]))
            if others:
                raise InputError(f"{path} mixes tensors with something else ({others[0]}); get the state dict alone")
            return tensors
        inner = next((data[k] for k in _NESTED if isinstance(data.get(k), dict) and data[k]), None)
        if inner is None:
            break
        data = inner
    raise InputError(f"{path} holds no network's tensors; get a file with a state dict, such as {{'model': …}}")


def _plain(value: Any) -> bool:
    """Numbers and texts beside the tensors, such as a version."""
    return value is None or isinstance(value, int | float | str | bool | tuple | list)

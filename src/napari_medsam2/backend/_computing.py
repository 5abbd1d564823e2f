"""In which precision a network computes, and what is said when memory is not enough."""

from __future__ import annotations

import contextlib
import functools
import gc
import traceback
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PRECISIONS", "check_precision", "inferring", "is_exhausted"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALLEST = 256

_P = ParamSpec("_P")
_R = TypeVar("_R")


def check_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn ``"float32"``, ``"bfloat16"`` or ``"float16"`` into a type that the device can compute with.

    Raises
    ------
    InputError
        If it is unknown, or the device cannot.
    """
    if name not in PRECISIONS:
        raise InputError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    if name == "float16" and device.type == "cpu":
        raise InputError("the precision float16 is for GPUs; choose bfloat16 or float32 on the CPU")
    if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError("this GPU cannot compute with bfloat16; choose float16 or float32")
    return PRECISIONS[name]


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception says that memory is not enough; torch says it in several ways."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "MPS backend out")
    )


def inferring(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a backend's method compute without gradients, in the backend's precision, and say when memory is not enough.

    Only matrix products and convolutions are done in the lower precision, as torch's autocast chooses.
    """

    @functools.wraps(method)
    def inferred(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        backend: Any = args[0]
        with _explained(backend), torch.no_grad():
            if backend.precision is torch.float32:
                with _unrounded(backend.device):
                    return method(*args, **kwargs)
            with torch.autocast(backend.device.type, backend.precision):
                return method(*args, **kwargs)

    return inferred


@contextlib.contextmanager
def _unrounded(device: torch.device) -> Iterator[None]:
    """Compute in all of float32's digits on a GPU, too, where convolutions round to ten bits (TF32) unless told not to.

    What others in this process have chosen is chosen again afterwards.
    """
    if device.type != "cuda":
        yield
        return
    holders: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    name: str = "allow_tf32"
    exact: bool | str = False
    try:
        before = [getattr(h, name) for h in holders]
    except RuntimeError:
        # Somebody uses torch's newer names, beside which it does not let the older ones be read.
        convolutions: Any = torch.backends.cudnn
        holders, name, exact = [convolutions.conv, torch.backends.cuda.matmul], "fp32_precision", "ieee"
        before = [getattr(h, name) for h in holders]
    for holder in holders:
        setattr(holder, name, exact)
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            setattr(holder, name, value)


@contextlib.contextmanager
def _explained(backend: Any) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        message = advice(backend)
        # Python keeps this error beside the one raised below, and its frames with all that they had allocated.
        traceback.clear_frames(error.__traceback__)
    else:
        return
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise InputError(message) from None


def advice(backend: Any) -> str:
    """Say what takes less memory than this backend does."""
    side, device = backend.views.side, backend.device
    where = "memory" if device.type == "cpu" else f"memory on {device}"
    ways = []
    if backend.settable and side // 2 >= _SMALLEST:
        ways.append(f"see images at {side // 2} pixels (side={side // 2}, --side {side // 2})")
    if backend.settable and backend.precision is torch.float32 and device.type != "cpu":
        ways.append("compute in half precision (precision='float16', --precision float16)")
    if device.type != "cpu":
        ways.append("use the CPU (device='cpu', --device cpu)")
    if not ways:
        ways = ["close other programs", "choose a smaller model"]
    return f"there is not enough {where} for the model {backend.name!r} at {side} pixels; {ways[0]}" + "".join(
        f", or {way}" for way in ways[1:]
    )

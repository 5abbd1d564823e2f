"""What a figure was measured on."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["accelerator", "finish", "machine", "median_seconds", "release"]


def machine() -> str:
    """Name the processor, its cores, torch and its threads."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads{load}"


def accelerator(device: Any) -> str:
    """Name a GPU, its memory and the CUDA that torch was built for; the CPU is just that."""
    import torch

    device = torch.device(device)
    if device.type != "cuda":
        return str(device)
    about = torch.cuda.get_device_properties(device)
    return f"{torch.cuda.get_device_name(device)}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"


def finish(device: Any) -> None:
    """Wait until a device has done all that it was asked for; a GPU works on while the program does."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def release(device: Any) -> None:
    """Give back the device's memory that nobody uses any more, and count its peak from here."""
    import torch

    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def median_seconds(repeat: int, device: Any, task: Callable[[int], object]) -> float:
    """Measure a task, which is told the repetition's number, and say how long it takes as a rule."""
    seconds = []
    for number in range(repeat):
        finish(device)
        began = time.perf_counter()
        task(number)
        finish(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)

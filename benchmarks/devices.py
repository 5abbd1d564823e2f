"""A GPU beside the CPU: whether masks are the same, how much faster it is, and what happens where memory is short.

``python -m benchmarks.devices [--device cuda] [--quick] [PART...]``. The parts, all of them by default:

* ``agreement``: the embedded model on the sample images, on the device beside the CPU in float32; and with
  convolutions rounded to TF32, as torch has it and this library has not. Then a narrow SAM 2.1 with random weights
  likewise, and in half precision. Of masks from clicks, from boxes, and of those that were carried on, the IoU; of
  logits and features, how far they are apart.
* ``compact``: seconds of the embedded model on both, as `benchmarks.speed` takes them.
* ``sam2``: seconds and memory of SAM 2.1 in published sizes with random weights, on the device.
* ``compiled``: the smallest of these with its encoder compiled.
* ``exhausted``: what is said where the memory is not enough, in processes of their own.

On the CPU it checks itself: in float32 all must agree, and ``sam2`` and ``compiled`` are done when they are named only.
A part that fails prints why, and the others go on; the exit status is then 1. napari is not needed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks._machine import accelerator, machine, median_seconds, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks._answers import Answers
    from napari_medsam2.backend.protocol import Backend

_PRECISIONS = ("float32", "bfloat16", "float16")
_SCARCE = {"weights": 100, "encoder": 300, "compact": 60, "command": 30}
"""Megabytes that each case of ``exhausted`` is left with, beside what a network on the CPU takes already."""


def _say(*words: object) -> None:
    print(*words, flush=True)


def _precisions(device: Any) -> list[str]:
    """Those that the device can compute in."""
    return [p for p in _PRECISIONS if p != "float16" or device.type != "cpu"]


@contextlib.contextmanager
def _rounded(rounded: bool) -> Iterator[None]:
    """Round as torch does unless told not to, or leave the library as it is, which tells it not to."""
    from napari_medsam2.backend import _computing

    if not rounded:
        yield
        return
    with patch.object(_computing, "_unrounded", lambda _: contextlib.nullcontext()):
        yield


def _agreement(device: Any, args: argparse.Namespace) -> None:
    import torch

    from benchmarks import precision
    from benchmarks._answers import Amount, ask, compare
    from napari_medsam2 import load_backend
    from napari_medsam2.samples import SAMPLES

    settings = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    _say(f"TF32 as torch has it: {settings[0]} in convolutions, {settings[1]} in matrix products")
    amount = Amount(2, 1) if args.quick else Amount()
    samples = list(SAMPLES.values())[:: 2 if args.quick else 1]

    def asked(backend: Any, policy: Any, rounded: bool = False) -> dict[str, Answers]:
        with _rounded(rounded):
            return {sample.name: ask(backend, sample, policy, amount) for sample in samples}

    def told(title: str, exact: dict[str, Answers], found: dict[str, Answers]) -> None:
        for name, answers in found.items():
            for line in compare(exact[name], answers):
                _say(f"{title:37}{name:23}{line}")

    policy = "self-sorting"
    exact = asked(load_backend("compact", device="cpu"), policy)
    backend = load_backend("compact", device=str(device))
    for rounded in (False, True):
        told(f"compact, {_named('float32', rounded)}", exact, asked(backend, policy, rounded))
    policy = "fifo"
    exact = asked(precision.network("float32"), policy)
    for name in _precisions(device):
        backend = precision.network(name, str(device))
        for rounded in (False, True) if name == "float32" else (False,):
            told(f"narrow SAM 2.1, {_named(name, rounded)}", exact, asked(backend, policy, rounded))


def _named(precision: str, rounded: bool) -> str:
    return f"{precision} with TF32" if rounded else precision


def _compact(device: Any, args: argparse.Namespace) -> None:
    from benchmarks.speed import measure
    from napari_medsam2 import load_backend

    side, repeat = (256, 2) if args.quick else (512, 15)
    measured = []
    for where in ("cpu", str(device)):
        backend = load_backend("compact", device=where)
        # A GPU chooses its algorithms when it first meets a shape.
        measure(backend, side, 2)
        measured.append(measure(backend, side, repeat))
    _say(f"{'compact, images of ' + str(side) + ' pixels':<46}{'CPU':>12}{device!s:>12}")
    for (name, slow), (_, fast) in zip(*measured, strict=True):
        _say(f"{name:<46}{slow * 1e3:>9.2f} ms{fast * 1e3:>9.2f} ms{slow / fast:>8.1f} ×")


def _sam2(device: Any, args: argparse.Namespace) -> None:
    from benchmarks._full_size import MEMORIES, build, costs
    from napari_medsam2.backend.sam2 import Sam2Backend

    repeat = 2 if args.quick else 15
    head = f"{'encode':>12}{'next click':>12}{f'slice of {MEMORIES}':>12}{'peak':>10}"
    _say(f"{f'SAM 2.1, {args.side} pixels':<34}{head}")
    for size in args.sizes:
        model = build(size, args.side)
        count = sum(p.numel() for p in model.parameters()) / 1e6
        for precision in _precisions(device):
            release(device)
            backend: Backend = Sam2Backend(copy.deepcopy(model), device, f"hiera-{size}", precision)
            took = costs(backend, repeat)
            del backend
            times = "".join(f"{seconds * 1e3:>9.1f} ms" for seconds in (took.encode, took.click, took.slice))
            peak = "" if took.peak is None else f"{took.peak:>7.2f} GB"
            odd = "" if took.finite else "  NOT ALL FINITE"
            _say(f"{f'hiera-{size} ({count:.1f} M), {precision}':<34}{times}{peak}{odd}")
            if odd and precision == "float32":
                raise ArithmeticError(f"hiera-{size} gave NaN or infinity in float32")


def _compiled(device: Any, args: argparse.Namespace) -> None:
    import torch

    from benchmarks._full_size import build
    from napari_medsam2.backend.sam2 import Sam2Backend

    model = build("tiny", args.side)
    image = torch.rand(1, 3, args.side, args.side, generator=torch.Generator().manual_seed(0))
    repeat = 2 if args.quick else 15
    for precision in ("float32", "bfloat16"):
        release(device)
        plain = Sam2Backend(copy.deepcopy(model), device, "hiera-tiny", precision)
        expected = plain.encode(image).descriptor[0]
        before = _encoding(plain, image, repeat)
        began = time.perf_counter()
        backend = Sam2Backend(copy.deepcopy(model), device, "hiera-tiny", precision, compiled=True)
        took = time.perf_counter() - began
        cosine = float(backend.encode(image).descriptor[0] @ expected)
        after = _encoding(backend, image, repeat)
        _say(
            f"hiera-tiny compiled, {precision}: loaded and compiled in {took:.1f} s; encode {after * 1e3:.1f} ms, "
            f"uncompiled {before * 1e3:.1f} ms; features' cosine {cosine:.6f}"
        )


def _encoding(backend: Backend, image: Any, repeat: int) -> float:
    return median_seconds(repeat, backend.device, lambda _: backend.encode(image))


def _exhausted(device: Any, args: argparse.Namespace) -> None:
    failed = []
    # The others' memory can be limited on a GPU only, without that of all else in the process.
    for case in _SCARCE if device.type == "cuda" else ("encoder",):
        command = [sys.executable, "-m", "benchmarks.devices", "--device", str(device), "--case", case]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        fine = done.returncode == 0 and not any("Traceback" in line for line in said)
        _say(f"{case}, with {_SCARCE[case]} MB{'' if fine else ' (FAILED)'}:")
        for line in said if fine else said[-12:]:
            _say("   ", line)
        if not fine:
            failed.append(case)
    if failed:
        raise RuntimeError(f"no sentence of the library's own in: {', '.join(failed)}")


def _limit(device: Any, megabytes: int) -> None:
    """Let this process have no more of the device's memory than that, beside what it has."""
    import torch

    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(megabytes * 1e6 / total, device.index or 0)
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _exhaust(case: str, device: Any) -> int:
    """Use more memory than there is, and print what is said of it."""
    import torch

    from napari_medsam2.errors import InputError

    load: Callable[[], Backend]
    if case == "command":
        _limit(device, _SCARCE[case])
        return _command(device)
    if case == "compact":
        from napari_medsam2 import load_backend

        _limit(device, _SCARCE[case])
        load = functools.partial(load_backend, "compact", device=str(device))
        views = torch.zeros(16, 3, 256, 256)
    else:
        from benchmarks._full_size import build
        from napari_medsam2.backend.sam2 import Sam2Backend

        model = build("tiny")
        _limit(device, _SCARCE[case])
        load = functools.partial(Sam2Backend, model, device, "sam2.1-hiera-tiny")
        views = torch.zeros(1, 3, 1024, 1024)
    before = None
    try:
        backend = load()
        before = _held(device)
        backend.encode(views)
    except InputError as error:
        print(f"InputError: {error}")
        if before is not None:
            print(f"tensors on {device}: {before} before, {_held(device)} after")
        return 0
    except RuntimeError as error:
        print(f"not the library's own: {type(error).__module__}.{type(error).__name__}: {str(error).splitlines()[0]}")
        return 1
    print(f"there was enough, the case is none: {_held(device)}")
    return 1


def _held(device: Any) -> str:
    import torch

    return f"{torch.cuda.memory_allocated(device) / 1e6:.0f} MB" if device.type == "cuda" else "(not told)"


def _command(device: Any) -> int:
    """Run the command line in this process; it must leave with 2, after one line."""
    from napari_medsam2.cli import main as program
    from napari_medsam2.samples import SAMPLES

    sample = SAMPLES["dsb2018-fluo-256x256"]
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.json"
        asked = {"object": 1, "index": 0, "points": [[128, 128]], "labels": [1]}
        prompts.write_text(json.dumps({"format": "napari-medsam2-prompts", "version": 1, "prompts": [asked]}))
        output = str(Path(folder) / "labels.tif")
        options = ["--prompts", str(prompts), "--output", output, "--device", str(device)]
        try:
            program(["segment", str(sample.image), "--axes", sample.axes, *options])
        except SystemExit as left:
            print(f"exit status {left.code}")
            return 0 if left.code == 2 else 1
    print("there was enough, the case is none")
    return 1


_PARTS: dict[str, Callable[[Any, argparse.Namespace], None]] = {
    "agreement": _agreement,
    "compact": _compact,
    "sam2": _sam2,
    "compiled": _compiled,
    "exhausted": _exhausted,
}


def main() -> int:
    """Do one part after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see whether it works")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "large"], help="of SAM 2.1")
    parser.add_argument("--side", type=int, default=1024, help="of SAM 2.1's input, in pixels")
    parser.add_argument("--case", choices=_SCARCE, help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(_PARTS))
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in _PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(_PARTS)}")
    from napari_medsam2.backend import choose_device
    from napari_medsam2.errors import InputError

    try:
        device = choose_device(args.device)
    except InputError as error:
        parser.error(str(error))
    if args.case:
        return _exhaust(args.case, device)
    _say(machine())
    _say(accelerator(device))
    usual = [part for part in _PARTS if device.type == "cuda" or part not in ("sam2", "compiled")]
    failed = []
    for part in args.parts or usual:
        _say(f"\n{part}")
        began = time.perf_counter()
        try:
            _PARTS[part](device, args)
        except Exception:  # noqa: BLE001 - a GPU is lent for minutes, in which the other parts still fit
            traceback.print_exc(file=sys.stdout)
            failed.append(part)
        release(device)
        _say(f"({time.perf_counter() - began:.0f} s)")
    if failed:
        _say(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

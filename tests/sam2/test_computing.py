"""Precisions, and what is said where memory is not enough. There is no GPU in the tests; its part is pretended."""

from __future__ import annotations

import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.sam2.cases import CLICK, Case, iou, propagate

from napari_medsam2.backend import _computing, choose_device, load_backend
from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.backend.sam2 import Sam2Backend
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@pytest.fixture
def model(small_config: Callable[..., Any]) -> Any:
    return Sam2Backend.from_config(small_config(128), seed=4).model


def test_half_precision_gives_nearly_the_same_masks(model: Any, smooth_film: Callable[..., Tensor]) -> None:
    film = smooth_film(1, 128, 3)
    box = ViewPrompt(*NO_POINTS, box=(20.0, 30.0, 90.0, 100.0))
    said = []
    for precision in ("float32", "bfloat16"):
        backend = Sam2Backend(model, precision=precision)
        embedding = backend.encode(film)
        decoded = backend.decode(embedding.take([0, 0]), [CLICK, box])
        assert decoded.logits.dtype == decoded.iou.dtype == decoded.score.dtype == torch.float32
        said.append((embedding, decoded))
    (exact, plain), (rounded, half) = said
    # Features are kept as they were computed: half of the memory.
    assert rounded.nbytes == exact.nbytes // 2
    assert rounded.descriptor.dtype == torch.float32
    assert float((rounded.descriptor[0] * exact.descriptor[0]).sum()) > 0.999
    assert not torch.equal(plain.logits, half.logits)
    for a, b in zip(plain.logits, half.logits, strict=True):
        assert iou((a > 0).numpy(), (b > 0).numpy()) > 0.9


def test_a_film_in_half_precision(model: Any) -> None:
    case = Case("half", {0: [CLICK]}, frames=4)
    exact = propagate(Sam2Backend(model), case)
    rounded = propagate(Sam2Backend(model, precision="bfloat16"), case)
    for frame in exact.logits:
        assert np.isfinite(rounded.logits[frame]).all()
        assert np.abs(rounded.logits[frame] - exact.logits[frame]).mean() < 0.2 * exact.logits[frame].std()


@pytest.mark.parametrize(
    ("precision", "words"), [("float16", "for GPUs"), ("float8", "float32, bfloat16, float16"), ("", "unknown")]
)
def test_precisions_that_cannot_be(model: Any, precision: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Sam2Backend(model, precision=precision)


def test_the_embedded_model_has_no_such_settings() -> None:
    tried: list[dict[str, Any]] = [{"side": 512}, {"precision": "bfloat16"}, {"compiled": True}]
    for options in tried:
        with pytest.raises(InputError, match="settings of SAM 2"):
            load_backend("compact", "cpu", **options)


class _Scarce:
    """Lets a network run out of memory where its input is large, as a small GPU does."""

    def __init__(self, plain: Any, limit: int, error: Exception) -> None:
        self.plain, self.limit, self.error = plain, limit, error

    def __call__(self, pixels: Tensor, **options: Any) -> Any:
        if pixels.shape[-1] > self.limit:
            raise self.error
        return self.plain(pixels, **options)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
    ],
    ids=["cuda", "cpu", "mps"],
)
def test_too_little_memory_gives_one_sentence_and_a_setting_that_works(
    small_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def make(side: int) -> Sam2Backend:
        backend = Sam2Backend.from_config(small_config(side))
        encoder = backend.model.vision_encoder
        monkeypatch.setattr(encoder, "forward", _Scarce(encoder.forward, 256, error))
        return backend

    with pytest.raises(InputError) as caught:
        make(512).encode(torch.zeros(1, 3, 512, 512))
    message = str(caught.value)
    assert "\n" not in message
    assert "not enough memory" in message
    assert "--side 256" in message
    assert len(make(256).encode(torch.zeros(1, 3, 256, 256))) == 1


def test_the_embedded_model_names_only_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load_backend("compact", "cpu")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    network = backend._network  # type: ignore[attr-defined]
    monkeypatch.setattr(network, "encode", _Scarce(network.encode, 128, error))
    backend.device = torch.device("cuda:0")  # type: ignore[misc]
    # The view itself stays where it is: there is no GPU to bring it to.
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    with pytest.raises(InputError, match="not enough memory on cuda:0") as caught:
        backend.encode(torch.zeros(1, 3, 256, 256))
    assert "--device cpu" in str(caught.value)
    assert "--precision" not in str(caught.value)
    assert "--side" not in str(caught.value)


def test_nothing_of_what_did_not_fit_is_held_while_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load_backend("compact", "cpu")
    network, held = backend._network, []  # type: ignore[attr-defined]

    def scarce(views: torch.Tensor) -> None:
        features = views * 2
        held.append(weakref.ref(features))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(network, "encode", scarce)
    with pytest.raises(InputError, match="not enough memory") as caught:
        backend.encode(torch.zeros(1, 3, 256, 256))
    assert held[0]() is None, "the error, or what led to it, holds what the network had computed"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "its own words only"


_ROUNDING = """
import torch
from napari_medsam2.backend._computing import _unrounded

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
{setting}


def read():
    return [precision == "tf32" for precision in (cudnn.conv.fp32_precision, matmul.fp32_precision)]


before = read()
assert any(before)
try:
    with _unrounded(torch.device("cuda")):
        assert not any(read()), read()
        raise KeyError
except KeyError:
    assert read() == before, read()
with _unrounded(torch.device("cpu")):
    assert read() == before
"""


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this torch has one way only to choose")
@pytest.mark.parametrize(
    "setting",
    ["", "torch.set_float32_matmul_precision('high')", "matmul.allow_tf32 = True", "matmul.fp32_precision = 'tf32'"],
    ids=["as it is", "high", "older names", "newer names"],
)
def test_a_gpu_does_not_round_and_what_others_chose_stays(setting: str) -> None:
    """In a process of its own, since what is chosen holds for all of it."""
    code = _ROUNDING.format(setting=setting)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_other_errors_are_not_taken_for_it(model: Any) -> None:
    backend = Sam2Backend(model)
    with pytest.raises(RuntimeError, match="size of tensor"):
        backend.encode(torch.zeros(1, 2, 128, 128))


def test_on_a_gpu_half_precision_and_the_cpu_are_other_ways(model: Any) -> None:
    backend = Sam2Backend(model)
    backend.device = torch.device("cuda:0")
    assert "--precision float16" in _computing.advice(backend)
    assert "--device cpu" in _computing.advice(backend)
    assert "memory on cuda:0" in _computing.advice(backend)


def test_an_encoder_that_cannot_be_compiled_is_named(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler was found\nand a long story")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(InputError, match=r"cannot be compiled on this machine \(no C\+\+ compiler was found\)"):
        Sam2Backend(model, compiled=True)


def test_a_compiled_encoder_is_the_one_that_is_used(
    model: Any, monkeypatch: pytest.MonkeyPatch, smooth_film: Callable[..., Tensor]
) -> None:
    """Compiling itself takes a minute, and is left out."""
    sides = []

    def compiled(plain: Any, **_: Any) -> Any:
        class Compiled(torch.nn.Module):
            def forward(self, pixels: Tensor, **options: Any) -> Any:
                sides.append(pixels.shape[-1])
                return plain(pixels, **options)

        return Compiled()

    expected = Sam2Backend(model).encode(smooth_film(1, 128, 3))
    monkeypatch.setattr(torch, "compile", compiled)
    backend = Sam2Backend(model, compiled=True)
    # Once before anyone waits for it.
    assert sides == [128]
    assert torch.equal(backend.encode(smooth_film(1, 128, 3)).maps()[2], expected.maps()[2])
    assert sides == [128, 128]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpu:0:1"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(InputError, match="choose auto"):
        choose_device(device)

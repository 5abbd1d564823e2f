"""Files as Meta, Zhu, bowang-lab and EdgeTAM's authors publish them, and every way in which a file can be wrong."""

from __future__ import annotations

import collections
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.sam2 import recorded
from tests.sam2.cases import SIDE, values

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.backend import load_backend, registry
from napari_medsam2.backend._sam2_names import rename
from napari_medsam2.backend.edgetam import EdgeTamBackend
from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.backend.sam2 import Sam2Backend
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_FOLDER = Path(__file__).parent / "records"
BOX = ViewPrompt(*NO_POINTS, box=(20.0, 30.0, 70.0, 100.0))
State = dict[str, Any]


def published(source: str) -> State:
    """A state dict with the published names, shapes and types, of a narrow network."""
    with np.load(_FOLDER / f"{source}.npz") as data:
        shapes = recorded.unpack_shapes(data["shapes"])
    return {k: torch.from_numpy(np.asarray(v)) for k, v in values(shapes, 1).items()}


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {source: published(source) for source in ("sam2.1", "sam2", "edgetam")}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def save(data: Any, name: str = "model.pt", **options: Any) -> Path:
        path = tmp_path / name
        torch.save(data, path, **options)
        return path

    return save


def answer(path: Path | str, **options: Any) -> Tensor:
    backend = load_backend(str(path), "cpu", side=SIDE, **options)
    image = torch.linspace(0, 1, 3 * SIDE * SIDE).view(1, 3, SIDE, SIDE).sin().abs()
    embedding = backend.encode(image)
    decoded = backend.decode(embedding, [BOX])
    assert decoded.logits.std() > 0.1
    return decoded.logits


def refused(path: Path, *words: str) -> str:
    with pytest.raises(InputError) as caught:
        load_backend(str(path), "cpu", side=SIDE)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message
    return message


class Optimizer:
    """What a trainer keeps beside the network, in types that may be opened."""

    @staticmethod
    def state() -> State:
        return {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-4}]}


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "meta": lambda s: {"model": s},
    "bare": lambda s: s,
    "ordered": lambda s: collections.OrderedDict(s),
    # train_2d.py of Medical-SAM2 saves the module's own parameters, of which it has some beside its parts.
    "zhu": lambda s: {
        "model": collections.OrderedDict(s),
        "parameter": collections.OrderedDict(no_mem_embed=torch.nn.Parameter(s["no_mem_embed"])),
    },
    # The trainer of SAM 2 and MedSAM2.
    "bowang": lambda s: {
        "model": s,
        "optimizer": Optimizer.state(),
        "epoch": 75,
        "loss": {"all": {}},
        "steps": {"train": 5000, "val": 0},
        "time_elapsed": 12.5,
        "best_meter_values": {},
        "scaler": {"scale": 65536.0},
    },
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3, "callbacks": {}},
    "parallel": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    "compiled and parallel": lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "twice nested": lambda s: {"checkpoint": 1, "model": {"state_dict": s}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_state_dict_is_found_in_whatever_it_is_wrapped_in(
    states: dict[str, State], write: Callable[..., Path], wrapping: str
) -> None:
    expected = answer(write({"model": states["sam2.1"]}, "plain.pt"))
    assert torch.equal(answer(write(WRAPPINGS[wrapping](states["sam2.1"]))), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    states: dict[str, State], write: Callable[..., Path], dtype: torch.dtype
) -> None:
    expected = answer(write({"model": states["sam2.1"]}, "plain.pt"))
    path = write({"model": {k: v.to(dtype) for k, v in states["sam2.1"].items()}})
    backend = load_backend(str(path), "cpu", side=SIDE)
    assert isinstance(backend, Sam2Backend)
    assert {p.dtype for p in backend.model.parameters()} == {torch.float32}
    close = {torch.float64: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.5}[dtype]
    assert float((answer(path) - expected).abs().mean()) < close


def test_safetensors_and_the_old_format_of_pytorch(
    states: dict[str, State], write: Callable[..., Path], tmp_path: Path
) -> None:
    expected = answer(write({"model": states["sam2.1"]}))
    save_file(states["sam2.1"], tmp_path / "model.safetensors")
    assert torch.equal(answer(tmp_path / "model.safetensors"), expected)
    old = write({"model": states["sam2.1"]}, "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(answer(old), expected)


def test_transformers_names_in_one_file(states: dict[str, State], write: Callable[..., Path], tmp_path: Path) -> None:
    path = write({"model": states["sam2.1"]})
    backend = load_backend(str(path), "cpu", side=SIDE)
    assert isinstance(backend, Sam2Backend)
    state = {k: v.contiguous() for k, v in backend.model.state_dict().items()}
    # Files may hold the matrix that has two names once.
    del state["shared_image_embedding.positional_embedding"]
    save_file(state, tmp_path / "own.safetensors")
    assert torch.equal(answer(tmp_path / "own.safetensors"), answer(path))


def test_the_two_versions_of_sam_2_are_told_apart(states: dict[str, State], write: Callable[..., Path]) -> None:
    for source, newer in (("sam2", False), ("sam2.1", True)):
        backend = load_backend(str(write({"model": states[source]})), "cpu", side=SIDE)
        assert isinstance(backend, Sam2Backend)
        config = backend.model.config
        assert config.enable_temporal_pos_encoding_for_object_pointers is newer
        assert config.enable_occlusion_spatial_embedding is newer


def test_an_entry_is_loaded_with_its_own_side_and_checked(
    states: dict[str, State], write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_CONFIG", str(tmp_path))
    write({"model": states["sam2.1"]}, "tiny.pt")
    write({"model": states["edgetam"]}, "edge.pt")
    (tmp_path / "models.toml").write_text(
        "[[model]]\nname = 'tiny'\npath = 'tiny.pt'\ninput_size = 256\nvariant = 'tiny'\n"
        "[[model]]\nname = 'large'\npath = 'tiny.pt'\nvariant = 'large'\n"
        "[[model]]\nname = 'edge'\npath = 'edge.pt'\nnetwork = 'edgetam'\ninput_size = 256\n"
        "[[model]]\nname = 'mistaken'\npath = 'edge.pt'\n"
    )
    tiny, edge = load_backend("tiny", "cpu"), load_backend("edge", "cpu")
    assert (tiny.name, tiny.views.side) == ("tiny", 256)
    assert load_backend("tiny", "cpu", side=128).views.side == 128
    assert isinstance(edge, EdgeTamBackend)
    with pytest.raises(InputError, match=r"size 'tiny', not 'large'"):
        load_backend("large", "cpu")
    with pytest.raises(InputError, match=r"kind 'edgetam', not 'sam2'"):
        load_backend("mistaken", "cpu")


def test_weights_of_ones_own_are_told_from_the_others_of_their_name(
    states: dict[str, State], write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_CONFIG", str(tmp_path))
    monkeypatch.setenv("NAPARI_MEDSAM2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "models.toml").write_text("[[model]]\nname = 'tiny'\nurl = 'https://x.org/tiny.pt'\ninput_size = 256\n")
    (tmp_path / "cache" / "tiny").mkdir(parents=True)
    write({"model": states["sam2.1"]}, "cache/tiny/tiny.pt")
    tuned = write({"model": {k: v * 1.01 for k, v in states["sam2.1"].items()}}, "tuned.pt")
    named, own = load_backend("tiny", "cpu"), load_backend("tiny", "cpu", tuned)
    assert named.name == own.name == "tiny"
    assert not named.weights, "sessions that were saved before keep their predictions"

    array = np.random.default_rng(1).random((3, 60, 90), dtype=np.float32)
    for first, second in ((named, own), (own, named)):
        session = AnnotationSession(ImageStack(array, axes="ZYX"), backend=first)
        session.add_points(session.add_object(), 1, [(30, 40)], [1])
        session.use(second)
        assert session.plan().seeds[1][1].prediction is None, "object pointers of another network"
        session.use(first)
        assert session.plan().seeds[1][1].prediction is not None
    session.use(load_backend("tiny", "cpu", tuned))
    assert session.plan().seeds[1][1].prediction is not None


@pytest.mark.parametrize("source", ["sam2.1", "edgetam"])
def test_every_tensor_is_needed_and_no_other_is_let_in(
    states: dict[str, State], write: Callable[..., Path], source: str
) -> None:
    """One of each kind, since there are hundreds."""
    whole = states[source]
    kinds = {"".join(c for c in name if not c.isdigit()): name for name in whole}
    optional = ("obj_ptr_tpos_proj", "no_obj_embed_spatial", "num_batches_tracked", "obj_score")
    names = [n for n in kinds.values() if not any(word in n for word in optional)]
    for number, name in enumerate(names[:: len(names) // 6]):
        if number % 2:
            refused(write({"model": {k: v for k, v in whole.items() if k != name}}))
        else:
            wrong = whole[name].new_zeros([s + 1 for s in whole[name].shape] or [2])
            refused(write({"model": whole | {name: wrong}}))
    assert number >= 5
    refused(write({"model": whole | {"memory_attention.layers.0.adapter.weight": torch.zeros(3)}}), "adapter")
    refused(write({"model": whole | {"sam_mask_decoder.output_upscaling.7.weight": torch.zeros(3)}}), "upscaling.7")


def test_one_message_names_how_many_tensors_do_not_fit(states: dict[str, State], write: Callable[..., Path]) -> None:
    state = dict(states["sam2.1"])
    del state["memory_encoder.out_proj.bias"], state["mask_downsample.bias"]
    state["sam_mask_decoder.conv_s0.bias"] = torch.zeros(3)
    refused(write({"model": state}), "2 tensors missing", "1 of another size")


def test_nan_is_refused(states: dict[str, State], write: Callable[..., Path]) -> None:
    broken = states["sam2.1"]["no_mem_embed"].clone()
    broken[0, 0, 3] = float("nan")
    refused(write({"model": states["sam2.1"] | {"no_mem_embed": broken}}), "NaN", "no_mem_embed")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"{sys.executable} -c \"open('{self.target}', 'w')\"",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_does_not_go_off(
    states: dict[str, State], write: Callable[..., Path], tmp_path: Path, zipped: bool
) -> None:
    data = {"model": states["sam2.1"], "epoch": Bomb(tmp_path / "boom")}
    refused(write(data, _use_new_zipfile_serialization=zipped), "could run code")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    refused(tmp_path / "bare.pt")
    assert not (tmp_path / "boom").exists()


def test_files_that_are_damaged_or_of_something_else(
    states: dict[str, State], write: Callable[..., Path], tmp_path: Path
) -> None:
    whole = write({"model": states["sam2.1"]}).read_bytes()
    for name, data in {
        "short.pt": whole[: len(whole) // 2],
        "empty.pt": b"",
        "page.pt": b"<!DOCTYPE html><title>Log in</title>",
        "text.pth": b"hello",
        "short.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{}",
    }.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "again")
    refused(tmp_path / "none.pt", "no file")
    refused(write({"epoch": 3}), "no network's tensors")
    refused(write([torch.zeros(3)]), "no network's tensors")
    refused(write({"model": {}}), "no network's tensors")
    refused(write({"layer1.conv.weight": torch.zeros(3)}), "not the weights of a network that can be used")
    refused(write({"image_encoder.blocks.0.attn.qkv.weight": torch.zeros(3)}), "first Segment Anything")
    refused(write({"model": {"image_encoder.trunk.blocks.0.attn.qkv.weight": torch.zeros(3)}}), "EfficientTAM")


def test_an_encoder_of_another_size(states: dict[str, State], write: Callable[..., Path]) -> None:
    start = "image_encoder.trunk.blocks.11."
    state = {k: v for k, v in states["sam2.1"].items() if not k.startswith(start)}
    refused(write({"model": state}), "[1, 2, 7, 1]", "none of SAM 2's")


@pytest.mark.parametrize(
    "name",
    [
        "image_encoder.trunk.blocks.0.norm3.weight",
        "image_encoder.trunk.blocks.0.mlp.layers.2.weight",
        "image_encoder.neck.convs.0.norm.weight",
        "sam_prompt_encoder.mask_downscaling.2.weight",
        "sam_mask_decoder.transformer.layers.0.norm5.weight",
        "memory_attention.layers.0.linear3.weight",
        "memory_encoder.mask_downsampler.encoder.2.weight",
        "memory_encoder.fuser.layers.0.gamma.weight",
        "memory_encoder.fuser.layers.0.norm",
        "obj_ptr_proj.layers.3.weight",
        "something",
    ],
)
def test_names_that_meta_never_gave_are_not_translated(name: str) -> None:
    assert rename(name) is None


def test_published_entries_say_which_encoder_they_have() -> None:
    known = {e.variant for e in registry.entries() if e.network == "sam2"}
    assert known == {"tiny", "small", "base-plus", "large", None}

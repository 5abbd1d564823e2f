"""Weights from a folder, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_medsam2.backend import load_backend
from napari_medsam2.backend.protocol import NO_POINTS, ViewPrompt
from napari_medsam2.backend.sam2 import Sam2Backend
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOX = ViewPrompt(*NO_POINTS, box=(20.0, 30.0, 70.0, 100.0))
WEIGHTS = "model.safetensors"


@pytest.fixture
def sam2(small_config: Callable[..., Any]) -> Sam2Backend:
    return Sam2Backend.from_config(small_config(128), seed=4)


@pytest.fixture
def folder(sam2: Sam2Backend, tmp_path: Path) -> Path:
    """A folder as transformers writes it."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(sam2.model.config.to_json_string())
    save_file({k: v.contiguous() for k, v in sam2.model.state_dict().items()}, path / WEIGHTS)
    return path


def refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(InputError) as caught:
        Sam2Backend.load(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_transformers_wrote_is_loaded(sam2: Sam2Backend, tmp_path: Path) -> None:
    sam2.model.save_pretrained(tmp_path / "saved")
    loaded = Sam2Backend.load(tmp_path / "saved")
    assert loaded.name == str(tmp_path / "saved")
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    ours, theirs = (b.decode(b.encode(image), [BOX]) for b in (loaded, sam2))
    assert torch.equal(ours.logits, theirs.logits)
    assert float(ours.logits.std()) > 1


def test_half_precision_and_twins_that_are_held_once(sam2: Sam2Backend, folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    del state["shared_image_embedding.positional_embedding"]
    save_file({k: v.to(torch.bfloat16) if "neck" in k else v for k, v in state.items()}, folder / WEIGHTS)
    loaded = Sam2Backend.load(folder)
    assert {v.dtype for v in loaded.model.parameters()} == {torch.float32}
    twin = loaded.model.shared_image_embedding.positional_embedding
    assert torch.equal(twin, sam2.model.shared_image_embedding.positional_embedding)


def test_another_image_size(folder: Path) -> None:
    loaded = Sam2Backend.load(folder, side=192)
    assert loaded.views.side == 192
    decoded = loaded.decode(loaded.encode(torch.rand(1, 3, 192, 192)), [BOX])
    assert decoded.logits.shape == (1, 48, 48)


def test_files_of_older_versions(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(folder, memory_attention_rope_theta=10000, memory_attention_rope_k_sizes=[16, 16])
    Sam2Backend.load(folder)
    assert capfd.readouterr() == ("", "")


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "not a folder")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "not a folder")


def test_missing_files(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "elsewhere")
    refused(folder, WEIGHTS)
    (folder / "config.json").unlink()
    refused(folder, "config.json")


def test_pickles_are_refused_unopened(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> Any:
            return opened.touch, ()

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    refused(folder, "pytorch_model.bin", "pickle")
    # The same under the name of a safe format.
    (folder / "pytorch_model.bin").rename(folder / WEIGHTS)
    refused(folder, WEIGHTS)
    assert not opened.exists()


@pytest.mark.parametrize("length", [0, 4, 1000, -1])
def test_truncated_weights(folder: Path, length: int) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:length])
    refused(folder, WEIGHTS, "get it again")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"sam2_video"', '{"model_type": "sam2"}', "{}"])
def test_configurations_of_something_else(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refused(folder, "config.json")


def test_a_configuration_that_is_not_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    refused(folder, "config.json")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"image_size": "large"}, "image_size"),
        ({"image_size": 100}, "multiple of 32"),
        ({"image_size": 0}, "multiple of 32"),
        ({"image_size": [128, 256]}, "square"),
        ({"memory_encoder_output_channels": 32}, "64"),
        ({"num_maskmem": 0}, "num_maskmem"),
        ({"vision_config": {"model_type": "vit"}}, "encoder"),
        ({"memory_attention_num_attention_heads": 0}, "config.json"),
        ({"mask_downsampler_total_stride": 8}, "stride"),
    ],
)
def test_configurations_that_make_no_network(folder: Path, fields: dict[str, Any], word: str) -> None:
    edit(folder, **fields)
    refused(folder, word)


def test_weights_of_another_network(folder: Path, small_config: Callable[..., Any]) -> None:
    config = small_config(128, memory_attention_feed_forward_hidden_size=64)
    (folder / "config.json").write_text(config.to_json_string())
    refused(folder, "of another size", "linear1")


def test_weights_of_which_some_are_missing_or_too_many(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_file({k: v for k, v in state.items() if "memory_attention" not in k}, folder / WEIGHTS)
    refused(folder, "missing", "memory_attention")
    save_file(state | {"surplus": torch.zeros(1)}, folder / WEIGHTS)
    refused(folder, "1 unknown", "surplus")


def test_weights_that_are_not_numbers(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state["mask_downsample.weight"][0, 0, 1, 2] = float("nan")
    save_file(state, folder / WEIGHTS)
    refused(folder, "NaN", "mask_downsample.weight")


@pytest.mark.parametrize("side", [0, -128, 100, 127])
def test_impossible_sizes(folder: Path, side: int) -> None:
    refused(folder, "multiple of 32", side=side)


def test_other_models_are_refused(small_config: Callable[..., Any]) -> None:
    from transformers import Sam2Config, Sam2VideoModel

    with pytest.raises(InputError, match="Sam2Config"):
        Sam2Backend.from_config(Sam2Config())  # type: ignore[arg-type]
    # A model whose parts were made for different sizes.
    config = small_config(256)
    with pytest.raises(InputError, match="feature maps of 256 pixels"):
        Sam2Backend.from_model(Sam2VideoModel(config))


def test_random_weights_depend_on_their_seed_only(small_config: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (Sam2Backend.from_config(small_config(128), seed=s).model.state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_a_folder_is_found_by_its_backend_after_a_move(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "ein Modell")
    assert Sam2Backend.load(str(moved)).views.side == 128


def test_an_entry_that_is_a_folder_says_its_side_and_nothing_that_would_not_be_heeded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_CONFIG", str(tmp_path))

    def listed(more: str = "") -> int:
        (tmp_path / "models.toml").write_text(f"[[model]]\nname = 'mine'\npath = '{folder.name}'\n{more}")
        return load_backend("mine", "cpu").views.side

    assert listed() == 128
    assert listed("input_size = 160\nnetwork = 'sam2'") == 160
    assert load_backend("mine", "cpu", side=192).views.side == 192
    # Of other weights of the network the side is their own.
    assert load_backend("mine", "cpu", folder.rename(tmp_path / "other")).views.side == 128
    (tmp_path / "other").rename(folder)
    for key, value in {"network": "edgetam", "variant": "tiny", "sha256": "0" * 64}.items():
        with pytest.raises(InputError, match=rf"'mine' is a folder.*take {key} out of its entry"):
            listed(f"{key} = '{value}'")

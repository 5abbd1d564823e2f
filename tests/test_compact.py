from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import napari_medsam2
from napari_medsam2 import InputError, load_backend
from napari_medsam2.backend._compact_folding import folded
from napari_medsam2.backend._compact_network import CompactNetwork, Encoder, Features
from napari_medsam2.backend._compact_weights import load_state
from napari_medsam2.backend._planes import draw_planes
from napari_medsam2.backend.compact import CompactBackend
from napari_medsam2.backend.protocol import NO_POINTS, Attended, ViewPrompt
from napari_medsam2.geometry import View

if TYPE_CHECKING:
    from napari_medsam2.backend.protocol import Backend, Decoded, Embedding, Memory

_SHIPPED = Path(napari_medsam2.__file__).parent / "backend" / "weights" / "compact.safetensors"


def _remember(backend: Backend, images: torch.Tensor, view: View) -> tuple[Embedding, Decoded, list[Memory]]:
    embedding = backend.encode(images)
    masks = torch.zeros(len(images), 256, 256)
    masks[:, 80:150, 60:140] = 1
    decoded = backend.adopt(embedding, masks)
    count = len(images)
    return embedding, decoded, backend.remember(embedding, decoded, [view] * count, list(range(count)), prompted=True)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))


def test_the_weights_are_small_and_are_the_ones_that_were_published() -> None:
    assert _SHIPPED.stat().st_size <= 15e6
    sums = (_SHIPPED.parent / "SHA256SUMS").read_text().split()
    assert sums == [hashlib.sha256(_SHIPPED.read_bytes()).hexdigest(), "compact.safetensors"]
    assert {t.dtype for t in load_file(_SHIPPED).values()} == {torch.float16}


def test_the_model_card_says_what_was_used() -> None:
    card = json.loads((_SHIPPED.parent / "compact.json").read_text())
    assert {"data", "licence", "phases", "last recipe", "figures"} <= card.keys()
    assert card["sha256"] == hashlib.sha256(_SHIPPED.read_bytes()).hexdigest()


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _SHIPPED.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_backend("compact", device="cpu", weights=cut)

    changed = tmp_path / "compact.safetensors"
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    monkeypatch.setattr("napari_medsam2.backend.compact._WEIGHTS", changed)
    with pytest.raises(InputError, match="SHA-256"):
        load_backend("compact", device="cpu")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the weights"):
        load_backend("compact", device="cpu", weights=tmp_path / "none.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "pickle.pt")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_backend("compact", device="cpu", weights=tmp_path / "pickle.pt")
    state = load_file(_SHIPPED)
    name = next(iter(state))
    for wrong, message in [
        ({k: v for k, v in state.items() if k != name}, f"1 tensors missing.*{name}"),
        ({**state, "extra": torch.zeros(1)}, "1 unknown.*extra"),
        ({**state, name: torch.zeros(7)}, f"1 of another size.*{name}"),
    ]:
        save_file(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(InputError, match=message):
            load_backend("compact", device="cpu", weights=tmp_path / "wrong.safetensors")


def test_weights_of_the_first_version_s_judge_answer_as_they_did(images: torch.Tensor) -> None:
    network = CompactNetwork().eval()
    state = network.state_dict()
    old = state | {"judge.0.weight": state["judge.0.weight"][:, :259].clone()}
    load_state(network, old, "the old weights")
    seen = network.judge[0].register_forward_hook(
        lambda layer, args, out: torch.nn.functional.linear(args[0][:, :259], old["judge.0.weight"], layer.bias)
    )
    planes = draw_planes([ViewPrompt(*NO_POINTS, carried=torch.rand(256, 256))], 256)
    with torch.no_grad():
        features = network.encode(images[:1])
        readout, known = torch.rand(1, 97, 16, 16), torch.ones(1, dtype=torch.bool)
        expected = network.decode(features, planes, readout, known)
        seen.remove()
        found = network.decode(features, planes, readout, known)
    torch.testing.assert_close(found.iou, expected.iou)
    torch.testing.assert_close(found.score, expected.score)


@pytest.mark.parametrize(("count", "side"), [(1, 256), (3, 192), (2, 320)])
def test_the_folded_encoder_gives_what_the_trained_one_gives(count: int, side: int) -> None:
    """Padding, batch norms of any statistics, strides and skips; float64, so that only a mistake is a difference."""
    generator = torch.Generator().manual_seed(side)
    encoder = Encoder().double().eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight):
                assert tensor is not None
                tensor.data.uniform_(0.5, 2.0, generator=generator)
            for tensor in (module.running_mean, module.bias):
                assert tensor is not None
                tensor.data.uniform_(-0.5, 0.5, generator=generator)
    views = torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64)
    before = views.clone()
    with torch.no_grad():
        expected = encoder(views)
        found = folded(encoder)(views)
    assert [tuple(m.shape[2:]) for m in found] == [(side // s, side // s) for s in (2, 4, 8, 16, 32)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert torch.equal(views, before)


def test_the_backend_encodes_as_the_shipped_weights_do(images: torch.Tensor, backend: Backend) -> None:
    network = CompactNetwork().eval()
    load_state(network, load_file(_SHIPPED), "the shipped weights")
    with torch.no_grad():
        expected = network.encode(images)
    found: Features = backend.encode(images).features  # type: ignore[attr-defined]
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) < 2e-5


def test_the_judge_sees_how_the_mask_agrees_with_its_neighbour_and_the_memories() -> None:
    probability = torch.zeros(1, 1, 64, 64)
    probability[..., 16:48, 16:48] = 1
    cells = torch.nn.functional.avg_pool2d(probability, 8)
    carried = torch.nn.functional.avg_pool2d(probability, 2) * 2 - 1
    readout = torch.cat([torch.zeros(1, 96, 8, 8), cells], 1)
    known = torch.ones(1, dtype=torch.bool)
    overlap, size, given, support, spread = CompactNetwork._context(probability, cells, carried, readout, known)
    assert float(overlap) == pytest.approx(256 / 257)
    assert float(size) == 0
    assert float(given) == 1
    assert float(support) == pytest.approx(1, abs=1e-3)
    assert float(spread) == pytest.approx(1, abs=1e-3)
    half = carried.clone()
    half[..., 16:, :] = -1
    overlap, size, *_ = CompactNetwork._context(probability, cells, half, readout, known)
    assert float(overlap) == pytest.approx(128 / 257)
    assert float(size) == pytest.approx(np.log(129 / 257))
    nothing = CompactNetwork._context(probability, cells, torch.zeros_like(carried), None, ~known)
    assert not any(float(value) for value in nothing)


def test_devices_that_are_not_there_are_named() -> None:
    for device in ("cuda:77", "tpu", "meta"):
        with pytest.raises(InputError, match="device"):
            load_backend("compact", device=device)


def test_planes_say_where_prompts_are() -> None:
    """Against sums over every view pixel, at the planes' four times coarser cells."""
    prompt = ViewPrompt(
        np.array([[101.5, 57.5], [30.0, 200.0]]), np.array([1, 0]), (21.7, 33.2, 180.1, 90.4), torch.rand(256, 256)
    )
    planes = draw_planes([prompt, ViewPrompt(*NO_POINTS)], 256)
    assert planes.shape == (2, 7, 64, 64)
    assert planes[1].abs().max() == 0
    assert divmod(int(planes[0, 0].argmax()), 64) == (25, 14)
    assert planes[0, 0].max() == pytest.approx(1)
    assert divmod(int(planes[0, 1].argmax()), 64) == (7, 50) or planes[0, 1, 7, 49] == planes[0, 1].max()
    # The box's share of each cell, by counting subpixels.
    fine = (np.arange(2560) + 0.5) / 10 - 0.5
    rows, columns = (fine > 21.7) & (fine < 180.1), (fine > 33.2) & (fine < 90.4)
    share = (rows.reshape(64, 40).mean(1)[:, None] * columns.reshape(64, 40).mean(1)[None]).astype(np.float32)
    np.testing.assert_allclose(planes[0, 4], share, atol=0.03)
    assert prompt.previous is not None
    mean = np.asarray(prompt.previous).reshape(64, 4, 64, 4).mean((1, 3))
    np.testing.assert_allclose(planes[0, 5], mean * 2 - 1, atol=1e-5)
    assert planes[0, 6].abs().max() == 0


def test_reading_memories_is_attention_over_all_their_positions(backend: Backend, images: torch.Tensor) -> None:
    """Against a plain loop over positions, with weights and, in stacks, with distance."""
    assert isinstance(backend, CompactBackend)
    view = View(0, 0, 64, 64, 256)
    embedding, _, memories = _remember(backend, images, view)
    here = embedding.take([0])
    bank = [Attended(memories[1], 1.0), Attended(memories[2], 0.25)]
    network = backend._network
    query = here.features.key[0].flatten(1).T.double()  # type: ignore[attr-defined]
    for ordered in (False, True):
        readout = backend.attend(here, [bank], [view], ordered).readout[0].flatten(1).T
        for position in (0, 100, 255):
            logits, values = [], []
            for attended in bank:
                for m in range(256):
                    affinity = query[position] @ attended.memory.content.keys[:, m].double() * network.sharpness.exp()
                    affinity = affinity + np.log(attended.weight)
                    if ordered:
                        dy, dx = position // 16 - m // 16, position % 16 - m % 16
                        affinity = affinity - network.locality.exp() * (dy * dy + dx * dx) / 256
                    logits.append(affinity)
                    values.append(attended.memory.content.values[:, m].double())
            expected = torch.stack(logits).softmax(0) @ torch.stack(values)
            torch.testing.assert_close(readout[position].double(), expected, atol=2e-4, rtol=1e-4)


def test_a_moved_view_reads_its_memories_where_they_were(backend: Backend, images: torch.Tensor) -> None:
    """Nearness is a matter of slice pixels: a view moved by four cells prefers positions moved by four cells."""
    assert isinstance(backend, CompactBackend)
    still = backend._nearness(View(0, 0, 64, 64, 256), View(0, 0, 64, 64, 256), 16)
    moved = backend._nearness(View(16, 0, 64, 64, 256), View(0, 0, 64, 64, 256), 16)
    assert still[0].argmax() == 0
    assert moved[0].argmax() == 4 * 16


def test_banks_of_unequal_length_in_one_batch(backend: Backend, images: torch.Tensor) -> None:
    view = View(0, 0, 64, 64, 256)
    embedding, _, memories = _remember(backend, images, view)
    banks = [[Attended(memories[0])], [Attended(m) for m in memories], [Attended(memories[2], 0.5)]]
    prompts = [ViewPrompt(*NO_POINTS)] * 3
    together = backend.decode(embedding, prompts, backend.attend(embedding, banks, [view] * 3, ordered=True))
    for i in range(3):
        one = embedding.take([i])
        alone = backend.decode(one, prompts[:1], backend.attend(one, banks[i : i + 1], [view], ordered=True))
        torch.testing.assert_close(together.logits[i], alone.logits[0], atol=2e-3, rtol=1e-3)


def test_memories_tell_what_was_adopted(backend: Backend, images: torch.Tensor) -> None:
    """The bank is what a slice without any prompt goes by: without the mask in it, the answer is another."""
    view = View(0, 0, 64, 64, 256)
    embedding = backend.encode(images[:1])
    prompts = [ViewPrompt(*NO_POINTS)]
    answers = []
    for rows, columns in ((slice(30, 110), slice(30, 110)), (slice(140, 230), slice(150, 240))):
        mask = torch.zeros(1, 256, 256)
        mask[0, rows, columns] = 1
        decoded = backend.adopt(embedding, mask)
        assert float(decoded.logits[0, rows.start // 2 + 4, columns.start // 2 + 4]) > 5
        memories = backend.remember(embedding, decoded, [view], [0], prompted=True)
        context = backend.attend(embedding, [[Attended(memories[0])]], [view], ordered=True)
        answers.append(backend.decode(embedding, prompts, context).logits)
    assert (answers[0] - answers[1]).abs().max() > 1


def test_embeddings_are_taken_and_joined(backend: Backend, images: torch.Tensor) -> None:
    embedding = backend.encode(images)
    assert len(embedding) == 3
    again = backend.join([embedding.take([2]), embedding.take([0])])
    torch.testing.assert_close(again.descriptor, embedding.descriptor[[2, 0]])
    torch.testing.assert_close(embedding.descriptor.norm(dim=1), torch.ones(3))
    one = embedding.take([1])
    assert len(backend.join([one, one, one])) == 3
    assert one.nbytes * 3 == embedding.nbytes

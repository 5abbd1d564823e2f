"""The memory bank's policies on SAM 2, and what the backend promises beside being the library's network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_medsam2 import AnnotationSession, ImageStack
from napari_medsam2.backend.protocol import NO_POINTS, Attended, Memory, ViewPrompt
from napari_medsam2.backend.sam2 import Sam2Backend
from napari_medsam2.geometry import View
from napari_medsam2.memory import BankConfig, Policy, admit, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SIDE = 128
VIEW = View(0, 0, SIDE, SIDE, SIDE)
ROUNDING = 2e-3
"""Float32 in batches of different sizes; logits spread over about 10."""
NOTHING = ViewPrompt(*NO_POINTS)
PROMPTS = [
    ViewPrompt(np.array([[40.0, 61.5]], np.float32), np.array([1])),
    ViewPrompt(*NO_POINTS, box=(19.5, 30.5, 71.5, 99.5)),
    ViewPrompt(np.array([[90.0, 30.0], [20.0, 20.0]], np.float32), np.array([1, 0])),
]


@pytest.fixture
def sam2(small_config: Callable[..., Any]) -> Sam2Backend:
    return Sam2Backend.from_config(small_config(SIDE), seed=4)


@pytest.fixture
def film(smooth_film: Callable[..., Tensor]) -> Tensor:
    return smooth_film(10, SIDE, 5)


def memories(
    backend: Sam2Backend, film: Tensor, frames: Sequence[int], prompt: ViewPrompt = PROMPTS[0]
) -> list[Memory]:
    embedding = backend.encode(film[list(frames)])
    decoded = backend.decode(embedding, [prompt] * len(frames))
    return backend.remember(embedding, decoded, [VIEW] * len(frames), list(frames), prompted=False)


def read(backend: Sam2Backend, frame: Tensor, banks: Sequence[Sequence[Attended]], index: int | None = None) -> Tensor:
    embedding = backend.encode(frame[None]).take([0] * len(banks))
    context = backend.attend(embedding, banks, [VIEW] * len(banks), True, index)
    return backend.decode(embedding, [NOTHING] * len(banks), context).logits


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("index", [None, 9], ids=["untold", "told"])
def test_banks_of_unequal_length_in_one_batch_read_as_one_at_a_time(
    sam2: Sam2Backend, film: Tensor, index: int | None
) -> None:
    kept = memories(sam2, film, range(9))
    first = replace(kept[0], reason="prompt")
    banks = [
        [Attended(first, 1.0, 0)],
        [Attended(first, 1.0, 0), Attended(kept[7], 1.0, 2), Attended(kept[8], 1.0, 1)],
        [Attended(m, 0.2 + 0.1 * i) for i, m in enumerate(kept[:5])],
        [Attended(first, 1.0, 0), Attended(kept[8], 1.0, 1)],
        [Attended(m, 0.9 - 0.1 * i) for i, m in enumerate(kept[2:7])],
    ]
    together = read(sam2, film[9], banks, index)
    alone = [read(sam2, film[9], [bank], index)[0] for bank in banks]
    assert apart(together, torch.stack(alone)) <= ROUNDING
    assert min(apart(a, b) for i, a in enumerate(alone) for b in alone[:i]) > 100 * ROUNDING


@pytest.mark.parametrize("index", [None, 9], ids=["without-pointers", "with-pointers"])
def test_a_weight_counts_copies(sam2: Sam2Backend, film: Tensor, index: int | None) -> None:
    a, b, c = memories(sam2, film, [1, 4, 7])
    weighted = [Attended(a, 1.0), Attended(b, 3.0), Attended(c, 1.0)]
    copied = [Attended(m) for m in (a, b, b, b, c)]
    said = read(sam2, film[9], [weighted, copied], index)
    assert apart(said[0], said[1]) <= ROUNDING
    # Only relations count; without weights something else is read.
    halved = [replace(m, weight=m.weight / 4) for m in weighted]
    plain = [Attended(m) for m in (a, b, c)]
    other = read(sam2, film[9], [halved, plain], index)
    assert apart(said[0], other[0]) <= ROUNDING
    assert apart(said[0], other[1]) > 100 * ROUNDING


def test_numbers_that_lie_apart_are_read_as_neighbours_where_they_are(sam2: Sam2Backend, film: Tensor) -> None:
    """The slices of one time point of a film of stacks are every third, say."""
    embedding = sam2.encode(film[9][None])
    said = []
    for apart_by in (1, 3):
        first, *loose = memories(sam2, film, range(5))
        bank = [Attended(replace(first, reason="prompt"), 1.0, 0)]
        bank += [Attended(m, 1.0, 5 - i) for i, m in enumerate(loose, start=1)]
        numbered = [replace(a, memory=_renumbered(a.memory, apart_by)) for a in bank]
        run = range(0, 20 * apart_by, apart_by)
        context = sam2.attend(embedding, [numbered], [VIEW], True, 5 * apart_by, run)
        said.append(sam2.decode(embedding, [NOTHING], context).logits)
    assert apart(*said) <= ROUNDING


def _renumbered(memory: Memory, factor: int) -> Memory:
    pointers = tuple(p._replace(at=p.at * factor) for p in memory.content.pointers)
    return replace(memory, index=memory.index * factor, content=replace(memory.content, pointers=pointers))


def test_in_a_short_stack_pointers_are_dated_by_its_length(sam2: Sam2Backend, film: Tensor) -> None:
    embedding = sam2.encode(film[9][None])
    kept = memories(sam2, film, [0, 1])
    bank = [Attended(replace(kept[0], reason="prompt"), 1.0, 0), Attended(kept[1], 1.0, 1)]
    short, long, longer = (
        sam2.decode(embedding, [NOTHING], sam2.attend(embedding, [bank], [VIEW], True, 2, range(n))).logits
        for n in (4, 16, 40)
    )
    assert apart(long, longer) <= ROUNDING
    assert apart(short, long) > 10 * ROUNDING


def test_a_member_of_little_weight_is_as_good_as_not_read(sam2: Sam2Backend, film: Tensor) -> None:
    a, b = memories(sam2, film, [1, 8])
    said = read(sam2, film[9], [[Attended(a), Attended(b, 1e-6)], [Attended(a), Attended(b)]])
    alone = read(sam2, film[9], [[Attended(a)]])
    assert apart(said[0], alone[0]) <= 10 * ROUNDING
    assert apart(said[1], alone[0]) > 100 * ROUNDING


def test_the_order_of_a_bank_counts_only_where_it_has_offsets(sam2: Sam2Backend, film: Tensor) -> None:
    kept = memories(sam2, film, [2, 5, 8])
    forth, back = ([Attended(m, w) for m, w in zip(kept, (1.0, 0.5, 0.7), strict=True)][::s] for s in (1, -1))
    said = read(sam2, film[9], [forth, back], 9)
    assert apart(said[0], said[1]) <= ROUNDING
    dated, redated = (
        [Attended(m, 1.0, o) for m, o in zip(kept, order, strict=True)] for order in ((3, 2, 1), (1, 2, 3))
    )
    said = read(sam2, film[9], [dated, redated], 9)
    assert apart(said[0], said[1]) > 100 * ROUNDING


def test_pointers_are_read_only_where_their_distance_is_known(sam2: Sam2Backend, film: Tensor) -> None:
    first, second = (replace(m, reason="prompt") for m in memories(sam2, film, [2, 6]))
    both = [Attended(first, 1.0, 0), Attended(second, 1.0, 0)]
    # Between two prompted slices nothing tells which way a walk goes, unless it says where it is.
    untold, at_3, at_5, at_7 = (read(sam2, film[9], [both], index)[0] for index in (None, 3, 5, 7))
    assert min(apart(untold, x) for x in (at_3, at_5, at_7)) > 100 * ROUNDING
    assert min(apart(at_3, at_5), apart(at_3, at_7), apart(at_5, at_7)) > 10 * ROUNDING
    # After one prompted slice there is no doubt.
    alone = [Attended(first, 1.0, 0)]
    assert apart(read(sam2, film[9], [alone])[0], read(sam2, film[9], [alone], 3)[0]) <= ROUNDING


@pytest.mark.parametrize("policy", get_args(Policy))
def test_every_policy_conditions_the_next_slice(sam2: Sam2Backend, film: Tensor, policy: Policy) -> None:
    config = BankConfig(policy, size=3, threshold=0.0)
    banks: list[tuple[Memory, ...]] = [(), ()]
    for index, frame in enumerate(film):
        embedding = sam2.encode(frame[None]).take([0, 0])
        views = [VIEW, VIEW]
        bare = sam2.decode(embedding, [NOTHING] * 2).logits
        if index == 0:
            decoded = sam2.decode(embedding, PROMPTS[:2])
        else:
            chosen = [select(b, embedding.descriptor[i], config, index) for i, b in enumerate(banks)]
            decoded = sam2.decode(embedding, [NOTHING] * 2, sam2.attend(embedding, chosen, views, True, index))
            assert apart(decoded.logits, bare) > 1
        new = sam2.remember(embedding, decoded, views, [index] * 2, prompted=index == 0)
        banks = [admit(b, m, config) for b, m in zip(banks, new, strict=True)]
    for bank in banks:
        assert bank[0].index == 0
        assert bank[0].pinned
        assert len(bank) == (4 if policy == "fifo" else 3)


def test_memories_are_what_the_bank_needs(sam2: Sam2Backend, film: Tensor) -> None:
    embedding = sam2.encode(film[:2]).take([0, 1, 1])
    decoded = sam2.decode(embedding, PROMPTS)
    made = sam2.remember(embedding, decoded, [VIEW] * 3, [0, 1, 1], prompted=True)
    for i, memory in enumerate(made):
        assert (memory.index, memory.reason, memory.view) == ((0, 1, 1)[i], "prompt", VIEW)
        assert memory.confidence == pytest.approx(float(decoded.iou[i]))
        assert float(memory.feature.norm()) == pytest.approx(1, abs=1e-5)
        assert torch.equal(memory.descriptor, embedding.descriptor[i])
        assert memory.nbytes >= 4 * (memory.feature.numel() + memory.descriptor.numel())
    # Of one slice, but of two objects.
    assert made[1].descriptor is made[2].descriptor
    assert float(made[1].feature @ made[2].feature) < 0.99999


def test_objects_with_different_prompts_share_a_batch(sam2: Sam2Backend, film: Tensor) -> None:
    refined = replace(PROMPTS[0], previous=torch.linspace(0, 1, 64 * 64).view(64, 64).numpy())
    prompts = [PROMPTS[1], NOTHING, PROMPTS[0], refined, PROMPTS[2], replace(PROMPTS[1], box=(2.0, 3.0, 2.2, 3.2))]
    embedding = sam2.encode(film[:1]).take([0] * len(prompts))
    together = sam2.decode(embedding, prompts)
    for i, prompt in enumerate(prompts):
        alone = sam2.decode(embedding.take([i]), [prompt])
        assert apart(together.logits[i], alone.logits[0]) <= ROUNDING
        assert apart(together.iou[i], alone.iou[0]) <= ROUNDING
        assert apart(together.take([i]).logits, alone.logits) <= ROUNDING
    assert min(apart(a, b) for i, a in enumerate(together.logits) for b in together.logits[:i]) > 100 * ROUNDING
    assert together.logits.shape == (len(prompts), SIDE // 4, SIDE // 4)


def test_a_given_mask_smaller_than_a_pixel_of_the_view_is_not_lost(sam2: Sam2Backend, film: Tensor) -> None:
    masks = torch.zeros(2, SIDE, SIDE)
    masks[0, 60, 70], masks[0, 60, 71] = 0.2, 0.05
    decoded = sam2.adopt(sam2.encode(film[:1]).take([0, 0]), masks)
    assert (decoded.logits > 0).sum((1, 2)).tolist() == [1, 0]
    assert decoded.score.tolist() == [10.0, -10.0]


def test_embeddings_are_shared_not_copied(sam2: Sam2Backend, film: Tensor) -> None:
    both = sam2.encode(film[:2])
    first = both.take([0])
    many = sam2.join([first, first, both.take([1]), first])
    assert len(many) == 4
    assert many.nbytes == both.nbytes == 2 * first.nbytes
    assert first.nbytes == 4 * ((SIDE // 4) ** 2 * 16 + (SIDE // 8) ** 2 * 32 + (SIDE // 16) ** 2 * 128)
    assert torch.equal(many.descriptor[3], both.descriptor[0])
    assert torch.allclose(many.descriptor.norm(dim=1), torch.ones(4), atol=1e-5)
    coarse = both.maps()[2].flatten(1)
    assert float(both.descriptor[0] @ both.descriptor[1]) == pytest.approx(
        float(F.cosine_similarity(coarse[0], coarse[1], dim=0)), abs=1e-5
    )


@pytest.mark.parametrize("kind", ["stack", "collection"])
@pytest.mark.parametrize("policy", get_args(Policy))
def test_a_session_runs_on_sam_2(sam2: Sam2Backend, policy: Policy, kind: Any) -> None:
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.random((1, 1, 3, 6, 9), dtype=np.float32))
    array = F.interpolate(coarse, size=(7, 60, 90), mode="trilinear")[0, 0].numpy()
    session = AnnotationSession(ImageStack(array, axes="ZYX"), backend=sam2, memory=policy, kind=kind)
    painted = np.zeros((60, 90), bool)
    painted[20:40, 30:60] = True
    session.add_mask(session.add_object(), 3, painted)
    session.add_points(session.add_object(), 2, [(30, 40)], [1])
    found = list(session.propagate(patience=None, part=False))
    assert {(o.label, r.index) for r in found for o in r.objects} == {
        (label, index) for label, seed in ((1, 3), (2, 2)) for index in range(7) if index != seed
    }
    assert all(o.area and 0 < o.confidence <= 1 for r in found for o in r.objects)
    assert np.array_equal(session.slice_labels(3) == 1, painted)


@pytest.mark.parametrize(("before", "after"), [(SIDE, 192), (192, SIDE)])
def test_a_session_goes_on_at_another_side(small_config: Callable[..., Any], before: int, after: int) -> None:
    array = np.random.default_rng(1).random((3, 60, 90), dtype=np.float32)
    first, second = (Sam2Backend.from_config(small_config(side), seed=4) for side in (before, after))
    session = AnnotationSession(ImageStack(array, axes="ZYX"), backend=first)
    session.add_points(session.add_object(), 1, [(30, 40)], [1])
    mask = session.slice_labels(1).copy()
    session.use(second)
    assert {r.index for r in session.propagate(patience=None, part=False)} == {0, 2}
    assert np.array_equal(session.slice_labels(1), mask)

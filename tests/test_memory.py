from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.dummy import DummyBackend, stack_of_squares

from napari_medsam2 import AnnotationSession, InputError
from napari_medsam2.backend.protocol import Memory
from napari_medsam2.geometry import View
from napari_medsam2.memory import Bank, BankConfig, admit, dissimilarity, select

if TYPE_CHECKING:
    from pathlib import Path

_VIEW = View(0, 0, 8, 8, 8)


def _unit(values: list[float]) -> torch.Tensor:
    tensor = torch.tensor(values, dtype=torch.float32)
    return torch.nn.functional.normalize(tensor, dim=0)


def _memory(
    index: int, feature: list[float], confidence: float = 0.9, reason: str = "admitted", seen: list[float] | None = None
) -> Memory:
    vector = _unit(feature)
    return Memory(index, _VIEW, None, vector, vector if seen is None else _unit(seen), confidence, reason)  # type: ignore[arg-type]


def _angle(index: int, degrees: float, confidence: float = 0.9, reason: str = "admitted") -> Memory:
    return _memory(index, [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], confidence, reason)


def _indices(bank: Bank) -> list[int]:
    return [m.index for m in bank]


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=2, max_size=7))
def test_dissimilarity_is_the_papers_sum(rows: list[list[float]]) -> None:
    rows = [[v + (0.1 if i == 0 else 0) for i, v in enumerate(r)] for r in rows]
    rows = [r for r in rows if math.hypot(*r) > 1e-3]
    if len(rows) < 2:
        return
    bank = tuple(_memory(i, r) for i, r in enumerate(rows))

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(p * q for p, q in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    expected = [sum(1 - cosine(a, b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
    np.testing.assert_allclose(dissimilarity(bank), expected, atol=1e-5)


def test_self_sorting_keeps_the_most_dissimilar() -> None:
    config = BankConfig("self-sorting", size=3)
    bank: Bank = ()
    for index, degrees in enumerate([0, 5, 90, 45]):
        bank = admit(bank, _angle(index, degrees), config)
    # The four sums are 1.30, 1.17, 2.20 and 0.82 by hand: the one at 45° is nearest to all others.
    assert _indices(bank) == [0, 1, 2]


def test_self_sorting_refuses_what_the_model_doubts() -> None:
    config = BankConfig("self-sorting", threshold=0.6)
    assert admit((), _angle(0, 0, confidence=0.6), config) == ()
    assert _indices(admit((), _angle(0, 0, confidence=0.61), config)) == [0]


def test_self_sorting_never_evicts_what_a_person_made() -> None:
    config = BankConfig("self-sorting", size=2)
    bank: Bank = ()
    for index in range(4):
        bank = admit(bank, _angle(index, 0, confidence=0.1, reason="prompt"), config)
    bank = admit(bank, _angle(9, 90), config)
    assert _indices(bank) == [0, 1, 2, 3]


def test_a_correction_replaces_the_slices_older_memory() -> None:
    for policy in ("self-sorting", "released", "fifo"):
        config = BankConfig(policy)
        bank = admit((), _angle(3, 10), config)
        bank = admit(bank, _angle(3, 80, reason="corrected"), config)
        assert [(m.index, m.reason) for m in bank] == [(3, "corrected")]
        assert [(m.index, m.reason) for m in admit(bank, _angle(3, 20), config)] == [(3, "corrected")]


def test_fifo_counts_slices_from_the_one_that_reads() -> None:
    """As SAM 2 does: a slice without a memory leaves a gap; and time points may lie several numbers apart."""
    bank: Bank = (_angle(0, 0, reason="prompt"), _angle(6, 10), _angle(9, 20), _angle(15, 30))
    read = select(bank, _unit([1, 0]), BankConfig("fifo"), 18, range(0, 30, 3))
    assert [a.offset for a in read] == [0, 4, 3, 1]
    backward = select(bank, _unit([1, 0]), BankConfig("fifo"), 3, range(0, 30, 3))
    assert [a.offset for a in backward] == [0, 1, 2, 4]
    walked = select(bank, _unit([1, 0]), BankConfig("fifo"), 3, range(0, 30, 3)[::-1])
    assert [a.offset for a in walked] == [0, 1, 2, 4]
    # Unordered images have no distance: the latest is the nearest.
    assert [a.offset for a in select(bank, _unit([1, 0]), BankConfig("fifo"), 18)] == [0, 3, 2, 1]


def test_fifo_keeps_prompted_slices_and_the_latest_six() -> None:
    config = BankConfig("fifo")
    bank: Bank = (_angle(0, 0, reason="prompt"),)
    for index in range(1, 10):
        bank = admit(bank, _angle(index, index, confidence=0.01), config)
    assert _indices(bank) == [0, 4, 5, 6, 7, 8, 9]
    read = select(bank, _unit([1, 0]), config)
    assert [(a.memory.index, a.offset) for a in read] == [(0, 0), (4, 6), (5, 5), (6, 4), (7, 3), (8, 2), (9, 1)]


def test_released_replaces_the_nearest_to_the_least_similar() -> None:
    config = BankConfig("released", size=3)
    bank: Bank = (_angle(0, 0), _angle(1, 10), _angle(2, 60))
    # Newcomer at 100°: least like it is 0° (cos 100° = −0.17); the nearest to 0° is 10° (0.98); −0.17 < 0.98: replaced.
    assert _indices(admit(bank, _angle(3, 100), config)) == [0, 2, 3]
    # The same, but the newcomer is clearly worse than the one it would replace.
    assert _indices(admit(bank, _angle(3, 100, confidence=0.79), config)) == [0, 1, 2]
    assert _indices(admit(bank, _angle(3, 100, confidence=0.81), config)) == [0, 2, 3]
    # Newcomer at 5°: least like it is 60° (cos 55° = 0.57), whose nearest is 10° (cos 50° = 0.64): 0.57 < 0.64.
    assert _indices(admit(bank, _angle(3, 5), config)) == [0, 2, 3]
    # Newcomer at 58°: least like it is 0° (cos 58° = 0.53), whose nearest is 10°: replaced, though it is near 60°.
    assert _indices(admit(bank, _angle(3, 58), config)) == [0, 2, 3]
    # It fills without a threshold.
    assert _indices(admit(bank[:2], _angle(3, 1, confidence=0.0), config)) == [0, 1, 3]


def test_released_never_evicts_what_a_person_made() -> None:
    config = BankConfig("released", size=3)
    bank: Bank = (_angle(0, 0), _angle(1, 10, reason="prompt"), _angle(2, 60))
    assert _indices(admit(bank, _angle(3, 100), config)) == [0, 1, 2]


def test_self_sorting_weighs_by_likeness_to_the_slice() -> None:
    bank: Bank = (_angle(0, 0), _angle(1, 60), _angle(2, 120))
    read = select(bank, _unit([1, 0]), BankConfig("self-sorting"))
    np.testing.assert_allclose([a.weight for a in read], [1, 0.5, 1e-3], rtol=1e-5)


def test_what_nobody_checked_weighs_less_where_it_is_trusted_less() -> None:
    bank: Bank = (_angle(0, 60, reason="prompt"), _angle(1, 0), _angle(2, 60, reason="pinned"), _angle(3, 60))
    read = select(bank, _unit([1, 0]), BankConfig("self-sorting", trust=0.1))
    # The cosines are 0.5, 1, 0.5 and 0.5.
    np.testing.assert_allclose([a.weight for a in read], [1, 0.2, 1, 0.1], rtol=1e-5)


def test_the_papers_settings_hold_but_for_the_embedded_network_and_images_without_order() -> None:
    for kind, network in (("stack", "compact"), ("stack", "sam2.1-tiny"), ("collection", "sam2.1-tiny")):
        suited = BankConfig().suited(kind, network)  # type: ignore[arg-type]
        assert (suited.threshold, suited.trust) == (0.6, 1.0)
    suited = BankConfig().suited("collection", "compact")
    assert suited.threshold is not None
    assert suited.trust is not None
    assert suited.threshold < 0.6
    assert 0 < suited.trust < 1
    chosen = BankConfig(size=5, threshold=0.7, trust=0.9)
    assert chosen.suited("collection", "compact") == chosen
    assert BankConfig(draws=True).suited("collection", "compact").trust == 1, "draws are the paper's"


def test_draws_are_repeatable_and_follow_the_weights() -> None:
    bank: Bank = (_angle(0, 0), _angle(1, 60), _angle(2, 89.9))
    config = BankConfig("self-sorting", draws=True, seed=3)
    counts = np.zeros(3)
    for index in range(2000):
        once = select(bank, _unit([1, 0]), config, index)
        again = select(bank, _unit([1, 0]), config, index)
        assert [(a.memory.index, a.weight) for a in once] == [(a.memory.index, a.weight) for a in again]
        for a in once:
            counts[a.memory.index] += a.weight
    np.testing.assert_allclose(counts / counts.sum(), np.array([1, 0.5, 0.00175]) / 1.50175, atol=0.02)


def test_released_draws_by_softmax() -> None:
    bank: Bank = (_angle(0, 0), _angle(1, 90))
    counts = np.zeros(2)
    for index in range(2000):
        for a in select(bank, _unit([1, 0]), BankConfig("released"), index):
            counts[a.memory.index] += a.weight
    expected = np.exp([1, 0]) / np.exp([1, 0]).sum()
    np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.02)


@given(
    st.sampled_from(["self-sorting", "released", "fifo"]),
    st.integers(1, 6),
    st.lists(st.tuples(st.floats(0, 360), st.floats(0, 1), st.booleans()), max_size=25),
)
def test_banks_stay_within_their_size(policy: str, size: int, arrivals: list[tuple[float, float, bool]]) -> None:
    config = BankConfig(policy, size=size)  # type: ignore[arg-type]
    bank: Bank = ()
    for index, (degrees, confidence, pinned) in enumerate(arrivals):
        bank = admit(bank, _angle(index, degrees, confidence, "prompt" if pinned else "admitted"), config)
    people = [i for i, (_, _, pinned) in enumerate(arrivals) if pinned]
    assert [m.index for m in bank if m.pinned] == people
    if policy == "fifo":
        assert len(bank) <= len(people) + size
    else:
        assert len(bank) <= max(size, len(people))
    assert len({m.index for m in bank}) == len(bank)


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"unknown memory policy 'lifo'.*self-sorting, released, fifo"):
        BankConfig("lifo")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        BankConfig("fifo", size=0)
    for settings, words in (
        ({"size": 2.5}, "size of a memory bank must be a whole number, not 2.5"),
        ({"seed": 0.5}, "seed of a memory bank must be a whole number, not 0.5"),
        ({"seed": -1}, "seed of a memory bank must be 0 or more, not -1"),
        ({"threshold": math.nan}, "threshold of a memory bank must be a finite number, not nan"),
        ({"threshold": "0.6"}, "threshold of a memory bank must be a finite number, not '0.6'"),
        ({"tolerance": math.inf}, "tolerance of a memory bank must be a finite number, not inf"),
        ({"tolerance": None}, "tolerance of a memory bank must be a finite number, not None"),
        ({"trust": "all"}, "trust of a memory bank must be a finite number, not 'all'"),
        ({"trust": 0}, r"trust of a memory bank must lie above 0 and up to 1, not 0\.0"),
        ({"trust": 1.5}, r"trust of a memory bank must lie above 0 and up to 1, not 1\.5"),
    ):
        with pytest.raises(InputError, match=words):
            BankConfig("released", **settings)


def test_numpys_numbers_can_be_set_and_saved(tmp_path: Path) -> None:
    config = BankConfig("released", np.int64(3), np.float32(0.5), seed=np.uint8(7))  # type: ignore[arg-type]
    assert config == BankConfig("released", 3, 0.5, seed=7)
    AnnotationSession.create(
        tmp_path / "s", stack_of_squares(), backend=DummyBackend(), embed=True, memory=config
    ).close()
    with AnnotationSession.open(tmp_path / "s", backend=DummyBackend()) as session:
        assert session.bank == config

"""The memory bank: which memories of an object are kept, and how much each weighs for the next slice.

Three policies behind two pure functions, `admit` and `select`. A bank is a tuple of memories in order of arrival.
The equations, and where each is from, are in ``docs/memory-bank.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_medsam2._numbers import check_whole
from napari_medsam2.backend.protocol import Attended, Memory
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bank", "BankConfig", "Policy", "admit", "dissimilarity", "odds", "select"]

Policy = Literal["self-sorting", "released", "fifo"]
Bank = tuple[Memory, ...]

_SIZES: dict[str, int] = {"self-sorting": 8, "released": 16, "fifo": 6}
_PAPERS = 0.6, 1.0
"""MedSAM-2's threshold; and there a memory that the network made weighs as much as a person's."""
_UNORDERED = {"compact": (0.3, 0.05)}
"""The threshold and the trust that suit a network where images have no order."""


@dataclass(frozen=True, slots=True)
class BankConfig:
    """How a bank chooses.

    Parameters
    ----------
    policy : str
        ``"self-sorting"`` (the paper's), ``"released"`` (the published 2-D code's) or ``"fifo"`` (SAM 2's).
    size : int, optional
        How many memories are kept. For ``fifo`` prompted slices come on top; for ``self-sorting`` and ``released``
        they count, though they stay even where they are more than that. Default 8, 16 and 6.
    threshold : float, optional
        ``self-sorting`` admits memories with a predicted IoU above it. Default: what suits the network, see `suited`.
    tolerance : float
        ``released`` replaces a member only if the newcomer's predicted IoU exceeds the member's less this.
    draws : bool
        Whether ``self-sorting`` resamples at random, as the paper has it, instead of weighting.
    seed : int
        Of the random draws; 0 or more.
    trust : float, optional
        ``self-sorting``: how much a memory that no person made weighs, relative to one that a person made or pinned;
        above 0, up to 1. Default: what suits the network, see `suited`.

    Raises
    ------
    InputError
        If a setting is none of these.
    """

    policy: Policy = "self-sorting"
    size: int | None = None
    threshold: float | None = None
    tolerance: float = 0.1
    draws: bool = False
    seed: int = 0
    trust: float | None = None

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise InputError(f"unknown memory policy {self.policy!r}; choose one of {', '.join(get_args(Policy))}")
        # Numbers become Python's own: numpy's cannot be written into a session.
        for name in ("seed",) if self.size is None else ("seed", "size"):
            object.__setattr__(self, name, check_whole(getattr(self, name), f"the {name} of a memory bank"))
        for name in ("threshold", "tolerance", "trust"):
            value = getattr(self, name)
            if value is None and name != "tolerance":
                continue
            if not isinstance(value, Real) or not math.isfinite(value):
                raise InputError(f"the {name} of a memory bank must be a finite number, not {value!r}")
            object.__setattr__(self, name, float(value))
        object.__setattr__(self, "draws", bool(self.draws))
        if self.size is not None and self.size < 1:
            raise InputError(f"a memory bank needs room for at least 1 memory, not {self.size}")
        if self.seed < 0:
            raise InputError(f"the seed of a memory bank must be 0 or more, not {self.seed}")
        if self.trust is not None and not 0 < self.trust <= 1:
            raise InputError(f"the trust of a memory bank must lie above 0 and up to 1, not {self.trust}")

    @property
    def capacity(self) -> int:
        """How many memories are kept."""
        return _SIZES[self.policy] if self.size is None else self.size

    def suited(self, kind: Literal["stack", "collection"], network: str) -> BankConfig:
        """Fill in what nobody chose: threshold and trust as they suit a network and what it looks at.

        Parameters
        ----------
        kind : str
            ``"stack"`` or ``"collection"``.
        network : str
            The backend's name.

        Returns
        -------
        BankConfig
            With a threshold and a trust: those of the paper, 0.6 and 1, but for the embedded network and images
            without order (measured in ``docs/memory-bank.md``). Random draws are the paper's, and keep its trust.
        """
        threshold, trust = _UNORDERED.get(network, _PAPERS) if kind == "collection" else _PAPERS
        return replace(
            self,
            threshold=threshold if self.threshold is None else self.threshold,
            trust=(1.0 if self.draws else trust) if self.trust is None else self.trust,
        )


def admit(bank: Bank, new: Memory, config: BankConfig) -> Bank:
    """Offer a memory to a bank.

    Parameters
    ----------
    bank : tuple of Memory
        In order of arrival.
    new : Memory
        The newcomer. A pinned one is always taken, and replaces what the bank held of the same slice.
    config : BankConfig
        Policy and sizes.

    Returns
    -------
    tuple of Memory
        The new bank; pinned members are never evicted.
    """
    bank = tuple(m for m in bank if m.index != new.index or (m.pinned and not new.pinned))
    if new.pinned:
        return _trim(bank, new, config)
    if any(m.index == new.index for m in bank):
        return bank
    if config.policy == "fifo":
        return _trim(bank, new, config)
    if config.policy == "released":
        return _admit_released(bank, new, config)
    if new.confidence <= (_PAPERS[0] if config.threshold is None else config.threshold):
        return bank
    return _trim(bank, new, config)


def _trim(bank: Bank, new: Memory, config: BankConfig) -> Bank:
    """Add the newcomer, then drop unpinned members until the bank fits: the oldest, or the most redundant."""
    members = (*bank, new)
    pinned = sum(m.pinned for m in members)
    room = config.capacity if config.policy == "fifo" else max(config.capacity - pinned, 0)
    loose = [i for i, m in enumerate(members) if not m.pinned]
    if len(loose) <= room:
        return members
    if config.policy == "self-sorting":
        scores = dissimilarity(members)
        # Among equals the newer one stays: it is nearer to what comes.
        loose.sort(key=lambda i: (scores[i], i))
    kept = set(loose[len(loose) - room :]) if room else set()
    return tuple(m for i, m in enumerate(members) if m.pinned or i in kept)


def dissimilarity(members: Bank) -> np.ndarray:
    """Total dissimilarity of each member, ``D_i = Σ_{j≠i} (1 − cos(E_i, E_j))`` (MedSAM-2, arXiv 2408.00874).

    Returns
    -------
    ndarray
        ``(n,)`` float64.
    """
    similarity = _cosines(members)
    return np.asarray((1 - similarity).sum(1) - (1 - np.diagonal(similarity)))


def _cosines(members: Bank) -> np.ndarray:
    import torch

    features = torch.stack([m.feature for m in members]).float()
    return np.asarray((features @ features.T).cpu().numpy(), dtype=np.float64)


def _admit_released(bank: Bank, new: Memory, config: BankConfig) -> Bank:
    """The rule of the authors' published 2-D training loop.

    It looks for the member least like the newcomer, then for that member's nearest other member, and replaces that one
    if the newcomer is less like the first than it is and is not clearly worse.
    """
    if len(bank) < config.capacity:
        return (*bank, new)
    if len(bank) < 2:
        return bank
    similarity = _cosines((*bank, new))
    newcomer = len(bank)
    least = int(similarity[newcomer, :newcomer].argmin())
    others = similarity[least, :newcomer].copy()
    others[least] = -np.inf
    rival = int(others.argmax())
    if bank[rival].pinned:
        return bank
    farther = similarity[newcomer, least] < similarity[rival, least]
    if farther and new.confidence > bank[rival].confidence - config.tolerance:
        return (*bank[:rival], *bank[rival + 1 :], new)
    return bank


def select(
    bank: Bank, descriptor: Tensor, config: BankConfig, index: int = 0, run: range | None = None
) -> tuple[Attended, ...]:
    """Choose and weigh the members that a slice reads.

    Parameters
    ----------
    bank : tuple of Memory
        Not empty.
    descriptor : Tensor
        ``(D',)`` float32, unit length: the slice's `Embedding.descriptor`.
    config : BankConfig
        Policy and sizes.
    index : int
        The slice's number; with the seed it fixes the random draws.
    run : range, optional
        The slices that are neighbours of each other, ``index`` and the members' among them, in either order.

    Returns
    -------
    tuple of Attended
        ``fifo``: all, numbered by their distance from the slice where there is a ``run``, else by recency.
        ``self-sorting``: all, weighted by ``p_i ∝ max(sim(F, E_i), 0)``, times the
        trust where no person made them; or, with ``draws``, as many as the bank holds, drawn with replacement.
        ``released``: drawn by the softmax of the similarities.
    """
    if config.policy == "fifo":
        loose = [m for m in bank if not m.pinned]
        recency = {id(m): len(loose) - i for i, m in enumerate(loose)}
        if run is not None:
            # SAM 2 skips slices that it has no memory of, such as prompted ones, and does not close ranks.
            recency = {id(m): abs((index - m.index) // run.step) for m in loose}
        return tuple(Attended(m, 1.0, recency.get(id(m), 0)) for m in bank)
    weights = odds(bank, descriptor, config)
    if config.policy == "released" or config.draws:
        rng = np.random.default_rng([config.seed, index])
        counts = np.bincount(rng.choice(len(bank), len(bank), p=weights), minlength=len(bank))
        return tuple(Attended(m, float(c)) for m, c in zip(bank, counts, strict=True) for _ in range(int(c > 0)))
    weights = weights / weights.max()
    return tuple(Attended(m, float(w)) for m, w in zip(bank, weights, strict=True))


def odds(bank: Bank, descriptor: Tensor, config: BankConfig) -> np.ndarray:
    """How likely a slice reads each member, where members are drawn.

    Parameters
    ----------
    bank, descriptor, config
        As for `select`; not for ``fifo``.

    Returns
    -------
    ndarray
        ``(n,)`` float64, the sum is 1.
    """
    import torch

    # Views differ in nothing but place, so descriptors of one backend always have one length.
    similarity = np.array([float(torch.dot(m.descriptor, descriptor)) for m in bank])
    if config.policy == "released":
        weights = np.exp(similarity - similarity.max())
    else:
        trust = _PAPERS[1] if config.trust is None else config.trust
        weights = np.maximum(similarity, 1e-3) * np.where([m.pinned for m in bank], 1.0, trust)
    return np.asarray(weights / weights.sum())

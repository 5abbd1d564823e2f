"""Cards of the memory bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_medsam2.widgets.rows.strip import StripAxis

__all__ = ["BankCard", "ReadLike", "bank_cards"]

_REASONS = {
    "prompt": "prompted",
    "prompted": "prompted",
    "corrected": "corrected",
    "pinned": "pinned",
    "admitted": "admitted",
}


class ReadLike(Protocol):
    """A memory that a slice read; see `napari_medsam2.results.Read`."""

    @property
    def index(self) -> int:
        """The slice that the memory is of."""

    @property
    def weight(self) -> float:
        """In (0, 1], relative to the others."""

    @property
    def reason(self) -> str:
        """``"prompt"``, ``"corrected"``, ``"pinned"`` or ``"admitted"``."""

    @property
    def confidence(self) -> float:
        """Its predicted IoU, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class BankCard:
    """One memory of an object.

    Parameters
    ----------
    index : int
        The slice that it is of.
    title : str
        What that slice is called.
    reason : str
        ``"prompted"``, ``"corrected"``, ``"pinned"``, ``"admitted"`` or ``"dropped"``.
    confidence : float or None
        In [0, 1]; None where it is not known.
    weight : float or None
        In [0, 1], 1 for the one that weighed most; None where the slice did not read it.
    pinned, dropped : bool
        What a person said of it.
    """

    index: int
    title: str
    reason: str
    confidence: float | None
    weight: float | None
    pinned: bool = False
    dropped: bool = False


def bank_cards(
    reads: Iterable[ReadLike],
    pins: Mapping[int, str],
    axis: StripAxis,
    confidences: Mapping[int, float] | None = None,
) -> tuple[BankCard, ...]:
    """List what a slice read of an object's memory bank, then what a person pinned or dropped since.

    Parameters
    ----------
    reads : iterable of Read
        The result's. A memory that was drawn several times is one card.
    pins : mapping
        ``index → "pinned"`` or ``"dropped"``: the object's part of the session's.
    axis : StripAxis
        The slices' names.
    confidences : mapping, optional
        Those of slices that were not read, if they are known.

    Returns
    -------
    tuple of BankCard
        Those that were read by falling weight; then the pinned and then the dropped ones, each by slice.
    """
    weights: dict[int, float] = {}
    first: dict[int, ReadLike] = {}
    for read in reads:
        weights[read.index] = weights.get(read.index, 0.0) + read.weight
        first.setdefault(read.index, read)
    heaviest = max(weights.values(), default=1.0) or 1.0
    known = confidences or {}
    cards = []
    for index in sorted(weights, key=lambda one: (-weights[one], one)):
        said = pins.get(index)
        reason = _REASONS.get(first[index].reason, first[index].reason)
        confidence = float(first[index].confidence)
        cards.append(
            BankCard(
                index, axis.title(index), reason, confidence, weights[index] / heaviest, said == "pinned",
                said == "dropped",
            )
        )  # fmt: skip
    for kind in ("pinned", "dropped"):
        for index in sorted(i for i, said in pins.items() if said == kind and i not in weights):
            title, confidence_of = axis.title(index), known.get(index)
            cards.append(BankCard(index, title, kind, confidence_of, None, kind == "pinned", kind == "dropped"))
    return tuple(cards)

"""What an evaluation says: a table, printed line by line, and a JSON file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.evaluation.protocols import Row

__all__ = ["LEGEND", "format_row", "header", "to_json"]

_BASELINES = ("box filled", "Otsu", "copied", "before")
_CASE = 24

LEGEND = (
    "Mean Dice over objects of 30 pixels and more. Baselines without a model: box filled; Otsu inside the box\n"
    "(for collection: of the whole image); copied: the prompted slice's true mask on all slices; before: the\n"
    "spoiled mask. conf~Dice: Spearman's rank correlation of confidence and true Dice. s/item: seconds a prompt,\n"
    "a propagated object, or an image. clicks: median number until the Dice is 0.90 (21: never within 20);\n"
    "better: share of masks that one click made better. carried: conf~Dice over the masks that are not empty;\n"
    "worst tenth: the share of slices under 0.7 that the tenth of least confidence holds, of: that it could hold."
)
"""What the columns mean."""


def header() -> str:
    """Return the table's first line."""
    names = "".join(f"{name:>12}" for name in _BASELINES)
    return f"{'case':<{_CASE}}{'protocol':<12}{'n':>5}{'model':>8}{names}{'conf~Dice':>11}{'s/item':>9}"


def format_row(row: Row) -> str:
    """Return a row as a line of the table."""
    found = row.baselines
    baselines = "".join(f"{found[name]:>12.3f}" if name in found else f"{'–':>12}" for name in _BASELINES)
    correlation = row.correlation
    shown = "–" if correlation is None else f"{correlation:.2f}"
    more = "".join(f"  {name} {value:.2f}" for name, value in (row.measures | row.review).items())
    return (
        f"{row.case:<{_CASE}}{row.protocol:<12}{len(row.items):>5}{row.dice:>8.3f}{baselines}{shown:>11}"
        f"{row.seconds:>9.2f}{more}"
    )


def to_json(rows: Sequence[Row], **about: Any) -> dict[str, Any]:
    """Return rows with all their items, ready for `json.dumps`; ``about`` says what was measured, as ``model="…"``."""
    return {
        "format": "napari-medsam2-evaluation",
        "version": 1,
        **about,
        "rows": [
            {
                "case": row.case,
                "protocol": row.protocol,
                "n": len(row.items),
                "dice": row.dice,
                "baselines": row.baselines,
                "confidence_correlation": row.correlation,
                "seconds_per_item": row.seconds,
                "measures": row.measures,
                "review": row.review,
                "items": [
                    {
                        "object": item.value,
                        "index": item.index,
                        "dice": item.dice,
                        "baselines": item.baselines,
                        "seconds": item.seconds,
                        "pairs": [list(pair) for pair in item.pairs],
                        "measures": item.measures,
                    }
                    for item in row.items
                ],
            }
            for row in rows
        ],
    }

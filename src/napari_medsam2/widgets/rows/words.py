"""How paths and masks are spoken of."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_medsam2.results import ObjectResult, PackedResult

__all__ = ["accepted", "literal", "short_path", "trust"]


def accepted(packed: PackedResult | None) -> str:
    """Begin a sentence that ends with the object whose mask, or absence, was accepted."""
    return "accepted that there is no" if packed is not None and not packed.size[0] else "accepted"


def trust(result: ObjectResult, drift: float | None = None) -> str:
    """Say how far a mask can be trusted, in a few words.

    Parameters
    ----------
    result : ObjectResult
        The mask. One that was painted or imported is 1.00 sure by definition, which says nothing to a person.
    drift : float, optional
        How unlike its neighbours it is, in [0, 1], as `napari_medsam2.review.ReviewItem` has it.
    """
    if result.source != "mask":
        return f"confidence {result.confidence:.2f}"
    return "as it was drawn" if drift is None else f"{100 * (1 - drift):.0f} % like its neighbours"


def literal(text: str) -> str:
    """Return a text as a tooltip that Qt does not take for HTML: a name may be ``CD4<b>``."""
    return "<qt>" + html.escape(text).replace("\n", "<br>") + "</qt>" if "<" in text else text


def short_path(path: Path) -> str:
    """Write a path as a person knows it: what lies at home begins with ``~``."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)

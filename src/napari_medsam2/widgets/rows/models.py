"""Rows of the table of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ModelRow", "ModelState"]

ModelState = Literal["absent", "waiting", "downloading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model.

    Parameters
    ----------
    key : str
        What `load_backend` takes.
    name : str
        What a person calls it.
    size : int or None
        Bytes of the download or file.
    licence : str
        Its name, such as ``"Apache-2.0"``.
    good_for : str
        One sentence.
    state : str
        ``"absent"``, ``"waiting"`` (to be downloaded), ``"downloading"``, ``"ready"`` or ``"failed"``.
    progress : float or None
        In [0, 1] while it is downloaded; None where that is not known.
    note : str
        One sentence: what failed and what to do, or how much is left.
    in_use : bool
        Whether the session works with it.
    speed : str
        Such as ``"about 2 s a slice here"``; may be empty.
    """

    key: str
    name: str
    size: int | None
    licence: str
    good_for: str
    state: ModelState = "absent"
    progress: float | None = None
    note: str = ""
    in_use: bool = False
    speed: str = ""

"""The whole job in one call: an array and a few prompts in, labels out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medsam2.errors import InputError
from napari_medsam2.prompts import Prompt
from napari_medsam2.session import AnnotationSession
from napari_medsam2.stack import ImageStack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medsam2.memory import BankConfig, Policy
    from napari_medsam2.session_base import Kind

__all__ = ["segment_stack"]


def segment_stack(
    array: Any,
    prompts: Sequence[Prompt | Mapping[str, Any]],
    axes: str | None = "ZYX",
    kind: Kind | None = None,
    memory: Policy | BankConfig = "self-sorting",
    model: str = "compact",
    device: str = "auto",
) -> np.ndarray:
    """Segment a whole stack from a few prompts.

    Parameters
    ----------
    array : array_like or ImageStack
        The images; anything that `ImageStack` takes.
    prompts : sequence
        `Prompt` values, or entries as in a prompts file (``{"object": 1, "index": 15, "box": [y0, x0, y1, x1]}``;
        ``"mask"`` may be an array).
    axes : str, optional
        The array's axes, for example ``"ZYX"``, ``"TZYX"``, ``"NYXC"``.
    kind : str, optional
        ``"stack"`` or ``"collection"``; the images' own kind by default.
    memory : str or BankConfig
        The memory bank's policy.
    model : str
        As in `load_backend`.
    device : str
        As in `load_backend`.

    Returns
    -------
    ndarray
        The labels, of the array's shape without its channel axis.

    Raises
    ------
    InputError
        If the array or a prompt cannot be used, or the images differ in size, so that no one array holds their labels:
        `AnnotationSession` gives them image by image.
    """
    from napari_medsam2.backend import load_backend
    from napari_medsam2.prompts import parse_entry

    if not len(prompts):
        raise InputError("no prompts given; give at least one point, box or mask")
    stack = array if isinstance(array, ImageStack) else ImageStack(array, axes)
    if not stack.uniform:
        raise InputError(
            f"the pictures of {stack.name} differ in size, so that no one array holds their labels: use "
            "AnnotationSession, and slice_labels(index) of each"
        )
    parsed = [
        p if isinstance(p, Prompt) else parse_entry(p, f" in prompt {i + 1}", stack) for i, p in enumerate(prompts)
    ]
    session = AnnotationSession(stack, backend=load_backend(model, device), memory=memory, kind=kind)
    for prompt in parsed:
        session.add_prompt(prompt)
    for _ in session.propagate():
        pass
    return np.asarray(session.labels())

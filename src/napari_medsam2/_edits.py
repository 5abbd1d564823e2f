"""What becomes of prompts, verdicts and wishes for the memory bank where a mask is edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2.prompts import SlicePrompt
from napari_medsam2.results import ObjectResult, PackedResult
from napari_medsam2.state import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.state import State, Value, Wish

__all__ = ["edited"]


def edited(state: State, packed: PackedResult, sources: Sequence[int] | None = None) -> dict[Key, Value | None]:
    """Return what changes with a new mask.

    Parameters
    ----------
    state : State
        Before the edit.
    packed : PackedResult
        The mask.
    sources : sequence of int, optional
        The objects whose masks on this slice it was made of; its own object by default.
    """
    label, index = packed.bare.label, packed.bare.index
    made_of = (label,) if sources is None else sources
    prompt, mark = Key("prompt", label, index), Key("mark", label, index)
    out: dict[Key, Value | None] = {Key("result", label, index): packed}
    if not _accepted(state, made_of, index):
        out[mark] = None
    elif label not in made_of or state.marks.get((label, index)) != "accepted":
        out[mark] = "accepted"
    if sources is not None:
        out[Key("memory", label, index)] = _wish(state, sources, packed)
    said = [one for source in made_of if (one := state.prompts.get((source, index))) is not None]
    if not said:
        if label not in made_of:
            # What was said of the mask that lay here does not hold for this one.
            out |= dict.fromkeys([prompt, Key("prediction", label, index), Key("pending", label, index)])
        return out
    result = packed.unpack()
    if not result.area:
        return out | {prompt: None, Key("prediction", label, index): None, Key("pending", label, index): True}
    return out | {
        prompt: SlicePrompt(mask=result.mask, corrects=any(one.corrects for one in said)),
        Key("prediction", label, index): None,
        Key("result", label, index): PackedResult.of(ObjectResult.from_mask(label, index, result.mask)),
        Key("pending", label, index): True,
    }


def _wish(state: State, labels: Sequence[int], packed: PackedResult) -> Wish | None:
    """What a person wants of the memory of a mask that was made of these objects' ones.

    That one of them is kept is a wish for what it shows, which the new one shows, too; that one is left out says
    nothing of what else there is now.
    """
    index = packed.bare.index
    wishes = {state.memories.get((label, index)) for label in labels}
    if "pinned" in wishes:
        return "pinned" if packed.unpack().area else None
    return "dropped" if wishes == {"dropped"} else None


def _accepted(state: State, labels: Sequence[int], index: int) -> bool:
    """Whether a person accepted all of the masks, empty ones aside."""
    marks = {label: state.marks.get((label, index)) for label in labels}
    if all(mark == "accepted" for mark in marks.values()):
        return True
    # Asked last, since masks are unpacked for it.
    there = [one for label in labels if "accepted" in marks.values() and (one := state.results.get(label, index))]
    filled = [one.label for one in there if one.area]
    return bool(filled) and all(marks[label] == "accepted" for label in filled)

"""What to do next: the sentence at the top of the dock."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Situation", "next_step"]


@dataclass(frozen=True, slots=True)
class Situation:
    """How the work stands.

    Parameters
    ----------
    image : str
        The image that is, or would be, annotated; empty: there is none.
    begun : bool
        Whether it is being annotated.
    ready : bool
        Whether the model is loaded.
    collection : bool
        Images in no order, in place of a stack.
    slices : int
        How many slices or images.
    tool : str or None
        The tool in hand.
    negative : bool
        Whether clicks say what does not belong.
    hidden : str or None
        Why nothing can be prompted in this display, one sentence.
    name : str
        The selected object's; empty: there is none.
    prompted : bool
        Whether a person said something about it on the slice that is shown.
    masked : bool
        Whether it has a mask there.
    verdict : str or None
        What a person said of it: ``"accepted"``, ``"rejected"`` or ``"skipped"``.
    seeded : bool
        Whether there is a prompt anywhere.
    carried : bool
        Whether something was propagated, or taken over.
    pending : bool
        Whether corrections wait to be carried on.
    unfinished : bool
        Whether what is pending is a propagation that was stopped, and no correction.
    orphaned : bool
        Whether its prompts were all taken back, and masks that were carried from them are there.
    left, total : int
        Masks to review, those not looked at yet, and all.
    labels : str
        A labels layer that could be taken over; empty: none.
    missed : bool
        Whether most images of a collection that it was carried to were left without a mask.
    """

    image: str = ""
    begun: bool = False
    ready: bool = True
    collection: bool = False
    slices: int = 1
    tool: str | None = None
    negative: bool = False
    hidden: str | None = None
    running: bool = False
    name: str = ""
    prompted: bool = False
    masked: bool = False
    verdict: str | None = None
    seeded: bool = False
    carried: bool = False
    pending: bool = False
    unfinished: bool = False
    orphaned: bool = False
    left: int = 0
    total: int = 0
    labels: str = ""
    missed: bool = False


_LONG = 18
"""Letters of a name that two lines have room for."""

_TOOLS = {
    "scribble": "Draw a line over {name}; with Ctrl, over what is not.",
    "lasso": "Draw around {name} with the button held down; Ctrl cuts out.",
    "paint": "Paint what is missing of {name}. E erases, P: back to clicks.",
    "erase": "Erase what is too much of {name}. B paints, P: back to clicks.",
}


def next_step(now: Situation) -> str:
    """Say what to do next, in at most 100 characters."""
    if not now.begun:
        if not now.image:
            return "Open an image: drop it here, or File ▸ Open Sample ▸ Medical SAM 2."
        return "Press Annotate to begin with this image, if its axes and channels are right."
    if now.running:
        what = "image" if now.collection else "slice"
        return f"Masks are carried on. Look around, or prompt another {what}, meanwhile; Esc stops."
    if now.hidden:
        return now.hidden
    if now.tool is None:
        # Not the key: napari's own layers have another use for it, such as painting on them.
        return "Press the button Prompt to go on clicking: another layer, or another tool, has the mouse."
    return _prompting(now)


def _prompting(now: Situation) -> str:
    name = now.name if 0 < len(now.name) <= _LONG else "the object" if now.name else "an object"
    there = "to all images" if now.collection else "through the stack"
    if now.orphaned:
        return f"No prompt of {name} is left: prompt it anew, or Shift+G takes its masks away."
    if now.pending and now.carried:
        if now.tool in ("paint", "erase"):
            return _TOOLS[now.tool].format(name=name) + " Shift+G carries it on."
        if now.unfinished:
            return "Stopped before the end. Look around and correct, or press Shift+G to carry masks on."
        return "Corrected. Correct more, or press Shift+G to carry corrections on."
    if now.missed and now.prompted:
        return "Most images came out empty. Mark more of what you look for on this one, then press Shift+G."
    if now.negative and now.tool in ("prompt", "scribble"):
        return f"Click what does not belong to {name}. X goes back to what does."
    if now.tool == "lasso" and now.prompted and not now.carried and now.slices > 1:
        return f"Draw around more of {name}; Ctrl cuts out. G carries it {there}."
    if now.tool in ("paint", "erase") and now.prompted and now.carried and now.left:
        return f"W: the most doubtful mask. Or paint more of {name} (E erases), P: back to clicks."
    if now.tool in _TOOLS and not (now.tool in ("lasso", "scribble") and now.left):
        done = " G carries it on." if now.prompted and now.slices > 1 and not now.carried else ""
        return _TOOLS[now.tool].format(name=name) + done
    if not now.seeded and not now.carried:
        if now.labels:
            labels = now.labels if len(now.labels) <= 2 * _LONG else "masks made elsewhere"
            return f"Click an object or drag a box around it; or Import… takes over {labels}."
        return "Click an object in the image, or drag a box around it."
    if now.prompted and not now.carried:
        if now.slices == 1:
            return "Wrong? Ctrl-click what does not belong. Right? N begins the next object."
        return f"Wrong? Ctrl-click what does not belong. Right? G carries it {there}, N: next object."
    if not now.masked and not now.prompted and now.name and not now.total:
        return f"Click {name}, or drag a box around it."
    if now.left:
        if now.verdict == "rejected" and not now.masked:
            return f"Click to say where {name} is here, or A: it is not here. W: the most doubtful mask."
        if now.prompted or now.verdict == "accepted":
            return "Press W to go to the most doubtful mask."
        if now.masked:
            return "Right? A accepts and goes on. Wrong? Click, Ctrl-click or paint (B), or R rejects. W: next."
        return f"Press W for the most doubtful mask, or click to say where {name} is here."
    if now.total:
        return "All masks were looked at. Export… writes labels for other programs."
    return f"Click {name}, or drag a box around it. G carries it {there}."

"""The line that says what to do next."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from napari_medsam2.widgets.rows.next_step import Situation, next_step

BEGUN = Situation("cells", True, slices=12, tool="prompt", name="object 1")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Situation(), "Open Sample"),
        (Situation("cells"), "Press Annotate"),
        (replace(BEGUN, name=""), "Click an object"),
        (replace(BEGUN, name="", labels="old masks"), "Import… takes over old masks"),
        (replace(BEGUN, tool=None), "Press the button Prompt"),
        (replace(BEGUN, hidden="It is shown in 3-D."), "It is shown in 3-D."),
        (replace(BEGUN, seeded=True, prompted=True, masked=True), "G carries it through the stack"),
        (replace(BEGUN, seeded=True, prompted=True, masked=True, collection=True), "G carries it to all images"),
        (replace(BEGUN, seeded=True, prompted=True, masked=True, slices=1), "N begins the next object"),
        (replace(BEGUN, running=True), "Esc stops"),
        (replace(BEGUN, seeded=True, carried=True, masked=True, left=8, total=9), "A accepts and goes on"),
        (replace(BEGUN, seeded=True, carried=True, masked=True, prompted=True, left=8, total=9), "Press W"),
        (replace(BEGUN, seeded=True, carried=True, prompted=True, pending=True, left=8, total=9), "Shift+G"),
        (replace(BEGUN, seeded=True, carried=True, pending=True, left=8, total=9), "Corrected."),
        (
            replace(BEGUN, seeded=True, carried=True, pending=True, unfinished=True, left=8, total=9),
            "Stopped before the end",
        ),
        (replace(BEGUN, tool="paint", carried=True, pending=True), "Shift+G"),
        (replace(BEGUN, carried=True, orphaned=True, left=8, total=9), "Shift+G takes its masks away"),
        (replace(BEGUN, tool="paint", carried=True, prompted=True, left=8), "W: the most doubtful mask"),
        (replace(BEGUN, running=True, collection=True), "another image"),
        (replace(BEGUN, negative=True), "X goes back"),
        (
            replace(BEGUN, collection=True, carried=True, prompted=True, left=8, total=9, missed=True),
            "Mark more of what",
        ),
        (replace(BEGUN, collection=True, carried=True, left=8, total=9, missed=True, masked=True), "A accepts"),
        (replace(BEGUN, seeded=True, carried=True, masked=True, total=9), "Export…"),
        (replace(BEGUN, seeded=True, carried=True, verdict="rejected", left=3, total=9), "A: it is not here"),
    ],
)
def test_it_says_what_comes_next(now: Situation, said: str) -> None:
    assert said in next_step(now)


def test_it_is_never_empty_and_never_longer_than_two_lines() -> None:
    flags = (
        "negative",
        "prompted",
        "masked",
        "seeded",
        "carried",
        "pending",
        "unfinished",
        "orphaned",
        "collection",
        "missed",
    )
    for tool in ("prompt", "scribble", "lasso", "paint", "erase", None):
        for values in itertools.product((False, True), repeat=len(flags)):
            for left, total in ((0, 0), (0, 5), (4, 5)):
                for name in ("", "an object of 18 ls", "a very long name that a person gave it"):
                    now = replace(BEGUN, tool=tool, name=name, left=left, total=total)
                    now = replace(now, **dict(zip(flags, values, strict=True)))  # type: ignore[arg-type]
                    for verdict in (None, "accepted", "rejected", "skipped"):
                        text = next_step(replace(now, verdict=verdict))
                        assert 10 < len(text) <= 104, text
                        assert text[-1] in ".:"

"""The model card of trained weights: what it says of a training's phases, and of weights that are not the log's."""

import hashlib
import json
from typing import Any

import pytest
import torch
from safetensors.torch import save

from napari_medsam2.errors import InputError
from napari_medsam2.training.publish import card

_ROWS = {"rows": [{"case": "nuclei-3d", "protocol": "box", "n": 3, "dice": 0.912345, "seconds_per_item": 0.1}]}


def _weights(step: int) -> bytes:
    return save({"a": torch.zeros(2)}, metadata={"recipe": json.dumps({"seed": 7, "steps": step}), "step": str(step)})


def _evaluation(data: bytes) -> dict[str, Any]:
    return {**_ROWS, "sha256": hashlib.sha256(data).hexdigest()}


def _log(*rows: tuple[int, int, int]) -> str:
    return "".join(json.dumps({"phase": p, "step": s, "seconds": t}) + "\n" for p, s, t in rows)


def test_the_card_says_how_long_every_phase_was_and_what_the_weights_reach() -> None:
    data = _weights(30)
    made = card(data, _log((1, 20, 9), (1, 40, 21), (2, 20, 11), (2, 30, 17)), _evaluation(data), "drawn anew")
    assert made["phases"] == [{"steps": 40, "seconds": 21}, {"steps": 30, "seconds": 17}]
    assert made["last recipe"] == {"seed": 7, "steps": 30}
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
    assert made["bytes"] == len(data)
    assert made["figures"] == [{"case": "nuclei-3d", "protocol": "box", "n": 3, "dice": 0.9123}]
    assert made["remark"] == "drawn anew"


@pytest.mark.parametrize("log", [_log((1, 40, 21), (2, 20, 11)), ""])
def test_weights_of_another_step_than_the_log_ends_at_get_no_card(log: str) -> None:
    with pytest.raises(InputError, match="the log does not end where the weights were written"):
        card(_weights(30), log, _evaluation(_weights(30)), "")


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [(_evaluation(_weights(20)), "is of other weights"), (_ROWS, "does not say which weights it is of")],
)
def test_figures_of_other_weights_get_no_card(evaluation: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        card(_weights(30), _log((1, 30, 21)), evaluation, "")

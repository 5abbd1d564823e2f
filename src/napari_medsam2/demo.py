"""``python -m napari_medsam2.demo``: segment the samples from one prompt an object, and say how good it is."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from napari_medsam2._segment import Job, Outcome
    from napari_medsam2.evaluation import Case, Target
    from napari_medsam2.prompts import Prompt
    from napari_medsam2.samples import Sample

__all__ = ["main", "make_prompts", "run_sample"]

_ORGANS = {1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 5: "liver", 6: "stomach", 52: "aorta"}
"""The organs of the CT that get a box each, by their value in the reference labels (TotalSegmentator's numbers)."""


def make_prompts(sample: Sample, case: Case) -> tuple[list[Prompt], dict[int, Target]]:
    """Give the prompts that a person would: a box around each object of a stack, or one painted image of a collection.

    Parameters
    ----------
    sample : Sample
        What is segmented.
    case : Case
        The same with its reference labels.

    Returns
    -------
    list of Prompt
        For a stack a tight box on each object's largest slice, the object's label being its value in the reference; for
        a collection the first image's foreground as object 1.
    dict
        The stack's objects, by label.
    """
    from napari_medsam2.geometry import tight_box
    from napari_medsam2.prompts import Prompt, SlicePrompt

    if sample.kind == "collection":
        return [Prompt(1, 0, SlicePrompt(mask=case.labels(0) != 0))], {}
    organs = sample.name.startswith("ct-")
    objects = {t.value: t for t in case.targets() if not organs or t.value in _ORGANS}
    prompts = [
        Prompt(value, t.index, SlicePrompt(box=tight_box(case.labels(t.index) == value)))
        for value, t in objects.items()
    ]
    return prompts, objects


def run_sample(sample: Sample, folder: Path, weights: Path | None = None) -> tuple[Outcome, list[str]]:
    """Segment a sample as ``napari-medsam2 segment`` does.

    Parameters
    ----------
    sample : Sample
        Which.
    folder : Path
        Where prompts, labels, confidences and the picture are written; made if it does not exist.
    weights : Path, optional
        In place of the model's own.

    Returns
    -------
    Outcome
        What was done.
    list of str
        Lines to print: files, Dice against the reference, times, and the command that does it again.
    """
    from napari_medsam2._progress import shown
    from napari_medsam2._segment import Job, run_job
    from napari_medsam2.cli import describe
    from napari_medsam2.evaluation import load_case
    from napari_medsam2.evaluation.judging import judge_foreground, judge_objects
    from napari_medsam2.prompts import save_prompts

    folder.mkdir(parents=True, exist_ok=True)
    case = load_case(sample.folder, sample.window)
    prompts, objects = make_prompts(sample, case)
    save_prompts(folder / "prompts.json", prompts)
    job = Job(
        images=[str(sample.image)],
        prompts=folder / "prompts.json",
        output=folder / "labels.tif",
        axes=sample.axes,
        window=sample.window,
        weights=weights,
        confidence=folder / "confidence.csv",
        overlay=folder / "picture.png",
        name=sample.title,
    )
    with shown() as tell:
        outcome = run_job(job, tell)
    lines = describe(outcome)
    if sample.kind == "collection":
        others = range(1, len(case.stack))
        score = judge_foreground(case, outcome.session, 1, others).dice
        lines.append(f"{'Dice':<11} {score:.2f} with the reference, mean of the {len(others)} images without a prompt")
    else:
        judged = {value: one.dice for value, one in judge_objects(case, outcome.session, objects).items()}
        mean = float(np.mean(list(judged.values())))
        lines.append(f"{'Dice':<11} {mean:.2f} with the reference in 3-D, mean of {len(judged)} objects")
        named = [f"{_ORGANS[value]} {score:.2f}" for value, score in judged.items() if len(judged) <= len(_ORGANS)]
        lines += [f"{'':<11} {', '.join(named)}"] if named else []
    lines.append(f"{'again':<11} {_command(job)}")
    return outcome, lines


def _command(job: Job) -> str:
    words = ["napari-medsam2", "segment", *job.images, "--prompts", job.prompts, "--output", job.output]
    words += ["--axes", job.axes] if job.axes else []
    words += ["--window", ",".join(f"{v:g}" for v in job.window)] if job.window else []
    return shlex.join(map(str, words))


def main(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    sample: Annotated[list[str] | None, typer.Option(help="Only this sample; may be given again.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A safetensors file in place of the model's weights.")] = None,
) -> None:
    """Segment the sample images from one box or one painted mask an object."""
    from napari_medsam2.samples import SAMPLES
    from napari_medsam2.samples import sample as find

    began = time.perf_counter()
    for made in [find(name) for name in sample] if sample else list(SAMPLES.values()):
        _, lines = run_sample(made, output / made.name, weights)
        sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()
    pictures = output / "*" / "picture.png"
    sys.stdout.write(f"done in {time.perf_counter() - began:.0f} s; look at {pictures}\n")


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)

"""The command line: ``napari-medsam2 segment``, ``export``, ``replay``, ``info``, ``evaluate``, ``models``."""

from __future__ import annotations

import json
import platform
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_medsam2 import __version__
from napari_medsam2._models_cli import models
from napari_medsam2.errors import InputError
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2._segment import Outcome

__all__ = ["app", "main"]

app = typer.Typer(
    name="napari-medsam2",
    help="Medical SAM 2: one prompt in, a labelled stack out.",
    add_completion=False,
    rich_markup_mode=None,
)


class Kind(StrEnum):
    """Whether images are neighbours."""

    STACK = "stack"
    COLLECTION = "collection"


class Memory(StrEnum):
    """The memory bank's policies."""

    SELF_SORTING = "self-sorting"
    RELEASED = "released"
    FIFO = "fifo"


class Chosen(StrEnum):
    """The evaluation's protocols."""

    BOX = "box"
    CLICK = "click"
    STACK = "stack"
    COLLECTION = "collection"
    CLICKS = "clicks"
    MEND = "mend"
    ALL = "all"


class Exportable(StrEnum):
    """The formats of `napari_medsam2.export.FORMATS`."""

    TIFF = "tiff"
    OME_TIFF = "ome-tiff"
    OME_ZARR = "ome-zarr"
    NIFTI = "nifti"
    PNG = "png"
    COCO = "coco"
    COCO_POLYGONS = "coco-polygons"
    ROI = "roi"
    CSV = "csv"
    CSV_SLICES = "csv-slices"
    CONFIDENCE = "confidence"


_Model = Annotated[
    str, typer.Option(help="A name that 'napari-medsam2 models' lists, a file of SAM 2 weights or a folder of a model.")
]
_Weights = Annotated[Path | None, typer.Option(help="A file of weights in place of the model's own.")]
_Memory = Annotated[Memory, typer.Option(help="Which memories of an object are kept; see docs/memory-bank.md.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
_Side = Annotated[int | None, typer.Option(help="The side of SAM 2's input in pixels, if not its own: less is faster.")]
_Precision = Annotated[str, typer.Option(help="float32; for SAM 2 also bfloat16 or, on a GPU, float16.")]
_Window = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="Values shown as black and white; -160,240 for a CT's soft tissue."),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"napari-medsam2 {__version__}")
        raise typer.Exit


app.add_typer(models)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def segment(
    image: Annotated[
        list[str],
        typer.Argument(help="TIFF, OME-TIFF, OME-Zarr, NIfTI, .npy, PNG, JPEG; a folder of pictures, or a pattern."),
    ],
    prompts: Annotated[Path, typer.Option(help="The prompts file (JSON); see the README.")],
    output: Annotated[Path, typer.Option(help="The labels: a TIFF or NIfTI file; for a folder's pictures a folder.")],
    kind: Annotated[
        Kind | None, typer.Option(help="Neighbouring slices or unordered pictures; found from the image if not given.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="The image's axes, such as ZYX, TYX, TZYX, NYXC.")] = None,
    window: _Window = None,
    channel: Annotated[str | None, typer.Option(metavar="N[,N]", help="The channel, or up to three, to use.")] = None,
    model: _Model = "compact",
    weights: _Weights = None,
    memory: _Memory = Memory.SELF_SORTING,
    device: _Device = "auto",
    side: _Side = None,
    precision: _Precision = "float32",
    confidence: Annotated[Path | None, typer.Option(help="Write every slice's and object's confidence (CSV).")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Write a picture of slices, outlines and prompts.")] = None,
) -> None:
    """Segment a stack or collection of images from prompts."""
    from napari_medsam2._progress import shown
    from napari_medsam2._segment import Job, run_job

    job = Job(
        images=image,
        prompts=prompts,
        output=output,
        kind=None if kind is None else kind.value,
        axes=axes,
        window=_numbers(window, "--window", float, 2),
        channel=_numbers(channel, "--channel", int),
        model=model,
        weights=weights,
        memory=memory.value,
        device=device,
        side=side,
        precision=precision,
        confidence=confidence,
        overlay=overlay,
    )
    with shown() as tell:
        outcome = run_job(job, tell)
    for line in describe(outcome):
        typer.echo(line)


def describe(outcome: Outcome) -> list[str]:
    """Say in a few lines what a job did: what was segmented, the files, the seconds of each step."""
    session = outcome.session
    said = counted(len(session.objects), "object"), counted(len(session.prompts), "prompt")
    lines = [f"{session.stack.name}: {' from '.join(said)} on {counted(len(session.stack), session.noun)}"]
    lines += [f"{what:<11} {path}" for what, path in outcome.written.items()]
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in outcome.seconds.items())
    if outcome.visited:
        steps += f" ({outcome.seconds['propagation'] / outcome.visited:.2f} s per {session.noun})"
    return [*lines, f"{'time':<11} {steps}"]


@app.command()
def evaluate(
    case_folder: Annotated[
        list[Path], typer.Argument(help="Folders with case.json, image.tif, labels.tif, or folders of such folders.")
    ],
    protocol: Annotated[Chosen, typer.Option(help="Which prompts are given and what is judged.")] = Chosen.ALL,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    window: _Window = None,
    model: _Model = "compact",
    weights: _Weights = None,
    memory: _Memory = Memory.SELF_SORTING,
    device: _Device = "auto",
    side: _Side = None,
    precision: _Precision = "float32",
) -> None:
    """Measure the model on annotated cases, beside baselines."""
    from napari_medsam2._files import check_place, write_text
    from napari_medsam2._progress import shown
    from napari_medsam2.backend import load_backend, published_sha256
    from napari_medsam2.evaluation import PROTOCOLS, Row, applies, find_cases, load_case, run_protocol
    from napari_medsam2.evaluation.cases import FILES
    from napari_medsam2.evaluation.report import LEGEND, format_row, header, to_json
    from napari_medsam2.export import check_no_session

    values = _numbers(window, "--window", float, 2)
    folders = find_cases(case_folder)
    cases = [load_case(folder, values) for folder in folders]
    protocols = list(PROTOCOLS) if protocol is Chosen.ALL else [protocol.value]
    planned = [(case, name) for case in cases for name in protocols if applies(case, name)]
    if not planned:
        raise InputError(f"the protocol {protocol.value} does not apply to any of these cases; choose another, or all")
    about: dict[str, Any] = {"model": model, "memory": memory.value, "device": device, "program": __version__}
    about["machine"] = f"{platform.system()} {platform.machine()}"
    if json_file is not None:
        check_no_session(json_file)
        if json_file.resolve() in {(folder / name).resolve() for folder in folders for name in FILES}:
            raise InputError(f"{json_file} is one of the inputs and would be overwritten; write to another place")
        check_place(json_file)
    backend = load_backend(model, device, weights, side=side, precision=precision)
    # So that figures are not taken for those of other weights.
    about["sha256"] = backend.weights or published_sha256(model)
    rows: list[Row] = []
    typer.echo(header())
    for case, name in planned:
        items = []
        with shown() as tell:
            for item in run_protocol(case, name, backend, memory.value, tell):
                items.append(item)
        rows.append(Row(case.name, name, tuple(items)))
        typer.echo(format_row(rows[-1]))
        sys.stdout.flush()
        if json_file is not None:
            write_text(json_file, json.dumps(to_json(rows, **about), indent=1))
    typer.echo(f"\n{LEGEND}")


_Session = Annotated[Path, typer.Argument(help="The folder that a session was saved to.")]


@app.command()
def info(session: _Session) -> None:
    """Say what a saved session holds."""
    from napari_medsam2.replay import describe_folder

    for line in describe_folder(session.expanduser()):
        typer.echo(line)


@app.command()
def replay(
    session: _Session,
    image: Annotated[Path | None, typer.Option(help="Where the image is now, if it was moved.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model than the session's own.")] = None,
    weights: _Weights = None,
    device: _Device = "auto",
) -> None:
    """Compute all masks of a saved session again, and say where they differ; leaves with 1 if they do."""
    from napari_medsam2._progress import shown
    from napari_medsam2.replay import replay_folder

    with shown() as tell:
        lines, same = replay_folder(session.expanduser(), image, model, weights, device, tell)
    for line in lines:
        typer.echo(line)
    if not same:
        raise typer.Exit(1)


@app.command("export")
def export_session(
    session: _Session,
    output: Annotated[Path, typer.Option(help="The file or, for ome-zarr and png, the folder to write.")],
    form: Annotated[
        Exportable | None,
        typer.Option("--format", help="Found from the output's name if not given; see docs/export.md."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Where the image is now, if it was moved.")] = None,
) -> None:
    """Write a saved session's labels or measurements in another program's format."""
    from napari_medsam2.export import export_labels, format_of, open_saved

    chosen = format_of(output) if form is None else form.value
    saved = open_saved(session.expanduser(), image)
    export_labels(output.expanduser(), saved, chosen, saved.sources)
    typer.echo(
        f"{counted(len(saved.objects), 'object')} on {counted(len(saved.stack), saved.noun)} as {chosen}: {output}"
    )


def _numbers(text: str | None, option: str, kind: type[Any], count: int | None = None) -> tuple[Any, ...] | None:
    """Read numbers that commas part."""
    if text is None:
        return None
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count):
        example = "-160,240" if count == 2 else "0 or 0,1,2"
        raise InputError(f"{option} must be numbers with commas between, such as {example}, not {text!r}")
    return values


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; leave with 0, 2 after one line on standard error, or 130 when interrupted.

    Parameters
    ----------
    args : sequence of str, optional
        Without the program's name; those of the process by default.
    """
    sys.exit(_run(args))


def _run(args: Sequence[str] | None) -> int:
    # typer's own copy of click is not public, but the errors it raises have this base.
    usage: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        code = app(args, prog_name="napari-medsam2", standalone_mode=False)
    except InputError as error:
        return _complain(str(error))
    except usage as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "napari-medsam2"
        return _complain(f"{error.format_message().rstrip('.')}; see {command} --help")
    except MemoryError:
        return _complain("there is not enough memory for this image; close other programs, or segment a part of it")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return _pipe_closed()
        where = f" {error.filename}" if error.filename else ""
        return _complain(f"cannot read or write{where}: {error.strerror or error}")
    except RuntimeError as error:
        # torch says so in this way, on any device.
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            return _complain("there is not enough memory for this image; try --device cpu, or segment a part of it")
        raise
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    sys.stderr.write(f"napari-medsam2: {' '.join(message.split())}\n")
    return 2


def _pipe_closed() -> int:
    """Leave quietly where the reader of the output has gone, as ``head`` does."""
    import os

    # The interpreter flushes the stream once more on its way out.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1

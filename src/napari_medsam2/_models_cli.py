"""The command line's ``models``: which there are, getting them, where they are kept."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["models"]

models = typer.Typer(name="models", help="List the models, or get one.", rich_markup_mode=None, no_args_is_help=False)


@models.callback(invoke_without_command=True)
def table(context: typer.Context) -> None:
    """List the models: name, size, licence, whether they are here, and what they are good for."""
    if context.invoked_subcommand is not None:
        return
    from napari_medsam2.backend import MODELS
    from napari_medsam2.backend.download import is_downloaded
    from napari_medsam2.backend.registry import entries

    rows = [("name", "size", "here", "licence", "good for")]
    rows += [(name, "in the package", "yes", "Apache-2.0", text) for name, text in MODELS.items()]
    rows += [(e.name, e.size_text, "yes" if is_downloaded(e) else "no", e.licence, e.use) for e in entries()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        typer.echo("  ".join([*(f"{text:<{w}}" for text, w in zip(row, widths, strict=False)), row[-1]]))
    typer.echo("\nGet one with 'napari-medsam2 models get NAME'; docs/models.md says more.")


@models.command()
def get(
    name: Annotated[list[str], typer.Argument(help="One or more of those that 'napari-medsam2 models' lists.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Only verify what is on this machine; use no network.")
    ] = False,
) -> None:
    """Download a model, or go on with a download that was interrupted; then verify it."""
    from napari_medsam2.backend.download import fetch, locate, pinned
    from napari_medsam2.backend.registry import entry

    for one in [entry(n) for n in name if n != "compact"]:
        if offline:
            path = locate(one)
        else:
            with _bar(one.name) as progress:
                path = fetch(one, progress)
        typer.echo(f"{one.name}: {path}")
        if one.sha256 is None and (pin := pinned(one)) is not None:
            typer.echo(f"  no checksum is published; from now on it must have SHA-256 {pin}")
    if "compact" in name:
        typer.echo("compact: in the package")


@models.command("path")
def where(
    name: Annotated[str | None, typer.Argument(help="A model; without one the folder of all is printed.")] = None,
) -> None:
    """Print where a model's file is, or has to be copied to."""
    from napari_medsam2.backend.download import folder, target
    from napari_medsam2.backend.registry import entry

    if name == "compact":
        raise InputError("the model 'compact' is a part of the package; it has no file to copy")
    typer.echo(str(folder() if name is None else target(entry(name))))


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show a bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)

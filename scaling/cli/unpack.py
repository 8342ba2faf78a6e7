"""The verb that unpacks collections published as zip files."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.terminal import console, errors, progress_bar


def data_unpack(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with a zip file per session, at any depth.", show_default=False
        ),
    ],
    workers: Annotated[int, typer.Option(help="Processes.", show_default="all cores")] = 0,
) -> None:
    """Unpack the zip file of every session beside it; run it again to go on after an interruption.

    Exit code 1 if a zip file is damaged: the others are unpacked.
    """
    from scaling.data.unpack import unpack

    with progress_bar("sessions") as advance:
        count, problems = unpack(folder, workers, advance)
    console.print(f"{count} sessions unpacked in {folder}", markup=False)
    for problem in problems:
        errors.print(problem, markup=False)
    if problems:
        raise typer.Exit(1)

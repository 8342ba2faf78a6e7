"""The verbs on tracked runs: upload a study's to Weights & Biases."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.terminal import console, errors

tracking_app = typer.Typer()


@tracking_app.command(rich_help_panel="Studies")
def sync(
    study: Annotated[
        Path, typer.Argument(help="Folder of a study, like runs/quickstart.", show_default=False)
    ],
    entity: Annotated[
        str, typer.Option(help="W&B team or user (default: the key's own).", show_default=False)
    ] = "",
) -> None:
    """Upload to W&B what it missed; safe to repeat.

    That is offline runs, and runs whose server was away or whose process was killed.
    """
    from scaling.tracking.wandb_sync import sync as upload

    problems = upload(
        study, entity, lambda line: console.print(line, markup=False, highlight=False)
    )
    if problems:
        errors.print(
            f"{len(problems)} runs were not uploaded; run the same command again later", style="red"
        )
        raise typer.Exit(1)

"""The command line: `scaling run EXPERIMENT` does everything.

Verbs on studies are in `studies`, `evidence` and `reports`, on scans in `data`, on checkpoints in
`handin`, on anybody's tables in `curves` and `verdicts`.
"""

import importlib.metadata
import logging
import os
import sys
from typing import Annotated

import typer

from scaling.cli.attainable import attainable_app
from scaling.cli.curves import tables_app
from scaling.cli.data import data_app
from scaling.cli.evidence import evidence_app
from scaling.cli.handin import handin_app
from scaling.cli.imports import imports_app
from scaling.cli.init import init_app
from scaling.cli.models import models_app
from scaling.cli.rank import rank_app
from scaling.cli.reports import reports_app
from scaling.cli.score import score_app
from scaling.cli.show import data_show
from scaling.cli.studies import studies_app
from scaling.cli.sync import tracking_app
from scaling.cli.terminal import errors
from scaling.cli.two_stage import two_stage_app
from scaling.cli.unpack import data_unpack
from scaling.cli.verdicts import verdicts_app
from scaling.processes.malloc import keep_freed_memory

HELP = (
    "Does a larger 3D brain-MRI foundation model, or a longer pretraining, help [bold]this[/] task "
    "- and how sure are we?\n\n"
    "Start with [bold]scaling run quickstart[/]: a whole study on two CPU cores, in minutes."
)
EXIT_CODES = (
    "Exit codes: 0 done, 1 some steps failed (the rest is done), 2 wrong input or a changed "
    "config, 85 told to stop and saved (run again), 130 interrupted."
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help=HELP,
    epilog=EXIT_CODES,
)
app.add_typer(init_app)
app.add_typer(studies_app)
app.add_typer(reports_app)
app.add_typer(evidence_app)
app.add_typer(handin_app)
app.add_typer(models_app)
app.add_typer(tables_app)
app.add_typer(two_stage_app)
app.add_typer(attainable_app)
app.add_typer(verdicts_app)
app.add_typer(rank_app)
data_app.command("show")(data_show)
data_app.command("unpack")(data_unpack)
app.add_typer(imports_app)
app.add_typer(score_app)
app.add_typer(tracking_app)
app.add_typer(data_app, name="data", rich_help_panel="Data")


def print_version(wanted: bool) -> None:
    """Print the version of the package and end."""
    if wanted:
        typer.echo(f"scaling {importlib.metadata.version('brain-mri-scaling')}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of all verbs together."""


def main() -> None:
    """Entry point: wrong input ends in one sentence and exit code 2."""
    keep_freed_memory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Orbax logs a traceback per thread of what it then raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        app()
    except (ValueError, OSError) as error:
        errors.print(f"scaling: {error}", style="red", markup=False)
        sys.exit(2)

"""The verb that writes the page, of a study or of anybody's table of results."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.own_tables import read_scores
from scaling.cli.studies import PANEL, RUNS, Out, Scale, Set, planned, show_summary
from scaling.cli.table_options import (
    Block,
    By,
    Case,
    Cluster,
    Draw,
    Effect,
    Lower,
    Metric,
    Run,
    roles,
)
from scaling.cli.terminal import console, errors

reports_app = typer.Typer()
TABLES = (".csv", ".tsv", ".parquet")


@reports_app.command(rich_help_panel=PANEL)
def report(
    source: Annotated[
        Path,
        typer.Argument(
            help="A study (its experiment file, folder or name), or a table of results "
            "(csv, tsv or parquet).",
            show_default=False,
        ),
    ],
    set_: Set = None,
    scale: Scale = None,
    out: Out = RUNS,
    wandb: Annotated[
        bool,
        typer.Option(
            "--wandb",
            help="Also write it to W&B: panels of size against performance, table, page.",
        ),
    ] = False,
    x: Annotated[
        str, typer.Option("--x", help="Of a table: columns of size and duration.")
    ] = "size,duration",
    y: Annotated[
        str, typer.Option("--y", "--value", help="Of a table: column of scores.")
    ] = "value",
    by: By = None,
    run: Run = None,
    case: Case = None,
    draw: Draw = None,
    cluster: Cluster = None,
    block: Block = None,
    metric: Metric = None,
    lower: Lower = None,
    effect: Effect = None,
) -> None:
    """Write report.html: of a study, finished or not, or of a table of your own.

    The page of a study comes into its folder, the page of a table into OUT/NAME-OF-THE-TABLE.
    """
    if source.suffix not in TABLES:
        report_study(source, set_, scale, out, wandb)
        return
    if wandb:
        raise ValueError(
            f"--wandb publishes the report of a study, but {source} is a table; leave one out"
        )
    columns = roles(by, run, case, draw, cluster, block)
    # A name of dots alone would be a place above.
    folder = out / (source.stem.strip(".") or "table")
    report_table(source, x.split(","), y, columns, metric, lower, effect, folder)


def report_study(
    experiment: Path, overrides: list[str] | None, scale: str | None, out: Path, wandb: bool
) -> None:
    """Collect what is finished of a study, write its page, and print the verdicts."""
    from scaling.engines.reporting import flipped_table, write_study_report
    from scaling.transfer.collect import collect

    plan, study_dir, statuses = planned(experiment, overrides, out, scale)
    if statuses["collect"] != "done" or flipped_table(study_dir):
        collect(study_dir, plan)
    write_study_report(study_dir, plan)
    show_summary(study_dir)
    if wandb:
        from scaling.engines.wandb_report import publish_report

        console.print(publish_report(study_dir, plan), markup=False)


def report_table(
    table: Path,
    x: list[str],
    y: str,
    columns: dict[str, str | None],
    metric: str | None,
    lower: bool | None,
    effect: float | None,
    folder: Path,
) -> None:
    """Write the page of a table of results into `folder`, and print the verdicts."""
    from scaling.laws.tables import shaped
    from scaling.report import report_from_table, terminal_summary, write_report

    data = shaped(read_scores(table), x, y, columns)
    made = report_from_table(data, table.stem, y, metric, lower, effect)
    folder.mkdir(parents=True, exist_ok=True)
    written = write_report(made, folder)
    console.print(terminal_summary(made, written), markup=False, highlight=False)
    for problem in made.problems:
        errors.print(problem, markup=False)

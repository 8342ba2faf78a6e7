"""The verb that brings other people's runs in."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.terminal import console

imports_app = typer.Typer()


@imports_app.command("import", rich_help_panel="Tables")
def import_runs(
    source: Annotated[
        str,
        typer.Argument(
            help="wandb:ENTITY/PROJECT, or a csv, tsv or parquet file.", show_default=False
        ),
    ],
    size: Annotated[
        str, typer.Option(help="Column of model sizes, or of any budget.", show_default=False)
    ],
    score: Annotated[
        list[str],
        typer.Option(
            metavar="[TASK/]METRIC=COLUMN",
            help="A score and its column; may be repeated.",
            show_default=False,
        ),
    ],
    duration: Annotated[
        str | None, typer.Option(help="Column of samples seen.", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Column that tells runs apart (default: W&B's id, else each row)."),
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Column of seeds.", show_default=False)] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Column of what runs branched off.", show_default=False)
    ] = None,
    case: Annotated[
        str | None, typer.Option(help="Column of test cases.", show_default=False)
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="Column of pretraining objectives.", show_default=False)
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Column of tasks, if there is one.", show_default=False)
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Table to write (.csv or .parquet).")
    ] = Path("results.csv"),
) -> None:
    """Bring runs of a W&B project or a table into the form that fit, verdict and report read.

    That is a row per run, task and metric.
    """
    from scaling.files import write_table
    from scaling.laws.tables import read_table
    from scaling.tracking.imported import results_of, runs_of_wandb

    kind, _, path = source.rpartition(":")
    runs = runs_of_wandb(path) if kind == "wandb" else read_table(Path(path))
    roles = {
        "run": run,
        "seed": seed,
        "cluster": cluster,
        "case": case,
        "objective": objective,
        "task": task,
    }
    results = results_of(runs, size, duration, score, roles)
    write_table(results, out)
    console.print(
        f"{out}: {len(results)} rows of {results['run'].nunique()} runs out of {len(runs)} rows; "
        f"next: scaling verdict {out}",
        markup=False,
    )

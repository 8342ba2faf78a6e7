"""Options that all verbs on anybody's csv or parquet share, and how results are printed."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.cli.terminal import console

Table = Annotated[Path, typer.Argument(help="A csv, tsv or parquet file.", show_default=False)]
X = Annotated[str, typer.Option("--x", help="Column of sizes or budgets; or two, SIZE,DURATION.")]
XOfFit = Annotated[
    str,
    typer.Option(
        "--x",
        help="Column of sizes or budgets; or two, SIZE,DURATION; or three where data are repeated, "
        "SIZE,UNIQUE,SEEN.",
    ),
]
Y = Annotated[str, typer.Option("--y", help="Column of scores or errors.")]
By = Annotated[
    str | None,
    typer.Option("--by", help="Column that tells tasks apart (default: task, if there is one)."),
]
Run = Annotated[
    str | None, typer.Option("--run", help="Column that tells runs apart (default: run, or seed).")
]
Case = Annotated[str | None, typer.Option("--case", help="Column of test cases (default: case).")]
Draw = Annotated[
    str | None, typer.Option("--draw", help="Column of few-shot draws (default: draw).")
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help="Column of what runs branched off (default: cluster)."),
]
Block = Annotated[
    str | None,
    typer.Option("--block", help="Column of what else sets runs apart, such as the objective."),
]
Site = Annotated[
    str | None, typer.Option("--site", help="Column of sites that cases come from (default: site).")
]
Patient = Annotated[
    str | None, typer.Option("--patient", help="Column of patients (default: patient).")
]
Independent = Annotated[
    bool,
    typer.Option("--independent", help="Durations of one seed are separate runs, not one trunk."),
]
Lower = Annotated[
    bool | None,
    typer.Option("--lower/--higher", help="Which way is better (default: from the metric's name)."),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric", help="Name of the metric (default: a column metric, or the name of Y)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Effect = Annotated[
    float | None,
    typer.Option("--effect", help="Smallest effect worth having (default: the metric's)."),
]
PANEL = "Tables"


def roles(
    by: str | None,
    run: str | None,
    case: str | None,
    draw: str | None,
    cluster: str | None,
    block: str | None = None,
    site: str | None = None,
    patient: str | None = None,
) -> dict[str, str | None]:
    """What each column stands for, as `scaling.laws.tables.shaped` wants it."""
    return {
        "task": by,
        "run": run,
        "case": case,
        "draw": draw,
        "cluster": cluster,
        "block": block,
        "site": site,
        "patient": patient,
    }


def numbers(text: str) -> list[float]:
    """A comma-separated list of numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"Found {text!r}: expected numbers separated by commas, like 1e6,4e6."
        ) from None


def emit(document: Any, as_json: bool, sentences: list[str]) -> None:
    """Print a result: one JSON document, or sentences."""
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
    else:
        for sentence in sentences:
            console.print(sentence, markup=False, highlight=False)

"""The verb on what the best of many models reach."""

from typing import Annotated, Any

import typer

from scaling.cli.own_tables import read_models, score_column
from scaling.cli.table_options import PANEL, By, Json, Lower, Metric, Table, Y, emit, numbers

attainable_app = typer.Typer()


@attainable_app.command("attainable", rich_help_panel=PANEL)
def attainable_verb(
    table: Table,
    x: Annotated[str, typer.Option("--x", help="Column of compute, or any budget.")],
    y: Y = "",
    by: By = None,
    metric: Metric = None,
    lower: Lower = None,
    quantile: Annotated[
        float, typer.Option(help="Of models at a compute; .95 is what the best 5 % reach.")
    ] = 0.95,
    chance: Annotated[
        float | None,
        typer.Option(help="Score without any knowledge (default: the metric's worse bound)."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Also predict here, e.g. 1e21,1e22.")] = None,
    json_: Json = False,
) -> None:
    """What the best of many models of others reach at a compute: a frontier by quantiles, with a
    backtest."""
    from scaling.laws.curves.attainable import attainable
    from scaling.laws.tables import direction, tasks_of

    if not 0.5 <= quantile < 1:
        raise ValueError(f"--quantile {quantile:g}: expected a number from 0.5 to below 1.")
    models = read_models(table)
    y = y or score_column(models)
    if by or "task" in models:
        models = models.rename(columns={by or "task": "task"})
    documents: list[dict[str, Any]] = []
    sentences = []
    for task, name, part in tasks_of(models, y, metric):
        rows = part.dropna(subset=[column for column in (x, y) if column in part])
        is_lower, bounds, assumed = direction(name, rows[y], lower)
        frontier = attainable(
            rows,
            x,
            y,
            bounds=bounds,
            lower_is_better=is_lower,
            chance=chance,
            quantile=quantile,
        )
        document = {"task": task, "metric": name, **frontier.to_dict(), "predictions": []}
        sentences += [f"{task} ({name}): {frontier.sentence}", f"  {assumed}"]
        for point in numbers(at) if at else []:
            value, low, high = (float(end[0]) for end in frontier.predict([point]))
            document["predictions"].append({"x": point, "value": value, "low": low, "high": high})
            sentences.append(f"  at {point:g}: {value:.4g} ({low:.4g} to {high:.4g}, 90 %)")
        documents.append(document)
    emit({"attainable": documents}, json_, sentences)

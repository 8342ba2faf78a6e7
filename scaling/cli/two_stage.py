"""The verb that predicts a metric over the held-out loss, beside the direct curve."""

from typing import Annotated

import numpy as np
import typer

from scaling.cli.own_tables import axes_of, read_scores, score_column
from scaling.cli.table_options import (
    PANEL,
    By,
    Case,
    Draw,
    Json,
    Lower,
    Metric,
    Run,
    Table,
    X,
    Y,
    emit,
    numbers,
    roles,
)

two_stage_app = typer.Typer()


@two_stage_app.command("two-stage", rich_help_panel=PANEL)
def two_stage_verb(
    table: Table,
    loss: Annotated[
        str, typer.Option("--loss", help="Column of held-out losses of pretraining.")
    ] = "loss",
    x: X = "",
    y: Y = "",
    by: By = None,
    run: Run = None,
    case: Case = None,
    draw: Draw = None,
    metric: Metric = None,
    lower: Lower = None,
    at: Annotated[
        str | None, typer.Option(help="Also predict here, e.g. 1e8 or 1e8/2e6,1e9/2e6.")
    ] = None,
    json_: Json = False,
) -> None:
    """Predict a metric over the held-out loss and directly; which way predicts larger budgets
    better."""
    from scaling.laws.columns import require_columns
    from scaling.laws.curves.two_stage import two_stage
    from scaling.laws.tables import direction, shaped, tasks_of
    from scaling.laws.verdicts.scores import run_scores

    scores = read_scores(table)
    columns, y = x.split(",") if x else axes_of(scores), y or score_column(scores)
    require_columns(scores, [loss], "the held-out loss of every run's pretraining")
    # A loss belongs to a run, as a block does; it is carried through the means over cases as one.
    data = shaped(scores, columns, y, {**roles(by, run, case, draw, None), "block": loss})
    names = ("size", "duration")[: len(columns)]
    points = [numbers(point.replace("/", ",")) for point in at.split(",")] if at else []
    documents, sentences = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_scores(part, name)
        if "block" not in rows:
            raise ValueError(f"Column {loss} holds one value only: a metric cannot follow it.")
        is_lower, bounds, assumed = direction(name, rows["value"], lower)
        ways = two_stage(
            rows.rename(columns={"block": "loss"}),
            names,
            "loss",
            "value",
            bounds=bounds,
            lower_is_better=is_lower,
        )
        document = {"task": task, "metric": name, "assumed": assumed, **ways.to_dict()}
        sentences += [f"{task} ({name}): {ways.sentence}", f"  {assumed}"]
        predictions = []
        for point in points:
            if len(point) != len(ways.x_names):
                raise ValueError(
                    f"--at {at}: each point needs {len(ways.x_names)} numbers "
                    f"({'/'.join(ways.x_names)}), points are separated by commas."
                )
            budget = np.asarray([point], float)
            mean, low, high = (float(values[0]) for values in ways.predict(budget))
            direct, below, above = (
                float(values[0]) for values in ways.direct.predict(budget, new_run=True)
            )
            predictions.append(
                {
                    "x": point,
                    "two_stage": {"mean": mean, "low": low, "high": high},
                    "direct": {"mean": direct, "low": below, "high": above},
                }
            )
            where = " / ".join(f"{value:g}" for value in point)
            sentences.append(
                f"  at {where}: over the loss {mean:.4g} ({low:.4g} to {high:.4g}), directly "
                f"{direct:.4g} ({below:.4g} to {above:.4g}); a new run, 90 % intervals"
            )
        document["predictions"] = predictions
        documents.append(document)
    emit({"two_stage": documents}, json_, sentences)

"""The verbs on tables: curves, extrapolation, verdicts, rankings, designs and a page from anybody's csv or parquet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.terminal import console, errors

if TYPE_CHECKING:
    import pandas as pd

tables_app = typer.Typer()

Table = Annotated[Path, typer.Argument(help="A csv, tsv or parquet file.", show_default=False)]
X = Annotated[str, typer.Option("--x", help="Column of sizes or budgets; or two, SIZE,DURATION.")]
Y = Annotated[str, typer.Option("--y", help="Column of scores or errors.")]
By = Annotated[str | None, typer.Option("--by", help="Column that tells tasks apart (default: task, if there is one).")]
Run = Annotated[str | None, typer.Option("--run", help="Column that tells runs apart (default: run, or seed).")]
Case = Annotated[str | None, typer.Option("--case", help="Column of test cases (default: case).")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="Column of what runs branched off (default: cluster).")]
Lower = Annotated[bool | None, typer.Option("--lower/--higher", help="Which way is better (default: from the metric's name).")]
Metric = Annotated[str | None, typer.Option("--metric", help="Name of the metric (default: a column metric, or the name of Y).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Effect = Annotated[float | None, typer.Option("--effect", help="Smallest effect worth having (default: the metric's).")]
PANEL = "Tables"


def emit(document: Any, as_json: bool, sentences: list[str]) -> None:
    """Print a result: one JSON document, or sentences."""
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
    else:
        for sentence in sentences:
            console.print(sentence, markup=False, highlight=False)


def tasks_of(table: "pd.DataFrame", name: str, metric: str | None) -> "Iterator[tuple[str, str, pd.DataFrame]]":
    """Task, metric and rows of each task of a shaped table."""
    groups = list(table.groupby("task", sort=False)) if "task" in table else [(name, table)]
    for task, part in groups:
        if metric is None and "metric" in part:
            for found, rows in part.groupby("metric", sort=False):
                yield str(task), str(found), rows.drop(columns="metric")
        else:
            yield str(task), metric or name, part.drop(columns="metric", errors="ignore")


@tables_app.command(rich_help_panel=PANEL)
def fit(
    table: Table, x: X, y: Y, by: By = None, run: Run = None, case: Case = None, cluster: Cluster = None, metric: Metric = None,
    lower: Lower = None, forms: Annotated[str | None, typer.Option(help="Forms to use, e.g. power,floor.")] = None,
    at: Annotated[str | None, typer.Option(help="Also predict here, e.g. 1e8 or 1e8/2e6,1e9/2e6.")] = None, json_: Json = False,
) -> None:  # fmt: skip
    """Fit curves: forms, parameters, intervals, and how the fits converged."""
    from scaling.laws.curve import fit as fit_curve
    from scaling.laws.tables import direction, read_table, run_means, shaped

    columns = x.split(",")
    data = shaped(read_table(table), columns, y, {"task": by, "run": run, "case": case, "cluster": cluster})
    names = ("size", "duration")[: len(columns)]
    documents, sentences = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_means(part)
        is_lower, bounds, assumed = direction(name, rows["value"], lower)
        moving = tuple(c for c in names if (rows[c] != rows[c].iloc[0]).any()) or names
        curve = fit_curve(
            rows, moving if len(moving) > 1 else moving[0], "value", bounds=bounds, lower_is_better=is_lower,
            cluster="cluster" if "cluster" in rows else None, forms=tuple(forms.split(",")) if forms else None,
        )  # fmt: skip
        document = {"task": task, "metric": name, "assumed": assumed, **curve.to_dict()}
        sentences += [f"{task} ({name}): {curve.summary}", f"  {assumed}"]
        for form in sorted(curve.forms, key=lambda f: -f.weight):
            values = ", ".join(f"{k} {v:.4g} ({_end(form.low[k])} to {_end(form.high[k])})" for k, v in form.parameters.items())
            state = "converged" if form.converged else "did not converge"
            sentences.append(f"  {form.name:>10} {form.weight:4.0%}  {form.formula}: {values}; {state}, {form.agree:.0%} of starts agree")
        sentences.append(f"  parameters hold for {' and '.join(moving)} in units of {', '.join(f'{c:.4g}' for c in curve.centre)}")
        if at:
            points = [[float(v) for v in point.split("/")] for point in at.split(",")]
            mean, low, high = curve.predict(points)
            document["predictions"] = [
                {"x": p, "mean": m, "low": a, "high": b}
                for p, m, a, b in zip(points, mean.tolist(), low.tolist(), high.tolist(), strict=True)
            ]
            sentences += [f"  at {d['x']}: {d['mean']:.4g} ({d['low']:.4g} to {d['high']:.4g})" for d in document["predictions"]]
        sentences += [f"  {note}" for note in curve.notes]
        documents.append(document)
    emit({"curves": documents}, json_, sentences)


def _end(value: float | None) -> str:
    return "open" if value is None else f"{value:.4g}"


@tables_app.command(rich_help_panel=PANEL)
def extrapolate(
    table: Table, x: X, y: Y, train: Annotated[str, typer.Option(help="Column that is 1 where a row is fitted, 0 where predicted.")],
    by: Annotated[str | None, typer.Option("--by", help="Columns that tell curves apart, e.g. task,model.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the prediction intervals.")] = 0.90, json_: Json = False,
) -> None:  # fmt: skip
    """Fit each curve where TRAIN is 1, predict the rest: root mean squared log error per curve, and interval coverage."""
    from scaling.laws.extrapolation import extrapolate as foretell
    from scaling.laws.tables import read_table

    result = foretell(read_table(table), x, y, train, by.split(",") if by else (), confidence=confidence)
    sentences = [
        result.curves.round(5).to_string(index=False),
        f"mean RMSLE {result.rmsle:.5f} over {len(result.curves)} curves; {result.coverage:.0%} of the predicted points lie within their "
        f"{confidence:.0%} interval",
    ]
    emit(result.to_dict(), json_, sentences)


@tables_app.command(rich_help_panel=PANEL)
def verdict(
    table: Table, x: X = "size,duration", y: Annotated[str, typer.Option("--y", "--value", help="Column of scores.")] = "value",
    by: By = None, run: Run = None, case: Case = None, cluster: Cluster = None, metric: Metric = None, lower: Lower = None,
    effect: Effect = None, relative: Annotated[bool | None, typer.Option(help="The smallest effect is a fraction of the baseline.")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Does more budget help each task? One decision with an error bar, for a stated smallest effect worth having."""
    from scaling.laws.tables import read_table, shaped

    data = shaped(read_table(table), x.split(","), y, {"task": by, "run": run, "case": case, "cluster": cluster})
    verdicts, problems = judged(data, y, metric, lower, effect, relative)
    if not verdicts:
        raise ValueError(" ".join(problems))
    sentences = [s for v in verdicts for s in (v.sentence, *(f"  {note}" for note in v.notes))]
    document = {"verdicts": [v.to_dict() for v in verdicts], "problems": problems}
    emit(document, json_, [*sentences, *problems])
    if problems:
        raise typer.Exit(1)


def judged(
    data: "pd.DataFrame", y: str, metric: str | None, lower: bool | None, effect: float | None, relative: bool | None
) -> tuple[list[Any], list[str]]:
    """A verdict per task of a shaped table, and a sentence for every task that cannot have one."""
    from dataclasses import replace

    from scaling.laws.tables import direction
    from scaling.laws.verdict import SMALLEST_EFFECTS, holm
    from scaling.laws.verdict import verdict as judge

    verdicts, problems = [], []
    for task, name, part in tasks_of(data, y, metric):
        is_lower, _, assumed = direction(name, part["value"], lower)
        known = name in SMALLEST_EFFECTS
        smallest = effect if effect is not None or known else 0.02
        rows = part.drop(columns="task", errors="ignore")
        try:
            found = judge(rows, task=task, metric=name, smallest_effect=smallest, relative=relative, lower_is_better=is_lower)
            if not known:
                stated = "" if effect is not None else f" The smallest effect was taken as {smallest} (--effect says otherwise)."
                found = replace(found, notes=(assumed + stated, *found.notes))
            verdicts.append(found)
        except ValueError as error:
            problems.append(f"no verdict on {task}: {error}")
    return holm(verdicts), problems


@tables_app.command(rich_help_panel=PANEL)
def rank(
    table: Table, model: Annotated[str | None, typer.Option(help="Column of models (default: model or team).")] = None,
    task: Annotated[list[str] | None, typer.Option(help="TASK=COLUMN,COLUMN (a minus before a column: lower is better).")] = None,
    where: Annotated[str | None, typer.Option(help="Rank only rows with COLUMN=VALUE.")] = None,
    control: Annotated[list[str] | None, typer.Option(help="A row to compare with, not to rank.")] = None,
    objective: Annotated[str | None, typer.Option(help="Column of pretraining objectives (default: objective).")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Rank models over tasks as FOMO25 does. A table per model and metric, or per case (model, task, metric, case, value)."""
    from scaling.laws.plain import plain
    from scaling.laws.rankings import Metric as RankedMetric
    from scaling.laws.rankings import better_than, metrics_of, rank_cases, rank_differences
    from scaling.laws.rankings import rank as rank_models
    from scaling.laws.tables import direction, read_table

    data = read_table(table)
    name = model or next((c for c in ("model", "team") if c in data), "model")
    if {"task", "metric", "case"} <= set(data):
        pairs = data[["task", "metric"]].drop_duplicates()
        metrics = tuple(RankedMetric(t, m, direction(m, data.loc[data["metric"] == m, "value"], None)[0]) for t, m in pairs.values)
        ranking = rank_cases(data.rename(columns={name: "model"}), metrics)
        document: dict[str, Any] = {"ranking": ranking.table.to_dict("records"), "p": ranking.p}
        emit(plain(document), json_, [ranking.table.round(3).to_string(index=False)])
        return
    if task:
        columns = [(t, c) for t, _, listed in (entry.partition("=") for entry in task) for c in listed.split(",")]
        metrics = tuple(RankedMetric(t, c.removeprefix("-"), c.startswith("-")) for t, c in columns)
    else:
        metrics = metrics_of(data)
    ranked = data
    if where:
        column, _, value = where.partition("=")
        if column not in data:
            raise ValueError(f"The table has no column {column} (found {', '.join(map(str, data.columns))}).")
        ranked = data[data[column].astype(str) == value]
    ranked = ranked[~ranked[name].isin(control or [])] if name in ranked else ranked
    ranking = rank_models(ranked, name, metrics)
    document = {"ranking": ranking.table.to_dict("records")}
    sentences = [ranking.table.round(3).to_string(index=False)]
    if control:
        compared = data[data[name].isin([*ranked[name], *control])]
        better = better_than(compared, name, metrics, control)
        document["better_than"] = better.to_dict("records")
        sentences += ["", "Better than the controls:", better.round(3).to_string(index=False)]
    objective = objective or ("objective" if "objective" in data else None)
    if objective:
        groups = dict(zip(data[name].astype(str), data[objective], strict=True))
        differences = rank_differences(ranking, groups)
        document["rank_differences"] = differences.to_dict("records")
        sentences += ["", "Rank on one task less rank on another, by objective:", differences.round(3).to_string(index=False)]
    emit(plain(document), json_, sentences)


@tables_app.command(rich_help_panel=PANEL)
def page(
    table: Table, x: X = "size,duration", y: Annotated[str, typer.Option("--y", "--value", help="Column of scores.")] = "value",
    by: By = None, run: Run = None, case: Case = None, cluster: Cluster = None, metric: Metric = None, lower: Lower = None,
    effect: Effect = None, out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html.")] = Path(),
) -> None:  # fmt: skip
    """Curves, verdicts and one self-contained page from a table with columns size, duration, task, case, value."""
    from scaling.laws.tables import read_table, shaped
    from scaling.report import ReportInput, terminal_summary, write_report

    data = shaped(read_table(table), x.split(","), y, {"task": by, "run": run, "case": case, "cluster": cluster})
    verdicts, problems = judged(data, y, metric, lower, effect, None)
    results = results_table(data, table.stem, y, metric)
    report = ReportInput(name=table.stem, results=results, verdicts=verdicts, curves=curves_of(results, lower), problems=problems)
    out.mkdir(parents=True, exist_ok=True)
    written = write_report(report, out)
    console.print(terminal_summary(report, written), markup=False, highlight=False)
    for problem in problems:
        errors.print(problem, markup=False)


def curves_of(results: "pd.DataFrame", lower: bool | None) -> dict[tuple[str, str, str], Any]:
    """(task, metric, axis) -> curve through the runs at the other axis's largest level, where an axis has three levels or more."""
    from scaling.laws.curve import fit as fit_curve
    from scaling.laws.tables import direction

    curves = {}
    for (task, metric), rows in results.groupby(["task", "metric"], sort=False):
        is_lower, bounds, _ = direction(str(metric), rows["value"], lower)
        for axis, column, other in (("size", "params", "duration"), ("duration", "duration", "params")):
            part = rows[rows[other] == rows[other].max()]
            if len(part[column].unique()) < 3 or (bounds is None and (part["value"].min() <= 0 or not is_lower)):
                continue
            cluster = "trunk" if len(part["trunk"].unique()) > 1 else None
            curves[str(task), str(metric), axis] = fit_curve(
                part, column, "value", bounds=bounds, lower_is_better=is_lower, cluster=cluster
            )
    return curves


def results_table(data: "pd.DataFrame", study: str, y: str, metric: str | None) -> "pd.DataFrame":
    """A shaped table as the tidy results that a report reads: one row per run and task."""
    import numpy as np
    import pandas as pd

    from scaling.laws.tables import run_means

    parts = []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_means(part if "duration" in part else part.assign(duration=1.0))
        cases = part["case"].nunique() if "case" in part else 0
        trunk = rows["cluster"] if "cluster" in rows else rows["run"]
        parts.append(rows.assign(task=task, metric=name, cases=cases, trunk=trunk))
    results = pd.concat(parts, ignore_index=True)
    results[["run", "trunk"]] = results[["run", "trunk"]].astype(str)
    results["params"] = results["size"]
    results["size"] = [f"{v:.3g}" for v in results["size"]]
    results["seed"] = results.groupby(["task", "metric", "params", "duration"]).cumcount()
    return results.assign(
        study=study, arm="pretrained", objective="", flops=np.nan, protocol="finetune", shots=0, draw=0, site="all", domain="out"
    )

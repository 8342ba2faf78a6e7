"""The verb that ranks models over tasks, as challenges do."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.own_tables import read_models
from scaling.cli.table_options import PANEL, Json, Table, emit
from scaling.study.challenges import CHOICES

if TYPE_CHECKING:
    import pandas as pd

    from scaling.laws.verdicts.rankings import RankedMetric
    from scaling.study.challenge import Challenge

rank_app = typer.Typer()

EXPLAINED = (
    "low, high: 95 % interval of the overall rank; first: share of resamples led; models of one "
    "tier cannot be told apart"
)


@rank_app.command(rich_help_panel=PANEL)
def rank(
    table: Table,
    model: Annotated[
        str | None, typer.Option(help="Column of models (default: model or team).")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="TASK=COLUMN,COLUMN (a minus before a column: lower is better)."),
    ] = None,
    where: Annotated[str | None, typer.Option(help="Rank only rows with COLUMN=VALUE.")] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="A row to compare with, not to rank.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="Column of pretraining objectives (default: objective).")
    ] = None,
    challenge: Annotated[
        str,
        typer.Option(
            help=f"Rank by a challenge's weights and its rank for a task not entered: {CHOICES}."
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """Rank models over tasks as challenges do.

    A table per model and metric, or per case (model, task, metric, case, value).
    """
    from scaling.laws.columns import require_columns
    from scaling.laws.plain import plain
    from scaling.laws.verdicts.rankings import better_than, rank_differences
    from scaling.laws.verdicts.rankings import rank as rank_models
    from scaling.study.challenge import load_challenge

    data = read_models(table)
    name = model or next((column for column in ("model", "team") if column in data), "model")
    require_columns(data, [name])
    if {"task", "metric", "case"} <= set(data):
        if control or challenge:
            raise ValueError(
                "--control and --challenge need a table with a row per model and a column per "
                "metric: this one has a row per case."
            )
        rank_per_case(data, name, json_)
        return
    metrics, sentences_on_columns = ranked_metrics(data, task)
    rows = rows_where(data, where)
    ranked = rows[~rows[name].isin(control or [])]
    if challenge:
        rules = load_challenge(challenge)
        metrics, weights, absent = challenge_metrics(rules, metrics)
        ranking = rank_models(ranked, name, metrics, weights, rules.not_entered)
        sentences_on_columns += absent
    else:
        ranking = rank_models(ranked, name, metrics)
    document: dict[str, Any] = {"ranking": ranking.table.to_dict("records")}
    sentences = [ranking.table.round(3).to_string(index=False), *sentences_on_columns]
    if control:
        compared = with_controls(data, rows, ranked, name, control)
        better = better_than(compared, name, metrics, control)
        document["better_than"] = better.to_dict("records")
        sentences += ["", "Better than the controls:", better.round(3).to_string(index=False)]
    objective = objective or ("objective" if "objective" in data else None)
    if objective:
        groups = dict(zip(ranked[name].astype(str), ranked[objective], strict=True))
        differences = rank_differences(ranking, groups)
        document["rank_differences"] = differences.to_dict("records")
        sentences += [
            "",
            "Rank on one task less rank on another, by objective:",
            differences.round(3).to_string(index=False),
        ]
    emit(plain(document), json_, sentences)


def rank_per_case(data: "pd.DataFrame", name: str, json_: bool) -> None:
    """Rank models from scores per case, with intervals and tiers."""
    from scaling.laws.known_metrics import lower_is_better
    from scaling.laws.plain import plain
    from scaling.laws.verdicts.case_rankings import rank_cases
    from scaling.laws.verdicts.rankings import RankedMetric

    pairs = data[["task", "metric"]].drop_duplicates()
    metrics = tuple(RankedMetric(t, m, lower_is_better(m)) for t, m in pairs.values)
    ranking = rank_cases(data.rename(columns={name: "model"}), metrics)
    document: dict[str, Any] = {"ranking": ranking.table.to_dict("records"), "p": ranking.p}
    emit(plain(document), json_, [ranking.table.round(3).to_string(index=False), EXPLAINED])


def ranked_metrics(
    data: "pd.DataFrame", task: list[str] | None
) -> tuple[tuple["RankedMetric", ...], list[str]]:
    """The columns to rank, as --task or their names say, and a sentence on columns left out."""
    from scaling.laws.known_metrics import lower_is_better
    from scaling.laws.verdicts.rankings import RankedMetric, metrics_of

    if not task:
        metrics = metrics_of(data)
        used = {metric.column for metric in metrics}
        ignored = [str(c) for c in data.select_dtypes("number").columns if c not in used]
        if not ignored:
            return metrics, []
        return metrics, [
            f"Not ranked, for their better end is not known from their names: {', '.join(ignored)} "
            "(--task names columns)."
        ]
    listed = []
    for entry in task:
        name, _, columns = entry.partition("=")
        for column in columns.split(","):
            lower = column.startswith("-") or lower_is_better(column)
            listed.append(RankedMetric(name, column.removeprefix("-"), lower))
    return tuple(listed), []


def rows_where(data: "pd.DataFrame", where: str | None) -> "pd.DataFrame":
    """The rows with COLUMN=VALUE; all without `where`."""
    from scaling.laws.columns import require_columns

    if not where:
        return data
    column, _, value = where.partition("=")
    require_columns(data, [column])
    rows = data[data[column].astype(str) == value]
    if rows.empty:
        raise ValueError(
            f"no row has {column}={value!r}; expected one of "
            f"{', '.join(sorted(set(data[column].astype(str))))}"
        )
    return rows


def with_controls(
    data: "pd.DataFrame",
    rows: "pd.DataFrame",
    ranked: "pd.DataFrame",
    name: str,
    controls: list[str],
) -> "pd.DataFrame":
    """The ranked rows and the controls' rows: those among `rows` if they are there, else any.

    A control may lie outside of what --where ranks; a model that is compared with it may not.
    Raises ValueError when a control has several rows.
    """
    import pandas as pd

    parts = [ranked]
    for control in controls:
        candidates = rows[rows[name].astype(str) == control]
        if candidates.empty:
            candidates = data[data[name].astype(str) == control]
        if len(candidates) > 1:
            raise ValueError(
                f"{len(candidates)} rows of column {name} are named {control}; expected one: "
                "select rows with --where"
            )
        parts.append(candidates)
    return pd.concat(parts)


def challenge_metrics(
    challenge: "Challenge", metrics: tuple["RankedMetric", ...]
) -> tuple[tuple["RankedMetric", ...], dict[str, float], list[str]]:
    """The metrics under the names of the challenge's tasks, the tasks' weights, and sentences on
    tasks without a column.

    A task is recognised by its name or id, alone or after "t" or "task". Raises ValueError for
    columns of no task.
    """
    from dataclasses import replace

    spellings = {}
    for task in challenge.tasks:
        number = task.id.lower()
        for spelling in (number, f"t{number}", f"task{number}", f"task_{number}", task.name):
            spellings[spelling.lower()] = task
    renamed = []
    for metric in metrics:
        entered_task = spellings.get(metric.task.lower().replace(" ", "-"))
        if entered_task is None:
            listed = ", ".join(f"{task.id} ({task.name})" for task in challenge.tasks)
            raise ValueError(
                f"column {metric.column} is of task {metric.task!r}, which {challenge.name} does "
                f"not have; expected one of {listed} (--task names columns)"
            )
        renamed.append(replace(metric, task=entered_task.name))
    entered = {metric.task for metric in renamed}
    absent = [task for task in challenge.tasks if task.name not in entered]
    sentences = [
        f"Task {task.id} ({task.name}, weight {task.weight:g}) has no column: it is left out."
        for task in absent
    ]
    weights = {task.name: task.weight for task in challenge.tasks if task.name in entered}
    return tuple(renamed), weights, sentences

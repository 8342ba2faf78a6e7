"""Anybody's table of results in the shape that curves and verdicts want: size, duration, run,
draw, case, task, value."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.laws.columns import require_columns
from scaling.laws.curves.curve import Curve, curves_along
from scaling.laws.curves.outlook import Outlook, outlook
from scaling.laws.known_metrics import UNIT, known_metric, label_of
from scaling.laws.series import series_of
from scaling.laws.verdicts.scores import run_scores
from scaling.laws.verdicts.verdict import Verdict, holm, verdict

OPTIONAL = ("run", "case", "draw", "cluster", "block", "task")


def read_table(path: Path) -> pd.DataFrame:
    """A parquet file, or text separated by commas, semicolons (then perhaps with decimal commas)
    or tabs, as its header has it.

    Raises ValueError naming the file if it is none of these or holds no rows, and OSError if it
    is not there."""
    if path.suffix not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"{path} is not a table: expected .csv, .tsv or .parquet.")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: expected a header and rows.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it again as UTF-8.") from None
    if table.empty:
        raise ValueError(f"{path} has no rows: expected one per run, or per run and case.")
    return table


def _read_text(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as lines:
        header = lines.readline()
    separator = max(",;\t", key=header.count)
    table = pd.read_csv(path, sep=separator)
    if separator == ";" and any(
        column.astype(str).str.fullmatch(r"-?\d+,\d+").any() for _, column in table.items()
    ):
        table = pd.read_csv(path, sep=separator, decimal=",")
    return table


def shaped(
    table: pd.DataFrame, x: Sequence[str], y: str, names: dict[str, str | None]
) -> pd.DataFrame:
    """The columns x (size, then duration), y (value) and those named in `names` (run, case, draw,
    cluster, block, task), renamed to what the laws call them. A name that is None falls back to a
    column of that very name, if there is one; a run falls back to seed, a block to what
    objective, family and fraction say together.

    Raises ValueError where a named column is absent or x holds anything but positive numbers,
    naming the first that is not."""
    if not 1 <= len(x) <= 2:
        raise ValueError(
            f"--x names {len(x)} columns: give one (size, or any budget) or two (size,duration)."
        )
    if len(x) == 2 and x[0] in table and x[1] not in table:
        raise ValueError(
            f"The table has no column {x[1]} (found {', '.join(map(str, table.columns))}): say "
            f"--x {x[0]} if there is only one."
        )
    if "objective" in table and "series" not in table:
        table = table.assign(series=series_of(table))
    from_predictions = y not in table and {"label", "prediction"} <= set(table)
    wanted = dict(zip(("size", "duration"), x, strict=False)) | {
        "value": "prediction" if from_predictions else y
    }
    for role in OPTIONAL:
        fallback = "series" if role == "block" and role not in table else role
        column = names.get(role) or (fallback if fallback in table else None)
        if column:
            wanted[role] = column
    require_columns(table, wanted.values())
    result = pd.DataFrame({role: table[column] for role, column in wanted.items()})
    for role, column in wanted.items():
        if role in ("size", "duration", "value"):
            result[role] = _numbers(table[column], column, positive=role != "value")
    if "block" in result and len(result["block"].unique()) == 1:
        del result["block"]
    if "run" not in wanted and "seed" in table:
        cell = dict.fromkeys(
            [*x, *(c for c in ("size", "duration", "objective", "arm") if c in table), "seed"]
        )
        result["run"] = pd.factorize(pd.MultiIndex.from_frame(table[list(cell)]))[0]
    for column in ("label", "prediction", "metric"):
        if column in table and column not in result:
            result[column] = table[column]
    if from_predictions and "metric" not in result:
        result["metric"] = "auroc" if len(table["label"].unique()) == 2 else "pearson"
    return result


def _numbers(entries: pd.Series, column: str, positive: bool) -> pd.Series:
    """A column as numbers (missing ones stay missing, but not where they must be `positive`);
    raises ValueError naming the first that is not one."""
    numbers = pd.to_numeric(entries, errors="coerce")
    wrong = ~(numbers > 0) if positive else numbers.isna() & entries.notna()
    if wrong.any():
        expected = "positive numbers" if positive else "numbers"
        raise ValueError(
            f"Column {column} holds {int(wrong.sum())} entries that are not {expected}, the first "
            f"of them '{entries[wrong].iloc[0]}' in "
            f"row {int(np.flatnonzero(wrong)[0]) + 1} of the table: write them as {expected}, or "
            "drop the rows."
        )
    return numbers


def direction(
    name: str, values: pd.Series, lower: bool | None
) -> tuple[bool, tuple[float, float] | None, str]:
    """Whether lower is better, the bounds of the metric, and a sentence on what was assumed, from
    its name and its values.

    Raises ValueError when a metric that is known to lie between 0 and 1 does not."""
    numbers = pd.to_numeric(values, errors="coerce")
    inside = bool(((numbers >= 0) & (numbers <= 1)).all())
    told = lower is not None
    known = known_metric(name)
    if known and known.bounds == UNIT and numbers.max() > 1:
        raise ValueError(
            f"{name} lies between 0 and 1, but reaches {numbers.max():g}: divide percentages by "
            "100."
        )
    if lower is None:
        lower = known.lower_is_better if known else not inside
    if not lower and not inside:
        bounds: tuple[float, float] | None = (
            (-1.0, 1.0) if bool((np.abs(numbers) <= 1).all()) else None
        )
    else:
        bounds = None if lower else (0.0, 1.0)
    scale = (
        "a number without bounds"
        if bounds is None
        else f"bounded by {bounds[0]:g} and {bounds[1]:g}"
    )
    other = "" if told else " (--lower or --higher says otherwise)"
    return (
        lower,
        bounds,
        f"{name} is taken as {scale}, better when {'lower' if lower else 'higher'}{other}.",
    )


def tasks_of(
    table: pd.DataFrame, name: str, metric: str | None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, metric and rows of each task of a shaped table."""
    groups = list(table.groupby("task", sort=False)) if "task" in table else [(name, table)]
    for task, part in groups:
        if metric is None and "metric" in part:
            for found, rows in part.groupby("metric", sort=False):
                yield str(task), str(found), rows.drop(columns="metric")
        else:
            yield str(task), metric or name, part.drop(columns="metric", errors="ignore")


def judged(
    data: pd.DataFrame,
    y: str,
    metric: str | None,
    lower: bool | None,
    effect: float | None,
    relative: bool | None,
) -> tuple[list[Verdict], list[str]]:
    """A verdict per task of a shaped table, and a sentence for every task that cannot have one."""
    verdicts, problems = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = part.drop(columns="task", errors="ignore")
        try:
            is_lower, bounds, assumed = direction(name, run_scores(rows, name)["value"], lower)
            metric_known = known_metric(name)
            if lower is None and metric_known is None and bounds is None:
                raise ValueError(
                    f"nothing is known of {name}, and it is not within 0 and 1: say which way is "
                    "better, --lower or --higher."
                )
            known = metric_known is not None and metric_known.smallest_effect is not None
            smallest = effect if effect is not None or known else 0.02
            found = verdict(
                rows,
                task=task,
                metric=name,
                smallest_effect=smallest,
                relative=relative,
                lower_is_better=is_lower,
            )
            if not known:
                stated = (
                    ""
                    if effect is not None
                    else f" The smallest effect was taken as {smallest} (--effect says otherwise)."
                )
                found = replace(found, notes=(assumed + stated, *found.notes))
            verdicts.append(found)
        except ValueError as error:
            problems.append(f"no verdict on {task}: {error}")
    return holm(verdicts), problems


def curves_of(results: pd.DataFrame, lower: bool | None) -> dict[tuple[str, str, str], Curve]:
    """(task, metric, axis) -> curve of tidy results with a row per run and task."""
    return {
        (task, metric, axis): curve
        for task, metric, rows, bounds, is_lower in _directed(results, lower)
        for axis, curve in curves_along(rows, bounds, is_lower)
    }


def outlooks_of(results: pd.DataFrame, lower: bool | None) -> dict[tuple[str, str], Outlook]:
    """(task, metric) -> what tidy results with a row per run and task say beyond the runs."""
    found = {}
    for task, metric, rows, bounds, is_lower in _directed(results, lower):
        said = outlook(
            rows.drop(columns="size").rename(columns={"params": "size"}),
            label_of(metric),
            bounds,
            is_lower,
        )
        if said is not None:
            found[task, metric] = said
    return found


def _directed(
    results: pd.DataFrame, lower: bool | None
) -> Iterator[tuple[str, str, pd.DataFrame, tuple[float, float] | None, bool]]:
    """Task, metric, rows, bounds of the metric and whether lower is better, of tidy results."""
    for (task, metric), rows in results.groupby(["task", "metric"], sort=False):
        is_lower, bounds, _ = direction(str(metric), rows["value"], lower)
        yield str(task), str(metric), rows, bounds, is_lower


def results_table(data: pd.DataFrame, study: str, y: str, metric: str | None) -> pd.DataFrame:
    """A shaped table as the tidy results that a report reads: one row per run and task."""
    parts = []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_scores(part if "duration" in part else part.assign(duration=1.0), name)
        cases = part["case"].nunique() if "case" in part else 0
        trunk = rows["cluster"] if "cluster" in rows else rows["run"]
        parts.append(rows.assign(task=task, metric=name, cases=cases, trunk=trunk))
    results = pd.concat(parts, ignore_index=True)
    results[["run", "trunk"]] = results[["run", "trunk"]].astype(str)
    results["params"] = results["size"]
    results["size"] = [f"{v:.3g}" for v in results["size"]]
    results["seed"] = results.groupby(["task", "metric", "params", "duration"]).cumcount()
    results["objective"] = results["block"].astype(str) if "block" in results else ""
    return results.assign(
        study=study,
        arm="pretrained",
        flops=np.nan,
        protocol="",
        shots=0,
        draw=0,
        site="",
        domain="",
    )

"""Other people's runs as a table that the laws engine reads: a row per run, task and metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import wandb
import wandb.errors

ROLES = ("run", "seed", "cluster", "case", "objective", "task")


def runs_of_wandb(path: str) -> pd.DataFrame:
    """The finished runs of a W&B project "ENTITY/PROJECT", one a row.

    Columns: id, name, group, job_type, and "config.a.b" and "summary.c" for what W&B holds.

    Raises OSError when W&B cannot be asked (it names the reason) and ValueError when the project
    has no finished run.
    """
    try:
        api = wandb.Api(timeout=30)
        finished = {"state": "finished"}
        runs = list(api.runs(path, filters=finished, per_page=200, lazy=False))
    except (wandb.errors.Error, ValueError) as error:
        raise OSError(
            f"W&B cannot be asked for the runs of {path} ({error}); "
            "expected ENTITY/PROJECT, and a key (`wandb login`)"
        ) from error
    if not runs:
        raise ValueError(f"the W&B project {path} has no finished run")
    return pd.DataFrame([run_columns(run) for run in runs])


def run_columns(run: Any) -> dict[str, Any]:
    """A W&B run as one row."""
    facts = {"id": run.id, "name": run.name, "group": run.group, "job_type": run.job_type}
    return facts | flat("config", run.config) | flat("summary", dict(run.summary))


def flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as dotted names."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            row |= flat(f"{prefix}.{name}", value)
        else:
            row[f"{prefix}.{name}"] = value
    return row


def results_of(
    runs: pd.DataFrame,
    size: str,
    duration: str | None,
    scores: Sequence[str],
    roles: Mapping[str, str | None],
) -> pd.DataFrame:
    """The table of results: size, duration, task, metric, value, and the columns that `roles`
    names.

    `roles` maps run, seed, cluster, case, objective and task to columns. Each of `scores` is
    "TASK/METRIC=COLUMN", "METRIC=COLUMN" or "COLUMN". A column of a W&B run may be named without
    its "config." or "summary.". Rows without size, duration or score are left out.

    Raises ValueError for a column that is not there or is ambiguous, holds text where numbers are
    expected, or when no row is left.
    """
    axes = {"size": size} | ({"duration": duration} if duration else {})
    shared = pd.DataFrame(index=runs.index)
    for role, column in roles.items():
        if column:
            shared[role] = runs[find_column(runs, column)]
    if "run" not in shared:
        shared.insert(0, "run", run_names(runs))
    for axis, column in axes.items():
        shared[axis] = numbers(runs, column)
    parts = [with_score(shared, runs, score) for score in scores]
    results = pd.concat(parts, ignore_index=True).dropna(subset=[*axes, "value"])
    if results.empty:
        wanted = ", ".join([*axes.values(), *scores])
        raise ValueError(f"no run has {wanted} at once; nothing to import")
    return results


def run_names(runs: pd.DataFrame) -> pd.Series:
    """W&B's ids where there are any, else a name per row."""
    if "id" in runs:
        return runs[find_column(runs, "id")]
    return pd.Series([f"run{i}" for i in range(len(runs))], runs.index)


def with_score(shared: pd.DataFrame, runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """The shared columns with the task, metric and value of one "TASK/METRIC=COLUMN"."""
    name, _, column = score.rpartition("=")
    task, _, metric = (name or column.rpartition(".")[2]).rpartition("/")
    scored = shared.assign(metric=metric, value=numbers(runs, column))
    if "task" in scored:
        return scored
    return scored.assign(task=task or metric)


def find_column(runs: pd.DataFrame, name: str) -> str:
    """A column by its name, or by what follows "config." or "summary."."""
    if name in runs:
        return name
    candidates = [column for column in (f"config.{name}", f"summary.{name}") if column in runs]
    if len(candidates) > 1:
        raise ValueError(f"{name} is both {candidates[0]} and {candidates[1]}; say which")
    if not candidates:
        raise ValueError(
            f"the runs have no column {name} (found {', '.join(map(str, runs.columns))})"
        )
    return candidates[0]


def numbers(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column as finite numbers; missing stays missing. Raises ValueError naming the first entry
    that is none.
    """
    column = runs[find_column(runs, name)]
    if pd.api.types.is_datetime64_any_dtype(column):  # pandas would count nanoseconds
        raise ValueError(f"column {name} holds dates, such as {column.iloc[0]}: expected numbers")
    values = pd.to_numeric(column, errors="coerce")
    text = column[values.isna() & column.notna()]
    text = text[text.astype(str).str.lower() != "nan"]
    if len(text):
        raise ValueError(f"column {name} holds {text.iloc[0]!r}: expected numbers")
    infinite = column[np.isinf(values.astype(float))]
    if len(infinite):
        raise ValueError(
            f"column {name} holds {len(infinite)} infinite values, the first in row "
            f"{infinite.index[0] + 1}: drop those runs, or write numbers"
        )
    return values.astype(float)

"""Other people's runs as a table that the laws engine reads: one row per run, task and metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import wandb
import wandb.errors

ROLES = ("run", "seed", "cluster", "case", "objective", "task")


def runs_of_wandb(path: str) -> pd.DataFrame:
    """The finished runs of a W&B project "ENTITY/PROJECT": id, name, group, job_type, and "config.a.b" and "summary.c" as columns.

    Raises OSError when W&B cannot be asked (it names the reason) and ValueError when the project has no finished run.
    """
    try:
        runs = list(
            wandb.Api(timeout=30).runs(
                path, filters={"state": "finished"}, per_page=200, lazy=False
            )
        )
    except (wandb.errors.Error, ValueError) as error:
        raise OSError(
            f"W&B cannot be asked for the runs of {path} ({error}); expected ENTITY/PROJECT, and a key (`wandb login`)"
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
        row |= (
            flat(f"{prefix}.{name}", value)
            if isinstance(value, Mapping)
            else {f"{prefix}.{name}": value}
        )
    return row


def results_of(
    runs: pd.DataFrame,
    size: str,
    duration: str | None,
    scores: Sequence[str],
    roles: Mapping[str, str | None],
) -> pd.DataFrame:
    """Columns size, duration, task, metric, value and those that `roles` names (run, seed, cluster, case, objective, task).

    Each of `scores` is "TASK/METRIC=COLUMN", "METRIC=COLUMN" or "COLUMN". A column of a W&B run may be named without its "config."
    or "summary.". Rows without size, duration or score are left out. Raises ValueError for a column that is not there or is ambiguous,
    holds text where numbers are expected, or when no row is left.
    """
    axes = {"size": size} | ({"duration": duration} if duration else {})
    kept = {role: column for role, column in roles.items() if column}
    shared = pd.DataFrame(
        {role: runs[find_column(runs, column)] for role, column in kept.items()}, index=runs.index
    )
    if "run" not in shared:
        shared.insert(
            0,
            "run",
            runs[find_column(runs, "id")]
            if "id" in runs
            else [f"run{i}" for i in range(len(runs))],
        )
    for axis, column in axes.items():
        shared[axis] = numbers(runs, column)
    parts = []
    for score in scores:
        name, _, column = score.rpartition("=")
        task, _, metric = (name or column.rpartition(".")[2]).rpartition("/")
        value = numbers(runs, column)
        part = shared.assign(metric=metric, value=value)
        parts.append(part if "task" in part else part.assign(task=task or metric))
    results = pd.concat(parts, ignore_index=True).dropna(subset=[*axes, "value"])
    if results.empty:
        raise ValueError(
            f"no run has {', '.join([*axes.values(), *scores])} at once; nothing to import"
        )
    return results


def find_column(runs: pd.DataFrame, name: str) -> str:
    """A column by its name, or by what follows "config." or "summary."."""
    if name in runs:
        return name
    found = [column for column in (f"config.{name}", f"summary.{name}") if column in runs]
    if len(found) > 1:
        raise ValueError(f"{name} is both {found[0]} and {found[1]}; say which")
    if not found:
        raise ValueError(
            f"the runs have no column {name} (found {', '.join(map(str, runs.columns))})"
        )
    return found[0]


def numbers(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column as numbers; missing stays missing."""
    column = runs[find_column(runs, name)]
    values = pd.to_numeric(column, errors="coerce")
    text = column[values.isna() & column.notna()]
    text = text[text.astype(str).str.lower() != "nan"]
    if len(text):
        raise ValueError(f"column {name} holds {text.iloc[0]!r}: expected numbers")
    return values.astype(float)

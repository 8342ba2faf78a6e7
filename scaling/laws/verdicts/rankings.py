"""Ranking of models over several tasks, as challenges rank them, and how firm the places are.

Every metric is ranked (ties averaged); the mean of a task's metric ranks is its task rank; the
weighted mean of the task ranks is the overall rank. A task that a model did not enter has a worst
rank: one more than the number of models that entered it, or the number of models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.columns import require_columns
from scaling.laws.known_metrics import METRICS

NotEntered = Literal["after-entrants", "last"]


@dataclass(frozen=True)
class RankedMetric:
    """One column of the table of models."""

    task: str
    column: str
    lower_is_better: bool


@dataclass(frozen=True)
class Ranking:
    """Ranks of models over tasks."""

    table: pd.DataFrame
    """One row per model, best first: model, overall, one column per task, one per metric (all
    ranks). With per-case scores also low and high (95 % bootstrap interval of the overall rank),
    first (share of resamples in which the model leads) and tier."""
    metrics: tuple[RankedMetric, ...]
    """What was ranked."""
    p: FloatArray | None = None
    """Two-sided p [M, M] of every pair's difference, in the order of the table; with per-case
    scores only."""


def metrics_of(table: pd.DataFrame) -> tuple[RankedMetric, ...]:
    """The columns of a table that are named TASK_METRIC with a known metric.

    Raises ValueError if there is none.
    """
    found = []
    for column in map(str, table.columns):
        task, _, name = column.rpartition("_")
        if name.lower() in METRICS:
            found.append(
                RankedMetric(task or column, column, METRICS[name.lower()].lower_is_better)
            )
    if not found:
        raise ValueError(
            "No column is named TASK_METRIC with a known metric (found "
            f"{', '.join(map(str, table.columns))}): name the tasks and their columns."
        )
    return tuple(found)


def ranks(
    values: FloatArray,
    lower_is_better: Sequence[bool],
    task: IntArray,
    weights: Sequence[float] | None = None,
    not_entered: NotEntered = "after-entrants",
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rank values [..., M models, C metrics], of which NaN are missing.

    Returns ranks of metrics [..., M, C], of tasks [..., M, T] and overall [..., M]. `task` [C]
    numbers the task of each metric, `weights` [T] are the tasks' (default: equal). A missing value
    ranks one more than the models that have one ("after-entrants"), or as M ("last").
    """
    missing = np.isnan(values)
    signed = np.where(lower_is_better, values, -values)
    metric = rankdata(np.where(missing, np.inf, signed), axis=-2)
    match not_entered:
        case "after-entrants":
            worst = (~missing).sum(-2, keepdims=True) + 1.0
        case "last":
            worst = np.full_like(metric[..., :1, :], values.shape[-2])
    metric = np.where(missing, worst, metric)
    by_task = np.stack([metric[..., task == k].mean(-1) for k in np.unique(task)], axis=-1)
    if weights is None:
        return metric, by_task, by_task.mean(-1)
    return metric, by_task, by_task @ (np.asarray(weights) / np.sum(weights))


def rank(
    table: pd.DataFrame,
    model: str,
    metrics: Sequence[RankedMetric],
    weights: Mapping[str, float] | None = None,
    not_entered: NotEntered = "after-entrants",
) -> Ranking:
    """Rank the rows of a models x metrics table.

    `weights` gives the weight of every task (default: equal). Raises ValueError on missing
    columns, repeated models or text in a metric.
    """
    require_columns(table, [model, *(m.column for m in metrics)])
    if table.empty:
        raise ValueError("The table has no rows: nothing to rank.")
    if table[model].duplicated().any():
        again = table.loc[table[model].duplicated(), model].iloc[0]
        raise ValueError(f"Column {model} holds {again} more than once: one row a model.")
    values = np.stack([_numbers(table, m.column) for m in metrics], axis=1)
    task_names = list(dict.fromkeys(m.task for m in metrics))
    task = np.array([task_names.index(m.task) for m in metrics])
    task_weights = None if weights is None else [weights[name] for name in task_names]
    metric, by_task, overall = ranks(
        values, [m.lower_is_better for m in metrics], task, task_weights, not_entered
    )
    result = pd.DataFrame({"model": table[model].astype(str).to_numpy(), "overall": overall})
    for k, name in enumerate(task_names):
        result[name] = by_task[:, k]
    for c, m in enumerate(metrics):
        result[f"{m.column} rank"] = metric[:, c]
    return Ranking(result.sort_values("overall", kind="stable", ignore_index=True), tuple(metrics))


def _numbers(table: pd.DataFrame, column: str) -> FloatArray:
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    text = np.isnan(numbers) & table[column].notna().to_numpy()
    if text.any():
        raise ValueError(
            f"Column {column} holds {table.loc[text, column].iloc[0]!r}, not a number: leave it "
            "empty if it is missing."
        )
    return numbers


def better_than(
    table: pd.DataFrame, model: str, metrics: Sequence[RankedMetric], controls: Sequence[str]
) -> pd.DataFrame:
    """Finding (a): how many models are better than each control.

    One row per control and metric: better, of, share.
    """
    absent = [c for c in controls if c not in set(table[model].astype(str))]
    if absent:
        raise ValueError(f"No row of column {model} is named {', '.join(absent)}.")
    is_control = table[model].astype(str).isin(controls).to_numpy()
    rows = []
    for control in controls:
        for m in metrics:
            values = _numbers(table, m.column)
            reference = values[(table[model].astype(str) == control).to_numpy()][0]
            models = values[~is_control & ~np.isnan(values)]
            if np.isnan(reference) or len(models) == 0:
                continue
            better = int(
                (models < reference).sum() if m.lower_is_better else (models > reference).sum()
            )
            rows.append((control, m.task, m.column, better, len(models), better / len(models)))
    return pd.DataFrame(rows, columns=["control", "task", "metric", "better", "of", "share"])


def rank_differences(
    ranking: Ranking, objectives: Mapping[str, str], confidence: float = 0.90
) -> pd.DataFrame:
    """Finding (b): rank on one task less rank on another, averaged by pretraining objective.

    Negative: better on the first. With a t interval over models (none for a single model).
    """
    tasks = list(dict.fromkeys(m.task for m in ranking.metrics))
    group = ranking.table["model"].map(objectives)
    rows = []
    for i, first in enumerate(tasks):
        for second in tasks[i + 1 :]:
            difference = ranking.table[first] - ranking.table[second]
            for objective, part in difference.groupby(group):
                n, mean = len(part), float(part.mean())
                half = (
                    float(
                        student_t.ppf((1 + confidence) / 2, n - 1) * part.std(ddof=1) / np.sqrt(n)
                    )
                    if n > 1
                    else None
                )
                low, high = (None, None) if half is None else (mean - half, mean + half)
                rows.append((first, second, objective, n, mean, low, high))
    return pd.DataFrame(
        rows, columns=["task", "other_task", "objective", "models", "difference", "low", "high"]
    )

"""Ranking of models over several tasks, as challenges rank them, and how firm the places are.

Every metric is ranked (ties averaged); the mean of a task's metric ranks is its task rank; the
weighted mean of the task ranks is the overall rank. A task that a model did not enter has a worst
rank: one more than the number of models that entered it, or the number of models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.columns import require_columns
from scaling.laws.known_metrics import METRICS
from scaling.laws.verdicts.scores import scores

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


def rank_cases(
    cases: pd.DataFrame,
    metrics: Sequence[RankedMetric],
    resamples: int = 10_000,
    permutations: int = 100_000,
    seed: int = 0,
    level: float = 0.05,
) -> Ranking:
    """Rank models from per-case scores.

    `cases` is a long table with columns model, task, metric, case and value (or label and
    prediction for auroc and pearson); `RankedMetric.column` names the metric. Every model of a task
    is scored on the same cases.

    Cases are resampled within each task (for AUROC within each class), all metrics of a task on the
    same cases, and the ranks recomputed: `low`, `high`, `first`. Pairs are compared by exchanging
    two models' scores case by case, p = (b + 1) / (m + 1) (Phipson and Smyth 2010). AUROC and
    Pearson's r enter by their per-case values (see `scores`): both tests are of their linear parts.
    """
    models = sorted(cases["model"].astype(str).unique())
    per_metric = [_case_values(cases, m, models) for m in metrics]
    task_names = list(dict.fromkeys(m.task for m in metrics))
    task = np.array([task_names.index(m.task) for m in metrics])
    lower = [m.lower_is_better for m in metrics]
    points = np.stack([v.mean(1) for v, _ in per_metric], axis=1)
    several = {m.column for m in metrics if sum(m.column == other.column for other in metrics) > 1}
    named = [
        replace(m, column=f"{m.task}_{m.column}") if m.column in several else m for m in metrics
    ]
    wide = pd.DataFrame(points, columns=[m.column for m in named]).assign(model=models)
    ranking = rank(wide, "model", named)
    order = [models.index(m) for m in ranking.table["model"]]
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    overall = np.concatenate(
        [ranks(_resampled(per_metric, task, n, rng), lower, task)[2] for n in _blocks(resamples)]
    )[:, order]
    p = _pairwise_p([v for v, _ in per_metric], task, lower, permutations, rng)[
        np.ix_(order, order)
    ]
    table = ranking.table
    low, high = np.percentile(overall, [2.5, 97.5], axis=0)
    table.insert(2, "low", low)
    table.insert(3, "high", high)
    table.insert(4, "first", (overall == overall.min(1, keepdims=True)).mean(0))
    table.insert(5, "tier", tiers(p, level))
    return Ranking(table, tuple(named), p)


def tiers(p: FloatArray, level: float = 0.05) -> IntArray:
    """Tiers [M] of models in the order of their rank.

    The first model opens one; a model that differs from the opener (p < level) opens the next.
    """
    tier, opened = np.ones(len(p), np.int64), 0
    for i in range(1, len(p)):
        if p[opened, i] < level:
            opened = i
            tier[i:] += 1
    return tier


def _case_values(
    cases: pd.DataFrame, metric: RankedMetric, models: list[str]
) -> tuple[FloatArray, IntArray]:
    """Per-case values [M, J] whose mean is the metric, and the strata of the cases [J].

    A model without the task has NaN.
    """
    part = cases[(cases["task"] == metric.task) & (cases["metric"] == metric.column)]
    if part.empty:
        raise ValueError(
            f"The table holds no rows of task {metric.task} and metric {metric.column}."
        )
    data = scores(part.assign(run=part["model"].astype(str)).drop(columns=["model"]), metric.column)
    values = np.full((len(models), data.values.shape[2]), np.nan)
    values[[models.index(m) for m in data.runs["run"]]] = data.values.mean(1)
    return values, data.strata


def _blocks(total: int, size: int = 2_000) -> list[int]:
    return [min(size, total - i) for i in range(0, total, size)]


def _resampled(
    per_metric: list[tuple[FloatArray, IntArray]],
    task: IntArray,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Metrics [B, M, C] under resampled cases, the same cases for all metrics of a task."""
    drawn: dict[tuple[int, int], FloatArray] = {}
    result = []
    for k, (values, strata) in zip(task, per_metric, strict=True):
        J = values.shape[1]
        if (k, J) not in drawn:
            weights = np.empty((resamples, J))
            for group in np.unique(strata):
                n = int((strata == group).sum())
                weights[:, strata == group] = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
            drawn[k, J] = weights / J
        result.append(drawn[k, J] @ values.T)
    return np.stack(result, axis=2)


def _pairwise_p(
    values: list[FloatArray],
    task: IntArray,
    lower: Sequence[bool],
    permutations: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Two-sided p [M, M] when two models exchange their scores case by case.

    The statistic is the mean over tasks of the mean over metrics of the difference, in units of its
    standard error under exchange; a metric that either model lacks does not count.
    """
    M = len(values[0])
    first, second = np.triu_indices(M, 1)
    scaled, weight = [], np.zeros((len(task), len(first)))
    for c, v in enumerate(values):
        difference = (v[first] - v[second]) * (-1.0 if lower[c] else 1.0)  # [pairs, J]
        spread = np.sqrt((difference**2).sum(1, keepdims=True))
        weight[c] = 1 / (task == task[c]).sum() * ~np.isnan(spread[:, 0])
        scaled.append(np.nan_to_num(difference / np.where(spread > 0, spread, 1.0)))
    observed = sum(w * d.sum(1) for w, d in zip(weight, scaled, strict=True))
    beyond = np.zeros(len(first))
    for n in _blocks(permutations):
        signs = {
            (k, v.shape[1]): rng.choice([-1.0, 1.0], (n, v.shape[1]))
            for k, v in zip(task, values, strict=True)
        }
        drawn = sum(
            w * (signs[k, d.shape[1]] @ d.T) for k, w, d in zip(task, weight, scaled, strict=True)
        )
        beyond += (np.abs(drawn) >= np.abs(observed) - 1e-12).sum(0)
    p = np.ones((M, M))
    p[first, second] = p[second, first] = (beyond + 1) / (permutations + 1)
    return p

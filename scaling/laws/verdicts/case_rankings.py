"""Ranking of models from their scores of every test case, and how firm the places are: resampled
cases, and scores exchanged between two models.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.verdicts.rankings import RankedMetric, Ranking, rank, ranks
from scaling.laws.verdicts.scores import scores


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
    per_metric = [_case_values(cases, metric, models) for metric in metrics]
    values = [of_cases for of_cases, _ in per_metric]  # per metric [M, J]
    task_names = list(dict.fromkeys(metric.task for metric in metrics))
    task = np.array([task_names.index(metric.task) for metric in metrics])
    lower = [metric.lower_is_better for metric in metrics]
    named = _with_own_columns(metrics)
    means = np.stack([of_cases.mean(1) for of_cases in values], axis=1)  # [M, C]
    wide = pd.DataFrame(means, columns=[metric.column for metric in named]).assign(model=models)
    ranking = rank(wide, "model", named)
    order = [models.index(model) for model in ranking.table["model"]]
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    blocks = []
    for count in _blocks(resamples):
        _, _, of_block = ranks(_resampled(per_metric, task, count, rng), lower, task)
        blocks.append(of_block)
    overall = np.concatenate(blocks)[:, order]  # [resamples, M]
    p = _pairwise_p(values, task, lower, permutations, rng)[np.ix_(order, order)]
    table = ranking.table
    low, high = np.percentile(overall, [2.5, 97.5], axis=0)
    table.insert(2, "low", low)
    table.insert(3, "high", high)
    table.insert(4, "first", (overall == overall.min(1, keepdims=True)).mean(0))
    table.insert(5, "tier", tiers(p, level))
    return Ranking(table, tuple(named), p)


def _with_own_columns(metrics: Sequence[RankedMetric]) -> list[RankedMetric]:
    """The metrics, those of one name named after their tasks as well."""
    names = [metric.column for metric in metrics]
    renamed = []
    for metric in metrics:
        if names.count(metric.column) > 1:
            metric = replace(metric, column=f"{metric.task}_{metric.column}")
        renamed.append(metric)
    return renamed


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
    """Sizes of the blocks that `total` resamples are drawn in, so that few are in memory."""
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
        sign = -1.0 if lower[c] else 1.0
        difference = (v[first] - v[second]) * sign  # [pairs, J]
        # Under exchange every difference changes its sign at random: this is the sum's sd.
        spread = np.sqrt((difference**2).sum(1, keepdims=True))
        both_entered = ~np.isnan(spread[:, 0])
        weight[c] = 1 / (task == task[c]).sum() * both_entered
        scaled.append(np.nan_to_num(difference / np.where(spread > 0, spread, 1.0)))
    observed = sum(w * d.sum(1) for w, d in zip(weight, scaled, strict=True))
    beyond = np.zeros(len(first))
    for n in _blocks(permutations):
        # All metrics of a task that have the same cases exchange the same ones.
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

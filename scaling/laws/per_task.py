"""Verdicts, curves and tidy results of every task of a table."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.laws.curves.along import curves_along
from scaling.laws.curves.curve import Curve
from scaling.laws.curves.outlook import Outlook, outlook
from scaling.laws.known_metrics import known_metric, label_of
from scaling.laws.tables import direction, in_percent, tasks_of
from scaling.laws.verdicts.scores import run_scores
from scaling.laws.verdicts.verdict import Verdict, holm, verdict

USUAL_EFFECT = 0.02
"""Smallest effect of a metric between 0 and 1 of which nobody stated one."""


def judged(
    data: pd.DataFrame,
    y: str,
    metric: str | None,
    lower: bool | None,
    effect: float | None,
    relative: bool | None,
) -> tuple[list[Verdict], list[str]]:
    """A verdict per task of a shaped table, and a sentence for every task that cannot be judged.

    The smallest effect of a metric about which nothing is agreed is taken as .02, or 2 points
    where it is in percent, with a note."""
    verdicts, problems = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = part.drop(columns="task", errors="ignore")
        try:
            verdicts.append(_judged_task(rows, task, name, lower, effect, relative))
        except ValueError as error:
            problems.append(f"no verdict on {task}: {error}")
    return holm(verdicts), problems


def _judged_task(
    rows: pd.DataFrame,
    task: str,
    name: str,
    lower: bool | None,
    effect: float | None,
    relative: bool | None,
) -> Verdict:
    values = run_scores(rows, name)["value"]
    is_lower, bounds, assumed = direction(name, values, lower)
    known = known_metric(name)
    if lower is None and known is None and bounds is None:
        raise ValueError(
            f"nothing is known of {name}, and it is not within 0 and 1: say which way is better, "
            "--lower or --higher."
        )
    agreed = known is not None and known.smallest_effect is not None
    smallest = effect
    if effect is None and not agreed:
        smallest = 100 * USUAL_EFFECT if in_percent(name, values) else USUAL_EFFECT
    result = verdict(
        rows,
        task=task,
        metric=name,
        smallest_effect=smallest,
        relative=relative,
        lower_is_better=is_lower,
    )
    if agreed:
        return result
    if effect is None:
        assumed += f" The smallest effect was taken as {smallest:g} (--effect says otherwise)."
    return replace(result, notes=(assumed, *result.notes))


def curves_of(results: pd.DataFrame, lower: bool | None) -> dict[tuple[str, str, str], Curve]:
    """(task, metric, axis) -> curve of tidy results with a row per run and task."""
    return {
        (task, metric, axis): curve
        for task, metric, rows, bounds, is_lower in _directed(results, lower)
        for axis, curve in curves_along(rows, bounds, is_lower)
    }


def outlooks_of(results: pd.DataFrame, lower: bool | None) -> dict[tuple[str, str], Outlook]:
    """(task, metric) -> what tidy results with a row per run and task say beyond the runs."""
    outlooks = {}
    for task, metric, rows, bounds, is_lower in _directed(results, lower):
        of_task = outlook(
            rows.drop(columns="size").rename(columns={"params": "size"}),
            label_of(metric),
            bounds,
            is_lower,
        )
        if of_task is not None:
            outlooks[task, metric] = of_task
    return outlooks


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

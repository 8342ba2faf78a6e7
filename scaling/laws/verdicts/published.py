"""Published values with intervals, but no cases: what may be concluded over tasks.

Tasks of one cohort share its patients, so a gain that shows on five tasks of one cohort is one
piece of evidence, not five. The unit of a summary is the cohort: its tasks are averaged first, and
the interval over cohorts is Student's on cohorts - 1 degrees of freedom. A task on which every
model, controls included, is at chance says nothing of a difference: it is named and left out.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.known_metrics import METRICS, known_metric
from scaling.laws.plain import plain

ENDS = (("low", "high"), ("low95", "high95"), ("lower", "upper"), ("ci_low", "ci_high"))
CHANCE = {"auroc": 0.5, "auc": 0.5, "r": 0.0, "pearson": 0.0, "corr": 0.0}
"""Metric -> its value without any information."""

SIZE_COLUMNS = ("size", "params", "parameters", "backbone", "architecture")
DATA_COLUMNS = ("duration", "subjects", "scans", "samples", "images", "data")


@dataclass(frozen=True)
class Step:
    """The gain from the first to the last level of one axis, the other axis fixed."""

    axis: str
    first: str
    last: str
    at: str
    tasks: int
    cohorts: int
    by_cohort: tuple[float, float, float]
    """Estimate, low and high of the mean over cohorts."""
    by_task: tuple[float, float, float]
    """The same, as if tasks were independent."""
    with_chance: tuple[float, float, float]
    """The mean over cohorts with the tasks at chance among the others."""
    single: tuple[str, ...]
    """Tasks whose own interval for the difference (models unpaired) leaves out nought."""
    sentence: str


@dataclass(frozen=True)
class Published:
    """What a table of published values says."""

    steps: tuple[Step, ...]
    at_chance: tuple[str, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-safe."""
        return cast(dict[str, Any], plain(self))


def interval_columns(table: pd.DataFrame) -> tuple[str, str] | None:
    """The columns of the ends of published intervals; None where there are none."""
    return next((ends for ends in ENDS if set(ends) <= set(table)), None)


def is_published(table: pd.DataFrame) -> bool:
    """Whether a table holds published values with intervals, and no runs or cases of its own."""
    alone = not {"run", "seed", "draw", "case"} & set(table)
    return alone and {"task", "value"} <= set(table) and interval_columns(table) is not None


def axes_of_published(table: pd.DataFrame, x: tuple[str, ...]) -> tuple[str, ...]:
    """The columns `x`; where the table has none of them, its usual columns of size and of data."""
    if set(x) & set(table):
        return tuple(column for column in x if column in table)
    usual = []
    for names in (SIZE_COLUMNS, DATA_COLUMNS):
        usual += [name for name in names if name in table][:1]
    if not usual:
        raise ValueError(
            f"The table of published values has no column {' or '.join(x)} (found "
            f"{', '.join(map(str, table.columns))}): name the columns of size and data, --x."
        )
    return tuple(usual)


def published_verdict(
    table: pd.DataFrame, x: tuple[str, ...], confidence: float = 0.95
) -> Published:
    """Steps along the axes `x` (one or two columns; text is ordered by first occurrence).

    Needs columns task, value, the ends of 95 % intervals, and perhaps cohort and metric. Raises
    ValueError where the axes do not cross."""
    ends = interval_columns(table)
    assert ends is not None
    require_columns(table, [*x, "task", "value"])
    table = table.assign(
        cohort=table["cohort"] if "cohort" in table else table["task"],
        name=_task_names(table),
        se=(table[ends[1]] - table[ends[0]]) / (2 * 1.96),
    )
    at_chance = _at_chance(table, ends)
    rows_that_count = table[~table["name"].isin(at_chance) & table[list(x)].notna().all(axis=1)]
    steps = []
    for axis in x:
        others = [column for column in x if column != axis]
        groups = (
            rows_that_count.groupby(others[0], sort=False) if others else [("", rows_that_count)]
        )
        for level, rows in groups:
            everything = table[table[others[0]] == level] if others else table
            step = _step(rows, everything, axis, str(level) if others else "", confidence)
            if step is not None:
                steps.append(step)
    if not steps:
        raise ValueError(
            f"No task was scored at two levels of {' or '.join(x)} with the other one fixed: "
            "nothing can be compared."
        )
    sentences = [step.sentence for step in steps]
    if at_chance:
        sentences.append(f"At chance for every model, and left out: {', '.join(at_chance)}.")
    sentences.append(
        "One run a model: none of this tells a gain of size or data from another seed. Values "
        "only: models cannot be compared case by case."
    )
    return Published(tuple(steps), tuple(at_chance), tuple(sentences))


def _task_names(table: pd.DataFrame) -> pd.Series:
    if "cohort" not in table:
        return table["task"].astype(str)
    return table["cohort"].astype(str) + " " + table["task"].astype(str)


def _at_chance(table: pd.DataFrame, ends: tuple[str, str]) -> list[str]:
    """Tasks on which no model's interval leaves out chance on the better side."""
    if "metric" not in table:
        return []
    names = []
    for name, rows in table.groupby("name", sort=False):
        chance = CHANCE.get(str(rows["metric"].iloc[0]).lower())
        if chance is not None and (rows[ends[0]] <= chance).all():
            names.append(str(name))
    return names


def _step(
    rows: pd.DataFrame, everything: pd.DataFrame, axis: str, at: str, confidence: float
) -> Step | None:
    """The step along `axis` in rows where the other axis is fixed; None where it has one level.

    `everything`: the same rows with the tasks at chance."""
    levels = rows[axis].dropna().unique().tolist()
    if pd.api.types.is_numeric_dtype(rows[axis]):
        levels = sorted(levels)
    if len(levels) < 2:
        return None
    first, last, gain = _gains(rows, axis, levels)
    if len(gain) == 0:
        return None
    se = np.hypot(first["se"].to_numpy(float), last["se"].to_numpy(float))
    of_cohort = gain.groupby(first["cohort"]).mean()
    by_cohort = _interval(of_cohort.to_numpy(float), confidence)
    by_task = _interval(gain.to_numpy(float), confidence)
    single = tuple(gain.index[np.abs(gain.to_numpy(float)) > 1.96 * se].astype(str))
    _, _, of_all = _gains(everything, axis, levels)
    cohort = everything.drop_duplicates("name").set_index("name")["cohort"]
    with_chance = _interval(of_all.groupby(cohort).mean().to_numpy(float), confidence)
    where = f" at {at}" if at else ""
    names = (_level(levels[0]), _level(levels[-1]))
    low, high = by_cohort[1:]
    # A claim must not hinge on which tasks were left out.
    word = "undetermined"
    if min(low, with_chance[1]) > 0:
        word = "a gain"
    elif max(high, with_chance[2]) < 0:
        word = "a loss"
    sentence = (
        f"{axis} {names[0]} to {names[1]}{where}: {word}: {by_cohort[0]:+.3f} ({confidence:.0%} "
        f"interval {low:+.3f} to {high:+.3f}) over {len(of_cohort)} cohorts; as if the {len(gain)} "
        f"tasks were independent {by_task[0]:+.3f} ({by_task[1]:+.3f} to {by_task[2]:+.3f}); with "
        f"the tasks at chance {with_chance[0]:+.3f} ({with_chance[1]:+.3f} to "
        f"{with_chance[2]:+.3f}) over cohorts. On their own: {', '.join(single) or 'no task'}."
    )
    return Step(
        axis,
        names[0],
        names[1],
        at,
        len(gain),
        len(of_cohort),
        by_cohort,
        by_task,
        with_chance,
        single,
        sentence,
    )


def _gains(
    rows: pd.DataFrame, axis: str, levels: list[object]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Rows of the first and of the last level by task, and the gain (positive is better)."""
    first, last = (
        rows[rows[axis] == level].drop_duplicates("name").set_index("name")
        for level in (levels[0], levels[-1])
    )
    shared = first.index.intersection(last.index)
    first, last = first.loc[shared], last.loc[shared]
    sign = np.ones(len(shared))
    if "metric" in rows:
        sign = np.array([-1.0 if _is_error(str(m)) else 1.0 for m in first["metric"]])
    gain = pd.Series(sign * (last["value"] - first["value"]).to_numpy(float), index=shared)
    return first, last, gain


def _is_error(metric: str) -> bool:
    known = METRICS.get(metric.lower()) or known_metric(metric)
    return known is not None and known.lower_is_better


def _level(level: object) -> str:
    return f"{level:g}" if isinstance(level, int | float) else str(level)


def _interval(values: FloatArray, confidence: float) -> tuple[float, float, float]:
    """Mean with Student's interval; without one of finite width for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -np.inf, np.inf
    se = float(values.std(ddof=1)) / np.sqrt(len(values))
    half = float(student_t.ppf((1 + confidence) / 2, len(values) - 1)) * se
    return mean, mean - half, mean + half

"""From a table of runs x draws x cases to one array of per-case scores, whose mean is the metric.

Every metric becomes an array `values` [R runs, K draws, J cases] with `values.mean(-1)` equal to
the metric of each run and draw, so that one crossed analysis of variance serves them all. Dice,
surface Dice and absolute errors are means over cases already; AUROC enters by its placement
values (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837) and Pearson's r by its
influence values (Devlin, Gnanadesikan and Kettenring 1975, Biometrika 62:531), which have the
right mean and, over cases, the right variance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.columns import require_columns
from scaling.laws.verdicts.case_values import (
    FROM_PREDICTIONS,
    auroc_values,
    pearson_values,
    placement_values,
)
from scaling.laws.verdicts.nesting import (
    by_patient,
    check_columns,
    label_of_cases,
    name_cases_by_site,
    no_site_holds_both,
    numbered,
    values_within_sites,
)
from scaling.laws.verdicts.trunks import with_runs_of_seeds

__all__ = [
    "FROM_PREDICTIONS",
    "Scores",
    "auroc_values",
    "pearson_values",
    "placement_values",
    "run_scores",
    "scores",
    "scores_on_axes",
]

RUN_COLUMNS = ("size", "duration", "block", "cluster", "arm", "network")


@dataclass(frozen=True)
class Scores:
    """Scores of every run, draw and case, whose mean over cases is the metric."""

    values: FloatArray
    """[R runs, K draws, J cases]; J counts patients where the table names them."""
    runs: pd.DataFrame
    """One row per run: size, duration, cluster (and block, arm, network)."""
    strata: IntArray
    """[J] numbers the groups that cases were drawn from separately: sites, and the classes of an
    AUROC."""
    notes: tuple[str, ...]
    """What the table lacked, and what was assumed."""
    site: npt.NDArray[np.object_] | None = None
    """[J] the site of every case; None where the table names none."""


def scores(cases: pd.DataFrame, metric: str) -> Scores:
    """Arrange a long table as `Scores`: columns run, draw, case, site, patient, and either value,
    or label and prediction; size, duration, block, cluster, arm per run.

    Columns run, draw, case, site, patient and cluster may be absent; the notes then say what is
    lost. Raises ValueError, in one sentence, on missing columns, missing numbers, duplicated rows
    or an empty crossing."""
    needed = needed_columns(cases, metric)
    table, notes = with_runs_of_seeds(_checked(cases, needed))
    check_columns(table)
    if "case" not in table and "site" in table:
        notes.append("No case column: every site counts as one case.")
    _add_missing_columns(table := name_cases_by_site(table), notes)
    _refuse_repeats(table, ["run", "draw", "case"])
    runs = _runs_of(table)
    arrays = [_crossed(table, column, notes) for column in needed]
    names = arrays[0][1]
    site, patient = (label_of_cases(table, names, column) for column in ("site", "patient"))
    values = arrays[0][0]
    strata = np.zeros(len(names), np.int64) if site is None else numbered(site)
    if needed != ("value",):
        label, prediction = values[0, 0], arrays[1][0]
        if (values != label).any():
            raise ValueError(
                "Column label changes between runs for one case: the same cases must carry the "
                "same labels."
            )
        if site is not None and no_site_holds_both(label, site):
            notes.append(
                f"No site holds cases of different labels: {metric} is computed across sites, "
                "whose differences it takes in, and says nothing of other sites."
            )
            site = None
        if site is not None:
            values, strata, site, scored, more = values_within_sites(
                metric, label, prediction, site
            )
            notes += more
            patient = None if patient is None else patient[scored]
        else:
            of_metric = FROM_PREDICTIONS[metric]
            values = np.stack([[of_metric(label, p) for p in run] for run in prediction])
            strata = np.zeros(len(label), np.int64)
            if metric == "auroc":
                strata = label.astype(np.int64)
    if patient is not None and len(np.unique(patient)) < len(patient):
        cases_scored = len(patient)
        values, site = by_patient(values, patient, site)
        strata = np.zeros(values.shape[-1], np.int64) if site is None else numbered(site)
        notes.append(f"The {cases_scored} cases are those of {values.shape[-1]} patients.")
    return Scores(values, runs, strata, tuple(dict.fromkeys(notes)), site)


def needed_columns(cases: pd.DataFrame, metric: str) -> tuple[str, ...]:
    """The columns a metric is read from; raises ValueError where the table lacks them."""
    needed: tuple[str, ...] = ("value",)
    source = "a column value"
    if metric in FROM_PREDICTIONS:
        source = "label and prediction"
        if "prediction" in cases:
            needed = ("label", "prediction")
    require_columns(cases, needed, f"{metric} is read from {source}")
    return needed


def _checked(cases: pd.DataFrame, needed: tuple[str, ...]) -> pd.DataFrame:
    """A copy of the table with scores, sizes and durations as finite numbers."""
    if cases.empty:
        raise ValueError("The table has no rows: nothing to judge.")
    if "run" not in cases and cases.duplicated().any():
        copies = cases.duplicated()
        raise ValueError(
            f"{int(copies.sum())} rows are exact copies of others (first at row "
            f"{cases.index[copies][0]}): drop them, or name what tells repeated runs apart in a "
            "column run."
        )
    table = cases.copy()
    for column in (*needed, *(c for c in ("size", "duration") if c in table)):
        numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
        wrong = ~np.isfinite(numbers)
        if wrong.any():
            raise ValueError(
                f"Column {column} holds {int(wrong.sum())} missing or non-numeric entries "
                f"(first at row {numbers.index[wrong][0]}): score or drop those rows first."
            )
        table[column] = numbers
    return table


def _refuse_repeats(table: pd.DataFrame, keys: list[str]) -> None:
    """Raise ValueError naming rows that share a run, and a draw and case where there are any."""
    repeats = table.duplicated(keys)
    if repeats.any():
        example = table.loc[repeats, keys].iloc[0].to_dict()
        raise ValueError(
            f"{int(repeats.sum())} rows repeat a run, draw and case (for example {example}): keep "
            "one row each, or name what tells them apart in the columns run and draw."
        )


def _runs_of(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run with what is the same for all its rows."""
    columns = [column for column in RUN_COLUMNS if column in table]
    runs = table.groupby("run", sort=True)[columns].first()
    for column in columns:
        if len(table[["run", column]].drop_duplicates()) > table["run"].nunique():
            raise ValueError(f"Column {column} changes within one run: give each run one {column}.")
    return runs.reset_index()


def scores_on_axes(cases: pd.DataFrame, metric: str) -> Scores:
    """`scores` of runs that differ in size and duration; an axis that the table lacks counts as
    one level."""
    return scores(
        cases.assign(**{axis: 1.0 for axis in ("size", "duration") if axis not in cases}), metric
    )


def _add_missing_columns(table: pd.DataFrame, notes: list[str]) -> None:
    cell = [c for c in ("arm", "block", "size", "duration") if c in table]
    if "case" not in table:
        table["case"] = 0
        notes.append(
            "No case column: the test cases count as fixed, so the interval does not cover "
            "another test set."
        )
    if "draw" not in table:
        table["draw"] = 0
    if "run" not in table:
        if not cell:
            raise ValueError(
                "The table has neither a run column nor size or duration: cannot tell the runs "
                "apart."
            )
        repeat = table.groupby([*cell, "draw", "case"]).cumcount()
        names = table[cell].astype(str).agg("/".join, axis=1)
        table["run"] = names + "#" + repeat.astype(str)
        notes.append(
            "No run column: rows of one cell and case count as separate runs, in the order of the "
            "table."
        )
    if "cluster" not in table:
        table["cluster"] = table["run"]
    elif table["cluster"].isna().any():
        table["cluster"] = table["cluster"].where(table["cluster"].notna(), table["run"])


def _crossed(table: pd.DataFrame, column: str, notes: list[str]) -> tuple[FloatArray, list[object]]:
    """One column as [R, K, J] over the draws and cases that every run shares."""
    wide = table.set_index(["run", "draw", "case"])[column].unstack("case")  # noqa: PD010
    R = wide.index.get_level_values("run").nunique()
    per_draw = wide.groupby(level="draw").size()
    shared = per_draw.index[per_draw == R]
    if len(shared) < len(per_draw):
        if len(shared) == 0:
            raise ValueError(
                "No draw is shared by all runs: every run must be finetuned on the same few-shot "
                "draws."
            )
        notes.append(
            f"{len(per_draw) - len(shared)} of {len(per_draw)} draws are not shared by all runs "
            "and were left out."
        )
        wide = wide[wide.index.get_level_values("draw").isin(shared)]
    complete = wide.notna().all()
    if not complete.all():
        if not complete.any():
            raise ValueError(
                "No test case is scored for every run and draw: all runs must be scored on the "
                "same cases."
            )
        notes.append(
            f"{int((~complete).sum())} of {len(complete)} cases are not scored for every run and "
            "were left out."
        )
        wide = wide.loc[:, complete]
    wide = wide.sort_index()
    return wide.to_numpy(float).reshape(R, len(shared), wide.shape[1]), list(wide.columns)


def run_means(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run: the mean of `value` over its draws and cases, with the run's other columns.

    Without a column run or seed, the rows of a cell and case count as separate runs, in the order
    of the table. Raises ValueError where rows repeat a run, draw and case, or lack a value."""
    if table["value"].isna().any():
        raise ValueError(
            f"Column value holds {int(table['value'].isna().sum())} missing entries: score or drop "
            "those rows first."
        )
    table, _ = with_runs_of_seeds(name_cases_by_site(table))
    cell = [c for c in ("size", "duration") if c in table]
    nested = [c for c in ("draw", "case") if c in table]
    if "run" in table:
        _refuse_repeats(table, ["run", *nested])
    else:
        repeat = table.groupby([*cell, *nested], dropna=False).cumcount()
        names = table[cell].astype(str).agg("/".join, axis=1)
        table = table.assign(run=names + "#" + repeat.astype(str))
    columns = [c for c in ("run", *cell, "block", "cluster") if c in table]
    return pd.DataFrame(table.groupby(columns, as_index=False, sort=False)["value"].mean())


def run_scores(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run with its score in `value`: from labels and predictions where the metric is
    one of those, else `run_means`."""
    if metric in FROM_PREDICTIONS and {"label", "prediction"} <= set(table):
        data = scores(table, metric)
        return data.runs.assign(value=data.values.mean((1, 2)))
    return run_means(table)

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
from scipy.stats import rankdata

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.columns import require_columns

RUN_COLUMNS = ("size", "duration", "block", "cluster", "arm", "network")


@dataclass(frozen=True)
class Scores:
    """`values` [R, K, J]; `runs`: one row per run with size, duration, cluster (and block, arm,
    network); `strata` [J] numbers the groups that the cases were drawn from separately (the two
    classes of an AUROC, else one group); `notes`: what the table lacked."""

    values: FloatArray
    runs: pd.DataFrame
    strata: IntArray
    notes: tuple[str, ...]


def placement_values(label: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[float, FloatArray]:
    """AUROC, and for each case the share of the other class that it is ordered rightly against
    [J] (ties count half)."""
    positive = np.asarray(label).astype(bool)
    score = np.asarray(prediction, float)
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        raise ValueError(f"AUROC needs both classes: found {m} positive and {n} negative cases.")
    overall = rankdata(score)
    placement = np.empty(len(score))
    placement[positive] = (overall[positive] - rankdata(score[positive])) / n
    placement[~positive] = 1 - (overall[~positive] - rankdata(score[~positive])) / m
    return float(placement[positive].mean()), placement


def auroc_values(label: npt.ArrayLike, prediction: npt.ArrayLike) -> FloatArray:
    """Per-case values [J] with mean AUROC whose stratified variance of the mean is DeLong's."""
    positive = np.asarray(label).astype(bool)
    auroc, placement = placement_values(positive, prediction)
    share = np.where(positive, positive.mean(), 1 - positive.mean())
    return auroc + (placement - auroc) / share


def pearson_values(label: npt.ArrayLike, prediction: npt.ArrayLike) -> FloatArray:
    """Per-case values [J] with mean Pearson's r: r plus its influence function at each case."""
    x, y = np.asarray(label, float), np.asarray(prediction, float)
    if np.ptp(x) == 0:
        raise ValueError("Pearson's r needs labels that differ: found one value only.")
    u = (x - x.mean()) / x.std()
    v = (y - y.mean()) / (y.std() or 1.0)
    r = float((u * v).mean())
    return r + u * v - r * (u**2 + v**2) / 2 + (0.0 if y.std() else r)


FROM_PREDICTIONS = {"auroc": auroc_values, "pearson": pearson_values}


def scores(cases: pd.DataFrame, metric: str) -> Scores:
    """Arrange a long table (columns run, draw, case and either value, or label and prediction;
    size, duration, block, cluster, arm per run) as `Scores`. Columns run, draw, case and cluster
    may be absent; the notes then say what is lost. Raises ValueError, in one sentence, on missing
    columns, missing numbers, duplicated rows or an empty crossing."""
    needed = (
        ("label", "prediction")
        if metric in FROM_PREDICTIONS and "prediction" in cases
        else ("value",)
    )
    source = "label and prediction" if metric in FROM_PREDICTIONS else "a column value"
    require_columns(cases, needed, f"{metric} is read from {source}")
    if cases.empty:
        raise ValueError("The table has no rows: nothing to judge.")
    if "run" not in cases and cases.duplicated().any():
        raise ValueError(
            f"{int(cases.duplicated().sum())} rows are exact copies of others (first at row "
            f"{cases.index[cases.duplicated()][0]}): drop "
            "them, or name what tells repeated runs apart in a column run."
        )
    table = cases.copy()
    notes: list[str] = []
    for column in (*needed, *(c for c in ("size", "duration") if c in table)):
        numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
        if not np.isfinite(numbers).all():
            row = numbers.index[~np.isfinite(numbers)][0]
            raise ValueError(
                f"Column {column} holds {int((~np.isfinite(numbers)).sum())} missing or "
                "non-numeric entries "
                f"(first at row {row}): score or drop those rows first."
            )
        table[column] = numbers
    _add_missing_columns(table, notes)
    keys = ["run", "draw", "case"]
    if table.duplicated(keys).any():
        example = table.loc[table.duplicated(keys), keys].iloc[0].to_dict()
        raise ValueError(
            f"{int(table.duplicated(keys).sum())} rows repeat a run, draw and case (for example "
            f"{example}): "
            "keep one row each, or name what tells them apart in the columns run and draw."
        )
    run_columns = [c for c in RUN_COLUMNS if c in table]
    runs = table.groupby("run", sort=True)[run_columns].first()
    for column in run_columns:
        if len(table[["run", column]].drop_duplicates()) > table["run"].nunique():
            raise ValueError(f"Column {column} changes within one run: give each run one {column}.")
    arrays = [_crossed(table, column, notes) for column in needed]
    if needed == ("value",):
        values, strata = arrays[0][0], np.zeros(arrays[0][0].shape[-1], np.int64)
    else:
        label, prediction = arrays[0][0][0, 0], arrays[1][0]
        if (arrays[0][0] != label).any():
            raise ValueError(
                "Column label changes between runs for one case: the same cases must carry the "
                "same labels."
            )
        values = np.stack([[FROM_PREDICTIONS[metric](label, p) for p in run] for run in prediction])
        strata = label.astype(np.int64) if metric == "auroc" else np.zeros(len(label), np.int64)
    return Scores(values, runs.reset_index(), strata, tuple(dict.fromkeys(notes)))


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
    """One row per run: the mean of `value` over its draws and cases, with the run's other
    columns. Without a run column, the rows of a cell and case count as separate runs, in the
    order of the table."""
    cell = [c for c in ("size", "duration") if c in table]
    if "run" not in table:
        repeat = table.groupby(
            [*cell, *(c for c in ("draw", "case") if c in table)], dropna=False
        ).cumcount()
        table = table.assign(
            run=table[cell].astype(str).agg("/".join, axis=1) + "#" + repeat.astype(str)
        )
    keep = [c for c in ("run", *cell, "block", "cluster") if c in table]
    if table["value"].isna().any():
        raise ValueError(
            f"Column value holds {int(table['value'].isna().sum())} missing entries: score or "
            "drop those rows first."
        )
    return pd.DataFrame(table.groupby(keep, as_index=False, sort=False)["value"].mean())


def run_scores(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run with its score in `value`: from labels and predictions where the metric is
    one of those, else `run_means`."""
    if metric in FROM_PREDICTIONS and {"label", "prediction"} <= set(table):
        found = scores(table, metric)
        return found.runs.assign(value=found.values.mean((1, 2)))
    return run_means(table)

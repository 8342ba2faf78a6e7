"""Metrics by group of cases, the largest disparity between groups, and FOMO26's fairness score.

The fairness score rewards equal results, not good ones: constant predictions are perfectly fair. It
stands beside the score itself.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from scaling.data.layout import SESSION
from scaling.metrics import UNIT, metric_of
from scaling.study.config import Task
from scaling.study.groups import parse_group
from scaling.transfer.kinds import learner_of

PREFIX = "group_"  # begins the columns of the variables
KEYS = ["run", "arm", "protocol", "shots", "draw", "domain"]


def group_columns(index: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Group of every session by variable, from a cache's index: a row per source/subject/session,
    a column "group_VARIABLE" each, "" where the value is missing.
    """
    sessions = index.drop_duplicates(SESSION)
    names = sessions["source"] + "/" + sessions["subject"] + "/" + sessions["session"]
    columns = {}
    for text in task.groups:
        variable = parse_group(text)
        values = sessions[variable.column].fillna("").astype(str)
        columns[PREFIX + variable.column] = [variable.group(value) for value in values]
    return pd.DataFrame(columns, index=pd.Index(names, name="case"))


def group_table(predictions: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row per run x arm x protocol x shots x draw x domain x variable x metric x group: `value`
    and `cases` of a group; and, under the group "", the `disparity` (largest minus smallest value
    of all groups that have one) of the variable.
    """
    rows = []
    for text in task.groups:
        variable = parse_group(text).column
        column = PREFIX + variable
        present = predictions[predictions[column].fillna("") != ""]
        for keys, cases in present.groupby(KEYS):
            described = dict(zip(KEYS, keys, strict=True)) | {"variable": variable}
            rows += list(group_rows(cases, column, described, task))
    return pd.DataFrame(rows)


def group_rows(
    cases: pd.DataFrame, column: str, described: dict[str, object], task: Task
) -> Iterable[dict[str, object]]:
    """The rows of one variable: every group's metrics, and the disparity of each metric."""
    values: dict[str, list[float]] = {}
    for group, members in cases.groupby(column):
        for metric, value in learner_of(task).score(members).items():
            values.setdefault(metric, []).append(value)
            yield described | {
                "metric": metric,
                "group": group,
                "value": value,
                "cases": len(members),
            }
    for metric, of_groups in values.items():
        yield described | {
            "metric": metric,
            "group": "",
            "disparity": max_disparity(of_groups),
            "cases": len(cases),
        }


def max_disparity(values: Iterable[float]) -> float:
    """Largest minus smallest value of the groups that have one: 0 for one group, NaN for none."""
    defined = [value for value in values if np.isfinite(value)]
    return max(defined) - min(defined) if defined else float("nan")


def fairness(groups: pd.DataFrame) -> pd.DataFrame:
    """One row per run x arm x protocol x shots x draw x domain x metric: the mean over variables of
    1 - disparity, for metrics between 0 and 1; 1 is best.
    """
    disparities = groups[(groups["group"] == "") & np.isfinite(groups["disparity"])]
    bounded = [metric_of(metric).bounds == UNIT for metric in disparities["metric"]]
    disparities = disparities[bounded]
    shares = disparities.assign(fairness=1 - disparities["disparity"])
    return shares.groupby([*KEYS, "metric"], as_index=False)["fairness"].mean()

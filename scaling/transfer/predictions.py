"""What a protocol gives back, as tables: one row per case, and one row per site and metric."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.data.tasks import TaskArrays
from scaling.study.config import Task
from scaling.transfer.kinds import learner_of
from scaling.transfer.kinds.learner import Ruler

KEYS = ["protocol", "shots", "draw", "rate"]


class Predicted(NamedTuple):
    """Outputs of one protocol on all n test cases after one draw.

    `outputs` are what the task's `Learner.predict` gives: scores [n] or [n, C], years [n], masks
    [n, D, H, W]; `rate` is the learning rate that was chosen, 0 where there is none.
    """

    protocol: str
    shots: int
    draw: int
    rate: float
    outputs: np.ndarray


def tabulate(
    predicted: Iterable[Predicted],
    arrays: TaskArrays,
    task: Task,
    spacing_mm: float,
    tolerance_mm: float,
) -> pd.DataFrame:
    """One row per protocol x shots x draw x case: site, domain, label, prediction and the metrics
    that exist per case.

    The label and prediction of a segmentation are its volumes in ml; "mae" is the case's absolute
    error.
    """
    test = arrays.test
    ids = {"case": test.ids, "site": test.sites, "domain": np.where(arrays.in_domain, "in", "out")}
    ruler, learner = Ruler(spacing_mm, tolerance_mm, test.emptied), learner_of(task)
    parts = []
    for one in predicted:
        keys = dict(zip(KEYS, (one.protocol, one.shots, one.draw, one.rate), strict=True))
        columns = learner.columns(test.labels, one.outputs, ruler)
        parts.append(pd.DataFrame({**keys, **ids, **columns}))
    return pd.concat(parts, ignore_index=True)


def score(predictions: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row per protocol x shots x draw x site x metric, with the number of cases behind it."""
    by = [*KEYS, "site", "domain"]
    learner = learner_of(task)
    rows = []
    for keys, cases in predictions.groupby(by):
        described = dict(zip(by, keys, strict=True))
        for metric, value in learner.score(cases).items():
            rows.append({**described, "metric": metric, "value": value, "cases": len(cases)})
    return pd.DataFrame(rows)

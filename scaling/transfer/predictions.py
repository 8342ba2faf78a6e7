"""What a protocol gives back, as tables: one row per case, and one row per site and metric."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.data.tasks import TaskArrays
from scaling.transfer import metrics

KEYS = ["protocol", "shots", "draw", "rate"]
PER_CASE = {"segmentation": ("dice", "nsd"), "regression": ("mae",), "classification": ()}


class Predicted(NamedTuple):
    """Outputs of one protocol on all n test cases after one draw.

    `outputs` are scores [n] (classification), years [n] (regression) or masks bool [n, D, H, W]; `rate` is the learning rate that
    was chosen, 0 where there is none.
    """

    protocol: str
    shots: int
    draw: int
    rate: float
    outputs: np.ndarray


def tabulate(
    predicted: Iterable[Predicted],
    arrays: TaskArrays,
    kind: str,
    spacing_mm: float,
    tolerance_mm: float,
) -> pd.DataFrame:
    """One row per protocol x shots x draw x case: site, domain, label, prediction and the metrics that exist per case.

    The label and prediction of a segmentation are its volumes in ml; "mae" is the case's absolute error.
    """
    test = arrays.test
    ids = {"case": test.ids, "site": test.sites, "domain": np.where(arrays.in_domain, "in", "out")}
    voxel_ml = spacing_mm**3 / 1000
    parts = []
    for one in predicted:
        keys = dict(zip(KEYS, (one.protocol, one.shots, one.draw, one.rate), strict=True))
        if kind == "segmentation":
            pairs = list(zip(test.labels > 0, one.outputs, strict=True))
            columns = {
                "label": voxel_ml * test.labels.sum((1, 2, 3), dtype=np.float64),
                "prediction": voxel_ml * one.outputs.sum((1, 2, 3), dtype=np.float64),
                "dice": [metrics.dice(*pair) for pair in pairs],
                "nsd": [metrics.nsd(*pair, spacing_mm, tolerance_mm) for pair in pairs],
            }
        else:
            columns = {
                "label": test.labels.astype(np.float64),
                "prediction": one.outputs.astype(np.float64),
            }
            if kind == "regression":
                columns["mae"] = np.abs(columns["prediction"] - columns["label"])
        parts.append(pd.DataFrame({**keys, **ids, **columns}))
    return pd.concat(parts, ignore_index=True)


def score(predictions: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One row per protocol x shots x draw x site x metric, with the number of cases behind it."""

    def site_metrics(cases: pd.DataFrame) -> dict[str, float]:
        labels, outputs = cases["label"].to_numpy(), cases["prediction"].to_numpy()
        if kind == "classification":
            return {"auroc": metrics.auroc(labels, outputs)}
        if kind == "regression":
            return {
                "mae": metrics.mae(labels, outputs),
                "pearson": metrics.pearson(labels, outputs),
            }
        return {"dice": float(cases["dice"].mean()), "nsd": float(cases["nsd"].mean())}

    by = [*KEYS, "site", "domain"]
    return pd.DataFrame(
        [
            {
                **dict(zip(by, keys, strict=True)),
                "metric": metric,
                "value": value,
                "cases": len(cases),
            }
            for keys, cases in predictions.groupby(by)
            for metric, value in site_metrics(cases).items()
        ]
    )

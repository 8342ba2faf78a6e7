"""Metrics that are no means over cases, as per-case values whose mean is the metric."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from scaling.laws.arrays import FloatArray


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
"""Metric -> its per-case values from labels and predictions."""

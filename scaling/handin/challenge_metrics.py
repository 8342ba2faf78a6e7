"""Metrics as challenges define them, with a value for what is missing or undefined.

The formulas are scikit-learn's, SciPy's and surface-distance's; `ScoringRule` says what a missing
case costs. A score of a missing case is NaN; infinite scores count as missing. Edge cases after
the published package fomo-challenge-metrics (fomo26/fomo-metrics on GitHub).
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, roc_auc_score

from scaling.study.challenge import ScoringRule
from scaling.transfer import metrics


def auroc(labels: Int[np.ndarray, "n"], scores: Float[np.ndarray, "n"], rule: ScoringRule) -> float:
    """AUROC of two classes; NaN where only one class is there.

    Under "worst-score" a missing score of a positive is 0, that of a negative 1.
    """
    valid = np.isfinite(scores)
    if rule.missing == "worst-score":
        scores = np.where(valid, scores, 1.0 - labels)
    else:
        labels, scores = labels[valid], scores[valid]
    if len(np.unique(labels)) < 2:
        return float("nan")
    return float(roc_auc_score(labels, scores))


def auroc_one_vs_rest(labels: Int[np.ndarray, "n"], scores: Float[np.ndarray, "n C"]) -> float:
    """Mean AUROC of one class against the others, over classes with positives and negatives.

    An invalid row scores 0 for the true class and 1 / (C - 1) for the others. Two classes: the
    AUROC of the second column. NaN for fewer than two columns or classes.
    """
    classes = scores.shape[1]
    if classes < 2 or len(np.unique(labels)) < 2:
        return float("nan")
    scores = with_worst_rows(labels, scores)
    if classes == 2:
        return float(roc_auc_score(labels == 1, scores[:, 1]))
    values = []
    for index in range(classes):
        positive = labels == index
        if positive.any() and not positive.all():
            values.append(roc_auc_score(positive, scores[:, index]))
    return float(np.mean(values))


def with_worst_rows(
    labels: Int[np.ndarray, "n"], scores: Float[np.ndarray, "n C"]
) -> Float[np.ndarray, "n C"]:
    """The scores with every invalid row replaced by the worst one for its label."""
    scores = scores.copy()
    invalid = ~np.isfinite(scores).all(1)
    scores[invalid] = 1.0 / (scores.shape[1] - 1)
    scores[invalid, labels[invalid]] = 0.0
    return scores


def macro_f1(labels: Int[np.ndarray, "n"], scores: Float[np.ndarray, "n C"]) -> float:
    """Mean F1 of the classes; an invalid row counts as the class after the true one."""
    classes = scores.shape[1]
    valid = np.isfinite(scores).all(1)
    predicted = np.where(valid, np.argmax(np.nan_to_num(scores), 1), (labels + 1) % classes)
    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def mae(
    labels: Float[np.ndarray, "n"], predictions: Float[np.ndarray, "m"], rule: ScoringRule
) -> float:
    """Mean absolute error; `rule.worst` when lengths differ or nothing is there.

    A prediction that is NaN makes the error NaN.
    """
    if len(labels) != len(predictions) or len(labels) == 0:
        return rule.worst
    return float(np.abs(labels - predictions).mean())


def pearson(
    labels: Float[np.ndarray, "n"], predictions: Float[np.ndarray, "m"], rule: ScoringRule
) -> float:
    """Pearson's r; `rule.worst` when lengths differ, else `rule.undefined` where there is none.

    It is undefined for fewer than two cases, a constant, or a value that is not finite.
    """
    if len(labels) != len(predictions):
        return rule.worst
    undefined = float("nan") if rule.undefined is None else rule.undefined
    if len(labels) < 2 or not np.isfinite([labels, predictions]).all():
        return undefined
    nearly_zero = 1e-12 * max(1.0, float(np.abs(predictions).max()))
    if np.ptp(labels) == 0 or np.ptp(predictions) < nearly_zero:
        return undefined
    return float(pearsonr(labels, predictions).statistic)


def mask_score(
    truth: Int[np.ndarray, "D H W"],
    predicted: Int[np.ndarray, "D H W"],
    spacing_mm: Sequence[float],
    labels: int,
    rule: ScoringRule,
) -> float:
    """Dice or NSD of one case.

    With one label all voxels above 0 count. With several, the value is the mean over the labels
    of the truth; if it has none, an empty prediction gives `rule.both_empty`, any other 0.
    """
    if labels == 1:
        return binary_score(truth > 0, predicted > 0, spacing_mm, rule)
    present = [label for label in range(1, labels + 1) if (truth == label).any()]
    if not present:
        return binary_score(truth > 0, predicted > 0, spacing_mm, rule)
    values = [
        binary_score(truth == label, predicted == label, spacing_mm, rule) for label in present
    ]
    return float(np.mean(values))


def binary_score(
    truth: np.ndarray, predicted: np.ndarray, spacing_mm: Sequence[float], rule: ScoringRule
) -> float:
    """Dice or NSD of two masks bool [D, H, W]."""
    if not truth.any() and not predicted.any():
        return rule.both_empty
    if not truth.any() or not predicted.any():
        return 0.0
    if rule.metric == "dice":
        return metrics.dice(truth, predicted)
    if rule.tolerance_mm is None:
        raise ValueError(f"metric {rule.metric!r} needs a tolerance in mm")
    return metrics.nsd(truth, predicted, spacing_mm, rule.tolerance_mm)


Metric = Callable[[np.ndarray, np.ndarray], float]


def max_disparity(
    metric: Metric, labels: np.ndarray, scores: np.ndarray, groups: Sequence[str | None]
) -> tuple[float, dict[str, float]]:
    """Largest minus smallest value of a metric over groups, and the value of each group.

    Cases of group None are left out, and groups whose metric is undefined. A single group has
    the disparity 0, none NaN. Raises ValueError when lengths differ.
    """
    if not len(labels) == len(scores) == len(groups):
        raise ValueError(
            f"{len(labels)} labels, {len(scores)} scores and {len(groups)} groups; expected as "
            "many of each"
        )
    values: dict[str, float] = {}
    for group in sorted({group for group in groups if group is not None}):
        members = np.array([other == group for other in groups])
        value = metric(labels[members], scores[members])
        if np.isfinite(value):
            values[group] = value
    if not values:
        return float("nan"), {}
    return max(values.values()) - min(values.values()), values


def fairness_score(disparities: Sequence[float]) -> float:
    """Mean of 1 - disparity over the variables that have one; 1 is best, NaN if none has."""
    defined = [disparity for disparity in disparities if np.isfinite(disparity)]
    return float(np.mean([1 - disparity for disparity in defined])) if defined else float("nan")

"""Metrics of the tasks. The formulas are scikit-learn's, SciPy's and surface-distance's; what they
leave undefined is defined here.

A mean absolute error is in years, a Dice and a normalised surface distance (NSD) between 0 and 1.
Where a metric does not exist (AUROC of one class, Pearson r of fewer than three cases or of a
constant) it is NaN. A label or prediction that is NaN raises ValueError.
"""

from collections.abc import Sequence

import numpy as np
import surface_distance
from jaxtyping import Bool, Float, Real, Shaped
from scipy.stats import pearsonr, rankdata
from sklearn.metrics import f1_score, mean_absolute_error, roc_auc_score


def auroc(labels: Shaped[np.ndarray, "n"], scores: Float[np.ndarray, "n"]) -> float:
    """Area under the receiver operating characteristic."""
    if not (np.isfinite(labels).all() and np.isfinite(scores).all()):
        raise ValueError("labels or scores hold NaN or infinity; expected finite numbers")
    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else float("nan")


def macro_auroc(labels: Real[np.ndarray, "n"], scores: Float[np.ndarray, "n C"]) -> float:
    """Mean AUROC of each class against the rest, over the classes that have cases of both sorts."""
    areas = [auroc(labels == place, scores[:, place]) for place in range(scores.shape[1])]
    defined = [area for area in areas if np.isfinite(area)]
    return float(np.mean(defined)) if defined else float("nan")


def macro_auroc_of_cases(
    labels: Real[np.ndarray, "n"], scores: Float[np.ndarray, "n C"]
) -> Float[np.ndarray, "n"]:
    """One value a case whose mean is the macro AUROC: the placement values of DeLong, DeLong and
    Clarke-Pearson (1988, Biometrics 44:837), mean over classes against the rest.
    """
    values = []
    for place in range(scores.shape[1]):
        positive = labels == place
        if 0 < positive.sum() < len(positive):
            values.append(placement(positive, scores[:, place]))
    return np.mean(values, axis=0) if values else np.full(len(labels), np.nan)


def placement(positive: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "n"]) -> np.ndarray:
    """Values [n] with mean AUROC: of each case the share of the other class that it is ordered
    rightly against (ties count half), weighed by the inverse share of its own class.
    """
    ranks = rankdata(scores)
    m, n = int(positive.sum()), int((~positive).sum())
    placed = np.empty(len(scores))
    placed[positive] = (ranks[positive] - rankdata(scores[positive])) / n
    placed[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    area = placed[positive].mean()
    share = np.where(positive, m, n) / (m + n)
    return area + (placed - area) / share


def macro_f1(labels: Real[np.ndarray, "n"], scores: Float[np.ndarray, "n C"]) -> float:
    """Mean F1 over classes, each case taken for the class of its largest score."""
    if not (np.isfinite(labels).all() and np.isfinite(scores).all()):
        raise ValueError("labels or scores hold NaN or infinity; expected finite numbers")
    chosen = scores.argmax(1)
    return float(f1_score(labels.astype(int), chosen, average="macro", zero_division=0))


def mae(labels: Real[np.ndarray, "n"], predictions: Float[np.ndarray, "n"]) -> float:
    """Mean absolute error."""
    return float(mean_absolute_error(labels, predictions))


def pearson(labels: Real[np.ndarray, "n"], predictions: Float[np.ndarray, "n"]) -> float:
    """Pearson's correlation."""
    if not np.isfinite([labels, predictions]).all():
        raise ValueError("labels or predictions hold NaN or infinity; expected finite numbers")
    if (
        len(labels) < 3
        or np.ptp(labels) == 0
        or np.ptp(predictions) < 1e-12 * max(1.0, np.abs(predictions).max())
    ):
        return float("nan")
    return float(pearsonr(labels, predictions).statistic)


def dice(truth: Bool[np.ndarray, "D H W"], predicted: Bool[np.ndarray, "D H W"]) -> float:
    """Dice coefficient; 1 if both masks are empty, 0 if one is."""
    total = int(truth.sum()) + int(predicted.sum())
    return 2 * int((truth & predicted).sum()) / total if total else 1.0


def nsd(
    truth: Bool[np.ndarray, "D H W"],
    predicted: Bool[np.ndarray, "D H W"],
    spacing_mm: float | Sequence[float],
    tolerance_mm: float,
) -> float:
    """Normalised surface distance (Nikolov et al. 2021) at `tolerance_mm`; 1 if both masks are
    empty, 0 if one is. Spacing is one number or one per axis.
    """
    if not truth.any() or not predicted.any():
        return float(not truth.any() and not predicted.any())
    distances = surface_distance.compute_surface_distances(
        truth, predicted, np.broadcast_to(spacing_mm, 3)
    )
    return float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm))

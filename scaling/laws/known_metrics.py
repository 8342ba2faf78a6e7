"""What is known of a metric from its name: how it is written, which end is better, its bounds,
the smallest effect worth having."""

import re
from dataclasses import dataclass

UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class KnownMetric:
    """`label` as it stands within a sentence; `smallest_effect` is a share of the baseline where
    `relative`, None where nobody agreed on one."""

    label: str
    lower_is_better: bool = False
    bounds: tuple[float, float] | None = UNIT
    smallest_effect: float | None = None
    relative: bool = False


METRICS = {
    "auroc": KnownMetric("AUROC", smallest_effect=0.02),
    "dice": KnownMetric("Dice", smallest_effect=0.01),
    "mae": KnownMetric(
        "mean absolute error",
        lower_is_better=True,
        bounds=None,
        smallest_effect=0.05,
        relative=True,
    ),
    "nsd": KnownMetric("surface Dice (NSD)", smallest_effect=0.01),
    "pearson": KnownMetric("Pearson r", bounds=(-1.0, 1.0), smallest_effect=0.05),
    "auc": KnownMetric("AUC"),
    "accuracy": KnownMetric("accuracy"),
    "acc": KnownMetric("accuracy"),
    "acc1": KnownMetric("top-1 accuracy"),
    "acc5": KnownMetric("top-5 accuracy"),
    "top1": KnownMetric("top-1 accuracy"),
    "top5": KnownMetric("top-5 accuracy"),
    "f1": KnownMetric("F1"),
    "corr": KnownMetric("correlation", bounds=(-1.0, 1.0)),
    "r": KnownMetric("r", bounds=(-1.0, 1.0)),
    "r2": KnownMetric("R²", bounds=None),
    "rmse": KnownMetric("root mean squared error", lower_is_better=True, bounds=None),
    "mse": KnownMetric("mean squared error", lower_is_better=True, bounds=None),
    "nll": KnownMetric("negative log likelihood", lower_is_better=True, bounds=None),
    "hd95": KnownMetric("95 % Hausdorff distance", lower_is_better=True, bounds=None),
    "loss": KnownMetric("loss", lower_is_better=True, bounds=None),
    "error": KnownMetric("error", lower_is_better=True, bounds=None),
    "absolute_error": KnownMetric("absolute error", lower_is_better=True, bounds=None),
}


def known_metric(name: str) -> KnownMetric | None:
    """The metric of this name, or of the last word in it that is a metric ("val/mae_loss" is a
    loss, that of a masked autoencoder); None if there is none."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    metrics = [METRICS[word] for word in (*words, name.lower()) if word in METRICS]
    return metrics[-1] if metrics else None


def lower_is_better(name: str) -> bool:
    """Whether a metric of this name is an error."""
    known = known_metric(name)
    return known is not None and known.lower_is_better


def label_of(name: str) -> str:
    """How a metric is written within a sentence: its name, if nothing is known of it."""
    return METRICS[name].label if name in METRICS else name

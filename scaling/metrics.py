"""What is known of each metric: its better end, bounds, unit, and the smallest effect worth having.

One table for everybody: tasks, challenges, laws and the page. `register_metric` adds one from an
experiment file. The formulas of the library's own metrics are in `scaling.transfer.metrics`.
"""

import math
from dataclasses import dataclass

UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """Facts about a metric."""

    label: str
    """How it is written within a sentence."""
    lower_is_better: bool = False
    """Whether it is an error."""
    bounds: tuple[float, float] | None = UNIT
    """Smallest and largest value; None where there are none."""
    smallest_effect: float | None = None
    """Smallest improvement worth having; None where nobody has agreed on one."""
    relative: bool = False
    """Whether the smallest effect is a share of the baseline's value."""
    pooled: bool = False
    """Whether all cases of a site give one value together; otherwise it is their mean."""
    worst: float = math.nan
    """What an unusable prediction scores; NaN where that depends on the label."""
    unit: str = ""
    """Unit of the value."""


METRICS = {
    "auroc": Metric("AUROC", smallest_effect=0.02, pooled=True, worst=0.0),
    "dice": Metric("Dice", smallest_effect=0.01, worst=0.0),
    "mae": Metric(
        "mean absolute error",
        lower_is_better=True,
        bounds=None,
        smallest_effect=0.05,
        relative=True,
    ),
    "nsd": Metric("surface Dice (NSD)", smallest_effect=0.01, worst=0.0),
    "pearson": Metric(
        "Pearson r", bounds=(-1.0, 1.0), smallest_effect=0.05, pooled=True, worst=-1.0
    ),
    "macro_auroc": Metric(
        "macro AUROC (one against the rest)", smallest_effect=0.02, pooled=True, worst=0.0
    ),
    "macro_f1": Metric("macro F1", smallest_effect=0.02, pooled=True, worst=0.0),
    "auc": Metric("AUC", pooled=True),
    "accuracy": Metric("accuracy"),
    "acc": Metric("accuracy"),
    "acc1": Metric("top-1 accuracy"),
    "acc5": Metric("top-5 accuracy"),
    "top1": Metric("top-1 accuracy"),
    "top5": Metric("top-5 accuracy"),
    "f1": Metric("F1", pooled=True),
    "corr": Metric("correlation", bounds=(-1.0, 1.0), pooled=True),
    "r": Metric("r", bounds=(-1.0, 1.0), pooled=True),
    "r2": Metric("R²", bounds=None, pooled=True),
    "rmse": Metric("root mean squared error", lower_is_better=True, bounds=None, pooled=True),
    "mse": Metric("mean squared error", lower_is_better=True, bounds=None),
    "nll": Metric("negative log likelihood", lower_is_better=True, bounds=None),
    "hd95": Metric("95 % Hausdorff distance", lower_is_better=True, bounds=None, unit="mm"),
    "loss": Metric("loss", lower_is_better=True, bounds=None),
    "error": Metric("error", lower_is_better=True, bounds=None),
    "absolute_error": Metric("absolute error", lower_is_better=True, bounds=None),
}


def register_metric(name: str, metric: Metric) -> None:
    """Add a metric. Raises ValueError if another one has the name."""
    if METRICS.setdefault(name, metric) != metric:
        raise ValueError(
            f"metric {name!r} is already {METRICS[name]}; choose another name for {metric}"
        )


def metric_of(name: str) -> Metric:
    """The metric of this name, or, of a part of a task such as "dice_nerve", the metric of its
    first word. Raises ValueError if it is not registered.
    """
    metric = METRICS.get(name) or METRICS.get(name.split("_")[0])
    if metric is None:
        raise ValueError(
            f"metric {name!r} is unknown; expected one of {', '.join(METRICS)}, or add it with "
            "scaling.metrics.register_metric"
        )
    return metric

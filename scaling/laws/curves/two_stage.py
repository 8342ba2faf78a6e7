"""From loss to task: a held-out loss predicted from the budget, then the metric from the loss,
beside the metric predicted from the budget directly.

The loss of pretraining follows a smooth law over a wide range, the metric of a task follows the
loss as a sigmoid (OLMo ladder: Bhagia et al. 2024, arXiv 2412.04403; Gadre et al. 2024, arXiv
2403.08540). Which way predicts better on these runs is told by rolling origin: both are fitted to
the runs of least budget and predict the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import least_squares
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.curves.best_link import on_best_link
from scaling.laws.curves.curve import Curve
from scaling.laws.curves.fitting import candidate_forms, fit
from scaling.laws.curves.link import links_for
from scaling.laws.plain import plain

BoolArray = npt.NDArray[np.bool_]

FEWEST_BUDGETS = 5
FORMS = {1: ("flat", "power", "floor", "m3"), 2: ("flat", "additive_logs", "chinchilla")}
"""Number of budget columns -> the laws that both ways use: those that a few runs can carry."""
CLEARLY = 0.9
"""One way predicts better than the other if it misses by less than this share of the other."""
STEEPNESS = (0.2, 1.0, 5.0)
"""Starts of a sigmoid: its slope times the spread of the losses."""
LOG_HEIGHT = 1.2
"""Expected logarithm of a sigmoid's height, in standard deviations of the metrics."""
WEIGHT_OF_PRIOR = 0.1


@dataclass(frozen=True)
class Sigmoid:
    """metric = floor + height / (1 + exp(slope (loss - middle)))."""

    floor: float
    height: float
    slope: float
    middle: float
    residual_sd: float

    def __call__(self, loss: FloatArray) -> FloatArray:
        """The metric [m] at losses [m]."""
        z = np.clip(self.slope * (loss - self.middle), -500, 500)
        return np.asarray(self.floor + self.height / (1 + np.exp(z)), float)


@dataclass(frozen=True)
class TwoStage:
    """Both ways to predict a metric. `better`: "two-stage", "direct" or "neither"."""

    sigmoid: Sigmoid
    errors_two_stage: tuple[float, ...]
    """Per origin: root mean squared error of the later runs, in units of the metric."""
    errors_direct: tuple[float, ...]
    later_runs: tuple[int, ...]
    better: str
    sentence: str
    of_loss: Curve = field(repr=False)
    direct: Curve = field(repr=False)
    x_names: tuple[str, ...] = ()
    runs: int = 0

    def predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean, low and high [m] of a new run at budgets x [m, C], by way of the loss; 90 %.

        The interval adds in quadrature that of the loss, carried through the sigmoid, and how far
        runs lie from the sigmoid, or by how much the backtest missed if that is more."""
        loss, low, high = self.of_loss.predict(x, new_run=True)
        ends = self.sigmoid(low), self.sigmoid(high)
        quantile = student_t.ppf(0.95, max(self.runs - 4, 1))
        scatter = max(self.sigmoid.residual_sd, _typical(self.errors_two_stage))
        half = np.hypot((ends[1] - ends[0]) / 2, quantile * scatter)
        mean = self.sigmoid(loss)
        return mean, mean - half, mean + half

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self, leave_out=("of_loss", "direct")))


def two_stage(
    runs: pd.DataFrame,
    x: tuple[str, ...],
    loss: str,
    y: str,
    *,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
) -> TwoStage:
    """Predict the column y over the columns x (positive budgets) directly and over the column
    `loss` (positive, lower is better), of a table with a row per run.

    Raises ValueError on missing columns or numbers, or fewer than five budgets."""
    require_columns(runs, [*x, loss, y])
    numbers = runs[[*x, loss, y]].apply(pd.to_numeric, errors="coerce")
    for column in numbers:
        wrong = ~np.isfinite(numbers[column])
        if wrong.any():
            raise ValueError(
                f"Column {column} holds {int(wrong.sum())} missing or non-numeric entries (first "
                f"at row {numbers.index[wrong][0]}): drop those runs first."
            )
    x = tuple(column for column in x if len(numbers[column].unique()) > 1)
    over_loss, directly, later_runs = backtest(numbers, x, loss, y, bounds, lower_is_better)
    losses, truth = numbers[loss].to_numpy(float), numbers[y].to_numpy(float)
    sigmoid = fit_sigmoid(losses, truth)
    forms = FORMS[len(x)]
    of_loss = fit(numbers, x, loss, bounds=None, lower_is_better=True, forms=forms)
    direct = fit(numbers, x, y, bounds=bounds, lower_is_better=lower_is_better, forms=forms)
    better, sentence = compared(over_loss, directly, y)
    return TwoStage(
        sigmoid=sigmoid,
        errors_two_stage=tuple(over_loss),
        errors_direct=tuple(directly),
        later_runs=tuple(later_runs),
        better=better,
        sentence=sentence,
        of_loss=of_loss,
        direct=direct,
        x_names=of_loss.x_names,
        runs=len(numbers),
    )


def backtest(
    runs: pd.DataFrame,
    x: tuple[str, ...],
    loss: str,
    y: str,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
) -> tuple[list[float], list[float], list[int]]:
    """Per origin: root mean squared error of the later runs over the loss and directly, and their
    number.

    Every column of `x` has at least two levels. Raises ValueError with fewer than five budgets."""
    compute = np.log(runs[list(x)].astype(float)).sum(axis=1).round(9)
    budgets = np.unique(compute)
    if len(budgets) < FEWEST_BUDGETS:
        raise ValueError(
            f"The table has {len(budgets)} budgets: to test a prediction of the metric from the "
            f"loss takes {FEWEST_BUDGETS}."
        )
    losses, truth = runs[loss].to_numpy(float), runs[y].to_numpy(float)
    foretold_loss, later = _foretold(runs, x, loss, None, True)
    foretold, _ = _foretold(runs, x, y, bounds, lower_is_better)
    over_loss, directly = [], []
    for loss_there, direct_there, beyond in zip(foretold_loss, foretold, later, strict=True):
        sigmoid = fit_sigmoid(losses[~beyond], truth[~beyond])
        over_loss.append(_miss(sigmoid(loss_there), truth, beyond))
        directly.append(_miss(direct_there, truth, beyond))
    return over_loss, directly, [int(count) for count in later.sum(1)]


def fit_sigmoid(loss: FloatArray, metric: FloatArray) -> Sigmoid:
    """The sigmoid of least squares through losses [n] and metrics [n].

    Losses and metrics are standardised; a weak prior keeps a sigmoid of which only a part was
    seen from running away."""
    centre, spread = float(loss.mean()), float(loss.std()) or 1.0
    level, scale = float(metric.mean()), float(metric.std()) or 1.0
    u, v = (loss - centre) / spread, (metric - level) / scale
    rising = -1.0 if np.polyfit(u, v, 1)[0] > 0 else 1.0

    def misfit(theta: FloatArray) -> FloatArray:
        """Residuals [n], then how far the parameters [4] lie from where the prior has them."""
        floor, log_height, log_slope, middle = theta
        z = np.clip(np.exp(log_slope) * (u - middle), -50, 50)
        falling = 1 / (1 + np.exp(z)) - 0.5  # 0.5 to -0.5, from low losses to high ones
        value = floor + rising * np.exp(log_height) * falling
        from_prior = np.array([floor, log_height - LOG_HEIGHT, log_slope, middle])
        return np.concatenate([value - v, WEIGHT_OF_PRIOR * from_prior])

    starts = [np.array([0.0, LOG_HEIGHT, np.log(steep), 0.0]) for steep in STEEPNESS]
    fits = [least_squares(misfit, start) for start in starts]
    floor, log_height, log_slope, middle = min(fits, key=lambda fit: float(fit.cost)).x
    height = rising * np.exp(log_height)
    residual = misfit(np.array([floor, log_height, log_slope, middle]))[: len(u)] * scale
    return Sigmoid(
        floor=float(level + scale * (floor - height / 2)),
        height=float(scale * height),
        slope=float(np.exp(log_slope) / spread),
        middle=float(centre + spread * middle),
        residual_sd=math.sqrt(float(residual @ residual) / max(len(u) - 4, 1)),
    )


def _foretold(
    runs: pd.DataFrame,
    x: tuple[str, ...],
    column: str,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
) -> tuple[FloatArray, BoolArray]:
    """What the runs before every origin say of a column [origins, n], and which runs lie beyond
    the origin.

    The laws are weighted by how they do over all origins, for both ways alike."""
    budgets = np.log(runs[list(x)].to_numpy(float).T)
    t = budgets - budgets.mean(1, keepdims=True)
    values = runs[column].to_numpy(float)
    levels = len(np.unique(t, axis=1).T)
    candidates, _ = candidate_forms(x, FORMS[len(x)], levels, len(values))
    links = links_for(bounds, lower_is_better, values, column)
    chosen = on_best_link(links, t, values, candidates)
    foretold = chosen.foretold
    if foretold.mean is None or foretold.later is None:
        raise ValueError(
            f"Column {column} has too few runs to predict larger budgets from smaller ones."
        )
    return chosen.link.metric(foretold.mean), foretold.later > 0


def _miss(foretold: FloatArray, truth: FloatArray, beyond: BoolArray) -> float:
    """Root mean squared error of the runs beyond an origin."""
    return float(np.sqrt(np.mean((foretold - truth)[beyond] ** 2)))


def _typical(errors: Sequence[float]) -> float:
    """Geometric mean: the earliest origins miss by most and would decide alone."""
    return float(np.exp(np.log(np.maximum(errors, 1e-12)).mean()))


def compared(over_loss: Sequence[float], directly: Sequence[float], y: str) -> tuple[str, str]:
    """Which way is better, and a sentence."""
    two, one = _typical(over_loss), _typical(directly)
    better, words = "neither", "neither way predicts clearly better"
    if two < CLEARLY * one:
        better, words = "two-stage", "the way over the loss predicts better"
    elif one < CLEARLY * two:
        better, words = "direct", "the direct curve predicts better"
    return better, (
        f"Fitted to the smaller budgets, {y} of the larger ones is missed by {two:.3g} over the "
        f"held-out loss and by {one:.3g} directly: {words} on these runs."
    )

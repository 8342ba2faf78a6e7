"""Compute-optimal budgets from a fitted surface: the size and duration that a given compute is
best spent on, and iso-compute curves.

Compute is taken as size x duration x `flops_per` (6 for a dense transformer whose duration is
counted in tokens). The intervals are those of the resampled surfaces: how far the optimum wanders
when the runs are resampled.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.curve import Curve, mixture_quantile
from scaling.laws.curves.forms import SURFACES
from scaling.laws.plain import plain

GRID = 401  # sizes tried at each compute


@dataclass(frozen=True)
class Frontier:
    """`table`: one row per compute: compute, size and duration at the optimum with low and high
    of the size, the metric there with low and high, and whether the optimum lies within the range
    of sizes and durations that were run. `exponent`: the optimal size grows as compute **
    exponent, with its interval (None where the surface has no optimum between its ends)."""

    table: pd.DataFrame
    exponent: float | None
    exponent_low: float | None
    exponent_high: float | None
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        exponents = {
            k: getattr(self, k) for k in ("exponent", "exponent_low", "exponent_high", "confidence")
        }
        return cast(dict[str, Any], plain({**exponents, "table": self.table.to_dict("records")}))


def budgets_within(curve: Curve, flops_per: float = 1.0) -> FloatArray:
    """Five computes [5], evenly in logarithms, between the smallest and the largest budget that
    were run."""
    return np.geomspace(np.prod(curve.x_low) * flops_per, np.prod(curve.x_high) * flops_per, 7)[
        1:-1
    ]


def iso_compute(
    curve: Curve, compute: float, points: int = 50, flops_per: float = 1.0
) -> pd.DataFrame:
    """The metric along one compute: size, duration, mean, low, high, over the range of sizes that
    were run."""
    size = np.geomspace(curve.x_low[0], curve.x_high[0], points)
    duration = compute / (flops_per * size)
    mean, low, high = curve.predict(np.stack([size, duration], 1))
    return pd.DataFrame(
        {"size": size, "duration": duration, "mean": mean, "low": low, "high": high}
    )


def frontier(
    curve: Curve, compute: npt.ArrayLike, flops_per: float = 1.0, confidence: float = 0.90
) -> Frontier:
    """The best size and duration for each compute [m], searched two orders of magnitude beyond
    the sizes that were run.

    Raises ValueError for a curve in one variable: with size alone there is nothing to trade."""
    if len(curve.x_names) != 2:
        raise ValueError(
            "The frontier needs a surface in size and duration: this curve is in "
            f"{curve.x_names[0]} alone."
        )
    budgets = np.atleast_1d(np.asarray(compute, float))
    log_size = np.linspace(np.log(curve.x_low[0] / 100), np.log(curve.x_high[0] * 100), GRID)
    best, sampled, mass = _optima(curve, budgets, log_size, flops_per)
    tail = (1 - confidence) / 2
    low, high = (mixture_quantile(sampled, mass, q) for q in (tail, 1 - tail))
    size = np.exp(best)
    duration = budgets / (flops_per * size)
    mean, metric_low, metric_high = curve.predict(np.stack([size, duration], 1), confidence)
    inside = (
        (size >= curve.x_low[0])
        & (size <= curve.x_high[0])
        & (duration >= curve.x_low[1])
        & (duration <= curve.x_high[1])
    )
    table = pd.DataFrame(
        {
            "compute": budgets,
            "size": size,
            "size_low": np.exp(low),
            "size_high": np.exp(high),
            "duration": duration,
            "mean": mean,
            "low": metric_low,
            "high": metric_high,
            "inside": inside,
        }
    )
    exponents = _exponents(np.concatenate([best[None], sampled]), budgets, log_size)
    if exponents is None:
        return Frontier(table, None, None, None, confidence)
    lowest, highest = (
        float(mixture_quantile(exponents[1:, None], mass, q)[0]) for q in (tail, 1 - tail)
    )
    return Frontier(table, float(exponents[0]), lowest, highest, confidence)


def _optima(
    curve: Curve, budgets: FloatArray, log_size: FloatArray, flops_per: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log of the best size for each compute [m] of the averaged surface, of every resample of
    every form [K, m], and the mass [K] that each resample carries."""
    log_duration = np.log(budgets)[:, None] - np.log(flops_per) - log_size
    t = (
        np.stack([np.broadcast_to(log_size, log_duration.shape), log_duration]).reshape(2, -1)
        - np.log(curve.centre)[:, None]
    )
    point, sampled, mass = np.zeros(log_duration.shape), [], []
    for one, theta in zip(curve.forms, curve.draws, strict=True):
        if one.weight < 0.01 or one.name == "flat":
            continue
        value = SURFACES[one.name].jet(theta[:1].T, t).value.reshape(log_duration.shape)
        point += one.weight * value
        for draw in theta[1:]:
            sampled.append(
                _lowest(
                    SURFACES[one.name].jet(draw[:, None], t).value.reshape(log_duration.shape),
                    log_size,
                )
            )
            mass.append(one.weight / max(len(theta) - 1, 1))
    return _lowest(point, log_size), np.array(sampled), np.array(mass) / sum(mass)


def _lowest(values: FloatArray, x: FloatArray) -> FloatArray:
    """Where each row of values [m, G] on the even grid x [G] is lowest [m], by a parabola through
    its lowest three points."""
    at = values.argmin(1)
    middle = np.clip(at, 1, len(x) - 2)
    before, here, after = (
        np.take_along_axis(values, (middle + k)[:, None], 1)[:, 0] for k in (-1, 0, 1)
    )
    bend = before - 2 * here + after
    step = np.where(
        (at == middle) & (bend > 0), (before - after) / (2 * np.where(bend > 0, bend, 1.0)), 0.0
    )
    return np.where(at == middle, x[middle] + step * (x[1] - x[0]), x[at])


def _exponents(best: FloatArray, budgets: FloatArray, log_size: FloatArray) -> FloatArray | None:
    """Slope of the log optimal size over log compute of each row of best [K, m]; None where the
    first lies at an end of the grid."""
    at_end = (best[0] <= log_size[0]) | (best[0] >= log_size[-1])
    if len(budgets) < 2 or at_end.any():
        return None
    x = np.log(budgets) - np.log(budgets).mean()
    return np.asarray((best @ x) / (x @ x), float)

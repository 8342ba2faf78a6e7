"""Metric <-> logarithm of a positive error: the scale on which every form is fitted."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.laws.arrays import FloatArray


@dataclass(frozen=True)
class Link:
    """Metric <-> logarithm of a positive error, for one set of bounds and one direction."""

    low: float
    high: float
    lower_is_better: bool

    def log_error(self, y: npt.ArrayLike) -> FloatArray:
        y = np.asarray(y, float)
        if math.isinf(self.high):
            return np.log(y - self.low)
        share = np.clip(
            (y - self.low) / (self.high - self.low), 1e-3, 1 - 1e-3
        )  # a score at the bound itself has no finite logit
        logit = np.log(share / (1 - share))
        return logit if self.lower_is_better else -logit

    def metric(self, log_error: FloatArray) -> FloatArray:
        if math.isinf(self.high):
            return self.low + np.exp(log_error)
        share = 0.5 * (1 + np.tanh((log_error if self.lower_is_better else -log_error) / 2))
        return self.low + (self.high - self.low) * share


def link_for(
    bounds: tuple[float, float] | None, lower_is_better: bool, y: FloatArray, name: str
) -> Link:
    """The link of a metric with these bounds (None: positive errors); raises ValueError if column
    `name` leaves them."""
    low, high = bounds or (0.0, math.inf)
    if y.min() < low or y.max() > high or (math.isinf(high) and y.min() <= low):
        raise ValueError(
            f"Column {name} runs from {y.min():g} to {y.max():g}, outside ({low:g}, {high:g}): "
            "give bounds that hold the metric."
        )
    if math.isinf(high) and not lower_is_better:
        raise ValueError(
            f"{name} is better when higher but has no upper bound: give bounds=(low, high)."
        )
    return Link(low, high, lower_is_better)

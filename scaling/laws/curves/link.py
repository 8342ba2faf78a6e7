"""Metric <-> logarithm of a positive error: the scale on which every form is fitted."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from scaling.laws.arrays import FloatArray

LEAST_SHARE = 1e-3
"""A score at the bound itself has no finite logarithm: it counts as this far from it."""


@dataclass(frozen=True)
class Link:
    """Metric <-> logarithm of a positive error, for one set of bounds and one direction.

    `scale` of a bounded metric: "odds", of the error against its opposite; "share", of the way
    between the bounds that is still to go. An unbounded error is what it is."""

    low: float
    high: float
    lower_is_better: bool
    scale: Literal["odds", "share"] = "odds"

    @property
    def name(self) -> str:
        """In words."""
        if math.isinf(self.high):
            return "the logarithm of the error"
        return {"odds": "the odds of the error", "share": "the logarithm of the error"}[self.scale]

    def log_error(self, y: npt.ArrayLike) -> FloatArray:
        """Logarithms of the error [...] of scores [...]."""
        y = np.asarray(y, float)
        if math.isinf(self.high):
            return np.log(y - self.low)
        share = (y - self.low) / (self.high - self.low)
        error = share if self.lower_is_better else 1 - share
        error = np.clip(error, LEAST_SHARE, 1 - LEAST_SHARE)
        if self.scale == "share":
            return np.log(error)
        return np.log(error / (1 - error))

    def metric(self, log_error: FloatArray) -> FloatArray:
        """Scores [...] from logarithms of the error [...]."""
        if math.isinf(self.high):
            return self.low + np.exp(log_error)
        if self.scale == "share":
            error = np.minimum(np.exp(log_error), 1.0)
        else:
            error = 0.5 * (1 + np.tanh(log_error / 2))
        share = error if self.lower_is_better else 1 - error
        return np.asarray(self.low + (self.high - self.low) * share, float)


def links_for(
    bounds: tuple[float, float] | None, lower_is_better: bool, y: FloatArray, name: str
) -> list[Link]:
    """The links a metric with these bounds may have (None: positive errors), the usual one first.

    Raises ValueError if column `name` leaves the bounds."""
    low, high = bounds or (0.0, math.inf)
    if y.min() < low or y.max() > high or (math.isinf(high) and y.min() <= low):
        raise ValueError(
            f"Column {name} runs from {y.min():g} to {y.max():g}, outside ({low:g}, {high:g}): "
            "give bounds that hold the metric."
        )
    if math.isinf(high):
        if not lower_is_better:
            raise ValueError(
                f"{name} is better when higher but has no upper bound: give bounds=(low, high)."
            )
        return [Link(low, high, lower_is_better)]
    return [Link(low, high, lower_is_better), Link(low, high, lower_is_better, "share")]

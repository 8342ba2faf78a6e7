"""One task's curve: performance against size or duration, with forms averaged by how well they
extrapolate, and honest intervals.

Performance is turned into a positive error z whose logarithm is modelled: for bounds (0, 1) the
odds of the error (so residuals are on the logit scale), for bounds (0, inf) the error itself.
Everything is reported back on the scale of the metric.
"""

import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import CURVES, SURFACES
from scaling.laws.curves.link import Link
from scaling.laws.plain import plain


@dataclass(frozen=True)
class FormFit:
    """How one form fitted: `parameters` are in units of x / `Curve.centre`; `agree`: share of
    starts that ended at the optimum."""

    name: str
    formula: str
    weight: float
    parameters: dict[str, float]
    low: dict[str, float | None]
    high: dict[str, float | None]
    not_identified: tuple[str, ...]
    converged: bool
    agree: float
    condition: float
    aicc: float
    residual_sd: float


@dataclass(frozen=True)
class Curve:
    """A fitted curve. `predict` gives mean and interval in the metric's units; `summary` says in
    a sentence what was found."""

    x_names: tuple[str, ...]
    y_name: str
    link: Link
    centre: tuple[float, ...]
    x_low: tuple[float, ...]
    x_high: tuple[float, ...]
    forms: tuple[FormFit, ...]
    rows: int
    levels: int
    clusters: int
    residual_sd: float
    lack_of_fit_p: float | None
    summary: str
    notes: tuple[str, ...]
    draws: tuple[FloatArray, ...] = field(repr=False)
    """Per form: bootstrap parameters [B, P], the point estimate first."""

    def predict(
        self, x_new: npt.ArrayLike, confidence: float = 0.90, new_run: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean, low and high [m] at `x_new` [m] (or [m, C] for C predictors). `new_run` adds a
        run's own scatter to the interval."""
        x = np.asarray(x_new, float).reshape(-1, len(self.x_names))
        t = (np.log(x) - np.log(self.centre)).T
        weights = np.array([f.weight for f in self.forms])
        catalogue = CURVES if len(self.x_names) == 1 else SURFACES
        values, mean = [], np.zeros(len(x))
        for fit_, theta, w in zip(self.forms, self.draws, weights, strict=True):
            form = catalogue[fit_.name]
            value = form.jet(theta.T, t).value
            mean += w * value[0]
            df = max(self.clusters - form.size, 1)
            # few clusters: a bootstrap spreads too little by the lost degrees of freedom and has
            # normal tails
            stretch = (
                math.sqrt(self.clusters / df)
                * student_t.ppf((1 + confidence) / 2, df)
                / norm.ppf((1 + confidence) / 2)
            )
            spread = value[0] + stretch * (value[1:] - value[0])
            if new_run:
                rng = np.random.default_rng(0)
                spread = spread + fit_.residual_sd * rng.standard_t(
                    max(self.rows - form.size, 1), size=spread.shape
                )
            values.append((w, spread))
        pool = np.concatenate([v for _, v in values])
        mass = np.concatenate([np.full(len(v), w / len(v)) for w, v in values])
        low = np.minimum(mixture_quantile(pool, mass, (1 - confidence) / 2), mean)
        high = np.maximum(mixture_quantile(pool, mass, (1 + confidence) / 2), mean)
        metric = [self.link.metric(v) for v in (mean, low, high)]
        return metric[0], np.minimum(metric[1], metric[2]), np.maximum(metric[1], metric[2])

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self, leave_out=("draws",)))


def mixture_quantile(pool: FloatArray, mass: FloatArray, level: float) -> FloatArray:
    """Quantile [m] of draws [K, m] that carry `mass` [K], which sums to 1."""
    order = np.argsort(pool, axis=0)
    share = np.cumsum(mass[order], axis=0)
    index = np.minimum((share < level).sum(0), len(pool) - 1)
    return np.asarray(
        np.take_along_axis(np.take_along_axis(pool, order, 0), index[None], 0)[0], float
    )

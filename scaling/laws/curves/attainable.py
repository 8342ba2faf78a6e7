"""Attainable performance: what the best of many models of others reach at a compute.

Models that other people trained differ in more than their compute, so a mean curve through them
describes nobody's recipe. A high quantile describes what good recipes reach (Prescriptive Scaling,
arXiv 2602.15327). Quantiles commute with monotone maps, so the frontier on the scale of the metric
is a linear quantile regression (Koenker and Bassett 1978, Econometrica 46:33) of the log odds of
the error on log compute: a sigmoid between chance and a ceiling, which may not fall. The ceiling is
the one of a few under which the frontier of the smaller models fits the larger ones best.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linprog

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.curves.link import Link, links_for
from scaling.laws.plain import plain

LEAST_MODELS = 20
"""Fewer models say nothing of a high quantile."""
CEILINGS = (1.0, 0.5, 0.25, 0.1)
"""Ceilings that are tried: shares of the way from the best score to the metric's bound."""
ORIGINS = (0.5, 0.65, 0.8)
"""Shares of the models, by compute, whose frontier is tried on those beyond."""


@dataclass(frozen=True)
class Backtest:
    """The frontier of the models up to a compute, tried on those beyond."""

    up_to: float
    later: int
    below: float
    """Share of the later models at or below the frontier; the quantile, if it holds."""


@dataclass(frozen=True)
class Attainable:
    """A frontier: the `quantile` of scores at any compute."""

    x_name: str
    y_name: str
    quantile: float
    link: Link
    """Its bounds are chance and the ceiling."""
    centre: float
    intercept: float
    slope: float
    """Of the log odds of the error in log(x / centre); never for the worse."""
    models: int
    x_low: float
    x_high: float
    backtest: tuple[Backtest, ...]
    sentence: str
    draws: FloatArray = field(repr=False)
    """[B, 2] intercepts and slopes of resampled models."""

    def predict(
        self, x_new: npt.ArrayLike, confidence: float = 0.90
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The frontier and the ends of its interval [m] at `x_new` [m]."""
        t = np.log(np.asarray(x_new, float)) - math.log(self.centre)
        point = self.link.metric(self.intercept + self.slope * t)
        lines = self.draws[:, :1] + self.draws[:, 1:] * t  # [B, m]
        tails = np.quantile(lines, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        ends = np.stack([self.link.metric(tail) for tail in tails])
        return point, ends.min(0), ends.max(0)

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-safe."""
        return cast(dict[str, Any], plain(self, leave_out=("draws",)))


def attainable(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
    chance: float | None = None,
    quantile: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> Attainable:
    """The frontier of column `y` over column `x`, a row per model.

    `bounds` of the metric (None: positive errors); `chance`: what a model without any knowledge
    scores (default: the worse bound). Raises ValueError on fewer than 20 models, missing columns,
    or numbers that are missing or outside the bounds."""
    xs, scores = _read(table, x, y)
    if len(scores) < LEAST_MODELS:
        raise ValueError(
            f"{len(scores)} models are too few for what the best {1 - quantile:.0%} of them reach: "
            f"at least {LEAST_MODELS} are needed."
        )
    link = links_for(bounds, lower_is_better, scores, y)[0]
    centre = float(np.exp(np.log(xs).mean()))
    t = np.log(xs) - math.log(centre)
    link = _best_ceiling(_between(link, scores, chance), t, scores, quantile)
    z = link.log_error(scores)
    intercept, slope = quantile_line(t, z, np.ones(len(z)), quantile)
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(len(z)), resamples) * len(z)
    draws = np.array([quantile_line(t, z, weight, quantile) for weight in weights])
    backtest = _backtest(xs, t, z, quantile)
    bare = Attainable(
        x_name=x,
        y_name=y,
        quantile=quantile,
        link=link,
        centre=centre,
        intercept=intercept,
        slope=slope,
        models=len(scores),
        x_low=float(xs.min()),
        x_high=float(xs.max()),
        backtest=backtest,
        sentence="",
        draws=draws,
    )
    return replace(bare, sentence=_in_words(bare))


def quantile_line(
    t: FloatArray, z: FloatArray, weights: FloatArray, quantile: float
) -> tuple[float, float]:
    """Intercept and slope (not above nought) of the line below which a share 1 - `quantile` of
    the log errors z [n] lies, under weights [n]; by linear programming."""
    n, below = len(z), 1 - quantile
    # z = intercept + slope t + over - under, with over and under not negative.
    costs = np.concatenate([[0.0, 0.0], below * weights, (1 - below) * weights])
    columns = np.column_stack([np.ones(n), t, np.eye(n), -np.eye(n)])
    limits = [(None, None), (None, 0.0)] + [(0.0, None)] * (2 * n)
    solution = linprog(costs, A_eq=columns, b_eq=z, bounds=limits, method="highs")
    if not solution.success:
        raise ValueError(f"The frontier could not be fitted: {solution.message}")
    return float(solution.x[0]), float(solution.x[1])


def _read(table: pd.DataFrame, x: str, y: str) -> tuple[FloatArray, FloatArray]:
    require_columns(table, [x, y])
    xs, scores = (pd.to_numeric(table[c], errors="coerce").to_numpy(float) for c in (x, y))
    for column, bad in ((x, ~(np.isfinite(xs) & (xs > 0))), (y, ~np.isfinite(scores))):
        if bad.any():
            raise ValueError(
                f"Column {column} holds {int(bad.sum())} entries that are missing or cannot be "
                f"used (first at row {table.index[bad][0]}): drop those models."
            )
    return xs, scores


def _between(link: Link, scores: FloatArray, chance: float | None) -> list[Link]:
    """Links from chance to each of the ceilings; the usual one alone for unbounded errors."""
    if math.isinf(link.high):
        return [link]
    if link.lower_is_better:
        worst = link.high if chance is None else chance
        best, bound = float(scores.min()), link.low
        return [Link(best - share * (best - bound), worst, True) for share in CEILINGS]
    worst = link.low if chance is None else chance
    best, bound = float(scores.max()), link.high
    return [Link(worst, best + share * (bound - best), False) for share in CEILINGS]


def _best_ceiling(links: list[Link], t: FloatArray, scores: FloatArray, quantile: float) -> Link:
    """The link whose frontier of the smaller models has the least pinball loss on the larger."""
    losses = []
    for link in links:
        z, loss = link.log_error(scores), 0.0
        for cut in np.quantile(t, ORIGINS):
            early, late = t <= cut, t > cut
            if early.sum() < LEAST_MODELS // 2 or not late.any():
                continue
            intercept, slope = quantile_line(t[early], z[early], np.ones(early.sum()), quantile)
            frontier = link.metric(intercept + slope * t[late])
            miss = scores[late] - frontier
            miss = -miss if link.lower_is_better else miss
            loss += float(np.where(miss > 0, quantile * miss, (quantile - 1) * miss).mean())
        losses.append(loss)
    return links[int(np.argmin(losses))]


def _backtest(
    xs: FloatArray, t: FloatArray, z: FloatArray, quantile: float
) -> tuple[Backtest, ...]:
    rows = []
    for cut in np.quantile(t, ORIGINS):
        early, late = t <= cut, t > cut
        if early.sum() < LEAST_MODELS // 2 or not late.any():
            continue
        intercept, slope = quantile_line(t[early], z[early], np.ones(early.sum()), quantile)
        below = float((z[late] >= intercept + slope * t[late] - 1e-9).mean())
        rows.append(Backtest(float(xs[early].max()), int(late.sum()), below))
    return tuple(rows)


def _in_words(frontier: Attainable) -> str:
    ends = [frontier.x_low, frontier.x_high]
    point, low, high = frontier.predict(ends)
    tried = "; ".join(
        f"{row.below:.0%} of {row.later} models beyond {row.up_to:.3g}" for row in frontier.backtest
    )
    return (
        f"The best {1 - frontier.quantile:.0%} of models reach {frontier.y_name} {point[0]:.3f} at "
        f"{frontier.x_name} {ends[0]:.3g} and {point[1]:.3f} ({low[1]:.3f} to {high[1]:.3f}) at "
        f"{ends[1]:.3g}. Backtest: at or below the frontier of smaller models were {tried} "
        f"({frontier.quantile:.0%} if it holds)."
    )

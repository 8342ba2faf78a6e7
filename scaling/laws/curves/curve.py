"""One task's curve: performance against size or duration, with forms averaged by how well they
extrapolate, and honest intervals.

Performance is turned into a positive error z whose logarithm is modelled: for bounds (0, 1) the
odds of the error (so residuals are on the logit scale), for bounds (0, inf) the error itself.
Everything is reported back on the scale of the metric.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.curves.diagnostics import lack_of_fit, profile_intervals
from scaling.laws.curves.forms import CURVES, SURFACES, Form
from scaling.laws.curves.likelihood import evaluate
from scaling.laws.curves.link import Link, link_for
from scaling.laws.curves.losses import Loss, least_squares
from scaling.laws.curves.losses import student_t as student_t_loss
from scaling.laws.curves.newton import fit_batch
from scaling.laws.curves.stacking import rolling_origin_weights
from scaling.laws.plain import plain

LEVELS_NEEDED = {
    "flat": 1,
    "power": 2,
    "floor": 4,
    "m3": 4,
    "m4": 6,
    "bnsl": 6,
    "additive_logs": 3,
    "chinchilla": 6,
    "skaling": 8,
}


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


def fit(
    table: pd.DataFrame,
    x: str | tuple[str, ...],
    y: str,
    *,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
    cluster: str | None = None,
    seed: int = 0,
    forms: tuple[str, ...] | None = None,
    loss: Loss | None = None,
    prior: float = 1.0,
    resamples: int = 300,
) -> Curve:
    """Fit one task's curve to a table with a row per run. `x`: column of sizes or durations (or
    two columns for a surface).

    `bounds` of the metric: (0, 1) for AUROC or Dice, (-1, 1) for a correlation, None for an
    unbounded positive error. `cluster`: runs that share a trunk are resampled together. Forms
    with more parameters than the levels of x can carry are left out. `loss`: of the residuals on
    the log scale (default: Student-t, least squares below eight runs). `prior`: how sharp the
    weak priors on exponents are (0: none). Raises ValueError on missing columns, missing or
    impossible numbers, an unknown form, or a single level of x."""
    names = (x,) if isinstance(x, str) else tuple(x)
    X, scores_, groups = _read(table, names, y, cluster)
    link = link_for(bounds, lower_is_better, scores_, y)
    levels = len(np.unique(X, axis=1).T)
    if levels < 2:
        raise ValueError(
            f"Column {' and '.join(names)} holds one value only ({X[0, 0]:g}): a curve needs at "
            "least two."
        )
    centre = np.exp(np.log(X).mean(1))
    t, z = np.log(X) - np.log(centre)[:, None], link.log_error(scores_)
    notes: list[str] = []
    if table.duplicated().any():
        notes.append(
            f"{int(table.duplicated().sum())} rows are exact copies of others; they count as runs "
            "of their own."
        )
    catalogue = CURVES if len(names) == 1 else SURFACES
    unknown = [f for f in forms or () if f not in catalogue]
    if unknown:
        raise ValueError(
            f"No form is called {', '.join(unknown)}: for {' and '.join(names)} there are "
            f"{', '.join(catalogue)}."
        )
    candidates = [
        catalogue[f]
        for f in (forms or catalogue)
        if levels >= LEVELS_NEEDED[f] and len(z) > catalogue[f].size
    ]
    if not candidates:
        candidates = [catalogue["flat"]]
    if len(candidates) < len(forms or catalogue):
        notes.append(
            f"{levels} levels carry no more than the forms {', '.join(c.name for c in candidates)}."
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    members = len(np.unique(groups))
    weights = np.concatenate(
        [np.ones((1, len(z))), rng.dirichlet(np.ones(members), resamples)[:, groups] * members]
    )
    noise = _noise(t, z)
    loss = loss or (student_t_loss(noise) if len(z) >= 8 else least_squares)
    if np.ptp(scores_) == 0:
        notes.append(f"Every {y} equals {scores_[0]:g}: the curve is flat by construction.")
        candidates = [catalogue["flat"]]
    shares = rolling_origin_weights(candidates, t, z, loss, noise, prior)
    fits, draws = [], []
    for form, share in zip(candidates, shares, strict=True):
        one, theta = _fit_form(form, t, z, weights, loss, prior * noise**2, float(share))
        fits.append(one)
        draws.append(theta)
    if not all(f.converged for f in fits):
        notes.append(f"Not converged: {', '.join(f.name for f in fits if not f.converged)}.")
    best = max(fits, key=lambda f: f.weight)
    bare = Curve(
        x_names=names,
        y_name=y,
        link=link,
        centre=tuple(centre.tolist()),
        x_low=tuple(X.min(1).tolist()),
        x_high=tuple(X.max(1).tolist()),
        forms=tuple(fits),
        rows=len(z),
        levels=levels,
        clusters=members,
        residual_sd=best.residual_sd,
        lack_of_fit_p=lack_of_fit(t, z, catalogue[best.name], draws[fits.index(best)][0]),
        summary="",
        notes=tuple(notes),
        draws=tuple(draws),
    )
    return _with_summary(bare)


def curves_along(
    runs: pd.DataFrame, bounds: tuple[float, float] | None, lower_is_better: bool
) -> Iterator[tuple[str, Curve]]:
    """Axis ("size" or "duration") and the curve of `value` along it, through the runs at the
    other axis's largest level.

    `runs`: a row per run with params, duration, trunk and value. Runs of one trunk are resampled
    together, if there are several trunks. An axis with fewer than three levels has no curve, nor
    has a metric without bounds that touches zero or is better when higher."""
    for axis, column, other in (("size", "params", "duration"), ("duration", "duration", "params")):
        part = runs[runs[other] == runs[other].max()]
        if len(part[column].unique()) < 3 or not suits_a_curve(
            part["value"], bounds, lower_is_better
        ):
            continue
        cluster = "trunk" if len(part["trunk"].unique()) > 1 else None
        yield (
            axis,
            fit(
                part,
                column,
                "value",
                bounds=bounds,
                lower_is_better=lower_is_better,
                cluster=cluster,
            ),
        )


def suits_a_curve(
    values: pd.Series, bounds: tuple[float, float] | None, lower_is_better: bool
) -> bool:
    """Whether a metric can become a positive error: it is bounded, or is an error itself."""
    return bounds is not None or (lower_is_better and bool(values.min() > 0))


def mixture_quantile(pool: FloatArray, mass: FloatArray, level: float) -> FloatArray:
    """Quantile [m] of draws [K, m] that carry `mass` [K], which sums to 1."""
    order = np.argsort(pool, axis=0)
    share = np.cumsum(mass[order], axis=0)
    index = np.minimum((share < level).sum(0), len(pool) - 1)
    return np.asarray(
        np.take_along_axis(np.take_along_axis(pool, order, 0), index[None], 0)[0], float
    )


def _read(
    table: pd.DataFrame, names: tuple[str, ...], y: str, cluster: str | None
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    require_columns(table, [*names, y, *([cluster] if cluster else [])])
    if table.empty:
        raise ValueError("The table has no rows: nothing to fit.")
    columns = []
    for c in (*names, y):
        numbers = pd.to_numeric(table[c], errors="coerce").to_numpy(float)
        bad = ~np.isfinite(numbers) | (
            (numbers <= 0) if c in names else np.zeros(len(numbers), bool)
        )
        if bad.any():
            kind = (
                "missing, non-numeric or not positive" if c in names else "missing or non-numeric"
            )
            raise ValueError(
                f"Column {c} holds {int(bad.sum())} entries that are {kind} (first at row "
                f"{table.index[bad][0]}): drop them first."
            )
        columns.append(numbers)
    groups = pd.factorize(table[cluster])[0] if cluster else np.arange(len(table))
    return np.stack(columns[:-1]), columns[-1], np.asarray(groups, np.int64)


def _noise(t: FloatArray, z: FloatArray) -> float:
    """A first guess of a run's scatter: residuals around the levels where they repeat, else
    around a quadratic in log x."""
    _, level = np.unique(t, axis=1, return_inverse=True)
    level = level.ravel()
    counts = np.bincount(level)
    if (counts > 1).sum() >= 3:
        residual, df = z - (np.bincount(level, z) / counts)[level], len(z) - len(counts)
    else:
        design = np.concatenate(
            [np.ones((1, len(z))), t, t**2 if len(np.unique(level)) > 3 else t[:0]]
        ).T
        residual, df = (
            z - design @ np.linalg.lstsq(design, z, rcond=None)[0],
            max(len(z) - design.shape[1], 1),
        )
    return max(float(np.sqrt((residual**2).sum() / df)), 1e-4)


def _fit_form(
    form: Form,
    t: FloatArray,
    z: FloatArray,
    weights: FloatArray,
    loss: Loss,
    strength: float,
    share: float,
) -> tuple[FormFit, FloatArray]:
    point = fit_batch(form, t, z, weights[:1], loss, strength=strength, starts=24)
    again = fit_batch(form, t, z, weights[1:], loss, strength=strength, starts=1, extra=point.theta)
    usable = again.converged if again.converged.any() else np.isfinite(again.objective)
    theta = np.concatenate([point.theta, again.theta[usable]])
    residual = z - form.jet(point.theta.T, t).value[0]
    n, P = len(z), form.size
    sse = float((residual**2).sum())
    aicc = (
        n * math.log(sse / n + 1e-300)
        + 2 * P
        + (2 * P * (P + 1) / (n - P - 1) if n > P + 1 else math.inf)
    )
    _, _, hessian = evaluate(form, point.theta, t, z, weights[:1], loss, 0.0)
    low, high, open_ = profile_intervals(
        form, t, z, loss, strength, point.theta[0], float(point.objective[0])
    )
    name = dict(zip(form.parameters, point.theta[0].tolist(), strict=True))
    return (
        FormFit(
            form.name,
            form.formula,
            share,
            name,
            low,
            high,
            open_,
            bool(point.converged[0]),
            float(point.agree[0]),
            float(np.linalg.cond(hessian[0])),
            aicc,
            math.sqrt(sse / max(n - P, 1)),
        ),
        theta,
    )


def _with_summary(curve: Curve) -> Curve:
    first, last = np.array([curve.x_low]), np.array([curve.x_high])
    mean, low, high = curve.predict(np.concatenate([first, last]))
    best = max(curve.forms, key=lambda f: f.weight)
    change = mean[1] - mean[0]
    better = (change < 0) == curve.link.lower_is_better
    word = "no clear change" if low[1] <= mean[0] <= high[1] else ("better" if better else "worse")
    parts = [
        f"From {' and '.join(curve.x_names)} {_join(curve.x_low)} to {_join(curve.x_high)}, "
        f"{curve.y_name} goes from "
        f"{mean[0]:.4g} to {mean[1]:.4g} (90% interval there {low[1]:.4g} to {high[1]:.4g}): "
        f"{word}."
    ]
    forms = ", ".join(
        f"{f.name} {f.weight:.0%}"
        for f in sorted(curve.forms, key=lambda f: -f.weight)
        if f.weight >= 0.05
    )
    parts.append(f"Forms: {forms}, from {curve.rows} runs at {curve.levels} levels.")
    if best.not_identified:
        parts.append(
            f"Not identified by these data: {', '.join(best.not_identified)} of the form "
            f"{best.name}."
        )
    elif curve.levels < 4:
        parts.append("Too few levels to identify a floor: nothing is claimed beyond the largest.")
    return replace(curve, summary=" ".join(parts))


def _join(values: tuple[float, ...]) -> str:
    return " and ".join(f"{v:.3g}" for v in values)

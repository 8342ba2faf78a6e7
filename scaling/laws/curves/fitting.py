"""Fitting a curve: the forms that the data can carry, and their resampled fits."""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.curves.best_link import on_best_link
from scaling.laws.curves.curve import Curve, FormFit
from scaling.laws.curves.diagnostics import lack_of_fit, profile_intervals
from scaling.laws.curves.forms import CURVES, SURFACES, Form
from scaling.laws.curves.in_words import with_summary
from scaling.laws.curves.likelihood import evaluate
from scaling.laws.curves.link import links_for
from scaling.laws.curves.losses import Loss
from scaling.laws.curves.newton import fit_batch

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
"""Levels of x that a form needs to be tried at all."""
LACK_OF_FIT = 0.01


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
    X, scores, groups = _read(table, names, y, cluster)
    links = links_for(bounds, lower_is_better, scores, y)
    levels = len(np.unique(X, axis=1).T)
    if levels < 2:
        raise ValueError(
            f"Column {' and '.join(names)} holds one value only ({X[0, 0]:g}): a curve needs at "
            "least two."
        )
    centre = np.exp(np.log(X).mean(1))
    t = np.log(X) - np.log(centre)[:, None]
    candidates, notes = candidate_forms(names, forms, levels, len(scores))
    if table.duplicated().any():
        notes.append(
            f"{int(table.duplicated().sum())} rows are exact copies of others; they count as runs "
            "of their own."
        )
    if np.ptp(scores) == 0:
        notes.append(f"Every {y} equals {scores[0]:g}: the curve is flat by construction.")
        candidates, links = [_catalogue(names)["flat"]], links[:1]
    chosen = on_best_link(links, t, scores, candidates, loss, prior)
    if chosen.link != links[0]:
        notes.append(f"Fitted on {chosen.link.name}, which foretells later levels better.")
    weights, clusters = _run_weights(groups, resamples, seed)
    fits, draws = [], []
    for form, share in zip(candidates, chosen.foretold.weights, strict=True):
        strength = prior * chosen.noise**2
        fitted, theta = _fit_form(form, t, chosen.z, weights, chosen.loss, strength, float(share))
        fits.append(fitted)
        draws.append(theta)
    if not all(f.converged for f in fits):
        notes.append(f"Not converged: {', '.join(f.name for f in fits if not f.converged)}.")
    best = max(range(len(fits)), key=lambda i: fits[i].weight)
    p = lack_of_fit(t, chosen.z, candidates[best], draws[best][0])
    if p is not None and p < LACK_OF_FIT:
        notes.append(_lack_of_fit_note(fits[best].name, p))
    bare = Curve(
        x_names=names,
        y_name=y,
        link=chosen.link,
        centre=tuple(centre.tolist()),
        x_low=tuple(X.min(1).tolist()),
        x_high=tuple(X.max(1).tolist()),
        forms=tuple(fits),
        rows=len(scores),
        levels=levels,
        clusters=clusters,
        residual_sd=fits[best].residual_sd,
        lack_of_fit_p=p,
        summary="",
        notes=tuple(notes),
        draws=tuple(draws),
    )
    return with_summary(bare)


def _lack_of_fit_note(form: str, p: float) -> str:
    return (
        f"The curve does not fit: repeated runs differ less than their levels stray from it "
        f"(lack of fit of the form {form}, p = {p:.1g}). Read the levels, not the curve."
    )


def _run_weights(
    groups: npt.NDArray[np.int64], resamples: int, seed: int
) -> tuple[FloatArray, int]:
    """Weights [1 + resamples, n] of the runs, all 1 first and then of a Bayesian bootstrap over
    their clusters, and the number of clusters.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    clusters = len(np.unique(groups))
    resampled = rng.dirichlet(np.ones(clusters), resamples)[:, groups] * clusters
    return np.concatenate([np.ones((1, len(groups))), resampled]), clusters


def _catalogue(names: tuple[str, ...]) -> dict[str, Form]:
    return CURVES if len(names) == 1 else SURFACES


def candidate_forms(
    names: tuple[str, ...], forms: tuple[str, ...] | None, levels: int, rows: int
) -> tuple[list[Form], list[str]]:
    """The forms that this many levels can carry, and a note where they are not all."""
    catalogue = _catalogue(names)
    unknown = [name for name in forms or () if name not in catalogue]
    if unknown:
        raise ValueError(
            f"No form is called {', '.join(unknown)}: for {' and '.join(names)} there are "
            f"{', '.join(catalogue)}."
        )
    candidates = [
        catalogue[name]
        for name in (forms or catalogue)
        if levels >= LEVELS_NEEDED[name] and rows > catalogue[name].size
    ]
    candidates = candidates or [catalogue["flat"]]
    if len(candidates) == len(forms or catalogue):
        return candidates, []
    carried = ", ".join(form.name for form in candidates)
    return candidates, [f"{levels} levels carry no more than the forms {carried}."]


def _read(
    table: pd.DataFrame, names: tuple[str, ...], y: str, cluster: str | None
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    require_columns(table, [*names, y, *([cluster] if cluster else [])])
    if table.empty:
        raise ValueError("The table has no rows: nothing to fit.")
    columns = []
    for column in (*names, y):
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        bad, kind = ~np.isfinite(numbers), "missing or non-numeric"
        if column in names:
            bad, kind = bad | (numbers <= 0), "missing, non-numeric or not positive"
        if bad.any():
            raise ValueError(
                f"Column {column} holds {int(bad.sum())} entries that are {kind} (first at row "
                f"{table.index[bad][0]}): drop them first."
            )
        columns.append(numbers)
    groups = pd.factorize(table[cluster])[0] if cluster else np.arange(len(table))
    return np.stack(columns[:-1]), columns[-1], np.asarray(groups, np.int64)


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
    # Dense forms are slow: only the better of a resample's two starts is run to convergence.
    polish = 1 if form.leaves is None else None
    again = fit_batch(
        form,
        t,
        z,
        weights[1:],
        loss,
        strength=strength,
        starts=1,
        polish=polish,
        extra=point.theta,
    )
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

"""Extrapolating learning curves: fit the early part of each curve, foretell the rest, and say how
far off that may be.

Two forms, a power law with a floor and a sigmoid between two levels (M4, Alabdulmohsin et al.
2022, arXiv 2209.06640), are averaged. No law holds along a whole curve, so later points weigh
more (proportional to x), and weak priors keep exponents and floors where measured laws have them.
Which forms, how steep the weights and how strong the priors was chosen by rolling origin on the
fitted parts of published learning curves. The interval comes from the same rolling origin on the
curve itself: how far predictions made from earlier origins drifted from what followed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.curves.forms import CURVES, Form
from scaling.laws.curves.losses import student_t as student_t_loss
from scaling.laws.curves.newton import fit_batch
from scaling.laws.plain import plain

FORMS = ("floor", "m4")
RECENCY = 1.0  # weight of a point: (x / largest x) ** RECENCY
PRIOR_STRENGTH = 6.0  # the forms' own priors are this much sharper here
ORIGINS = (2.1, 3.0, 4.5)  # earlier origins: the largest x fitted, divided by these
DRIFT_DF = 2  # degrees of freedom of a drift: the parts beyond three origins overlap
DRIFT = 0.05  # error a factor e beyond the data, where a curve is too short for an earlier origin


@dataclass(frozen=True)
class Extrapolation:
    """`points`: the rows not fitted, with prediction, low and high; `curves`: per curve its RMSLE
    (root mean squared difference of logarithms), interval coverage, numbers of points, and
    whether every form converged."""

    points: pd.DataFrame
    curves: pd.DataFrame
    rmsle: float
    coverage: float
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        numbers = {"rmsle": self.rmsle, "coverage": self.coverage, "confidence": self.confidence}
        tables = {
            "curves": self.curves.to_dict("records"),
            "points": self.points.to_dict("records"),
        }
        return cast(dict[str, Any], plain({**numbers, **tables}))


def extrapolate(
    table: pd.DataFrame,
    x: str,
    y: str,
    train: str,
    by: Sequence[str] = (),
    forms: Sequence[str] = FORMS,
    confidence: float = 0.90,
) -> Extrapolation:
    """Fit each curve (rows that share the columns `by`) where column `train` is 1, predict the
    rest. x and y must be positive.

    Raises ValueError on missing columns, entries that are not positive numbers, or a curve with
    fewer than three fitted points."""
    unknown = [form for form in forms if form not in CURVES]
    if unknown:
        raise ValueError(f"No form is called {', '.join(unknown)}: there are {', '.join(CURVES)}.")
    _check(table, x, y, train, by)
    points, curves = [], []
    groups = table.groupby(list(by), sort=False, dropna=False) if by else [((), table)]
    for key, part in groups:
        fitted, rest = part[part[train] == 1], part[part[train] != 1]
        name = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        label = ", ".join(map(str, name.values())) or "the curve"
        if fitted[x].nunique() < 3 or rest.empty:
            raise ValueError(
                f"{label} has {fitted[x].nunique()} levels of {x} to fit (column {train} = 1) and "
                f"{len(rest)} rows to predict: at least three and one are needed."
            )
        to = rest[x].to_numpy(float)
        mean, low, high, converged = predict(
            fitted[x].to_numpy(float), fitted[y].to_numpy(float), to, forms, confidence
        )
        truth = rest[y].to_numpy(float)
        points.append(rest.assign(prediction=mean, low=low, high=high))
        rmsle = float(np.sqrt(np.mean((np.log(mean) - np.log(truth)) ** 2)))
        covered = float(((low <= truth) & (truth <= high)).mean())
        curves.append(
            {
                **name,
                "rmsle": rmsle,
                "coverage": covered,
                "fitted": len(fitted),
                "predicted": len(rest),
                "converged": converged,
            }
        )
    summary = pd.DataFrame(curves)
    return Extrapolation(
        pd.concat(points),
        summary,
        float(summary["rmsle"].mean()),
        float(summary["coverage"].mean()),
        confidence,
    )


def predict(
    x: FloatArray,
    y: FloatArray,
    to: FloatArray,
    forms: Sequence[str] = FORMS,
    confidence: float = 0.90,
) -> tuple[FloatArray, FloatArray, FloatArray, bool]:
    """Mean, low and high [m] of one curve x, y [n] at `to` [m], and whether every fit converged."""
    order = np.argsort(x, kind="stable")
    x, z = x[order], np.log(y[order])
    noise = scatter(z)
    levels = len(np.unique(x))
    usable = [CURVES[f] for f in forms if levels > CURVES[f].size] or [
        CURVES["power" if levels < 4 else "floor"]
    ]
    origins = [x.max()] + [
        x.max() / o for o in ORIGINS if (x <= x.max() / o).sum() > max(6, *(f.size for f in usable))
    ]
    weights = np.stack([np.where(x <= o, (x / o) ** RECENCY, 0.0) for o in origins])
    weights /= weights.sum(1, keepdims=True) / (weights > 0).sum(1, keepdims=True)
    everywhere = np.concatenate([to, x])
    fits = [_predictions(form, x, z, weights, noise, everywhere) for form in usable]
    mean = np.mean([p for p, _ in fits], axis=0)  # [origins, m + n]
    drifts = []
    for o, foretold in zip(origins[1:], mean[1:, len(to) :], strict=True):
        later = (x > o) & (x <= ORIGINS[0] * o)
        distance = np.log(x[later] / o)
        excess = ((z - foretold)[later] ** 2 - noise**2).mean()
        drifts.append(max(excess, 0.0) / (distance**2).mean())
    drift = math.sqrt(np.mean(drifts)) if drifts else DRIFT
    distance = np.maximum(np.log(to / x.max()), 0.0)
    half = student_t.ppf((1 + confidence) / 2, DRIFT_DF) * np.sqrt(
        noise**2 + (drift * distance) ** 2
    )
    centre = mean[0, : len(to)]
    return np.exp(centre), np.exp(centre - half), np.exp(centre + half), all(c for _, c in fits)


def _predictions(
    form: Form, x: FloatArray, z: FloatArray, weights: FloatArray, noise: float, to: FloatArray
) -> tuple[FloatArray, bool]:
    centre = np.log(x).mean()
    t = (np.log(x) - centre)[None]
    fits = fit_batch(
        form,
        t,
        z,
        weights,
        student_t_loss(noise),
        strength=PRIOR_STRENGTH * noise**2,
        starts=6,
        polish=2,
    )
    return form.jet(fits.theta.T, (np.log(to) - centre)[None]).value, bool(fits.converged[0])


def scatter(z: FloatArray) -> float:
    """Standard deviation of the noise in a smooth sequence z [n], from how far points lie off the
    line through their neighbours."""
    bend = z[1:-1] - (z[:-2] + z[2:]) / 2
    return max(float(np.sqrt((bend**2).mean() / 1.5)), 1e-4)


def _check(table: pd.DataFrame, x: str, y: str, train: str, by: Sequence[str]) -> None:
    require_columns(table, [x, y, train, *by])
    for column in (x, y):
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        bad = ~(np.isfinite(numbers) & (numbers > 0))
        if bad.any():
            raise ValueError(
                f"Column {column} holds {int(bad.sum())} entries that are missing or not positive "
                f"(first at row {table.index[bad][0]}): "
                "curves are fitted to logarithms; drop those rows, or turn a score into an error."
            )
    if not table[train].isin([0, 1]).all():
        raise ValueError(f"Column {train} must hold 1 (fit) and 0 (predict) only.")

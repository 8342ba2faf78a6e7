"""What the data do and do not determine about a fitted form: profile intervals, and lack of fit."""

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import Form
from scaling.laws.curves.losses import Loss
from scaling.laws.curves.newton import newton


def profile_intervals(
    form: Form,
    t: FloatArray,
    z: FloatArray,
    loss: Loss,
    strength: float,
    theta: FloatArray,
    objective: float,
) -> tuple[dict[str, float | None], dict[str, float | None], tuple[str, ...]]:
    """90 % profile interval of each parameter: where holding it raises the (unpenalised)
    objective by half a t quantile squared, in units of sum psi^2 / sum psi', which is the
    residual variance for least squares and makes the rise of any other loss comparable with it
    (Heritier and Ronchetti 1994, JASA 89:897). A side that never rises that far within five units
    of log amplitude (two of an exponent) is open: not identified."""
    df = max(len(z) - form.size, 1)
    losses = np.empty((3, 1, len(z)))
    loss(z - form.jet(theta[:, None], t).value, losses)
    unit_rise = (losses[1] ** 2).sum() / max(float(losses[2].sum()), 1e-12) * len(z) / df
    rise = 0.5 * float(student_t.ppf(0.95, df)) ** 2 * max(float(unit_rise), 1e-12)
    P = form.size
    unit = np.concatenate([-np.geomspace(0.01, 1, 8)[::-1], np.geomspace(0.01, 1, 8)])
    reach = np.array([5.0 if name.startswith("log_") else 2.0 for name in form.parameters])
    start = np.repeat(theta[None], P * len(unit), axis=0).reshape(P, len(unit), P)
    free = np.ones(start.shape, bool)
    for p in range(P):
        start[p, :, p] += unit * reach[p]
        free[p, :, p] = False
    weights = np.ones((P * len(unit), len(z)))
    _, value, _ = newton(
        form,
        t,
        z,
        weights,
        loss,
        start.reshape(-1, P),
        strength=1e-3 * strength,
        free=free.reshape(-1, P),
        tolerance=1e-6,
        iterations=60,
    )
    above = value.reshape(P, len(unit)) - objective - rise
    low: dict[str, float | None] = {}
    high: dict[str, float | None] = {}
    open_ = []
    for p, name in enumerate(form.parameters):
        below, beyond = (
            _crossing(unit[8:] * reach[p], side, rise) for side in (above[p, 7::-1], above[p, 8:])
        )
        low[name] = None if below is None else float(theta[p]) - below
        high[name] = None if beyond is None else float(theta[p]) + beyond
        if below is None or beyond is None:
            open_.append(name)
    return low, high, tuple(open_)


def _crossing(distance: FloatArray, above: FloatArray, rise: float) -> float | None:
    """Where `above`, which is -rise at distance 0, first passes nought; in between its rise is
    taken as quadratic."""
    crossed = np.flatnonzero(above >= 0)
    if len(crossed) == 0:
        return None
    i = int(crossed[0])
    root = np.sqrt(np.maximum(np.concatenate([[0.0], above[: i + 1] + rise]), 0.0))
    d0, d1 = (0.0, *distance[:i])[-1], float(distance[i])
    return float(d0 + (d1 - d0) * (np.sqrt(rise) - root[-2]) / max(root[-1] - root[-2], 1e-300))


def lack_of_fit(t: FloatArray, z: FloatArray, form: Form, theta: FloatArray) -> float | None:
    """p of the F test of the form against free level means; None without repeated levels."""
    _, level = np.unique(t, axis=1, return_inverse=True)
    level = level.ravel()
    counts = np.bincount(level)
    pure_df, lack_df = len(z) - len(counts), len(counts) - form.size
    if pure_df < 1 or lack_df < 1:
        return None
    pure = float(((z - (np.bincount(level, z) / counts)[level]) ** 2).sum())
    total = float(((z - form.jet(theta[:, None], t).value[0]) ** 2).sum())
    if pure == 0:
        return None
    return float(
        f_distribution.sf(max(total - pure, 0.0) / lack_df / (pure / pure_df), lack_df, pure_df)
    )

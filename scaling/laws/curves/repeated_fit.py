"""The parameters of one law of repeated data: of all runs, of runs drawn again, and of the runs of
least compute, which predict the others.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.repeated_forms import RepeatedForm

IndexArray = npt.NDArray[np.intp]

ORIGINS = (0.6, 0.75, 0.85)
"""Shares of the runs, in the order of compute, that are fitted to predict the rest."""
SCALES = (0.001, 0.02)
"""Residuals of the logarithm of the loss beyond a law's own scatter count less than squared (soft
L1); the scatter is taken to lie between these."""
STARTS = 5


def point_estimate(form: RepeatedForm, x: FloatArray, z: FloatArray) -> tuple[FloatArray, float]:
    """The parameters [P] of all runs, and the scatter beyond which a residual counts less."""
    first = _fit(form, x, z, _starts(form), SCALES[1])
    # The median absolute deviation of a normal distribution is 1 / 1.4826 of its sd.
    scatter = 1.4826 * float(np.median(np.abs(z - form.log_loss(first, *x))))
    scale = min(max(scatter, SCALES[0]), SCALES[1])
    return _fit(form, x, z, [first], scale), scale


def bootstrap(
    form: RepeatedForm,
    x: FloatArray,
    z: FloatArray,
    point: FloatArray,
    scale: float,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Parameters [1 + resamples, P]: those of all runs, then those of runs drawn again."""
    draws = [point]
    for _ in range(resamples):
        rows = rng.integers(0, len(z), len(z))
        draws.append(_fit(form, x[:, rows], z[rows], [point], scale, tolerance=1e-5))
    return np.stack(draws)


def backtest_errors(
    form: RepeatedForm, x: FloatArray, z: FloatArray, by_compute: IndexArray, scale: float
) -> tuple[float, ...]:
    """Per origin: root mean squared log error of the later runs, predicted from the earlier."""
    errors = []
    for origin in ORIGINS:
        earlier = by_compute[: runs_at(origin, len(z))]
        later = np.setdiff1d(by_compute, earlier)
        theta = _fit(form, x[:, earlier], z[earlier], _starts(form), scale)
        misses = z[later] - form.log_loss(theta, *x[:, later])
        errors.append(float(np.sqrt(np.mean(misses**2))))
    return tuple(errors)


def runs_at(origin: float, runs: int) -> int:
    """How many runs are fitted at an origin of the backtest."""
    return round(origin * runs)


def _starts(form: RepeatedForm) -> list[FloatArray]:
    """Parameters [P] of every combination of small and large amplitudes and exponents, which all
    laws share; the others at the means of their priors.
    """
    log_amplitude, log_floor, log_exponent = [-2, -0.7], [-0.5, -0.05], [-1.6, -0.7]
    # In the order of BASE: log_A, log_B, log_E, log_alpha, log_beta.
    axes = (log_amplitude, log_amplitude, log_floor, log_exponent, log_exponent)
    grid = np.meshgrid(*axes)
    shared = np.stack([axis.ravel() for axis in grid], axis=1)  # [2^5, 5]
    rest = np.asarray(form.prior_mean[len(axes) :])
    return [np.concatenate([start, rest]) for start in shared]


def _fit(
    form: RepeatedForm,
    x: FloatArray,
    z: FloatArray,
    starts: list[FloatArray],
    scale: float,
    tolerance: float = 1e-8,
) -> FloatArray:
    """The best parameters [P] over the most promising starts: soft L1 loss of log ratios, with
    the law's weak priors."""
    mean, sd = np.asarray(form.prior_mean), np.asarray(form.prior_sd)

    def misfit(theta: FloatArray) -> FloatArray:
        # A trial step may overflow on its way; it is then a bad one, not an error.
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.nan_to_num(form.log_loss(theta, *x) - z, nan=9.0)
        return np.concatenate([np.clip(ratio, -9, 9), scale * (theta - mean) / sd])

    def cost(theta: FloatArray) -> float:
        return float(np.sum(np.sqrt(1 + (misfit(theta) / scale) ** 2)))

    options = {"loss": "soft_l1", "f_scale": scale, "max_nfev": 200, "ftol": tolerance}
    best = sorted(starts, key=cost)[:STARTS]
    fits = [least_squares(misfit, start, **options) for start in best]
    return np.asarray(min(fits, key=lambda fit: float(fit.cost)).x, float)

"""Laws of a loss over size N, unique data U and data seen D, where data are seen several times.

Parameters are those of the centred data (N / N0, D / D0), positive ones as logarithms. Every law
has weak priors where published fits have its parameters, so that a small study can be fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.laws.arrays import FloatArray

LogLoss = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]
LARGEST_EXCESS = 3.0
"""Overfitting cannot add more than e^3 of the typical loss, however far a law is carried on."""
FEWEST_REPEATS = 1e-9
"""Stands for no repeat at all, whose logarithm would be minus infinity."""


@dataclass(frozen=True)
class RepeatedForm:
    """A law: `log_loss(theta [P], n [m], u [m], d [m])` -> [m], of centred logarithms of size,
    unique data and data seen."""

    name: str
    formula: str
    parameters: tuple[str, ...]
    prior_mean: tuple[float, ...]
    prior_sd: tuple[float, ...]
    log_loss: LogLoss


def chinchilla(theta: FloatArray, n: FloatArray, u: FloatArray, d: FloatArray) -> FloatArray:
    """L = A N^-alpha + B D^-beta + E (Hoffmann et al. 2022): a repeated sample counts as a new
    one."""
    log_A, log_B, log_E, log_alpha, log_beta = theta[:5]
    of_size = log_A - np.exp(log_alpha) * n
    of_data = log_B - np.exp(log_beta) * d
    return np.asarray(np.logaddexp(np.logaddexp(of_size, of_data), log_E))


def log_effective(base: FloatArray, repeats: FloatArray, log_worth: float) -> FloatArray:
    """Logarithm [m] of base (1 + R* (1 - exp(-R / R*))): repeats R beyond R* add nothing more
    (Muennighoff et al. 2023, equation 5)."""
    worth = np.exp(log_worth)
    return np.asarray(base + np.log1p(worth * -np.expm1(-repeats / worth)))


def effective(theta: FloatArray, n: FloatArray, u: FloatArray, d: FloatArray) -> FloatArray:
    """The same law of effective data and parameters (Muennighoff et al. 2023, equations 5 to 7).

    Parameters are in excess of those that compute-optimal training on U would use."""
    log_A, log_B, _, log_alpha, log_beta, log_rd, log_rn = theta
    alpha, beta = np.exp(log_alpha), np.exp(log_beta)
    seen = log_effective(u, np.expm1(d - u), log_rd)
    # Where an optimal compute is spent: alpha A N^-alpha = beta B U^-beta.
    optimal = (log_alpha - log_beta + log_A - log_B + beta * u) / alpha
    used = np.minimum(n, optimal)
    excess = np.expm1(np.minimum(n - used, 50.0))
    return chinchilla(theta, log_effective(used, excess, log_rn), u, seen)


def overfitting(theta: FloatArray, n: FloatArray, u: FloatArray, d: FloatArray) -> FloatArray:
    """The Chinchilla law and an excess that grows with repeats R = D/U - 1 and size and shrinks
    with unique data: P R^r N^p U^-q. Unlike effective data, it lets the loss rise again."""
    log_P, log_r, p, q = theta[5:]
    repeats = np.maximum(np.expm1(d - u), FEWEST_REPEATS)
    log_excess = log_P + np.exp(log_r) * np.log(repeats) + p * n - q * u
    log_excess = np.minimum(log_excess, LARGEST_EXCESS)
    return np.asarray(np.logaddexp(chinchilla(theta, n, u, d), log_excess))


# Amplitudes are relative to the typical loss; exponents of language, vision and images lie near
# .35 (Hoffmann et al. 2022; Muennighoff et al. 2023, whose R* are 15.4 and 5.3).
MEAN = (-0.7, -0.7, 0.0, float(np.log(0.35)), float(np.log(0.35)))
SD = (5.0, 5.0, 5.0, 0.3, 0.3)
BASE = ("log_A", "log_B", "log_E", "log_alpha", "log_beta")

CHINCHILLA = RepeatedForm("chinchilla", "A/N^alpha + B/D^beta + E", BASE, MEAN, SD, chinchilla)
EFFECTIVE = RepeatedForm(
    "effective",
    "A/N'^alpha + B/D'^beta + E with D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))), N' alike",
    (*BASE, "log_R_D", "log_R_N"),
    (*MEAN, float(np.log(15.4)), float(np.log(5.3))),
    (*SD, 1.0, 1.0),
    effective,
)
OVERFITTING = RepeatedForm(
    "overfitting",
    "A/N^alpha + B/D^beta + E + P (D/U - 1)^r N^p / U^q",
    (*BASE, "log_P", "log_r", "p", "q"),
    (*MEAN, -5.0, 0.0, 0.4, 0.6),
    (*SD, 3.0, 0.3, 0.2, 0.2),
    overfitting,
)
REPEATED_FORMS = (CHINCHILLA, EFFECTIVE, OVERFITTING)

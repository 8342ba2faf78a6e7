"""Losses of a residual r: value, first and second derivative. Residuals are differences of logarithms, so relative
errors."""

from collections.abc import Callable

import numpy as np

from scaling.laws.scores import FloatArray

Loss = Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]


def huber(delta: float) -> Loss:
    """Quadratic within delta, linear beyond (Huber 1964); scaling laws of language models use delta = 0.001."""

    def loss(r: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        psi = np.clip(r, -delta, delta)
        return psi * (r - 0.5 * psi), psi, (psi == r).astype(float)

    return loss


def least_squares(r: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """r^2 / 2."""
    return 0.5 * r * r, r, np.ones_like(r)


def student_t(scale: float, df: float = 4.0) -> Loss:
    """Negative log density of a scaled Student t, times scale^2: like least squares near nought, bounded influence far
    out."""

    def loss(r: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        k, s2 = df + 1, df * scale**2
        q = s2 + r * r
        return 0.5 * k * scale**2 * np.log1p(r * r / s2), k * scale**2 * r / q, k * scale**2 * (s2 - r * r) / q**2

    return loss

"""Losses of a residual r [B, n]: value, first and second derivative, written into `out` [3, B, n]
(these loops are where a fit's time goes, and fresh arrays cost more than the arithmetic).
Residuals are differences of logarithms, so relative errors.
"""

from collections.abc import Callable

import numpy as np

from scaling.laws.arrays import FloatArray

Loss = Callable[[FloatArray, FloatArray], None]


def huber(delta: float) -> Loss:
    """Quadratic within delta, linear beyond (Huber 1964); scaling laws of language models use
    delta = 0.001."""

    def loss(r: FloatArray, out: FloatArray) -> None:
        value, psi, curvature = out
        np.clip(r, -delta, delta, out=psi)
        np.equal(psi, r, out=curvature)
        np.multiply(psi, -0.5, out=value)
        value += r
        value *= psi

    return loss


def least_squares(r: FloatArray, out: FloatArray) -> None:
    """r^2 / 2."""
    np.multiply(r, r, out=out[0])
    out[0] *= 0.5
    out[1] = r
    out[2] = 1.0


def student_t(scale: float, df: float = 4.0) -> Loss:
    """Negative log density of a scaled Student t, times scale^2: like least squares near nought,
    bounded influence far out.
    """
    k, s2 = df + 1, df * scale**2

    def loss(r: FloatArray, out: FloatArray) -> None:
        square = r * r
        out[0] = 0.5 * k * scale**2 * np.log1p(square / s2)
        out[1] = k * scale**2 * r / (s2 + square)
        out[2] = k * scale**2 * (s2 - square) / (s2 + square) ** 2

    return loss

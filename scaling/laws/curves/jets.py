"""Second-order chain rule in closed form: a value with its gradient and Hessian in the
parameters, batched.

A `Jet` of P parameters at B resamples and n points holds value [B, n], gradient [P, B, n] and
Hessian [P, P, B, n]. The forms are written with these six rules; tests hold them against
automatic differentiation.
"""

from dataclasses import dataclass

import numpy as np

from scaling.laws.arrays import FloatArray


@dataclass(frozen=True)
class Jet:
    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray

    def __add__(self, other: "Jet") -> "Jet":
        return Jet(
            self.value + other.value, self.gradient + other.gradient, self.hessian + other.hessian
        )

    def __mul__(self, other: "Jet") -> "Jet":
        cross = self.gradient[:, None] * other.gradient[None]
        return Jet(
            self.value * other.value,
            self.gradient * other.value + self.value * other.gradient,
            self.hessian * other.value + self.value * other.hessian + cross + cross.swapaxes(0, 1),
        )


def linear(
    theta: FloatArray,
    slopes: dict[int, FloatArray | float],
    points: int,
    constant: FloatArray | float = 0.0,
) -> Jet:
    """constant + sum_i theta_i slope_i for theta [P, B], each slope a number or [n]."""
    P, B = theta.shape
    value = np.zeros((B, points)) + constant
    gradient = np.zeros((P, B, points))
    for i, slope in slopes.items():
        value += theta[i][:, None] * slope
        gradient[i] = slope
    return Jet(value, gradient, np.zeros((P, P, B, points)))


def chain(jet: Jet, value: FloatArray, first: FloatArray, second: FloatArray) -> Jet:
    """g(jet) from g, g' and g'' at jet.value."""
    outer = jet.gradient[:, None] * jet.gradient[None]
    return Jet(value, first * jet.gradient, first * jet.hessian + second * outer)


def log_sum_exp(*jets: Jet) -> Jet:
    """log of the sum of exponentials: the logarithm of a sum of positive terms."""
    values = np.stack([j.value for j in jets])
    top = values.max(0)
    shares = np.exp(values - top)
    total = shares.sum(0)
    shares /= total
    gradient = sum(p * j.gradient for p, j in zip(shares, jets, strict=True))
    hessian = sum(
        p * (j.hessian + j.gradient[:, None] * j.gradient[None])
        for p, j in zip(shares, jets, strict=True)
    )
    return Jet(top + np.log(total), gradient, hessian - gradient[:, None] * gradient[None])


def softplus(jet: Jet) -> Jet:
    share = 0.5 * (1 + np.tanh(jet.value / 2))
    return chain(jet, np.logaddexp(0, jet.value), share, share * (1 - share))


def exponential(jet: Jet) -> Jet:
    value = np.exp(jet.value)
    return chain(jet, value, value, value)


def generalised_logistic(v: Jet, alpha: Jet) -> Jet:
    """log s where log s - alpha log(1 - s) = v (s in (0, 1), alpha > 0): the curve of M4, by
    Newton's method and implicit derivatives."""
    a, target = alpha.value, v.value
    q = np.where(target < 0, target, target / a)  # q = logit s; both tails are exact
    for _ in range(60):
        low, high = -np.logaddexp(0, -q), -np.logaddexp(0, q)  # log s, log(1 - s)
        s = np.exp(low)
        step = (low - a * high - target) / ((1 - s) + a * s)
        q = q - step
        if np.abs(step).max() < 1e-13 * (1 + np.abs(q).max()):
            break
    log_s, log_r = -np.logaddexp(0, -q), -np.logaddexp(0, q)
    s = np.exp(log_s)
    r = 1 - s
    slope = 1 / (r + a * s)  # dq / dv; dq / da = slope * log(1 - s)
    # with D = r + a s:  dD/dq = (a - 1) s r,  dD/da = s (at fixed q)
    q_v, q_a = slope, slope * log_r
    bend = (a - 1) * s * r
    q_vv = -(slope**2) * bend * q_v
    q_va = -(slope**2) * (bend * q_a + s)
    q_aa = slope * (-s * q_a) + log_r * q_va
    first_v, first_a = r * q_v, r * q_a  # d log s / dq = r, d2 log s / dq2 = -s r
    vv, va, aa = r * q_vv - s * r * q_v**2, r * q_va - s * r * q_v * q_a, r * q_aa - s * r * q_a**2
    gv, ga = v.gradient, alpha.gradient
    cross = gv[:, None] * ga[None]
    hessian = (
        first_v * v.hessian
        + first_a * alpha.hessian
        + vv * gv[:, None] * gv[None]
        + va * (cross + cross.swapaxes(0, 1))
        + aa * ga[:, None] * ga[None]
    )
    return Jet(log_s, first_v * gv + first_a * ga, hessian)

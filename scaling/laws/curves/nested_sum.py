"""Closed sums of the form log f = log(exp(log_A) (N^-a + R D^-b)^k + exp(log_E)).

Its gradient and Hessian are sums over points of a few products, so they are summed directly; the
dense second derivatives of every point, which `jets` would hold, cost ten times as much.

With L = log(N^-a + R D^-b), q the share of R D^-b in that sum and p the share of the first term
in f, the derivatives of h = log_A + k L in (log_A, k, a, log_R, b) are

    g = (1, L, -k (1 - q) t1, k q, -k q t2),   so that   grad log f = (p g, 1 - p)
    Hess log f = p Hess h + p (1 - p) (g, -1) (g, -1)'

where Hess h has the second derivatives of k L: (-(1 - q) t1, q, -q t2) in k and (a, log_R, b), and
k q (1 - q) v v' with v = (t1, 1, -t2) among (a, log_R, b).
"""

import numpy as np

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.losses import Loss


def nested_sum_value(theta: FloatArray, t: FloatArray) -> FloatArray:
    """log f [B, n] at theta [B, 6] (log_A, k, a, log_R, b, log_E) and t [2, n]."""
    log_A, k, a, log_R, b, log_E = (column[:, None] for column in theta.T)
    inner = np.logaddexp(-a * t[0], log_R - b * t[1])
    return np.asarray(np.logaddexp(log_A + k * inner, log_E), float)


def nested_sum_sums(
    theta: FloatArray, t: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted sum of losses [B] of y - log f, its gradient [B, 6] and Hessian [B, 6, 6]."""
    log_A, k, a, log_R, b, log_E = (column[:, None] for column in theta.T)
    left, right = -a * t[0], log_R - b * t[1]  # [B, n]
    inner = np.logaddexp(left, right)
    q = np.exp(right - inner)
    rest = np.exp(left - inner)
    powered = log_A + k * inner
    value = np.logaddexp(powered, log_E)
    p, floor = np.exp(powered - value), np.exp(log_E - value)
    losses = np.empty((3, *value.shape))
    loss(y - value, losses)
    total = np.einsum("bn,bn->b", weights, losses[0])
    psi, curvature = losses[1] * weights, losses[2] * weights

    g = np.empty((len(theta), 5, len(y)))  # [B, 5, n]
    g[:, 0] = 1.0
    g[:, 1] = inner
    g[:, 2] = -k * rest * t[0]
    g[:, 3] = k * q
    g[:, 4] = -k * q * t[1]
    gradient = np.empty((len(theta), 6))
    gradient[:, :5] = -np.matmul(g, (psi * p)[:, :, None])[:, :, 0]
    gradient[:, 5] = -np.einsum("bn,bn->b", psi, floor)

    mixed = psi * p * floor
    hessian = np.empty((len(theta), 6, 6))
    hessian[:, :5, :5] = np.matmul(g * (curvature * p**2 - mixed)[:, None], g.swapaxes(1, 2))
    corner = np.matmul(g, (curvature * p * floor + mixed)[:, :, None])[:, :, 0]
    hessian[:, :5, 5] = hessian[:, 5, :5] = corner
    hessian[:, 5, 5] = (curvature * floor**2 - mixed).sum(1)
    hessian -= _of_the_inner_sum(psi * p, k, q, rest, t)
    return total, gradient, hessian


def _of_the_inner_sum(
    weight: FloatArray, k: FloatArray, q: FloatArray, rest: FloatArray, t: FloatArray
) -> FloatArray:
    """Sum over points of `weight` [B, n] times Hess h, in all six parameters [B, 6, 6]."""
    result = np.zeros((len(weight), 6, 6))
    with_k = np.stack(
        [-(weight * rest) @ t[0], (weight * q).sum(1), -(weight * q) @ t[1]], axis=1
    )  # [B, 3]
    result[:, 1, 2:5] = result[:, 2:5, 1] = with_k
    v = np.stack([t[0], np.ones(t.shape[1]), -t[1]])
    products = (v[:, None] * v[None]).reshape(9, -1)  # [9, n]
    result[:, 2:5, 2:5] = ((weight * k * q * rest) @ products.T).reshape(-1, 3, 3)
    return result

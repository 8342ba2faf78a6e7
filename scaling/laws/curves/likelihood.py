"""The objective of a fit with its gradient and Hessian, for many weightings of the same points at
once.

    sum_i w_i rho(y_i - log f(t_i; theta)) + strength * sum_p ((theta_p - mean_p) / sd_p)^2 / 2

One thread: NumPy's loops are vectorised, and on arrays that stay in a core's cache handing work
between threads costs more than the work.
"""

import numpy as np

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import Form, Sums
from scaling.laws.curves.losses import Loss

CHUNK = 16_000  # resamples x points held at once: an array of it stays in a core's cache


def evaluate(
    form: Form,
    theta: FloatArray,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    strength: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Objective [B] (inf where undefined), gradient [B, P] and Hessian [B, P, P] at theta [B, P]
    under weights [B, n]."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if form.leaves is not None:
            value, gradient, hessian = _sum_of_powers(form.leaves, theta, t, y, weights, loss)
        elif form.sums is not None:
            value, gradient, hessian = _in_chunks(form.sums, theta, t, y, weights, loss)
        else:
            value, gradient, hessian = _from_jet(form, theta, t, y, weights, loss)
    if strength > 0:
        mean, sd = np.array(form.prior).T
        precision = strength / sd**2
        value += 0.5 * ((theta - mean) ** 2 * precision).sum(1)
        gradient += (theta - mean) * precision
        hessian += np.diag(precision)
    value[~np.isfinite(value)] = np.inf
    return value, gradient, hessian


def objective(
    form: Form,
    theta: FloatArray,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    strength: float,
) -> FloatArray:
    """The objective alone [B, S] at candidates theta [B, S, P], or at candidates [1, S, P] common
    to all resamples."""
    groups, S, P = theta.shape
    values = np.empty((len(weights), S))
    rows = max(1, CHUNK // (len(y) * S))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for i in range(0, groups, rows):
            part = theta[i : i + rows]
            residual = y - _log_value(form, part.reshape(-1, P), t)
            losses = np.empty((3, *residual.shape))
            loss(residual, losses)
            if groups == 1:
                values = weights @ losses[0].T
            else:
                values[i : i + rows] = np.einsum(
                    "bsn,bn->bs", losses[0].reshape(len(part), S, -1), weights[i : i + rows]
                )
    if strength > 0:
        mean, sd = np.array(form.prior).T
        values = values + 0.5 * strength * (((theta - mean) / sd) ** 2).sum(2)
    return np.where(np.isfinite(values), values, np.inf)


def _log_value(form: Form, theta: FloatArray, t: FloatArray) -> FloatArray:
    """log f [B, n]."""
    if form.sums is not None:
        return form.sums.value(theta, t)
    if form.leaves is None:
        return form.jet(theta.T, t).value
    basis = np.concatenate([np.ones((1, t.shape[1])), -t])
    total = np.zeros((len(theta), t.shape[1]))
    for leaf in form.leaves:
        total += np.exp(theta[:, list(leaf)] @ basis[list(leaf.values())])
    return np.log(total)


def _from_jet(
    form: Form, theta: FloatArray, t: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss
) -> tuple[FloatArray, FloatArray, FloatArray]:
    B, P = theta.shape
    value, gradient, hessian = np.empty(B), np.empty((B, P)), np.empty((B, P, P))
    for c in _chunks(B, len(y)):
        jet = form.jet(theta[c].T, t)
        losses = np.empty((3, *jet.value.shape))
        loss(y - jet.value, losses)
        rho, psi, curvature = losses
        value[c] = np.einsum("bn,bn->b", weights[c], rho)
        psi *= weights[c]
        curvature *= weights[c]
        gradient[c] = -np.einsum("pbn,bn->bp", jet.gradient, psi)
        hessian[c] = np.einsum("pbn,qbn->bpq", jet.gradient * curvature, jet.gradient)
        hessian[c] -= np.einsum("pqbn,bn->bpq", jet.hessian, psi)
    return value, gradient, hessian


def _in_chunks(
    sums: Sums, theta: FloatArray, t: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Closed sums of as many resamples at once as stay in a core's cache."""
    B, P = theta.shape
    value, gradient, hessian = np.empty(B), np.empty((B, P)), np.empty((B, P, P))
    for c in _chunks(B, len(y)):
        value[c], gradient[c], hessian[c] = sums.loss(theta[c], t, y, weights[c], loss)
    return value, gradient, hessian


def _chunks(rows: int, points: int) -> list[slice]:
    step = max(1, CHUNK // points)
    return [slice(i, i + step) for i in range(0, rows, step)]


def _sum_of_powers(
    leaves: tuple[dict[int, int], ...],
    theta: FloatArray,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same for log f = log sum_k exp(leaf_k), leaves linear in theta.

    With p_k the share of term k and u_k its regressors, grad log f = sum_k p_k u_k and Hess log f
    = sum_k p_k u_k u_k' - (sum_k p_k u_k)(sum_k p_k u_k)'. So the gradient needs the moments of
    psi p_k and the Hessian those of psi p_k and b p_j p_k, b = psi' + psi, in the monomials of
    the regressors: matrix products. The shares sum to one, so that the last term's moments follow
    from the others'."""
    B, P = theta.shape
    basis = np.concatenate([np.ones((1, t.shape[1])), -t])
    first, second = np.triu_indices(len(basis))
    monomials = (basis[first] * basis[second]).T
    value, moments = _moments(leaves, theta, basis, monomials, y, weights, loss)
    of_psi, of_b = _moments_of_terms(moments, len(leaves) - 1)
    number = np.zeros((len(basis), len(basis)), int)
    number[first, second] = number[second, first] = np.arange(len(first))
    gradient, hessian = np.zeros((B, P)), np.zeros((B, P, P))
    for j, left in enumerate(leaves):
        for p, u in left.items():
            gradient[:, p] -= of_psi[j, :, number[0, u]]
            for q, v in left.items():
                hessian[:, p, q] -= of_psi[j, :, number[u, v]]
            for k, right in enumerate(leaves):
                for q, v in right.items():
                    hessian[:, p, q] += of_b[j, k, :, number[u, v]]
    return value, gradient, hessian


def _moments(
    leaves: tuple[dict[int, int], ...],
    theta: FloatArray,
    basis: FloatArray,
    monomials: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
) -> tuple[FloatArray, FloatArray]:
    """Objective [B], and the moments [A, B, m] of psi and b alone, of each times every share but
    the last, and of b times every pair of those shares."""
    F = len(leaves) - 1
    moments = np.empty((2 + 2 * F + F * (F + 1) // 2, len(theta), monomials.shape[1]))
    value = np.empty(len(theta))
    chunks = _chunks(len(theta), len(y))
    scratch = np.empty(
        (F + 4 + len(moments), chunks[0].stop, len(y))
    )  # fresh arrays would cost more than the arithmetic
    for c in chunks:
        shares, total, losses, moving = np.split(scratch[:, : len(value[c])], [F, F + 1, F + 4])
        for leaf, term in zip(leaves, (*shares, *total), strict=True):
            if set(leaf.values()) == {0}:  # a constant: one exponential for all points
                term[:] = np.exp(theta[c, list(leaf)])
            else:
                np.exp(
                    np.matmul(theta[c, list(leaf)], basis[list(leaf.values())], out=term), out=term
                )
        total = total[0]
        for share in shares:
            total += share
        residual, w = moving[0], weights[c]
        np.subtract(y, np.log(total, out=residual), out=residual)
        loss(residual, losses)
        value[c] = np.einsum("bn,bn->b", w, losses[0])
        np.reciprocal(total, out=total)
        psi, b, pairs = moving[: 1 + F], moving[1 + F : 2 + 2 * F], iter(moving[2 + 2 * F :])
        np.multiply(losses[1], w, out=psi[0])
        np.multiply(losses[2], w, out=b[0])
        b[0] += psi[0]
        for k, share in enumerate(shares):
            share *= total
            np.multiply(psi[0], share, out=psi[1 + k])
            np.multiply(b[0], share, out=b[1 + k])
            for other in shares[: k + 1]:
                np.multiply(b[1 + k], other, out=next(pairs))
        np.matmul(moving, monomials, out=moments[:, c])
    return value, moments


def _moments_of_terms(moments: FloatArray, free: int) -> tuple[FloatArray, FloatArray]:
    """Moments of psi p_k [K, B, m] and b p_j p_k [K, K, B, m] for all K terms from those of all
    but the last."""
    of_psi = np.empty((free + 1, *moments.shape[1:]))
    of_b = np.empty((free + 1, *of_psi.shape))
    alone = moments[2 + free : 2 + 2 * free]
    of_psi[:free] = moments[1 : 1 + free]
    of_psi[free] = moments[0] - of_psi[:free].sum(0)
    row, column = np.tril_indices(free)
    of_b[row, column] = of_b[column, row] = moments[2 + 2 * free :]
    of_b[:free, free] = of_b[free, :free] = alone - of_b[:free, :free].sum(0)
    of_b[free, free] = moments[1 + free] - alone.sum(0) - of_b[:free, free].sum(0)
    return of_psi, of_b

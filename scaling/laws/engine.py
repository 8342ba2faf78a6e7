"""Batched global fitting: every resample gets its own global start by variable projection, then damped Newton to full
convergence.

Fits minimise  sum_i w_i rho(y_i - log f(t_i; theta)) + strength * sum_p ((theta_p - mean_p) / sd_p)^2 / 2  for B
weightings at once (a bootstrap is B rows of weights). Scaling laws are fitted from thousands of random starts because
their losses have many local minima; given the exponents, however, the amplitudes are a linear problem (Golub and
Pereyra 1973), so a grid of exponents and one matrix product replace the starts. Newton steps use closed derivatives; a
fit that did not converge is marked so.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.laws.forms import Form
from scaling.laws.losses import Loss
from scaling.laws.scores import FloatArray

BoolArray = npt.NDArray[np.bool_]

THREADS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
CHUNK = 16_000  # resamples x points held at once: an array of it stays in a core's cache
TOLERANCE = 1e-12  # relative decrease a full Newton step still promises at convergence


@dataclass(frozen=True)
class Fits:
    """B fits: `theta` [B, P], `objective` [B], `converged` [B], `agree` [B] (share of starts that ended within 1 % of
    the best)."""

    theta: FloatArray
    objective: FloatArray
    converged: BoolArray
    agree: FloatArray


def fit_batch(
    form: Form,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    *,
    strength: float = 0.0,
    starts: int = 4,
    polish: int | None = None,
    extra: FloatArray | None = None,
    tolerance: float = TOLERANCE,
) -> Fits:
    """Fit `form` to log errors y [n] at t [C, n] under each row of `weights` [B, n] (>= 0).

    Candidates are the `starts` best grid points of each resample and the rows of `extra` [S, P]; the `polish` best of
    them (all, unless given) are run to convergence.
    """
    guesses = variable_projection(form, t, y, weights, starts)
    if extra is not None:
        guesses = np.concatenate([guesses, np.broadcast_to(extra, (len(weights), *extra.shape))], axis=1)
    if polish is not None and polish < guesses.shape[1]:
        guesses = _best_starts(form, t, y, weights, loss, strength, guesses, polish)
    B, S, P = guesses.shape
    repeated = weights if S == 1 else np.repeat(weights, S, axis=0)
    start = guesses.reshape(B * S, P)
    theta, objective, converged = newton(form, t, y, repeated, loss, start, strength=strength, tolerance=tolerance)
    objective = objective.reshape(B, S)
    pick = np.arange(B), objective.argmin(1)
    agree = (objective <= objective[pick][:, None] * 1.01 + 1e-300).mean(1)
    return Fits(theta.reshape(B, S, P)[pick], objective[pick], converged.reshape(B, S)[pick], agree)


def _best_starts(
    form: Form,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    strength: float,
    guesses: FloatArray,
    keep: int,
) -> FloatArray:
    """The `keep` guesses [B, keep, P] with the smallest objective."""
    values = np.stack([evaluate(form, g, t, y, weights, loss, strength)[0] for g in guesses.swapaxes(0, 1)], axis=1)
    order = np.argsort(values, axis=1)[:, :keep]
    return np.take_along_axis(guesses, order[..., None], axis=1)


def _grid_moments(form: Form, t: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Per point the products of the grid's columns [n, k (k + 1) / 2, G] and with the target [n, k, G], whose weighted
    sums over points are the normal equations of every resample.
    """
    columns = np.moveaxis(form.columns(form.grid, t), 2, 0).swapaxes(1, 2)  # [n, k, G]
    natural = form.scale == "natural"
    target = np.exp(y) if natural else y
    relative = np.exp(-2 * y) if natural else np.ones(len(y))
    first, second = np.triu_indices(columns.shape[1])
    gram = columns[:, first] * columns[:, second] * relative[:, None, None]
    return gram, columns * (relative * target)[:, None, None]


def variable_projection(form: Form, t: FloatArray, y: FloatArray, weights: FloatArray, keep: int) -> FloatArray:
    """The `keep` best starts [B, keep, P]: for each point of the form's grid the linear parameters by weighted least
    squares.
    """
    moments, targets = _grid_moments(form, t, y)
    floor = 1e-3 * float(np.median(np.exp(y))) if form.scale == "natural" else -np.inf
    rows = max(1, 200_000 // (moments.shape[1] * moments.shape[2]))
    parts = [
        _grid_starts(form, moments, targets, weights[i : i + rows], floor, min(keep, len(form.grid))) for i in range(0, len(weights), rows)
    ]
    return np.concatenate(parts)


def _grid_starts(form: Form, moments: FloatArray, targets: FloatArray, weights: FloatArray, floor: float, keep: int) -> FloatArray:
    n, k, G = targets.shape
    B = len(weights)
    sums = (weights @ moments.reshape(n, -1)).reshape(B, -1, G)
    right = (weights @ targets.reshape(n, -1)).reshape(B, k, G).swapaxes(0, 1)
    first, second = np.triu_indices(k)
    gram = np.empty((k, k, B, G))
    gram[first, second] = gram[second, first] = sums.swapaxes(0, 1)
    for i in range(k):
        gram[i, i] *= 1 + 1e-10
    coefficients, _ = solve_positive(gram, right)
    np.maximum(coefficients, floor, out=coefficients)
    with np.errstate(invalid="ignore", over="ignore"):
        misfit = np.zeros((B, G))
        for i in range(k):
            row = gram[i, i] * coefficients[i] - 2 * right[i]
            for j in range(i):
                row += 2 * gram[i, j] * coefficients[j]
            misfit += row * coefficients[i]
    misfit = np.where(np.isfinite(misfit), misfit, np.inf)
    order = np.argpartition(misfit, keep - 1, axis=1)[:, :keep]
    chosen = np.take_along_axis(coefficients, order[None], axis=2)
    if form.scale == "natural":
        chosen = np.log(chosen)
    flat = form.assemble(form.grid[order.ravel()], chosen.reshape(k, -1).T)
    return flat.reshape(B, keep, form.size)


def newton(
    form: Form,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    start: FloatArray,
    *,
    strength: float = 0.0,
    free: BoolArray | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = 200,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Damped Newton from `start` [B, P] under `weights` [B, n]: theta [B, P], objective [B], converged [B].

    `free` [P] or [B, P] marks the parameters that may move."""
    theta = np.array(start, float)
    B, P = theta.shape
    held = None if free is None else ~np.broadcast_to(free, theta.shape)
    value, gradient, hessian = evaluate(form, theta, t, y, weights, loss, strength)
    damping = np.full(B, 1e-4)
    converged = np.zeros(B, bool)
    active = np.flatnonzero(np.isfinite(value))
    for _ in range(iterations):
        if len(active) == 0:
            break
        g, H = gradient[active].T.copy(), np.moveaxis(hessian[active], 0, 2).copy()
        diagonal = np.arange(P)
        H[diagonal, diagonal] += damping[active] * np.abs(H[diagonal, diagonal]) + 1e-300
        if held is not None:
            fixed = held[active].T
            g[fixed] = 0.0
            H = np.where(fixed[:, None] | fixed[None], np.eye(P)[:, :, None], H)
        step, positive = solve_positive(H, g)
        step = np.where(positive, -step, 0.0)
        promised = -0.5 * (step * g).sum(0)
        largest = np.abs(step).max(0)
        step *= np.minimum(1.0, 3.0 / np.maximum(largest, 1e-300))
        trial = theta[active] + step.T
        new_value, new_gradient, new_hessian = evaluate(form, trial, t, y, weights[active], loss, strength)
        better = positive & (new_value <= value[active])
        done = positive & (promised <= tolerance * np.abs(value[active]) + 1e-280) & (damping[active] <= 1e-3)
        moved = active[better]
        theta[moved], value[moved] = trial[better], new_value[better]
        gradient[moved], hessian[moved] = new_gradient[better], new_hessian[better]
        damping[active] = np.where(better, damping[active] * 0.1, np.maximum(damping[active] * 8, 1e-6))
        converged[active] = done
        active = active[~done & (damping[active] < 1e12)]
    return theta, value, converged


def evaluate(
    form: Form, theta: FloatArray, t: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss, strength: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Objective [B], gradient [B, P] and Hessian [B, P, P], in chunks of resamples that stay in a core's cache, one
    thread a core.
    """
    B, P = theta.shape
    value, gradient, hessian = np.empty(B), np.zeros((B, P)), np.zeros((B, P, P))
    rows = max(1, CHUNK // len(y))
    chunks = [slice(i, min(i + rows, B)) for i in range(0, B, rows)]

    def work(mine: list[slice]) -> None:
        scratch = np.empty((6 + len(form.leaves or ()), min(rows, B), len(y)))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for c in mine:
                if form.leaves is not None:
                    _sum_of_powers(form.leaves, theta[c], t, y, weights[c], loss, scratch, value[c], gradient[c], hessian[c])
                else:
                    _general(form, theta[c], t, y, weights[c], loss, scratch, value[c], gradient[c], hessian[c])

    if len(chunks) < 2 * THREADS:
        work(chunks)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, [chunks[i::THREADS] for i in range(THREADS)]))
    if strength > 0:
        mean, sd = np.array(form.prior).T
        precision = strength / sd**2
        value += 0.5 * ((theta - mean) ** 2 * precision).sum(1)
        gradient += (theta - mean) * precision
        hessian += np.diag(precision)
    value[~np.isfinite(value)] = np.inf
    return value, gradient, hessian


def _general(
    form: Form,
    theta: FloatArray,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    scratch: FloatArray,
    value: FloatArray,
    gradient: FloatArray,
    hessian: FloatArray,
) -> None:
    """Fill value, gradient and Hessian from the form's jet."""
    jet = form.jet(theta.T, t)
    rho, psi, curvature = losses = scratch[:3, : len(theta)]
    loss(y - jet.value, losses)
    value[:] = np.einsum("bn,bn->b", weights, rho)
    psi *= weights
    curvature *= weights
    gradient[:] = -np.einsum("pbn,bn->bp", jet.gradient, psi)
    hessian[:] = np.einsum("pbn,qbn->bpq", jet.gradient * curvature, jet.gradient)
    hessian -= np.einsum("pqbn,bn->bpq", jet.hessian, psi)


def _sum_of_powers(
    leaves: tuple[dict[int, int], ...],
    theta: FloatArray,
    t: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    scratch: FloatArray,
    value: FloatArray,
    gradient: FloatArray,
    hessian: FloatArray,
) -> None:
    """The same for log f = log sum_k exp(leaf_k), leaves linear in theta. With p_k the share of term k and u_k its
    regressors, grad log f = sum p_k u_k and Hess log f = sum p_k u_k u_k' - (sum p_k u_k)(sum p_k u_k)', so that
    every sum over points is a matrix product with the regressors. `scratch` [6 + terms, >= B, n] spares the
    allocations.
    """
    B = len(theta)
    total, mass, rho, psi, both, residual, *terms = scratch[:, :B]
    basis = np.concatenate([np.ones((1, t.shape[1])), -t])
    index = [np.array(list(leaf)) for leaf in leaves]
    u = [basis[list(leaf.values())] for leaf in leaves]
    for i, v, term in zip(index, u, terms, strict=True):
        if len(i) == 1 and (v == 1).all():  # a constant: one exponential for all points
            term[:] = np.exp(theta[:, i])
        else:
            np.exp(np.matmul(theta[:, i], v, out=term), out=term)
    np.copyto(total, terms[0])
    for term in terms[1:]:
        total += term
    np.subtract(y, np.log(total, out=residual), out=residual)
    loss(residual, scratch[2:5, :B])
    value[:] = np.einsum("bn,bn->b", weights, rho)
    psi *= weights
    both *= weights
    both += psi
    np.reciprocal(total, out=total)
    pulled, scaled = rho, residual  # both are done with
    for term in terms:
        term *= total
    for k, term in enumerate(terms):
        np.multiply(psi, term, out=pulled)
        gradient[:, index[k]] = -pulled @ u[k].T
        np.multiply(both, term, out=scaled)
        for j in range(k, len(terms)):
            np.multiply(scaled, terms[j], out=mass)
            if j == k:
                mass -= pulled
            block = mass @ (u[k][:, None] * u[j][None]).reshape(-1, len(y)).T
            block = block.reshape(B, len(u[k]), len(u[j]))
            hessian[:, index[k][:, None], index[j][None]] = block
            if j != k:
                hessian[:, index[j][:, None], index[k][None]] = block.swapaxes(1, 2)


def solve_positive(H: FloatArray, g: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Solve H x = g by LDL' over trailing batch axes (H [P, P, ...], g [P, ...]); the second result is False where H is
    not positive definite. Written out because LAPACK's overhead a small matrix is larger than its work."""
    P = len(g)
    L = [[H[i, j] for j in range(i + 1)] for i in range(P)]
    positive = np.ones(g.shape[1:], np.bool_)
    x = list(g)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for j in range(P):
            scaled = [L[j][k] * L[k][k] for k in range(j)]  # L[k][k] holds the pivot D_k
            for i in range(j, P):
                for k in range(j):
                    L[i][j] = L[i][j] - L[i][k] * scaled[k]
            positive &= L[j][j] > 1e-14 * np.abs(H[j, j])
            for i in range(j + 1, P):
                L[i][j] = L[i][j] / L[j][j]
                x[i] = x[i] - L[i][j] * x[j]
        for i in reversed(range(P)):
            x[i] = x[i] / L[i][i]
            for k in range(i + 1, P):
                x[i] = x[i] - L[k][i] * x[k]
    solution = np.stack(x)
    for row in solution:
        positive &= np.isfinite(row)
    return solution, positive

"""Batched global fitting: every resample gets its own global start by variable projection, then damped Newton to full
convergence.

Fits minimise  sum_i w_i rho(y_i - log f(t_i; theta)) + strength * sum_p ((theta_p - mean_p) / sd_p)^2 / 2  for B
weightings at once (a bootstrap is B rows of weights). Scaling laws are fitted from thousands of random starts because
their losses have many local minima; given the exponents, however, the amplitudes are a linear problem (Golub and
Pereyra 1973), so a grid of exponents and one matrix product replace the starts. Newton steps use closed derivatives; a
fit that did not converge is marked so.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.laws.forms import Form
from scaling.laws.losses import Loss
from scaling.laws.scores import FloatArray

BoolArray = npt.NDArray[np.bool_]

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
    extra: FloatArray | None = None,
    free: BoolArray | None = None,
    tolerance: float = TOLERANCE,
    threads: int = 2,
) -> Fits:
    """Fit `form` to log errors y [n] at t [C, n] under each row of `weights` [B, n] (>= 0).

    `starts` grid points a resample are polished, and each row of `extra` [S, P] besides; `free` [P] masks parameters
    held at their start."""
    rows = max(1, CHUNK // len(y))
    pieces = [weights[i : i + rows] for i in range(0, len(weights), rows)]

    def solve(piece: FloatArray) -> Fits:
        guesses = variable_projection(form, t, y, piece, starts)
        if extra is not None:
            guesses = np.concatenate([guesses, np.broadcast_to(extra, (len(piece), *extra.shape))], axis=1)
        return _polish(form, t, y, piece, loss, strength, guesses, free, tolerance)

    if len(pieces) == 1:
        return solve(pieces[0])
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(solve, pieces))
    return Fits(*(np.concatenate([getattr(d, f) for d in done]) for f in ("theta", "objective", "converged", "agree")))


def _polish(
    form: Form, t: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss, strength: float, guesses: FloatArray,
    free: BoolArray | None,
    tolerance: float,
) -> Fits:  # fmt: skip
    B, S, P = guesses.shape
    theta, objective, converged = newton(
        form,
        t,
        y,
        np.repeat(weights, S, axis=0),
        loss,
        guesses.reshape(B * S, P),
        strength=strength,
        free=free,
        tolerance=tolerance,
    )
    objective = np.where(np.isfinite(objective), objective, np.inf).reshape(B, S)
    best = objective.argmin(1)
    pick = np.arange(B), best
    agree = (objective <= objective[pick][:, None] * 1.01 + 1e-300).mean(1)
    return Fits(theta.reshape(B, S, P)[pick], objective[pick], converged.reshape(B, S)[pick], agree)


def variable_projection(form: Form, t: FloatArray, y: FloatArray, weights: FloatArray, keep: int) -> FloatArray:
    """The `keep` best starts [B, keep, P]: for each point of the form's grid the linear parameters by weighted least
    squares."""
    columns = form.columns(form.grid, t)  # [G, k, n]
    G, k, n = columns.shape
    target = np.exp(y) if form.scale == "natural" else y
    relative = np.exp(-2 * y) if form.scale == "natural" else np.ones(n)
    upper = np.triu_indices(k)
    moments = weights @ (columns[:, upper[0]] * columns[:, upper[1]] * relative).reshape(-1, n).T
    moments = moments.reshape(-1, G, len(upper[0]))
    right = (weights @ (columns * (relative * target)).reshape(-1, n).T).reshape(-1, G, k)
    gram = np.empty((*moments.shape[:2], k, k))
    gram[..., upper[0], upper[1]] = gram[..., upper[1], upper[0]] = moments
    diagonal = np.arange(k)
    gram[..., diagonal, diagonal] *= 1 + 1e-10
    coefficients, _ = solve_positive(np.moveaxis(gram, (2, 3), (0, 1)), np.moveaxis(right, 2, 0))
    coefficients = np.moveaxis(coefficients, 0, 2)
    if form.scale == "natural":
        coefficients = np.maximum(coefficients, 1e-3 * np.median(target))
    misfit = np.einsum("bgi,bgij,bgj->bg", coefficients, gram, coefficients) - 2 * (coefficients * right).sum(2)
    misfit = np.where(np.isfinite(misfit), misfit, np.inf)
    keep = min(keep, G)
    order = np.argpartition(misfit, keep - 1, axis=1)[:, :keep]
    chosen = np.take_along_axis(coefficients, order[..., None], axis=1)
    if form.scale == "natural":
        chosen = np.log(chosen)
    flat = form.assemble(form.grid[order.ravel()], chosen.reshape(-1, k))
    return flat.reshape(len(weights), keep, form.size)


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
    """Objective [B], gradient [B, P] and Hessian [B, P, P]."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if form.leaves is not None:
            value, gradient, hessian = _sum_of_powers(form.leaves, theta, t, y, weights, loss)
        else:
            jet = form.jet(theta.T, t)
            rho, psi, curvature = loss(y - jet.value)
            value = (weights * rho).sum(1)
            psi, curvature = weights * psi, weights * curvature
            gradient = -np.einsum("pbn,bn->bp", jet.gradient, psi)
            hessian = np.einsum("pbn,bn,qbn->bpq", jet.gradient, curvature, jet.gradient, optimize=True)
            hessian -= np.einsum("pqbn,bn->bpq", jet.hessian, psi)
    if strength > 0:
        mean, sd = np.array(form.prior).T
        precision = strength / sd**2
        value = value + 0.5 * ((theta - mean) ** 2 * precision).sum(1)
        gradient = gradient + (theta - mean) * precision
        hessian = hessian + np.diag(precision)
    return np.where(np.isfinite(value), value, np.inf), gradient, hessian


def _sum_of_powers(
    leaves: tuple[dict[int, int], ...], theta: FloatArray, t: FloatArray, y: FloatArray, weights: FloatArray, loss: Loss
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`evaluate` for log f = log sum_k exp(leaf_k) with leaves linear in theta. With p_k the share of term k and u_k
    its regressors, grad log f = sum p_k u_k and Hess log f = sum p_k u_k u_k' - (sum p_k u_k)(sum p_k u_k)', so all
    sums over points are products with u."""
    basis = np.concatenate([np.ones((1, t.shape[1])), -t])
    index = [np.array(list(leaf)) for leaf in leaves]
    u = [basis[list(leaf.values())] for leaf in leaves]
    terms = [np.exp(theta[:, i] @ v) for i, v in zip(index, u, strict=True)]
    total = terms[0] + terms[1] if len(terms) > 1 else terms[0].copy()
    for term in terms[2:]:
        total += term
    rho, psi, curvature = loss(y - np.log(total))
    value = np.einsum("bn,bn->b", weights, rho)
    psi = psi * weights
    both = curvature * weights + psi
    np.reciprocal(total, out=total)
    B, P = theta.shape
    gradient, hessian = np.zeros((B, P)), np.zeros((B, P, P))
    for term in terms:
        term *= total
    for k, share in enumerate(terms):
        pulled = psi * share
        gradient[:, index[k]] = -pulled @ u[k].T
        scaled = both * share
        for j in range(k, len(terms)):
            mass = scaled * terms[j]
            if j == k:
                mass -= pulled
            block = mass @ (u[k][:, None] * u[j][None]).reshape(-1, len(y)).T
            block = block.reshape(B, len(u[k]), len(u[j]))
            hessian[:, index[k][:, None], index[j][None]] = block
            if j != k:
                hessian[:, index[j][:, None], index[k][None]] = block.swapaxes(1, 2)
    return value, gradient, hessian


def solve_positive(H: FloatArray, g: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Solve H x = g by LDL' over trailing batch axes (H [P, P, ...], g [P, ...]); the second result is False where H is
    not positive definite. Written out because LAPACK's overhead a small matrix is larger than its work."""
    P = len(g)
    L = np.zeros_like(H)
    D = np.empty_like(g)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for j in range(P):
            D[j] = H[j, j] - sum((L[j, k] ** 2 * D[k] for k in range(j)), start=np.zeros_like(D[j]))
            for i in range(j + 1, P):
                L[i, j] = (H[i, j] - sum((L[i, k] * L[j, k] * D[k] for k in range(j)), start=np.zeros_like(D[j]))) / D[
                    j
                ]
        x = g.copy()
        for i in range(P):
            for k in range(i):
                x[i] -= L[i, k] * x[k]
        x = x / D
        for i in reversed(range(P)):
            for k in range(i + 1, P):
                x[i] -= L[k, i] * x[k]
    scale = np.stack([np.abs(H[i, i]) for i in range(P)])
    positive = ((1e-14 * scale < D).all(0)) & np.isfinite(x).all(0)
    return x, positive

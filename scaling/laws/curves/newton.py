"""Batched global fitting: every resample gets its own global start by variable projection, then
damped Newton to full convergence.

Fits minimise `objective.objective` for B weightings at once (a bootstrap is B rows of weights).
Scaling laws are fitted from thousands of random starts because their losses have many local
minima; given the exponents, however, the amplitudes are a linear problem (Golub and Pereyra
1973), so a grid of exponents and one matrix product replace the starts. Newton steps use closed
derivatives; a fit that did not converge is marked so.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import Form
from scaling.laws.curves.likelihood import evaluate, objective
from scaling.laws.curves.losses import Loss

BoolArray = npt.NDArray[np.bool_]

TOLERANCE = 1e-12
"""Relative decrease a full Newton step still promises at convergence."""
ROUNDING = 1e-10
"""A promise this much smaller again is rounding error, whatever the damping."""
EXACT = 1e-28
"""Squared residual of a point at which a fit is exact: logarithms are known to 1e-14."""
BLAS = ThreadpoolController()


@dataclass(frozen=True)
class Fits:
    """B fits: `theta` [B, P], `objective` [B], `converged` [B], `agree` [B] (share of starts that
    ended within 1 % of the best)."""

    theta: FloatArray
    objective: FloatArray
    converged: BoolArray
    agree: FloatArray


@BLAS.wrap(
    limits=1, user_api="blas"
)  # the matrices are small: threads wait for each other longer than they compute
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

    Candidates are the `starts` best grid points of each resample and the rows of `extra` [S, P];
    the `polish` best of them (all, unless given) are run to convergence.
    """
    own = guesses = variable_projection(form, t, y, weights, starts)
    if extra is not None:
        guesses = np.concatenate(
            [guesses, np.broadcast_to(extra, (len(weights), *extra.shape))], axis=1
        )
    if polish is not None and polish < guesses.shape[1]:
        values = objective(form, own, t, y, weights, loss, strength)
        if extra is not None:
            values = np.concatenate(
                [values, objective(form, extra[None], t, y, weights, loss, strength)], axis=1
            )
        order = np.argsort(values, axis=1)[:, :polish]
        guesses = np.take_along_axis(guesses, order[..., None], axis=1)
    B, S, P = guesses.shape
    repeated = weights if S == 1 else np.repeat(weights, S, axis=0)
    start = guesses.reshape(B * S, P)
    theta, value, converged = newton(
        form, t, y, repeated, loss, start, strength=strength, tolerance=tolerance
    )
    value = value.reshape(B, S)
    pick = np.arange(B), value.argmin(1)
    agree = (value <= value[pick][:, None] * 1.01 + 1e-300).mean(1)
    return Fits(theta.reshape(B, S, P)[pick], value[pick], converged.reshape(B, S)[pick], agree)


def variable_projection(
    form: Form, t: FloatArray, y: FloatArray, weights: FloatArray, keep: int
) -> FloatArray:
    """The `keep` best starts [B, keep, P]: for each point of the form's grid the linear
    parameters by weighted least squares."""
    columns = form.columns(form.grid, t).swapaxes(0, 1)  # [k, G, n]
    target, relative = (
        (np.exp(y), np.exp(-2 * y)) if form.scale == "natural" else (y, np.ones(len(y)))
    )
    k, G, _ = columns.shape
    lower = [(i, j) for i in range(k) for j in range(i + 1)]
    products = np.stack([(columns[i] * columns[j] * relative).T for i, j in lower])
    targets = np.moveaxis(columns * (relative * target), 2, 1).copy()
    floor = 1e-3 * float(np.median(target)) if form.scale == "natural" else -np.inf
    rows = max(1, 12_000 // G)
    keep = min(keep, G)
    parts = []
    for c in range(0, len(weights), rows):
        w = weights[c : c + rows]
        gram, right = np.empty((k, k, len(w), G)), w @ targets
        for product, (i, j) in zip(products, lower, strict=True):
            np.matmul(w, product, out=gram[i, j])
            if i == j:
                gram[i, j] *= 1 + 1e-10
        coefficients, misfit = _linear_parameters(gram, right, floor)
        order = np.argpartition(misfit, keep - 1, axis=1)[:, :keep]
        chosen = np.take_along_axis(coefficients, order[None], axis=2)
        if form.scale == "natural":
            chosen = np.log(chosen)
        starts = form.assemble(form.grid[order.ravel()], chosen.reshape(k, -1).T)
        parts.append(starts.reshape(len(w), keep, form.size))
    return np.concatenate(parts)


def _linear_parameters(
    gram: FloatArray, right: FloatArray, floor: float
) -> tuple[FloatArray, FloatArray]:
    """Least-squares coefficients [k, B, G], none below `floor`, and their misfit [B, G] up to a
    constant, from normal equations (the lower triangle of gram [k, k, B, G]; right [k, B, G])."""
    coefficients, _ = solve_positive(gram, right)
    np.maximum(coefficients, floor, out=coefficients)
    misfit = np.zeros(right.shape[1:])
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(len(right)):
            row = gram[i, i] * coefficients[i] - 2 * right[i]
            for j in range(i):
                row += 2 * gram[i, j] * coefficients[j]
            misfit += row * coefficients[i]
    return coefficients, np.where(np.isfinite(misfit), misfit, np.inf)


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
    """Damped Newton from `start` [B, P] under `weights` [B, n]: theta [B, P], objective [B],
    converged [B].

    `free` [P] or [B, P] marks the parameters that may move."""
    theta = np.array(start, float)
    B, P = theta.shape
    held = None if free is None else ~np.broadcast_to(free, theta.shape)
    value, gradient, hessian = evaluate(form, theta, t, y, weights, loss, strength)
    damping = np.full(B, 1e-2)
    converged = np.zeros(B, bool)
    active = np.flatnonzero(np.isfinite(value))
    diagonal = np.arange(P)
    for _ in range(iterations):
        g, H = gradient[active].T.copy(), np.moveaxis(hessian[active], 0, 2).copy()
        # A Huber loss has no curvature far out: there the gradient stands in, so that steps still
        # shrink as the damping grows.
        H[diagonal, diagonal] += (
            damping[active] * np.maximum(np.abs(H[diagonal, diagonal]), 1e-3 * np.abs(g)) + 1e-300
        )
        if held is not None:
            fixed = held[active].T
            g[fixed] = 0.0
            H = np.where(fixed[:, None] | fixed[None], np.eye(P)[:, :, None], H)
        step, positive = solve_positive(H, g)
        step = np.where(positive, -step, 0.0)
        promised = -0.5 * (step * g).sum(0)
        gain = tolerance * np.abs(value[active])
        done = positive & (promised <= gain + 1e-280) & (damping[active] <= 1e-3)
        # At an exact optimum rounding decides whether a step seems to gain, and damping only grows.
        done |= positive & (promised <= ROUNDING * gain + EXACT * len(y))
        converged[active[done]] = True
        going = ~done & (damping[active] < 1e12)
        active, step, positive = active[going], step[:, going], positive[going]
        if len(active) == 0:
            break
        step *= np.minimum(1.0, 3.0 / np.maximum(np.abs(step).max(0), 1e-300))
        trial = theta[active] + step.T
        new_value, new_gradient, new_hessian = evaluate(
            form, trial, t, y, weights[active], loss, strength
        )
        better = positive & (new_value <= value[active])
        moved = active[better]
        theta[moved], value[moved] = trial[better], new_value[better]
        gradient[moved], hessian[moved] = new_gradient[better], new_hessian[better]
        damping[active] = np.where(
            better, damping[active] * 0.1, np.maximum(damping[active] * 8, 1e-6)
        )
    return theta, value, converged


def solve_positive(H: FloatArray, g: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Solve H x = g by LDL' over trailing batch axes (H [P, P, ...], g [P, ...]); the second
    result is False where H is not positive definite. Written out because LAPACK's overhead a
    small matrix is larger than its work."""
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

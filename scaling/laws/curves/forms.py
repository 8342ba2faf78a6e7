"""The forms of scaling laws, one entry each: the logarithm of a positive error f at x, with
closed derivatives.

x is given as centred logarithms t = log(x / x0) [C, n] (C = 1: size or duration; C = 2: both), so
that amplitudes are values at x0. Amplitudes enter as logarithms, which keeps them positive.
Besides its jet a form states how to start: for a grid of its nonlinear parameters, f (or log f)
is linear in the rest, which are then solved for (`engine.variable_projection`). Weak normal
priors (mean, standard deviation) keep exponents where measured laws have them; parameters without
one have a standard deviation of inf.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from scaling.laws.arrays import FloatArray
from scaling.laws.curves import jets
from scaling.laws.curves.jets import Jet
from scaling.laws.curves.losses import Loss
from scaling.laws.curves.nested_sum import nested_sum_sums, nested_sum_value

INF = np.inf


@dataclass(frozen=True)
class Sums:
    """A form's sums over points in closed form, where its dense jets would be slow."""

    value: Callable[[FloatArray, FloatArray], FloatArray]
    """log f [B, n] at theta [B, P] and t [C, n]."""
    loss: Callable[
        [FloatArray, FloatArray, FloatArray, FloatArray, Loss],
        tuple[FloatArray, FloatArray, FloatArray],
    ]
    """Objective [B], gradient [B, P] and Hessian [B, P, P] at (theta, t, y, weights, loss)."""


@dataclass(frozen=True)
class Form:
    """`jet(theta [P, B], t [C, n])` gives log f; `columns(grid [G, q], t)` gives [G, k, n] and
    `assemble(grid, coefficients [G, k])` gives theta [G, P] (for scale "natural" the coefficients
    are logarithms of positive amplitudes)."""

    name: str
    formula: str
    parameters: tuple[str, ...]
    jet: Callable[[FloatArray, FloatArray], Jet]
    grid: FloatArray
    columns: Callable[[FloatArray, FloatArray], FloatArray]
    assemble: Callable[[FloatArray, FloatArray], FloatArray]
    scale: Literal["natural", "log"]
    prior: tuple[tuple[float, float], ...]
    leaves: tuple[dict[int, int], ...] | None = None
    """For a sum of power terms: per term {parameter index: column of (1, -t1, -t2)}; the engine
    then skips the dense jets."""
    sums: Sums | None = None
    """The same for a form that is no sum of power terms."""

    @property
    def size(self) -> int:
        return len(self.parameters)


def _grid(*axes: FloatArray | list[float]) -> FloatArray:
    return np.array(list(product(*axes)), float).reshape(-1, len(axes))


def _powers(grid: FloatArray, t: FloatArray) -> FloatArray:
    """exp(-exponent t) for each column of the grid, and 1 [G, q + 1, n]."""
    q = grid.shape[1]
    terms = np.exp(-grid[:, :, None] * t[None, :q])
    return np.concatenate([terms, np.ones((len(grid), 1, t.shape[1]))], axis=1)


EXPONENTS = np.array(
    [-0.5, -0.25, -0.1, -0.03, 0.03, 0.07, 0.12, 0.2, 0.3, 0.42, 0.6, 0.85, 1.2, 1.7]
)
POSITIVE = EXPONENTS[EXPONENTS > 0]

FLAT = Form(
    "flat",
    "E",
    ("log_E",),
    lambda p, t: jets.linear(p, {0: 1.0}, t.shape[1]),
    np.zeros((1, 0)),
    lambda g, t: np.ones((1, 1, t.shape[1])),
    lambda g, c: c,
    "log",
    ((0.0, INF),),
    ({0: 0},),
)

POWER = Form(
    "power",
    "A x^-alpha",
    ("log_A", "alpha"),
    lambda p, t: jets.linear(p, {0: 1.0, 1: -t[0]}, t.shape[1]),
    np.zeros((1, 0)),
    lambda g, t: np.stack([np.ones(t.shape[1]), -t[0]])[None],
    lambda g, c: c,
    "log",
    ((0.0, INF), (0.3, 0.5)),
    ({0: 0, 1: 1},),
)

FLOOR = Form(
    "floor",
    "E + A x^-alpha",
    ("log_A", "alpha", "log_E"),
    lambda p, t: jets.log_sum_exp(
        jets.linear(p, {0: 1.0, 1: -t[0]}, t.shape[1]), jets.linear(p, {2: 1.0}, t.shape[1])
    ),
    _grid(EXPONENTS),
    _powers,
    lambda g, c: np.stack([c[:, 0], g[:, 0], c[:, 1]], 1),
    "natural",
    ((0.0, INF), (0.4, 0.4), (0.0, INF)),
    ({0: 0, 1: 1}, {2: 0}),
)

M3 = Form(
    "m3",
    "A (1/x + g)^c",
    ("log_A", "c", "log_g"),
    lambda p, t: (
        jets.linear(p, {0: 1.0}, t.shape[1])
        + jets.linear(p, {1: 1.0}, t.shape[1])
        * jets.log_sum_exp(
            jets.linear(p, {}, t.shape[1], -t[0]), jets.linear(p, {2: 1.0}, t.shape[1])
        )
    ),
    _grid(np.linspace(-9, 3, 25)),
    lambda g, t: np.stack([np.ones((len(g), t.shape[1])), np.logaddexp(-t[0], g)], 1),
    lambda g, c: np.stack([c[:, 0], c[:, 1], g[:, 0]], 1),
    "log",
    ((0.0, INF), (0.4, 0.4), (-4.0, 4.0)),
)


def _m4(p: FloatArray, t: FloatArray) -> Jet:
    n = t.shape[1]
    alpha = jets.exponential(jets.linear(p, {2: 1.0}, n))
    drop = jets.generalised_logistic(
        jets.linear(p, {1: 1.0}, n) * jets.linear(p, {3: 1.0}, n, -t[0]), alpha
    )  # v = c (log d - t)
    return jets.log_sum_exp(jets.linear(p, {0: 1.0}, n) + drop, jets.linear(p, {4: 1.0}, n))


def _m4_columns(grid: FloatArray, t: FloatArray) -> FloatArray:
    n = t.shape[1]
    theta = np.stack([np.zeros(len(grid)), *grid.T])
    alpha = jets.exponential(jets.linear(theta, {2: 1.0}, n))
    drop = jets.generalised_logistic(
        jets.linear(theta, {1: 1.0}, n) * jets.linear(theta, {3: 1.0}, n, -t[0]), alpha
    )
    return np.stack([np.exp(drop.value), np.ones_like(drop.value)], 1)


M4 = Form(
    "m4",
    "(f - E) / (E0 - f)^a ~ x^-c, between E0 and E",
    ("log_A", "c", "log_a", "log_d", "log_E"),
    _m4,
    _grid([0.2, 0.4, 0.8, 1.4], [-0.7, 0.7], np.linspace(-9, 3, 13)),
    _m4_columns,
    lambda g, c: np.stack([c[:, 0], g[:, 0], g[:, 1], g[:, 2], c[:, 1]], 1),
    "natural",
    ((0.0, INF), (0.5, 0.4), (0.0, 0.7), (-4.0, 4.0), (0.0, INF)),
)


def _break(p: FloatArray, t: FloatArray) -> Jet:
    """-c0 t - c1 w softplus((t - d) / w) with p = (b, c0, c1, d, log w)."""
    n = t.shape[1]
    width = jets.exponential(jets.linear(p, {4: 1.0}, n))
    narrow = jets.exponential(jets.linear(p, {4: -1.0}, n))
    bend = jets.softplus(jets.linear(p, {3: -1.0}, n, t[0]) * narrow)
    return jets.linear(p, {0: 1.0, 1: -t[0]}, n) + jets.linear(p, {2: -1.0}, n) * width * bend


BNSL = Form(
    "bnsl",
    "B x^-c0 (1 + (x / d)^(1 / w))^(-c1 w)",
    ("log_B", "c0", "c1", "log_d", "log_w"),
    _break,
    _grid(np.linspace(-3, 3, 13), [-1.0, 0.0]),
    lambda g, t: np.stack(
        [
            np.ones((len(g), t.shape[1])),
            np.broadcast_to(-t[0], (len(g), t.shape[1])),
            -np.exp(g[:, 1:]) * np.logaddexp(0, (t[0] - g[:, :1]) * np.exp(-g[:, 1:])),
        ],
        1,
    ),
    lambda g, c: np.stack([c[:, 0], c[:, 1], c[:, 2], g[:, 0], g[:, 1]], 1),
    "log",
    ((0.0, INF), (0.3, 0.4), (0.0, 0.3), (0.0, 2.0), (-0.5, 0.7)),
)

CHINCHILLA = Form(
    "chinchilla",
    "E + A N^-alpha + B D^-beta",
    ("log_A", "alpha", "log_B", "beta", "log_E"),
    lambda p, t: jets.log_sum_exp(
        jets.linear(p, {0: 1.0, 1: -t[0]}, t.shape[1]),
        jets.linear(p, {2: 1.0, 3: -t[1]}, t.shape[1]),
        jets.linear(p, {4: 1.0}, t.shape[1]),
    ),
    _grid(POSITIVE, POSITIVE),
    _powers,
    lambda g, c: np.stack([c[:, 0], g[:, 0], c[:, 1], g[:, 1], c[:, 2]], 1),
    "natural",
    ((0.0, INF), (0.35, 0.3), (0.0, INF), (0.35, 0.3), (0.0, INF)),
    ({0: 0, 1: 1}, {2: 0, 3: 2}, {4: 0}),
)

ADDITIVE_LOGS = Form(
    "additive_logs",
    "A N^-alpha D^-beta",
    ("log_A", "alpha", "beta"),
    lambda p, t: jets.linear(p, {0: 1.0, 1: -t[0], 2: -t[1]}, t.shape[1]),
    np.zeros((1, 0)),
    lambda g, t: np.stack([np.ones(t.shape[1]), -t[0], -t[1]])[None],
    lambda g, c: c,
    "log",
    ((0.0, INF), (0.2, 0.4), (0.2, 0.4)),
    ({0: 0, 1: 1, 2: 2},),
)


def _skaling(p: FloatArray, t: FloatArray) -> Jet:
    n = t.shape[1]
    inner = jets.log_sum_exp(jets.linear(p, {2: -t[0]}, n), jets.linear(p, {3: 1.0, 4: -t[1]}, n))
    return jets.log_sum_exp(
        jets.linear(p, {0: 1.0}, n) + jets.linear(p, {1: 1.0}, n) * inner,
        jets.linear(p, {5: 1.0}, n),
    )


SKALING = Form(
    "skaling",
    "E + A (N^-a + R D^-b)^k",
    ("log_A", "k", "a", "log_R", "b", "log_E"),
    _skaling,
    _grid(
        [0.5, 1.0, 2.0], [0.1, 0.2, 0.35, 0.6, 1.0], [-2.0, 0.0, 2.0], [0.1, 0.2, 0.35, 0.6, 1.0]
    ),
    lambda g, t: np.stack(
        [
            np.exp(g[:, :1] * np.logaddexp(-g[:, 1:2] * t[0], g[:, 2:3] - g[:, 3:4] * t[1])),
            np.ones((len(g), t.shape[1])),
        ],
        1,
    ),
    lambda g, c: np.stack([c[:, 0], g[:, 0], g[:, 1], g[:, 2], g[:, 3], c[:, 1]], 1),
    "natural",
    ((0.0, INF), (1.0, 0.5), (0.35, 0.3), (0.0, 2.0), (0.35, 0.3), (0.0, INF)),
    sums=Sums(nested_sum_value, nested_sum_sums),
)

CURVES = {form.name: form for form in (FLAT, POWER, FLOOR, M3, M4, BNSL)}
SURFACES = {form.name: form for form in (FLAT, ADDITIVE_LOGS, CHINCHILLA, SKALING)}

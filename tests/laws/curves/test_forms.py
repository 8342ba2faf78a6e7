"""The closed derivatives of every form against automatic differentiation of the formula."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.laws.curves import likelihood
from scaling.laws.curves.forms import (
    ADDITIVE_LOGS,
    BNSL,
    CHINCHILLA,
    CURVES,
    FLAT,
    FLOOR,
    M3,
    M4,
    POWER,
    SKALING,
    Form,
)
from scaling.laws.curves.losses import student_t


def _m4(p, t):
    c, a, d = p[1], jnp.exp(p[2]), p[3]
    target = c * (d - t[0])

    def newton(_, q):
        s = jax.nn.sigmoid(q)
        return q - 0.5 * (jax.nn.log_sigmoid(q) - a * jax.nn.log_sigmoid(-q) - target) / (
            (1 - s) + a * s
        )

    q = jax.lax.fori_loop(0, 100, newton, jnp.zeros_like(target))  # differentiated through
    return jnp.log(jnp.exp(p[0]) * jax.nn.sigmoid(q) + jnp.exp(p[4]))


FORMULAS: dict[str, tuple[Form, Callable]] = {
    "flat": (FLAT, lambda p, t: p[0] + 0 * t[0]),
    "power": (POWER, lambda p, t: p[0] - p[1] * t[0]),
    "floor": (FLOOR, lambda p, t: jnp.log(jnp.exp(p[0] - p[1] * t[0]) + jnp.exp(p[2]))),
    "m3": (M3, lambda p, t: p[0] + p[1] * jnp.log(jnp.exp(-t[0]) + jnp.exp(p[2]))),
    "m4": (M4, _m4),
    "bnsl": (
        BNSL,
        lambda p, t: (
            p[0]
            - p[1] * t[0]
            - p[2] * jnp.exp(p[4]) * jnp.log(1 + jnp.exp((t[0] - p[3]) / jnp.exp(p[4])))
        ),
    ),
    "additive_logs": (ADDITIVE_LOGS, lambda p, t: p[0] - p[1] * t[0] - p[2] * t[1]),
    "chinchilla": (
        CHINCHILLA,
        lambda p, t: jnp.log(
            jnp.exp(p[0] - p[1] * t[0]) + jnp.exp(p[2] - p[3] * t[1]) + jnp.exp(p[4])
        ),
    ),
    "skaling": (
        SKALING,
        lambda p, t: jnp.log(
            jnp.exp(p[0]) * (jnp.exp(-p[2] * t[0]) + jnp.exp(p[3] - p[4] * t[1])) ** p[1]
            + jnp.exp(p[5])
        ),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_form_derivatives_equal_automatic_differentiation(name: str) -> None:
    form, formula = FORMULAS[name]
    rng = np.random.default_rng(0)
    theta, t = 0.5 * rng.normal(size=(form.size, 3)), rng.normal(size=(2, 5))
    jet = form.jet(theta, t)
    with jax.enable_x64(True):
        first, second = jax.jit(jax.jacfwd(formula)), jax.jit(jax.jacfwd(jax.jacfwd(formula)))
        for b in range(3):
            p = jnp.asarray(theta[:, b])
            np.testing.assert_allclose(jet.value[b], formula(p, t), rtol=1e-9, atol=1e-10)
            np.testing.assert_allclose(jet.gradient[:, b].T, first(p, t), rtol=1e-7, atol=1e-8)
            np.testing.assert_allclose(
                np.moveaxis(jet.hessian[:, :, b], 2, 0), second(p, t), rtol=1e-6, atol=1e-7
            )


@pytest.mark.parametrize("name", FORMULAS)
def test_form_grid_columns_reproduce_the_form_itself(name: str) -> None:
    form, _ = FORMULAS[name]
    t = np.random.default_rng(1).normal(size=(1 if name in CURVES else 2, 6))
    columns = form.columns(form.grid, t)
    coefficients = np.full((len(form.grid), columns.shape[1]), 0.3)
    expected = (coefficients[:, :, None] * columns).sum(1)
    if form.scale == "natural":
        expected, coefficients = np.log(expected), np.log(coefficients)
    theta = form.assemble(form.grid, coefficients)
    np.testing.assert_allclose(form.jet(theta.T, t).value, expected, rtol=1e-9, atol=1e-9)


def test_closed_sums_equal_those_of_the_dense_derivatives() -> None:
    rng = np.random.default_rng(2)
    theta, t = 0.5 * rng.normal(size=(7, SKALING.size)), rng.normal(size=(2, 30))
    y, weights = rng.normal(size=30), rng.random((7, 30))
    loss = student_t(0.3)
    dense = likelihood._from_jet(SKALING, theta, t, y, weights, loss)
    closed = likelihood.evaluate(SKALING, theta, t, y, weights, loss, 0.0)
    for expected, found in zip(dense, closed, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)

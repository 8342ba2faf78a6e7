"""Optimiser and schedule against optax and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.training.optimizer import adamw_direction, decayed, descend, warmup_stable_decay
from scaling.training.program import NEVER


def test_steps_equal_those_of_optax_adamw() -> None:
    rng = np.random.default_rng(0)
    parameters = {
        "layer": {
            "kernel": jnp.asarray(rng.normal(size=(4, 3))),
            "bias": jnp.asarray(rng.normal(size=3)),
        }
    }
    reference = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(3e-3, b2=0.95, weight_decay=0.05, mask=decayed)
    )
    ours = adamw_direction(0.95, 0.05, 1.0)
    a, b = parameters, parameters
    a_state, b_state = reference.init(a), ours.init(b)
    for _ in range(5):
        gradients = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) * 3), parameters)
        updates, a_state = reference.update(gradients, a_state, a)
        a = optax.apply_updates(a, updates)
        direction, b_state = ours.update(gradients, b_state, b)
        b = descend(b, direction, jnp.float32(3e-3))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_decay_spares_biases_norms_and_tokens() -> None:
    tree = {"kernel": 0, "bias": 0, "norm": {"scale": 0, "bias": 0}, "mask_token": 0}
    assert decayed(tree) == {
        "kernel": True,
        "bias": False,
        "norm": {"scale": False, "bias": False},
        "mask_token": False,
    }


def test_schedule_rises_stays_and_falls_to_zero() -> None:
    def rate(step: int, decay_from: int, end: int) -> float:
        return float(
            warmup_stable_decay(
                jnp.asarray(step), 2.0, 10, jnp.asarray(decay_from), jnp.asarray(end)
            )
        )

    cooldown = [rate(step, 80, 100) for step in range(101)]
    expected = [2 * min((s + 1) / 10, 1.0) * (1 if s < 80 else (100 - s) / 20) for s in range(101)]
    np.testing.assert_allclose(cooldown, expected, rtol=1e-6)
    assert rate(99, 80, 100) == pytest.approx(0.1)
    # Trunk and cooldown share every step up to the branch.
    assert [rate(step, NEVER, 80) for step in range(80)] == cooldown[:80]

"""What a step of finetuning moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.backbone import build_encoder
from scaling.study.config import Finetune, ViT
from scaling.study.ladder import resolve_encoder
from scaling.transfer.program import finetune_program, readout_rates

CROP = (16, 16, 16)


def first_outputs(grid: int) -> np.ndarray:
    """What a network that started at zero puts out after one step towards targets of one."""
    encoder, rng = resolve_encoder(ViT(patch=4), "xxs"), np.random.default_rng(0)
    program = finetune_program(encoder, "regression", 2, CROP, Finetune(grid=grid, steps=1, batch=4, augment="none"))
    keys = jax.random.split(jax.random.key(0), 1)
    images, present = jnp.asarray(rng.normal(size=(8, 2, *CROP)), jnp.float16), jnp.ones((8, 2), bool)
    parameters = jax.jit(build_encoder(encoder).init)(jax.random.key(1))
    scaling = jnp.asarray([[0.0, 1.0]], jnp.float32)
    rows = jnp.ones((1, 8), jnp.float32), scaling, jnp.asarray([1e-3], jnp.float32)
    fitted = program.fit(parameters, program.init_heads(keys), (images, present, jnp.ones(8)), *rows, keys)
    return np.asarray(program.predict(fitted, images, present))[0]


def test_first_step_moves_predictions_as_much_however_many_features_are_read() -> None:
    few, many = (np.abs(first_outputs(grid)).mean() for grid in (1, 4))
    assert 1 / 3 < many / few < 3  # of 64 times as many features


def test_readouts_of_few_inputs_and_all_other_layers_learn_at_the_full_rate() -> None:
    layer = {"kernel": jnp.zeros((128, 1)), "bias": jnp.zeros(1)}
    rates = readout_rates({"encoder": {"output": {"scale": jnp.ones(128)}}, "head": {"hidden": layer, "output": layer}})
    assert rates["head"] == {"hidden": {"kernel": 1.0, "bias": 1.0}, "output": {"kernel": pytest.approx(1 / 4), "bias": 1.0}}
    assert rates["encoder"] == {"output": {"scale": 1.0}}

"""Losses on pairs against plain NumPy, written out pair by pair."""

import zlib
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.objectives.build import build_objective
from scaling.objectives.contrastive import nt_xent
from scaling.objectives.interface import Metrics, Objective, Parameters
from scaling.objectives.momentum import momentum_loss
from scaling.study.config import Pretrain, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.study.objectives import (
    Contrastive,
    CrossSequence,
    Hybrid,
    Mae,
    Momentum,
    ObjectiveConfig,
)

CROP = (16, 16, 16)
KEY = jax.random.key(1)


def built(config: ObjectiveConfig) -> Objective:
    return build_objective(
        config, resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT()), Pretrain(crop=CROP)
    )


@lru_cache
def valued(
    config: ObjectiveConfig,
) -> Callable[[Parameters, jnp.ndarray], tuple[tuple[jnp.ndarray, Metrics], Parameters]]:
    """Loss with its metrics, and gradients."""
    objective = built(config)

    def loss(parameters: Parameters, volumes: jnp.ndarray) -> tuple[jnp.ndarray, Metrics]:
        value, logged = objective.loss(parameters, volumes, KEY, jnp.zeros((), int))
        return value, logged.metrics

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def some_parameters(config: ObjectiveConfig) -> Parameters:
    """Random values, the same for the same name in every objective."""
    objective = built(config)
    shapes = jax.eval_shape(objective.init, KEY)

    def value(path: object, leaf: jax.ShapeDtypeStruct) -> jnp.ndarray:
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))  # type: ignore[arg-type]
        return jnp.asarray(
            0.1 * rng.normal(size=leaf.shape) + (path[-1].key == "scale"), jnp.float32
        )  # type: ignore[index]

    parameters = jax.tree_util.tree_map_with_path(value, shapes)
    return parameters | objective.followed(parameters)


def pairs(count: int = 3) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(0).normal(size=(count, 2, *CROP)), jnp.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_is_the_mean_cross_entropy_of_each_view_against_all_others(
    temperature: float,
) -> None:
    z = np.random.default_rng(0).normal(size=(10, 5))
    losses = []
    for i in range(10):
        scores = {j: np.exp(cosine(z[i], z[j]) / temperature) for j in range(10) if j != i}
        losses.append(-np.log(scores[i + 1 if i % 2 == 0 else i - 1] / sum(scores.values())))
    assert float(nt_xent(jnp.asarray(z, jnp.float32), temperature)) == pytest.approx(
        np.mean(losses), rel=1e-5
    )


def test_nt_xent_of_collapsed_views_is_the_logarithm_of_the_number_of_others() -> None:
    found, gradient = jax.value_and_grad(lambda z: nt_xent(z, 0.1))(jnp.ones((8, 4)))
    assert float(found) == pytest.approx(np.log(7), rel=1e-5)
    assert np.isfinite(gradient).all()


def test_momentum_loss_finds_each_query_s_partner_among_the_other_views_keys() -> None:
    q, k = np.random.default_rng(0).normal(size=(2, 8, 5))
    total = 0.0
    for view in (0, 1):
        for i in range(4):
            scores = [np.exp(cosine(q[2 * i + view], k[2 * j + 1 - view]) / 0.2) for j in range(4)]
            total -= 2 * 0.2 * np.log(scores[i] / sum(scores)) / 4
    assert float(
        momentum_loss(jnp.asarray(q, jnp.float32), jnp.asarray(k, jnp.float32), 0.2)
    ) == pytest.approx(total, rel=1e-5)


def test_order_of_pairs_and_views_does_not_matter_and_temperature_is_learned() -> None:
    config = Contrastive(temperature=0.3, learned_temperature=True, hidden=32, projection=16)
    parameters = some_parameters(config)
    x = pairs(4)
    found = [valued(config)(parameters, volumes) for volumes in (x, x[::-1], x[:, ::-1])]
    losses = [float(loss) for (loss, _), _ in found]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    (_, metrics), gradients = found[0]
    assert float(metrics["temperature"]) == pytest.approx(
        np.exp(float(parameters["temperature"]["log"]))
    )
    assert float(gradients["temperature"]["log"]) != 0
    assert float(built(config).init(KEY)["temperature"]["log"]) == pytest.approx(np.log(0.3))


def test_hybrid_loss_is_the_weighted_sum_of_the_mae_s_and_the_contrast() -> None:
    config = Hybrid(
        contrast=Contrastive(hidden=32, projection=16),
        reconstruction_weight=2.0,
        contrast_weight=0.5,
    )
    parameters = some_parameters(config)
    (loss, parts), gradients = valued(config)(parameters, pairs())
    (alone, _), _ = valued(Mae())(some_parameters(Mae()), pairs().reshape(-1, *CROP))
    assert float(parts["reconstruction_loss"]) == pytest.approx(float(alone), rel=1e-5)
    assert float(loss) == pytest.approx(
        2 * float(parts["reconstruction_loss"]) + 0.5 * float(parts["contrastive_loss"]), rel=1e-5
    )
    head = parameters["projector"]
    hidden = np.asarray(parts["embeddings"]) @ head["hidden"]["kernel"] + head["hidden"]["bias"]
    normed = (hidden - hidden.mean(1, keepdims=True)) / np.sqrt(hidden.var(1, keepdims=True) + 1e-6)
    active = jax.nn.gelu(normed * head["norm"]["scale"] + head["norm"]["bias"])
    z = np.asarray(active) @ head["out"]["kernel"] + head["out"]["bias"]
    assert float(parts["contrastive_loss"]) == pytest.approx(
        float(nt_xent(jnp.asarray(z), 0.1)), rel=1e-3
    )
    assert all(
        np.abs(leaf).max() > 0
        for leaf in (
            gradients["projector"]["out"]["kernel"],
            gradients["decoder"]["voxels"]["kernel"],
        )
    )


def test_cross_sequence_loss_is_the_mae_s_and_one_across() -> None:
    config = CrossSequence(self_weight=0.5, cross_weight=2.0)
    (loss, parts), gradients = valued(config)(some_parameters(config), pairs())
    (alone, _), _ = valued(Mae())(some_parameters(Mae()), pairs().reshape(-1, *CROP))
    assert float(parts["self_loss"]) == pytest.approx(float(alone), rel=1e-5)
    assert float(loss) == pytest.approx(
        0.5 * float(parts["self_loss"]) + 2 * float(parts["cross_loss"]), rel=1e-5
    )
    assert np.abs(gradients["shift"]["kernel"]).max() > 0


def test_sequence_made_of_another_depends_on_its_own_voxels_only_through_one_vector() -> None:
    config = CrossSequence(reconstruction=Mae(normalise_targets=False))
    parameters, reconstruct = some_parameters(config), jax.jit(built(config).reconstruct)  # type: ignore[arg-type]
    silent = parameters | {"shift": jax.tree.map(jnp.zeros_like, parameters["shift"])}
    x = pairs(1)
    changed = x.at[:, 1].set(jnp.roll(x[:, 1], 3, axis=1))
    original, seen, filled = (np.asarray(part) for part in reconstruct(silent, x, KEY))
    np.testing.assert_array_equal(original, x[:, 1])
    assert set(np.unique(seen)) <= {*np.unique(np.asarray(x[:, 0])).tolist(), float(x.min())}
    predicted = filled != original
    assert predicted.mean() == 0.75
    np.testing.assert_allclose(
        np.asarray(reconstruct(silent, changed, KEY)[2])[predicted], filled[predicted], atol=1e-5
    )
    assert (
        np.abs(
            np.asarray(reconstruct(parameters, changed, KEY)[2])[predicted] - filled[predicted]
        ).max()
        > 1e-3
    )


def test_target_of_the_momentum_objective_gets_no_gradient() -> None:
    config = Momentum(hidden=32, projection=16)
    _, gradients = valued(config)(some_parameters(config), pairs())
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients["target"]))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradients["encoder"]))

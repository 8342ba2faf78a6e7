"""The compiled pretraining step, made once per shape and shared by every run that has it."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float16, PRNGKeyArray

from scaling.augmentation.presets import augment
from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute, platform_of
from scaling.models.parametrisation import rate_multipliers
from scaling.models.pinning import pinned_by
from scaling.models.projector import pooled
from scaling.objectives.build import build_objective
from scaling.objectives.interface import Metrics, Objective, Parameters
from scaling.study.config import Augmentation, Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig
from scaling.study.shapes import Platform
from scaling.training.gradients import batch_gradients, batch_loss
from scaling.training.mesh import ActivationSharding, batch_sharding, replicated, state_sharding
from scaling.training.optimizer import adamw_direction, descend, warmup_stable_decay

Batch = Array | np.ndarray

NEVER = 2**31 - 1  # a step that is never reached: where the decay of a trunk starts


class State(NamedTuple):
    """Everything a run needs to go on: the number of steps done, trained parameters, optimiser
    moments, and what else the objective carries: running means of parameters and running
    statistics (most: none).
    """

    step: Array
    parameters: Parameters
    moments: Any
    means: Parameters


class Program(NamedTuple):
    """Compiled functions of one pretraining shape. Volumes are float16 [B, D, H, W], or pairs [B,
    2, D, H, W].

    `init(key) -> State`; `step(state, volumes, key, peak, decay_from, end) -> (State, metrics)`,
    which consumes its state, at the rate of `warmup_stable_decay`; `evaluate(state, volumes, key)
    -> loss`, single volumes without augmentation; `reconstruct(state, volumes, key)`: None where
    there is nothing to show; `embed(state, volumes [B, D, H, W])`: pooled tokens [B, E]; `abstract`
    is the state's shapes and shardings.
    """

    init: Callable[[PRNGKeyArray], State]
    step: jax.stages.Wrapped
    evaluate: jax.stages.Wrapped
    reconstruct: Callable[[State, Batch, PRNGKeyArray], tuple[Array, Array, Array]] | None
    embed: Callable[[State, Batch], Array]
    abstract: State


def step_keys(key: PRNGKeyArray, step: Array | int) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Keys of a step's augmentation and of its loss, from the run's `data_key`."""
    augment_key, loss_key = jax.random.split(jax.random.fold_in(key, step))
    return augment_key, loss_key


def data_key(seed: int) -> PRNGKeyArray:
    """The key of all that a run of this seed draws while it trains."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def pretraining_program(
    config: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    mesh: Mesh,
    accumulate: int = 1,
    platform: Platform | None = None,
) -> Program:
    """The pretraining program of one shape on one mesh, the same for every learning rate; gradients
    and held-out losses are those of `accumulate` parts of a batch, one after the other.
    """
    return compiled_once(
        config,
        encoder,
        decoder,
        replace(pretrain, learning_rate=0.0),
        mesh,
        accumulate,
        platform or platform_of(mesh.devices.flat[0]),
    )


@lru_cache
def compiled_once(
    config: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    mesh: Mesh,
    accumulate: int,
    platform: Platform,
) -> Program:
    """`pretraining_program` of a recipe without its learning rate."""
    compute = Compute(pretrain.dtype, pretrain.remat, platform)
    pinned = pinned_by(ActivationSharding(mesh))
    objective = build_objective(config, encoder, decoder, pretrain, compute)
    encode = build_encoder(encoder, compute).encode
    rates = rate_multipliers(
        lambda shape: build_objective(config, shape, decoder, pretrain, compute).init, encoder
    )
    optimizer = adamw_direction(pretrain.beta2, pretrain.weight_decay, pretrain.clip_norm, rates)

    def init(key: PRNGKeyArray) -> State:
        parameters = objective.init(key)
        return State(
            jnp.zeros((), jnp.int32),
            parameters,
            optimizer.init(parameters),
            objective.followed(parameters) | objective.statistics(parameters),
        )

    @pinned
    def evaluate(state: State, volumes: Float16[Array, "B *V D H W"], key: PRNGKeyArray) -> Array:
        # Without augmentation the two crops of a pair may be one and the same.
        inputs = volumes
        if config.pairs:
            inputs = views(objective, pretrain.augment, volumes, key, platform)
        parameters = state.parameters | state.means
        return batch_loss(objective, parameters, inputs, key, state.step, accumulate)

    @pinned
    def reconstruct(
        state: State, volumes: Float16[Array, "B *V D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Array, Array]:
        assert objective.reconstruct is not None
        return objective.reconstruct(
            state.parameters | state.means, volumes.astype(jnp.float32), key
        )

    @pinned
    def embed(state: State, volumes: Float16[Array, "B D H W"]) -> Float[Array, "B E"]:
        return pooled(encode(state.parameters["encoder"], volumes.astype(jnp.float32)))

    abstract = abstract_state(init, mesh)
    sharding = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    batch, everywhere = batch_sharding(mesh), replicated(mesh)
    return Program(
        # Without out_shardings the whole state would be put on the first device.
        init=jax.jit(init, out_shardings=sharding),
        step=jax.jit(
            pinned(training_step(objective, optimizer, pretrain, accumulate, platform)),
            in_shardings=(sharding, batch, None, None, None, None),
            out_shardings=(sharding, everywhere),
            donate_argnums=0,
        ),
        evaluate=jax.jit(evaluate, out_shardings=everywhere),
        reconstruct=jax.jit(reconstruct, out_shardings=everywhere)
        if objective.reconstruct
        else None,
        embed=jax.jit(embed, out_shardings=everywhere),
        abstract=abstract,
    )


def training_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    pretrain: Pretrain,
    accumulate: int,
    platform: Platform,
) -> Callable[..., tuple[State, Metrics]]:
    """A step of pretraining: augmented views, gradients, new parameters, new running means."""
    warmup = pretrain.warmup // pretrain.batch

    def step(
        state: State,
        volumes: Float16[Array, "B *V D H W"],
        key: PRNGKeyArray,
        peak: Array,
        decay_from: Array,
        end: Array,
    ) -> tuple[State, Metrics]:
        augment_key, loss_key = step_keys(key, state.step)
        inputs = views(objective, pretrain.augment, volumes, augment_key, platform)
        loss, logged, gradients = batch_gradients(
            objective, state.parameters, state.means, inputs, loss_key, state.step, accumulate
        )
        direction, moments = optimizer.update(gradients, state.moments, state.parameters)
        rate = warmup_stable_decay(state.step, peak, warmup, decay_from, end)
        parameters = descend(state.parameters, direction, rate)
        means = followed_means(objective, state.means, parameters) | logged.statistics
        metrics = {
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": optax.tree.norm(gradients),
            **logged.metrics,
        }
        return State(state.step + 1, parameters, moments, means), metrics

    return step


def views(
    objective: Objective,
    augmentation: Augmentation,
    volumes: Float16[Array, "B *V D H W"],
    key: PRNGKeyArray,
    platform: Platform,
) -> Float[Array, "B *V D H W"]:
    """Augmented volumes, the views of a case each by itself unless they must stay aligned."""
    # [B * V, D, H, W] where each view is changed by itself.
    cases = volumes if objective.aligned else volumes.reshape(-1, *volumes.shape[-3:])
    return augment(cases, key, augmentation, platform).reshape(volumes.shape)


def followed_means(objective: Objective, means: Parameters, parameters: Parameters) -> Parameters:
    """The running means of what the objective follows, one step later."""
    followed = objective.followed(parameters)
    return jax.tree.map(
        lambda mean, new: objective.momentum * mean + (1 - objective.momentum) * new,
        {name: means[name] for name in followed},
        followed,
    )


def abstract_state(init: Callable[[PRNGKeyArray], State], mesh: Mesh) -> State:
    """Shapes, types and shardings of the state that `init` makes."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        shapes,
        state_sharding(mesh, shapes),
    )

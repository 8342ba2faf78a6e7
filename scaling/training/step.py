"""The compiled pretraining step, made once per shape and shared by every run that has it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float16, PRNGKeyArray

from scaling.objectives.augment import augment
from scaling.objectives.build import build_objective
from scaling.objectives.objective import Metrics, Parameters
from scaling.study.config import Mae, Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.training.mesh import BatchConstraint, batch_sharding, replicated, state_sharding
from scaling.training.optimizer import adamw_direction, descend, warmup_stable_decay

NEVER = 2**31 - 1  # a step that is never reached: where the decay of a trunk starts


class State(NamedTuple):
    """Everything a run needs to go on: the number of steps done, parameters, optimiser moments."""

    step: Array
    parameters: Parameters
    moments: Any


class Program(NamedTuple):
    """Compiled functions of one pretraining shape.

    `init(key) -> State`; `step(state, volumes [B, D, H, W] float16, key, decay_from, end) -> (State, metrics)`, which consumes
    its state; `evaluate(parameters, volumes, key) -> loss`, without augmentation; `abstract` is the state's shapes and shardings.
    """

    init: Callable[[PRNGKeyArray], State]
    step: jax.stages.Wrapped
    evaluate: Callable[[Parameters, Array, PRNGKeyArray], Array]
    reconstruct: Callable[[Parameters, Array, PRNGKeyArray], tuple[Array, Array]]
    abstract: State


@lru_cache
def pretraining_program(config: Mae, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, mesh: Mesh) -> Program:
    """The pretraining program of one shape on one mesh."""
    objective = build_objective(config, encoder, decoder, pretrain, BatchConstraint(mesh))
    optimizer = adamw_direction(pretrain.beta2, pretrain.weight_decay, pretrain.clip_norm)
    warmup = pretrain.warmup // pretrain.batch

    def init(key: PRNGKeyArray) -> State:
        parameters = objective.init(key)
        return State(jnp.zeros((), jnp.int32), parameters, optimizer.init(parameters))

    def step(state: State, volumes: Float16[Array, "B D H W"], key: PRNGKeyArray, decay_from: Array, end: Array) -> tuple[State, Metrics]:
        augment_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        inputs = augment(volumes.astype(jnp.float32), augment_key, pretrain.augment)
        (loss, metrics), gradients = jax.value_and_grad(objective.loss, has_aux=True)(state.parameters, inputs, loss_key)
        direction, moments = optimizer.update(gradients, state.moments, state.parameters)
        rate = warmup_stable_decay(state.step, pretrain.learning_rate, warmup, decay_from, end)
        parameters = descend(state.parameters, direction, rate)
        logged = {"loss": loss, "learning_rate": rate, "gradient_norm": optax.tree.norm(gradients), **metrics}
        return State(state.step + 1, parameters, moments), logged

    def evaluate(parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray) -> Array:
        return objective.loss(parameters, volumes.astype(jnp.float32), key)[0]

    def reconstruct(parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray) -> tuple[Array, Array]:
        return objective.reconstruct(parameters, volumes.astype(jnp.float32), key)

    shapes = jax.eval_shape(init, jax.random.key(0))
    sharding = state_sharding(mesh, shapes)
    batch, everywhere = batch_sharding(mesh), replicated(mesh)
    abstract = jax.tree.map(lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes, sharding)
    return Program(
        # Without out_shardings the whole state would be put on the first device.
        init=jax.jit(init, out_shardings=sharding),
        step=jax.jit(step, in_shardings=(sharding, batch, None, None, None), out_shardings=(sharding, None), donate_argnums=0),
        evaluate=jax.jit(evaluate, out_shardings=everywhere),
        reconstruct=jax.jit(reconstruct, out_shardings=everywhere),
        abstract=abstract,
    )

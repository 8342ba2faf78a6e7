"""Loss and gradients of a batch, at once or one part of it after the other."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from scaling.models.pinning import pin
from scaling.objectives.interface import Logged, Loss, Objective, Parameters, Part


def batch_gradients(
    objective: Objective,
    parameters: Parameters,
    carried: Parameters,
    inputs: Array,
    key: PRNGKeyArray,
    step: Array,
    parts: int,
) -> tuple[Array, Logged, Parameters]:
    """Loss, what comes with it and gradients of a batch in `parts`.

    `carried` are the running means and statistics that the state carries: the objective finds
    them among the parameters, and nothing is differentiated by them.
    """
    if parts > 1:
        return accumulated(objective, parameters, inputs, key, step, parts)

    def loss_of(parameters: Parameters) -> Loss:
        return objective.loss(parameters | carried, inputs, key, step)

    (loss, logged), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    return loss, logged, gradients


def accumulated(
    objective: Objective,
    parameters: Parameters,
    inputs: Array,
    key: PRNGKeyArray,
    step: Array,
    parts: int,
) -> tuple[Array, Logged, Parameters]:
    """Loss, what comes with it and gradients of a batch, one part of it at a time."""
    loss_of = jax.value_and_grad(part_loss(objective, inputs, key, step, parts), has_aux=True)

    def add(total: Parameters, index: Array) -> tuple[Parameters, Loss]:
        loss, gradients = loss_of(parameters, index)
        return jax.tree.map(lambda a, b: a + b / parts, total, gradients), loss

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    gradients, losses = jax.lax.scan(add, zeros, jnp.arange(parts))
    loss, logged = jax.tree.map(lambda values: values.mean(0), losses)
    return loss, logged, gradients


def batch_loss(
    objective: Objective,
    parameters: Parameters,
    inputs: Array,
    key: PRNGKeyArray,
    step: Array,
    parts: int,
) -> Array:
    """The loss of a batch in `parts`, without gradients."""
    if parts == 1:
        return objective.loss(parameters, inputs, key, step)[0]
    loss_of = part_loss(objective, inputs, key, step, parts)
    return jax.lax.map(lambda index: loss_of(parameters, index)[0], jnp.arange(parts)).mean()


def part_loss(
    objective: Objective,
    inputs: Array,
    key: PRNGKeyArray,
    step: Array,
    parts: int,
) -> Callable[[Parameters, Array], Loss]:
    """Loss and metrics of a part of a batch, given its number. Raises ValueError where the parts
    depend on each other.
    """
    loss = objective.part_loss
    if loss is None:
        raise ValueError(
            "this objective needs the whole batch at once; expected execution.accumulate=1"
        )
    # Rows i, i + parts, ...: every device has its share of each part.
    rows = inputs.reshape(-1, parts, *inputs.shape[1:])
    return lambda parameters, index: loss(
        parameters, pin(rows[:, index], "batch"), key, step, Part(index, parts)
    )

"""AdamW and the warm-up, stable, decay schedule."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def decayed(parameters: Any) -> Any:
    """Which leaves weight decay applies to: the weights of linear layers, not biases, norms and
    tokens.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", parameters)


def adamw_direction(
    beta2: float, weight_decay: float, clip_norm: float, rates: Any = None
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) up to the learning rate: the caller scales the update by
    minus the rate of its step.

    `rates`, a tree of floats as the parameters, scales Adam's update of each, not its weight decay:
    what a weight forgets per step is the same at every size (Wang and Aitchison 2024).
    """
    each = optax.stateless(
        lambda updates, _: jax.tree.map(lambda u, r: u if r == 1 else r * u, updates, rates)
    )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.scale_by_adam(b1=0.9, b2=beta2),
        *(() if rates is None else (each,)),
        optax.add_decayed_weights(weight_decay, mask=decayed),
    )


def warmup_stable_decay(
    step: Int[Array, ""],
    peak: Array | float,
    warmup: int,
    decay_from: Int[Array, ""],
    end: Int[Array, ""],
) -> Float[Array, ""]:
    """Learning rate of a step: linear warm-up over `warmup` steps, constant, linear to zero between
    `decay_from` and `end`.

    `peak`, `decay_from` and `end` are traced: all rates, a trunk (decay_from beyond its end) and
    all its cooldowns share one program. Source: Hu et al. 2024 (MiniCPM); linear decay to zero as
    in Haegele et al. 2024.
    """
    rising = jnp.minimum(1.0, (step + 1) / max(1, warmup))
    falling = jnp.clip((end - step) / jnp.maximum(1, end - decay_from), 0.0, 1.0)
    return peak * rising * jnp.where(step >= decay_from, falling, 1.0)


def descend(parameters: Any, direction: Any, rate: Array) -> Any:
    """One step of size `rate` against `direction`."""
    return jax.tree.map(lambda p, d: p - rate * d, parameters, direction)

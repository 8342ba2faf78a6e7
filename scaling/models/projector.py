"""The small heads of contrastive objectives."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.parameters import Parameters, keys_from, parameters_of, structure
from scaling.models.transformer import Linear
from scaling.study.ladder import Encoder


class Head(nnx.Module):
    """Two layers: [B, E] -> [B, K], in float32.

    Layer norm instead of batch norm: a case does not depend on the batch.
    """

    def __init__(self, width: int, hidden: int, out: int, rngs: nnx.Rngs):
        self.hidden = Linear(width, hidden, "float32", rngs)
        self.norm = nnx.LayerNorm(hidden, rngs=rngs)
        self.out = Linear(hidden, out, "float32", rngs)

    def __call__(self, x: Float[Array, "B E"]) -> Float[Array, "B K"]:
        return self.out(jax.nn.gelu(self.norm(self.hidden(x))))


class HeadFunctions(NamedTuple):
    """A head apart from its parameters."""

    init: Callable[[PRNGKeyArray], Parameters]
    """`init(key)` makes the parameters."""
    apply: Callable[[Parameters, Float[Array, "B E"]], Float[Array, "B K"]]
    """`apply(parameters, x)` is the head's output."""


def build_head(width: int, hidden: int, out: int) -> HeadFunctions:
    """The functions of one head."""

    def make(rngs: nnx.Rngs) -> Head:
        return Head(width, hidden, out, rngs)

    graph = structure(make)
    return HeadFunctions(
        lambda key: parameters_of(make(keys_from(key))),
        lambda parameters, x: nnx.merge(graph, parameters)(x),
    )


def build_projector(encoder: Encoder, hidden: int, out: int) -> HeadFunctions:
    """The head that projects an encoder's pooled tokens."""
    return build_head(encoder.width, hidden, out)


def pooled(tokens: Float[Array, "B *N E"]) -> Float[Array, "B E"]:
    """The mean of a volume's tokens, float32."""
    return tokens.astype(jnp.float32).mean(tuple(range(1, tokens.ndim - 1)))

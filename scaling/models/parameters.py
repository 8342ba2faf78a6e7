"""Modules as pure functions of nested dicts of arrays: what is trained, and what computes."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

Parameters = dict[str, Any]
Make = Callable[[nnx.Rngs], nnx.Module]


class Keys(nnx.Rngs):
    """The keys of a module's parameters, those of `nnx.Rngs(key)`, counted in Python.

    A traced `nnx.Rngs` words an error message at every key, which took half of the time of building
    a program.
    """

    def __init__(self, key: PRNGKeyArray):
        self.key = nnx.data(key)
        self.count = 0

    def params(self) -> PRNGKeyArray:
        """The next key."""
        self.count += 1
        return jax.random.fold_in(self.key, self.count - 1)


def keys_from(key: PRNGKeyArray) -> Keys:
    """What a module's layers draw their keys from, one after the other."""
    return Keys(key)


def structure(make: Make) -> Any:
    """A module's graph without its parameters."""
    return nnx.split(nnx.eval_shape(lambda: make(keys_from(jax.random.key(0)))))[0]


def parameters_of(module: nnx.Module) -> Parameters:
    """A module's parameters, a nested dict of arrays."""
    return nnx.to_pure_dict(nnx.split(module)[1])


def xavier(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*k C F"]:
    """Xavier-uniform weights of a linear map or a convolution (Glorot and Bengio 2010).

    They are drawn flat: XLA for CPU takes seconds to compile random bits of five axes.
    """
    fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
    flat = jax.random.uniform(key, (math.prod(shape),), minval=-1.0)
    return math.sqrt(6 / fans) * flat.reshape(shape)

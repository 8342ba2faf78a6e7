"""Heads that turn the tokens of a session's sequences into one output per case or per voxel.

Every sequence goes through the same encoder; a head reads the sequences side by side, absent ones as zeros, and rescales by how
many are there: missing sequences need no special case.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from scaling.models.patches import grid_pool, unpatchify
from scaling.study.config import Shape3
from scaling.study.ladder import Encoder


def side_by_side(features: Float[Array, "B S *N E"], present: Bool[Array, "B S"]) -> Float[Array, "B *N SE"]:
    """Concatenate the features of the present sequences, zeros for the absent: [B, S, (N,) E] -> [B, (N,) S*E]."""
    weight = present * (present.shape[1] / jnp.maximum(1, present.sum(1, keepdims=True)))
    weighted = features * weight.reshape(*present.shape, *(1,) * (features.ndim - 2))
    moved = jnp.moveaxis(weighted, 1, -2)
    return moved.reshape(*moved.shape[:-2], -1)


class PooledHead(nnx.Module):
    """One number per case from tokens pooled to a coarse grid: [B, S, N, E] -> [B]. Starts at zero."""

    def __init__(self, encoder: Encoder, sequences: int, shape: Shape3, grid: int, rngs: nnx.Rngs):
        self.shape, self.patch, self.grid = shape, encoder.patch, grid
        features = sequences * grid**3 * encoder.width
        self.output = nnx.Linear(features, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, tokens: Float[Array, "B S N E"], present: Bool[Array, "B S"]) -> Float[Array, "B"]:
        B, S, N, E = tokens.shape
        pooled = grid_pool(tokens.reshape(B * S, N, E), self.shape, self.patch, self.grid)
        return self.output(side_by_side(pooled.reshape(B, S, -1), present))[:, 0]


class SegmentationHead(nnx.Module):
    """A logit per voxel, each patch from its own tokens through one hidden layer: [B, S, N, E] -> [B, D, H, W].

    Starts at a probability of about 0.05 everywhere: lesions are rare.
    """

    def __init__(self, encoder: Encoder, sequences: int, shape: Shape3, rngs: nnx.Rngs):
        self.shape, self.patch = shape, encoder.patch
        voxels = encoder.patch**3
        self.hidden = nnx.Linear(sequences * encoder.width, 2 * encoder.width, rngs=rngs)
        self.output = nnx.Linear(
            2 * encoder.width,
            voxels,
            kernel_init=nnx.initializers.normal(1e-3),
            bias_init=nnx.initializers.constant(-3.0),
            rngs=rngs,
        )

    def __call__(self, tokens: Float[Array, "B S N E"], present: Bool[Array, "B S"]) -> Float[Array, "B D H W"]:
        hidden = jax.nn.gelu(self.hidden(side_by_side(tokens, present)))
        return unpatchify(self.output(hidden), self.shape, self.patch)

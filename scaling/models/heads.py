"""Heads that turn the tokens of a session's sequences into one output per case or per voxel.

Every sequence goes through the same encoder; a head reads the sequences side by side, absent ones
as zeros, and rescales by how many are present: missing sequences need no special case.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from scaling.models.compute import Compute
from scaling.models.patches import unpatchify
from scaling.models.unet import CnnDecoder
from scaling.study.ladder import CnnShape, Encoder, VitShape
from scaling.study.protocols import Shape3

Features = tuple[Array, ...]

# Segmentation heads start at a probability of about 0.05 everywhere: lesions are rare.
SMALL, RARE = nnx.initializers.normal(1e-3), nnx.initializers.constant(-3.0)


def side_by_side(
    features: Float[Array, "B S *N E"], present: Bool[Array, "B S"]
) -> Float[Array, "B *N S*E"]:
    """Concatenate the features of the present sequences, zeros for the absent:
    [B, S, (N,) E] -> [B, (N,) S*E].
    """
    weight = present * (present.shape[1] / jnp.maximum(1, present.sum(1, keepdims=True)))
    weighted = features * weight.reshape(*present.shape, *(1,) * (features.ndim - 2))
    moved = jnp.moveaxis(weighted, 1, -2)  # [B, (N,) S, E]
    return moved.reshape(*moved.shape[:-2], -1)


class PooledHead(nnx.Module):
    """One number per case: ([B, S, *N, E],) -> [B].

    One hidden layer reads the sequences of a place together, then come the mean and the maximum
    over places: a lesion is bright on one sequence where it is dark on another, and a few of many
    tokens. Starts at zero.
    """

    def __init__(self, encoder: Encoder, sequences: int, rngs: nnx.Rngs):
        width = encoder.width
        self.hidden = nnx.Linear(sequences * width, 2 * width, rngs=rngs)
        self.output = nnx.Linear(4 * width, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, features: Features, present: Bool[Array, "B S"]) -> Float[Array, "B"]:
        B, S, *_, E = features[-1].shape
        places = side_by_side(features[-1].reshape(B, S, -1, E), present)  # [B, N, S E]
        hidden = jax.nn.gelu(self.hidden(places))
        # Not `max`: its gradient is 0 / 0 where a value computed a second time is rounded
        # differently.
        largest = jnp.take_along_axis(hidden, hidden.argmax(1, keepdims=True), 1)[:, 0]
        return self.output(jnp.concatenate([hidden.mean(1), largest], axis=-1))[:, 0]


class SegmentationHead(nnx.Module):
    """A logit per voxel, each patch from its own tokens through one hidden layer:
    ([B, S, N, E],) -> [B, D, H, W].
    """

    def __init__(self, encoder: VitShape, sequences: int, shape: Shape3, rngs: nnx.Rngs):
        self.shape, self.patch = shape, encoder.patch
        width = encoder.width
        self.hidden = nnx.Linear(sequences * width, 2 * width, rngs=rngs)
        self.output = nnx.Linear(
            2 * width, encoder.patch**3, kernel_init=SMALL, bias_init=RARE, rngs=rngs
        )

    def __call__(self, features: Features, present: Bool[Array, "B S"]) -> Float[Array, "B D H W"]:
        hidden = jax.nn.gelu(self.hidden(side_by_side(features[-1], present)))
        return unpatchify(self.output(hidden), self.shape, self.patch)


class UNetHead(nnx.Module):
    """A logit per voxel through a U-Net's decoder with skips, pyramids of sequences side by side:
    ([B, S, d, h, w, C], ...) -> [B, D, H, W].

    The decoder starts afresh in every arm: that of pretraining reads one sequence, perhaps without
    skips.
    """

    def __init__(self, encoder: CnnShape, sequences: int, rngs: nnx.Rngs, compute: Compute):
        self.decoder = CnnDecoder(encoder.features, True, rngs, compute, beside=sequences)
        self.decoder.voxels = nnx.Linear(
            encoder.features[0], 1, kernel_init=SMALL, bias_init=RARE, rngs=rngs
        )

    def __call__(self, features: Features, present: Bool[Array, "B S"]) -> Float[Array, "B D H W"]:
        return self.decoder(tuple(side_by_side(level, present) for level in features))

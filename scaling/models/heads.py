"""Heads that turn the tokens of a session's sequences into one output per case or per voxel.

Every sequence goes through the same encoder; a head reads the sequences side by side, absent ones
as zeros, and rescales by how many are present: missing sequences need no special case.
"""

from typing import Any

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


def rare_labels(outputs: int) -> nnx.Initializer:
    """Bias of the last layer [..., outputs]: lesions are rare, at a probability of about 0.05; of
    several outputs the first is the background.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bias = RARE(key, shape, dtype)
        if outputs == 1:
            return bias
        return bias.reshape(-1, outputs).at[:, 0].set(0.0).reshape(shape)

    return init


class PooledHead(nnx.Module):
    """Numbers per case: ([B, S, *N, E],) -> [B], or [B, K] of K > 1 `outputs`.

    One hidden layer reads the sequences of a place together, then come the mean and the maximum
    over places: a lesion is bright on one sequence where it is dark on another, and a few of many
    tokens. Starts at zero.
    """

    def __init__(self, encoder: Encoder, sequences: int, rngs: nnx.Rngs, outputs: int = 1):
        self.outputs = outputs
        width = encoder.width
        self.hidden = nnx.Linear(sequences * width, 2 * width, rngs=rngs)
        self.output = nnx.Linear(4 * width, outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, features: Features, present: Bool[Array, "B S"]) -> Float[Array, "B *K"]:
        B, S, *_, E = features[-1].shape
        places = side_by_side(features[-1].reshape(B, S, -1, E), present)  # [B, N, S E]
        hidden = jax.nn.gelu(self.hidden(places))
        # Not `max`: its gradient is 0 / 0 where a value computed a second time is rounded
        # differently.
        largest = jnp.take_along_axis(hidden, hidden.argmax(1, keepdims=True), 1)[:, 0]
        numbers = self.output(jnp.concatenate([hidden.mean(1), largest], axis=-1))  # [B, K]
        return numbers[:, 0] if self.outputs == 1 else numbers


class SegmentationHead(nnx.Module):
    """Logits per voxel, each patch from its own tokens through one hidden layer: ([B, S, N, E],) ->
    [B, D, H, W], or [B, K, D, H, W] of K > 1 outputs. Lesions start out rare: see `rare_labels`.
    """

    def __init__(
        self,
        encoder: VitShape,
        sequences: int,
        shape: Shape3,
        rngs: nnx.Rngs,
        outputs: int = 1,
    ):
        self.shape, self.patch, self.outputs = shape, encoder.patch, outputs
        self.hidden = nnx.Linear(sequences * encoder.width, 2 * encoder.width, rngs=rngs)
        self.output = nnx.Linear(
            2 * encoder.width,
            encoder.patch**3 * outputs,
            kernel_init=SMALL,
            bias_init=rare_labels(outputs),
            rngs=rngs,
        )

    def __call__(
        self, features: Features, present: Bool[Array, "B S"]
    ) -> Float[Array, "B *K D H W"]:
        hidden = jax.nn.gelu(self.hidden(side_by_side(features[-1], present)))
        patches = self.output(hidden)  # [B, N, P * K]
        if self.outputs == 1:
            return unpatchify(patches, self.shape, self.patch)
        B, N, _ = patches.shape
        channels = patches.reshape(B, N, -1, self.outputs)  # [B, N, P, K]
        apart = jnp.moveaxis(channels, -1, 1).reshape(B * self.outputs, N, -1)  # [B * K, N, P]
        volumes = unpatchify(apart, self.shape, self.patch)
        return volumes.reshape(B, self.outputs, *self.shape)


class UNetHead(nnx.Module):
    """Logits per voxel through a U-Net's decoder with skips, pyramids of sequences side by side:
    ([B, S, d, h, w, C], ...) -> [B, D, H, W], or [B, K, D, H, W] of K > 1 outputs.

    The decoder starts afresh in every arm: that of pretraining reads one sequence, perhaps without
    skips. Starts as `SegmentationHead`.
    """

    def __init__(
        self,
        encoder: CnnShape,
        sequences: int,
        rngs: nnx.Rngs,
        compute: Compute,
        outputs: int = 1,
    ):
        self.decoder = CnnDecoder(
            encoder.features, True, rngs, compute, beside=sequences, outputs=outputs
        )
        self.decoder.voxels = nnx.Linear(
            encoder.features[0],
            outputs,
            kernel_init=SMALL,
            bias_init=rare_labels(outputs),
            rngs=rngs,
        )

    def __call__(
        self, features: Features, present: Bool[Array, "B S"]
    ) -> Float[Array, "B *K D H W"]:
        return self.decoder(tuple(side_by_side(level, present) for level in features))

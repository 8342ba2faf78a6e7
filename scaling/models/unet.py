"""Convolutional encoders, plain and residual, and the decoder that leads back to the voxels. Channels last.

A pyramid is a tuple of features, finest first: level l is [B, D / 2^l, H / 2^l, W / 2^l, C_l].
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from scaling.models.convolution import convolve, max_pool, mean_pool, upsample
from scaling.models.parameters import xavier
from scaling.models.remat import rematerialised
from scaling.models.transformer import Constrain, Linear, Stack, unconstrained
from scaling.study.config import Remat
from scaling.study.ladder import CnnShape


def activate(x: Array) -> Array:
    """The leaky ReLU of nnU-Net."""
    return jax.nn.leaky_relu(x, 0.01)


class InstanceNorm(nnx.Module):
    """Each channel of each case to zero mean and unit variance over space, in float32; then a scale and a shift (Ulyanov et al. 2016)."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B D H W C"]:
        exact = x.astype(jnp.float32)
        mean = exact.mean((1, 2, 3), keepdims=True)
        gain = self.scale[...] * jax.lax.rsqrt(
            jnp.square(exact - mean).mean((1, 2, 3), keepdims=True) + 1e-5
        )
        return ((exact - mean) * gain + self.bias[...]).astype(x.dtype)


class ConvNorm(nnx.Module):
    """3 x 3 x 3 convolution and instance norm, which makes a bias of the convolution void."""

    def __init__(
        self, channels: int, features: int, dtype: jnp.dtype, rngs: nnx.Rngs, stride: int = 1
    ):
        self.dtype, self.stride = dtype, stride
        self.kernel = nnx.Param(xavier(rngs.params(), (3, 3, 3, channels, features)))
        self.norm = InstanceNorm(features)

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        return self.norm(
            convolve(x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.stride)
        )


class PlainLevel(nnx.Module):
    """One level of a plain encoder: halve by the maximum (but for the first), then two convolutions."""

    def __init__(self, channels: int, features: int, first: bool, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.first = first
        self.conv_in = ConvNorm(channels, features, dtype, rngs)
        self.conv_out = ConvNorm(features, features, dtype, rngs)

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        x = x if self.first else max_pool(x)
        return activate(self.conv_out(activate(self.conv_in(x))))


class ResidualBlock(nnx.Module):
    """Two convolutions around which the input passes, averaged and projected where the shape changes (He et al. 2016, variant D)."""

    def __init__(self, channels: int, features: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stride = stride
        self.conv_in = ConvNorm(channels, features, dtype, rngs, stride)
        self.conv_out = ConvNorm(features, features, dtype, rngs)
        self.project = (
            None
            if channels == features
            else Linear(channels, features, dtype, rngs, use_bias=False)
        )
        self.project_norm = None if channels == features else InstanceNorm(features)

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        passed = mean_pool(x) if self.stride == 2 else x
        if self.project is not None and self.project_norm is not None:
            passed = self.project_norm(self.project(passed))
        return activate(self.conv_out(activate(self.conv_in(x))) + passed)


class ResidualLevel(nnx.Module):
    """One level of a residual encoder: a stem at full resolution or a block that halves, then equal blocks, stacked and scanned."""

    def __init__(
        self,
        channels: int,
        features: int,
        blocks: int,
        first: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.stem = ConvNorm(channels, features, dtype, rngs) if first else None
        self.block = ResidualBlock(
            features if first else channels, features, 1 if first else 2, dtype, rngs
        )

        def another(rngs: nnx.Rngs) -> ResidualBlock:
            return ResidualBlock(features, features, 1, dtype, rngs)

        self.rest = Stack(blocks - 1, another, "none", unconstrained, rngs) if blocks > 1 else None

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        x = self.block(x if self.stem is None else activate(self.stem(x)))
        return x if self.rest is None else self.rest(x)


class CnnEncoder(nnx.Module):
    """Volumes to a pyramid of features: [B, D, H, W] -> one [B, d, h, w, C] per level, finest first."""

    def __init__(
        self,
        shape: CnnShape,
        rngs: nnx.Rngs,
        dtype: jnp.dtype = jnp.float32,
        remat: Remat = "none",
        constrain: Constrain = unconstrained,
    ):
        self.dtype, self.remat, self.constrain = dtype, remat, constrain
        levels: dict[str, nnx.Module] = {}
        for level, (features, blocks) in enumerate(zip(shape.features, shape.blocks, strict=True)):
            channels = shape.features[level - 1] if level else 1
            if shape.kind == "unet":
                levels[f"level{level}"] = PlainLevel(channels, features, level == 0, dtype, rngs)
            else:
                levels[f"level{level}"] = ResidualLevel(
                    channels, features, blocks, level == 0, dtype, rngs
                )
        self.levels = nnx.Dict(levels)

    def __call__(self, volume: Float[Array, "B D H W"]) -> tuple[Float[Array, "B d h w C"], ...]:
        x = volume[..., None].astype(self.dtype)
        pyramid = []
        for depth in range(len(self.levels)):
            level = self.levels[f"level{depth}"]
            x = self.constrain(recomputed(level, self.remat, x))
            pyramid.append(x)
        return tuple(pyramid)


class CnnDecoder(nnx.Module):
    """A pyramid to one value per voxel: [B, d, h, w, C] per level -> [B, D, H, W].

    Each level up is a transposed convolution with stride 2, the encoder's features of that level beside it if `skips`, and one
    convolution, as in FOMO25's pretraining decoders and nnU-Net's ResEnc ones. `beside` pyramids are read side by side, their
    channels concatenated.
    """

    def __init__(
        self,
        features: Sequence[int],
        skips: bool,
        rngs: nnx.Rngs,
        beside: int = 1,
        dtype: jnp.dtype = jnp.float32,
        remat: Remat = "none",
        constrain: Constrain = unconstrained,
    ):
        self.remat, self.constrain = remat, constrain
        below, levels = beside * features[-1], {}
        for level, channels in reversed(tuple(enumerate(features[:-1]))):
            levels[f"level{level}"] = UpLevel(
                below, beside * channels if skips else 0, channels, dtype, rngs
            )
            below = channels
        self.levels = nnx.Dict(levels)
        self.voxels: nnx.Linear = Linear(below, 1, dtype, rngs)

    def __call__(self, pyramid: tuple[Float[Array, "B d h w C"], ...]) -> Float[Array, "B D H W"]:
        x = pyramid[-1]
        for depth in reversed(range(len(self.levels))):
            level, passed = self.levels[f"level{depth}"], pyramid[depth]
            x = self.constrain(recomputed(level, self.remat, x, passed))
        return self.voxels(x)[..., 0]


class UpLevel(nnx.Module):
    """From one level to the finer one above: [B, d, h, w, C] and what the encoder had there -> [B, 2d, 2h, 2w, F]."""

    def __init__(self, channels: int, passed: int, features: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype, self.skip = dtype, passed > 0
        self.kernel = nnx.Param(xavier(rngs.params(), (channels, 8 * features)))
        self.bias = nnx.Param(jnp.zeros(features))
        self.conv = ConvNorm(features + passed, features, dtype, rngs)

    def __call__(
        self, x: Float[Array, "B d h w C"], passed: Float[Array, "B D H W S"]
    ) -> Float[Array, "B D H W F"]:
        x = upsample(x.astype(self.dtype), self.kernel[...].astype(self.dtype)) + self.bias[
            ...
        ].astype(self.dtype)
        return activate(self.conv(jnp.concatenate([x, passed], -1) if self.skip else x))


def recomputed(module: nnx.Module, remat: Remat, *inputs: Array) -> Array:
    """Apply a module, keeping for the backward pass what `remat` says."""
    graph, state = nnx.split(module)
    return rematerialised(lambda state, *inputs: nnx.merge(graph, state)(*inputs), remat)(
        state, *inputs
    )

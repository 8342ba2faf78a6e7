"""Convolutional encoders, plain and residual, and the decoder that leads back to the voxels.

Channels come last. A pyramid is a tuple of features, finest first: level l is
[B, D / 2^l, H / 2^l, W / 2^l, C_l].
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from scaling.models.compute import Compute
from scaling.models.convolution import convolve, max_pool, mean_pool, upsample
from scaling.models.parameters import xavier
from scaling.models.patches import patchify, unpatchify
from scaling.models.pinning import pin
from scaling.models.remat import rematerialised
from scaling.models.transformer import Linear, Stack
from scaling.study.config import Remat
from scaling.study.ladder import CnnShape
from scaling.study.protocols import Shape3

Pyramid = tuple[Float[Array, "B _ _ _ _"], ...]

EPSILON = 1e-5  # added to variances, as nnU-Net and PyTorch do
SLOPE = 0.01  # of the leaky ReLU of nnU-Net


def activate(x: Array) -> Array:
    """The leaky ReLU of nnU-Net."""
    return jax.nn.leaky_relu(x, SLOPE)


class InstanceNorm(nnx.Module):
    """Each channel of each case to zero mean and unit variance over space, in float32; then a scale
    and a shift (Ulyanov et al. 2016).
    """

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B D H W C"]:
        space = (1, 2, 3)
        exact = x.astype(jnp.float32)
        mean = exact.mean(space, keepdims=True)
        variance = jnp.square(exact - mean).mean(space, keepdims=True)
        gain = self.scale[...] * jax.lax.rsqrt(variance + EPSILON)
        return ((exact - mean) * gain + self.bias[...]).astype(x.dtype)


class ConvNorm(nnx.Module):
    """3 x 3 x 3 convolution and instance norm, which makes a bias of the convolution void."""

    def __init__(
        self, channels: int, features: int, compute: Compute, rngs: nnx.Rngs, stride: int = 1
    ):
        self.dtype, self.platform = jnp.dtype(compute.dtype), compute.platform
        self.stride = stride
        self.kernel = nnx.Param(xavier(rngs.params(), (3, 3, 3, channels, features)))
        self.norm = InstanceNorm(features)

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        kernel = self.kernel[...].astype(self.dtype)
        return self.norm(convolve(x.astype(self.dtype), kernel, self.platform, self.stride))


class PlainLevel(nnx.Module):
    """One level of a plain encoder: halve by the maximum (but for the first), then two
    convolutions.
    """

    def __init__(self, channels: int, features: int, first: bool, compute: Compute, rngs: nnx.Rngs):
        self.first = first
        self.conv_in = ConvNorm(channels, features, compute, rngs)
        self.conv_out = ConvNorm(features, features, compute, rngs)

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        if not self.first:
            x = max_pool(x)
        return activate(self.conv_out(activate(self.conv_in(x))))


class ResidualBlock(nnx.Module):
    """Two convolutions around which the input passes, averaged and projected where the shape
    changes (He et al. 2016, variant D).
    """

    def __init__(self, channels: int, features: int, stride: int, compute: Compute, rngs: nnx.Rngs):
        self.stride = stride
        self.conv_in = ConvNorm(channels, features, compute, rngs, stride)
        self.conv_out = ConvNorm(features, features, compute, rngs)
        # Flax asks for attributes to be set once.
        project, project_norm = None, None
        if channels != features:
            project = Linear(channels, features, compute.dtype, rngs, use_bias=False)
            project_norm = InstanceNorm(features)
        self.project, self.project_norm = project, project_norm

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        passed = mean_pool(x) if self.stride == 2 else x
        if self.project is not None and self.project_norm is not None:
            passed = self.project_norm(self.project(passed))
        return activate(self.conv_out(activate(self.conv_in(x))) + passed)


class ResidualLevel(nnx.Module):
    """One level of a residual encoder: a stem at full resolution or a block that halves, then equal
    blocks, stacked and scanned.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        blocks: int,
        first: bool,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        # Flax asks for attributes to be set once.
        stem, rest, stride = None, None, 2
        if first:
            stem = ConvNorm(channels, features, compute, rngs)
            channels, stride = features, 1
        self.stem = stem
        self.block = ResidualBlock(channels, features, stride, compute, rngs)

        def another(rngs: nnx.Rngs) -> ResidualBlock:
            return ResidualBlock(features, features, 1, compute, rngs)

        # The level as a whole is rematerialised.
        kept = replace(compute, remat="none")
        if blocks > 1:
            rest = Stack(blocks - 1, another, kept, rngs)
        self.rest = rest

    def __call__(self, x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w F"]:
        if self.stem is not None:
            x = activate(self.stem(x))
        x = self.block(x)
        return x if self.rest is None else self.rest(x)


class CnnEncoder(nnx.Module):
    """Volumes to a pyramid of features: [B, D, H, W] -> one [B, d, h, w, C] per level."""

    def __init__(self, shape: CnnShape, rngs: nnx.Rngs, compute: Compute):
        self.dtype, self.remat = jnp.dtype(compute.dtype), compute.remat
        self.patch = shape.patch
        levels: dict[str, nnx.Module] = {}
        for level, (features, blocks) in enumerate(zip(shape.features, shape.blocks, strict=True)):
            first = level == 0
            channels = 1 if first else shape.features[level - 1]
            match shape.kind:
                case "unet":
                    made: nnx.Module = PlainLevel(channels, features, first, compute, rngs)
                case "resenc":
                    made = ResidualLevel(channels, features, blocks, first, compute, rngs)
            levels[f"level{level}"] = made
        self.levels = nnx.Dict(levels)

    def __call__(self, volume: Float[Array, "B D H W"]) -> Pyramid:
        x = volume[..., None].astype(self.dtype)  # [B, D, H, W, 1]
        pyramid = []
        for depth in range(len(self.levels)):
            level = self.levels[f"level{depth}"]
            x = pin(recomputed(level, self.remat, x), "batch")
            pyramid.append(x)
        return tuple(pyramid)


class CnnDecoder(nnx.Module):
    """A pyramid to one value per voxel: [B, d, h, w, C] per level -> [B, D, H, W], or
    [B, K, D, H, W] of K > 1 `outputs`.

    Each level up is a transposed convolution with stride 2, the encoder's features of that level
    beside it if `skips`, and one convolution, as in FOMO25's pretraining decoders and nnU-Net's
    ResEnc ones. `beside` pyramids are read side by side, their channels concatenated.
    """

    def __init__(
        self,
        features: Sequence[int],
        skips: bool,
        rngs: nnx.Rngs,
        compute: Compute,
        beside: int = 1,
        outputs: int = 1,
    ):
        self.remat, self.outputs = compute.remat, outputs
        below = beside * features[-1]
        levels: dict[str, nnx.Module] = {}
        for level, channels in reversed(tuple(enumerate(features[:-1]))):
            passed = beside * channels if skips else 0
            levels[f"level{level}"] = UpLevel(below, passed, channels, compute, rngs)
            below = channels
        self.levels = nnx.Dict(levels)
        self.voxels: nnx.Linear = Linear(below, outputs, compute.dtype, rngs)

    def __call__(self, pyramid: Pyramid) -> Float[Array, "B *K D H W"]:
        x = pyramid[-1]
        for depth in reversed(range(len(self.levels))):
            level, passed = self.levels[f"level{depth}"], pyramid[depth]
            x = pin(recomputed(level, self.remat, x, passed), "batch")
        voxels = self.voxels(x)  # [B, D, H, W, K]
        return voxels[..., 0] if self.outputs == 1 else jnp.moveaxis(voxels, -1, 1)


class UpLevel(nnx.Module):
    """From one level to the finer one above: [B, d, h, w, C] and what the encoder had there ->
    [B, 2d, 2h, 2w, F].
    """

    def __init__(self, channels: int, passed: int, features: int, compute: Compute, rngs: nnx.Rngs):
        self.dtype, self.skip = jnp.dtype(compute.dtype), passed > 0
        self.kernel = nnx.Param(xavier(rngs.params(), (channels, 8 * features)))
        self.bias = nnx.Param(jnp.zeros(features))
        self.conv = ConvNorm(features + passed, features, compute, rngs)

    def __call__(
        self, x: Float[Array, "B d h w C"], passed: Float[Array, "B D H W S"]
    ) -> Float[Array, "B D H W F"]:
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        x = upsample(x.astype(self.dtype), kernel) + bias
        if self.skip:
            x = jnp.concatenate([x, passed], -1)
        return activate(self.conv(x))


def recomputed(module: nnx.Module, remat: Remat, *inputs: Array) -> Array:
    """Apply a module, keeping for the backward pass what `remat` says."""
    graph, state = nnx.split(module)

    def apply(state: nnx.State, *inputs: Array) -> Array:
        return nnx.merge(graph, state)(*inputs)

    return rematerialised(apply, remat)(state, *inputs)


def encode_visible(
    encoder: CnnEncoder,
    patches: Float[Array, "B N P"],
    visible: Int[Array, "B M"],
    crop: Shape3,
) -> Pyramid:
    """The pyramid of a volume whose hidden patches are zeros."""
    rows = jnp.arange(patches.shape[0])[:, None]
    shown = jnp.zeros(patches.shape[:2], patches.dtype).at[rows, visible].set(1)  # [B, N]
    return encoder(unpatchify(patches * shown[..., None], crop, encoder.patch))


def decode(decoder: CnnDecoder, features: Pyramid, patch: int) -> Float[Array, "B N P"]:
    """The voxels of all patches."""
    return patchify(decoder(features), patch).astype(jnp.float32)

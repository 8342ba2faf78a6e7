"""The ViT encoder and the light decoder of masked reconstruction."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from scaling.models.compute import Compute
from scaling.models.patches import patchify, sincos_positions
from scaling.models.transformer import Block, Linear, Stack
from scaling.study.ladder import VitDecoderShape, VitShape
from scaling.study.protocols import Shape3


class VitEncoder(nnx.Module):
    """Volumes to tokens: [B, D, H, W] -> [B, N, E]."""

    def __init__(self, shape: VitShape, rngs: nnx.Rngs, compute: Compute):
        self.shape = shape
        self.embedding = Linear(shape.patch**3, shape.width, compute.dtype, rngs)
        self.stack = make_stack(shape, rngs, compute)
        self.norm = nnx.LayerNorm(shape.width, dtype=jnp.dtype(compute.dtype), rngs=rngs)

    def __call__(self, volume: Float[Array, "B D H W"]) -> Float[Array, "B N E"]:
        positions = sincos_positions(volume.shape[1:], self.shape.patch, self.shape.width)
        return self.encode_patches(patchify(volume, self.shape.patch), jnp.asarray(positions))

    def encode_patches(
        self, patches: Float[Array, "B M P"], positions: Float[Array, "*B M E"]
    ) -> Float[Array, "B M E"]:
        """Encode some of the patches of a volume, each with its position: [B, M, P] and
        [(B,) M, E] -> [B, M, E].
        """
        x = self.embedding(patches)
        return self.norm(self.stack(x + positions.astype(x.dtype)))


class MaeDecoder(nnx.Module):
    """Visible tokens to the voxels of all patches (He et al. 2022): [B, M, E] and their indices
    [B, M] -> [B, N, P].
    """

    def __init__(
        self,
        shape: VitDecoderShape,
        encoder: VitShape,
        crop: Shape3,
        rngs: nnx.Rngs,
        compute: Compute,
    ):
        dtype = compute.dtype
        self.shape, self.crop, self.patch = shape, crop, encoder.patch
        self.projection = Linear(encoder.width, shape.width, dtype, rngs)
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (shape.width,)))
        self.stack = make_stack(shape, rngs, compute)
        self.norm = nnx.LayerNorm(shape.width, dtype=jnp.dtype(dtype), rngs=rngs)
        self.voxels = Linear(shape.width, encoder.patch**3, dtype, rngs)

    def __call__(
        self, visible: Float[Array, "B M E"], indices: Int[Array, "B M"]
    ) -> Float[Array, "B N P"]:
        positions = jnp.asarray(sincos_positions(self.crop, self.patch, self.shape.width))
        projected = self.projection(visible)
        mask_token = self.mask_token[...].astype(projected.dtype)
        tokens = jnp.broadcast_to(mask_token, (projected.shape[0], *positions.shape))
        rows = jnp.arange(tokens.shape[0])[:, None]
        tokens = tokens.at[rows, indices].set(projected)
        return self.voxels(self.norm(self.stack(tokens + positions.astype(tokens.dtype))))


def make_stack(shape: VitShape | VitDecoderShape, rngs: nnx.Rngs, compute: Compute) -> Stack:
    """The blocks of an encoder or a decoder."""
    block = partial(Block, shape.width, shape.heads, shape.mlp_width, compute)
    return Stack(shape.depth, lambda rngs: block(rngs=rngs), compute, rngs)


def encode_visible(
    encoder: VitEncoder,
    patches: Float[Array, "B N P"],
    visible: Int[Array, "B M"],
    crop: Shape3,
) -> tuple[Float[Array, "B M E"]]:
    """The tokens of the visible patches; hidden ones are left out."""
    shape = encoder.shape
    positions = jnp.asarray(sincos_positions(crop, shape.patch, shape.width))  # [N, E]
    visible_patches = jnp.take_along_axis(patches, visible[..., None], axis=1)  # [B, M, P]
    return (encoder.encode_patches(visible_patches, positions[visible]),)


def decode(
    decoder: MaeDecoder, features: tuple[Array, ...], visible: Int[Array, "B M"]
) -> Float[Array, "B N P"]:
    """The voxels of all patches from the tokens of the visible ones."""
    return decoder(features[-1], visible).astype(jnp.float32)

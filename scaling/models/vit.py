"""The ViT encoder and the light decoder of masked reconstruction."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from scaling.models.patches import patchify, sincos_positions
from scaling.models.transformer import Block, Constrain, Linear, Stack, unconstrained
from scaling.study.config import Remat, Shape3
from scaling.study.ladder import VitDecoderShape, VitShape


class VitEncoder(nnx.Module):
    """Volumes to tokens: [B, D, H, W] -> [B, N, E]."""

    def __init__(
        self,
        shape: VitShape,
        rngs: nnx.Rngs,
        dtype: jnp.dtype = jnp.float32,
        remat: Remat = "none",
        constrain: Constrain = unconstrained,
    ):
        self.shape = shape
        self.embedding = Linear(shape.patch**3, shape.width, dtype, rngs)
        block = partial(
            Block, shape.width, shape.heads, shape.mlp_width, dtype, constrain=constrain
        )
        self.stack = Stack(shape.depth, lambda rngs: block(rngs=rngs), remat, constrain, rngs)
        self.norm = nnx.LayerNorm(shape.width, dtype=dtype, rngs=rngs)

    def __call__(self, volume: Float[Array, "B D H W"]) -> Float[Array, "B N E"]:
        positions = sincos_positions(volume.shape[1:], self.shape.patch, self.shape.width)
        return self.encode_patches(patchify(volume, self.shape.patch), jnp.asarray(positions))

    def encode_patches(
        self, patches: Float[Array, "B M P"], positions: Float[Array, "*B M E"]
    ) -> Float[Array, "B M E"]:
        """Encode some of the patches of a volume, each with its position: [B, M, P], [(B,) M, E] -> [B, M, E]."""
        x = self.embedding(patches)
        return self.norm(self.stack(x + positions.astype(x.dtype)))


class MaeDecoder(nnx.Module):
    """Visible tokens to the voxels of all patches (He et al. 2022): [B, M, E] and where they were [B, M] -> [B, N, P]."""

    def __init__(
        self,
        shape: VitDecoderShape,
        encoder: VitShape,
        crop: Shape3,
        rngs: nnx.Rngs,
        dtype: jnp.dtype = jnp.float32,
        remat: Remat = "none",
        constrain: Constrain = unconstrained,
    ):
        self.shape, self.crop, self.patch = shape, crop, encoder.patch
        self.projection = Linear(encoder.width, shape.width, dtype, rngs)
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (shape.width,)))
        block = partial(
            Block, shape.width, shape.heads, shape.mlp_width, dtype, constrain=constrain
        )
        self.stack = Stack(shape.depth, lambda rngs: block(rngs=rngs), remat, constrain, rngs)
        self.norm = nnx.LayerNorm(shape.width, dtype=dtype, rngs=rngs)
        self.voxels = Linear(shape.width, encoder.patch**3, dtype, rngs)

    def __call__(
        self, visible: Float[Array, "B M E"], kept: Int[Array, "B M"]
    ) -> Float[Array, "B N P"]:
        positions = jnp.asarray(sincos_positions(self.crop, self.patch, self.shape.width))
        projected = self.projection(visible)
        tokens = jnp.broadcast_to(
            self.mask_token[...].astype(projected.dtype), (projected.shape[0], *positions.shape)
        )
        tokens = tokens.at[jnp.arange(tokens.shape[0])[:, None], kept].set(projected)
        return self.voxels(self.norm(self.stack(tokens + positions.astype(tokens.dtype))))

"""Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"), for volumes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.costs.flops import visible_tokens
from scaling.models.backbone import build_backbone
from scaling.models.patches import patchify, unpatchify
from scaling.models.transformer import Constrain
from scaling.objectives.interface import WHOLE, Metrics, Objective, Parameters, Part
from scaling.study.config import Pretrain, Shape3
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import Mae

EPSILON = 1e-6

Masking = tuple[Int[Array, "B M"], Float[Array, "B N"]]
Mask = Callable[..., Masking]


def random_masking(
    key: PRNGKeyArray, batch: int, blocks: Int[np.ndarray, "N"], m: int, part: Part = WHOLE
) -> Masking:
    """Keep m of N patches of each sample of a part of a batch: their indices [B, M], and a mask [B, N] with 1 where hidden.

    `blocks` numbers the block of each patch. Blocks are kept in random order, each as a whole but for the last.
    """
    scores = jax.random.uniform(key, (batch * part.of, int(blocks.max()) + 1))
    if part.of > 1:
        scores = scores.reshape(batch, part.of, -1)[:, part.place]
    kept = jnp.argsort(scores[:, blocks], axis=1)[:, :m]
    return kept, jnp.ones((batch, len(blocks))).at[jnp.arange(batch)[:, None], kept].set(0.0)


def patch_blocks(grid: Shape3, block: int) -> Int[np.ndarray, "N"]:
    """Number of the cube of block^3 patches that each patch of a grid lies in, row-major."""
    cubes = tuple(-(-length // block) for length in grid)
    return np.ravel_multi_index(tuple(np.indices(grid) // block), cubes).ravel()


def build_masking(config: Mae, crop: Shape3, patch: int) -> Mask:
    """mask(key, samples, part=WHOLE) for the patches of a crop."""
    blocks = patch_blocks((crop[0] // patch, crop[1] // patch, crop[2] // patch), config.block)
    m = visible_tokens(len(blocks), config.mask_ratio)
    return lambda key, samples, part=WHOLE: random_masking(key, samples, blocks, m, part)


def patch_statistics(
    patches: Float[Array, "B N P"],
) -> tuple[Float[Array, "B N 1"], Float[Array, "B N 1"]]:
    """Mean and standard deviation of the voxels of each patch."""
    mean = patches.mean(-1, keepdims=True)
    return mean, jnp.sqrt(patches.var(-1, keepdims=True) + EPSILON)


def reconstruction_loss(
    predicted: Float[Array, "B N P"],
    patches: Float[Array, "B N P"],
    mask: Float[Array, "B N"],
    config: Mae,
) -> Float[Array, ""]:
    """Mean squared error over the voxels of the hidden or of all patches, each normalised to zero mean and unit variance if asked."""
    if config.normalise_targets:
        mean, deviation = patch_statistics(patches)
        patches = (patches - mean) / deviation
    per_patch = jnp.square(predicted - patches).mean(-1)
    return per_patch.mean() if config.loss_on == "all" else (per_patch * mask).sum() / mask.sum()


def filled_in(
    predicted: Float[Array, "B N P"],
    patches: Float[Array, "B N P"],
    mask: Float[Array, "B N"],
    config: Mae,
) -> Float[Array, "B N P"]:
    """The patches with those that were hidden as predicted."""
    if config.normalise_targets:
        # The network predicts each patch up to its mean and contrast, which only the original has.
        mean, deviation = patch_statistics(patches)
        predicted = predicted * deviation + mean
    return jnp.where(mask[..., None] > 0, predicted, patches)


def blanked(patches: Float[Array, "B N P"], mask: Float[Array, "B N"]) -> Float[Array, "B N P"]:
    """The patches with those that were hidden in the darkest grey."""
    return jnp.where(mask[..., None] > 0, patches.min(), patches)


def build_mae(
    config: Mae, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, constrain: Constrain
) -> Objective:
    """The MAE objective for one encoder. Volumes are [B, D, H, W] of `pretrain.crop`."""
    masking = build_masking(config, pretrain.crop, encoder.patch)
    backbone = build_backbone(
        encoder, decoder, pretrain.crop, pretrain.dtype, pretrain.remat, constrain
    )

    def predict(
        parameters: Parameters,
        patches: Float[Array, "B N P"],
        key: PRNGKeyArray,
        part: Part = WHOLE,
    ) -> tuple[Array, Array]:
        kept, mask = masking(key, len(patches), part)
        features = backbone.encode_visible(parameters["encoder"], patches, kept)
        return backbone.decode(parameters["decoder"], features, kept), mask

    def part_loss(
        parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray, part: Part
    ) -> tuple[Array, Metrics]:
        patches = patchify(volumes, encoder.patch)
        predicted, mask = predict(parameters, patches, key, part)
        return reconstruction_loss(predicted, patches, mask, config), {}

    def loss(
        parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        return part_loss(parameters, volumes, key, WHOLE)

    def reconstruct(
        parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Array, Array]:
        patches = patchify(volumes, encoder.patch)
        predicted, mask = predict(parameters, patches, key)
        shown = blanked(patches, mask), filled_in(predicted, patches, mask, config)
        seen, filled = (unpatchify(x, pretrain.crop, encoder.patch) for x in shown)
        return volumes, seen, filled

    return Objective(backbone.init, loss, reconstruct, part_loss=part_loss)

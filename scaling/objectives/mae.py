"""Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"), for
volumes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models.backbone import build_backbone
from scaling.models.compute import Compute
from scaling.models.patches import patchify, unpatchify
from scaling.objectives.interface import WHOLE, Logged, Loss, Objective, Parameters, Part, Volumes
from scaling.study.config import Pretrain, Shape3
from scaling.study.ladder import Decoder, Encoder, visible_tokens
from scaling.study.objectives import Mae

EPSILON = 1e-6  # added to the variance of a patch, as He et al. do

# Indices of the visible patches of each sample, and a mask with 1 where a patch is hidden.
Masking = tuple[Int[Array, "B M"], Float[Array, "B N"]]
Mask = Callable[..., Masking]


def random_masking(
    key: PRNGKeyArray, batch: int, blocks: Int[np.ndarray, "N"], visible: int, part: Part = WHOLE
) -> Masking:
    """Keep `visible` of N patches of each sample of a part of a batch.

    `blocks` numbers the block of each patch. Blocks are kept in random order, each as a whole but
    for the last.
    """
    block_count = int(blocks.max()) + 1
    # Drawn for the whole batch, so that a batch in parts has the masks of the batch at once.
    scores = jax.random.uniform(key, (batch * part.of, block_count))
    if part.of > 1:
        scores = scores.reshape(batch, part.of, block_count)[:, part.place]
    # A stable sort keeps the patches of a block, which have one score, together.
    order = jnp.argsort(scores[:, blocks], axis=1)  # [B, N]
    visible_indices = order[:, :visible]
    rows = jnp.arange(batch)[:, None]
    mask = jnp.ones((batch, len(blocks))).at[rows, visible_indices].set(0.0)
    return visible_indices, mask


def patch_blocks(grid: Shape3, block: int) -> Int[np.ndarray, "N"]:
    """Number of the cube of block^3 patches that each patch of a grid lies in, row-major."""
    cubes = tuple(-(-length // block) for length in grid)
    return np.ravel_multi_index(tuple(np.indices(grid) // block), cubes).ravel()


def build_masking(config: Mae, crop: Shape3, patch: int) -> Mask:
    """`mask(key, samples, part=WHOLE)` for the patches of a crop."""
    grid = (crop[0] // patch, crop[1] // patch, crop[2] // patch)
    blocks = patch_blocks(grid, config.block)
    visible = visible_tokens(len(blocks), config.mask_ratio)

    def masking(key: PRNGKeyArray, samples: int, part: Part = WHOLE) -> Masking:
        return random_masking(key, samples, blocks, visible, part)

    return masking


def exact_patches(volumes: Volumes, patch: int) -> Float[Array, "B N P"]:
    """Patches in float32. They are cut first: float16 volumes have half as much to be moved."""
    return patchify(volumes, patch).astype(jnp.float32)


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
    """Mean squared error over the voxels of the hidden or of all patches, each normalised to zero
    mean and unit variance if the config says so.
    """
    targets = patches
    if config.normalise_targets:
        mean, deviation = patch_statistics(patches)
        targets = (patches - mean) / deviation
    per_patch = jnp.square(predicted - targets).mean(-1)
    match config.loss_on:
        case "all":
            return per_patch.mean()
        case "hidden":
            return (per_patch * mask).sum() / mask.sum()


def filled_in(
    predicted: Float[Array, "B N P"],
    patches: Float[Array, "B N P"],
    mask: Float[Array, "B N"],
    config: Mae,
) -> Float[Array, "B N P"]:
    """The patches, hidden ones as predicted."""
    if config.normalise_targets:
        # The network predicts each patch up to its mean and contrast, which only the original has.
        mean, deviation = patch_statistics(patches)
        predicted = predicted * deviation + mean
    return jnp.where(mask[..., None] > 0, predicted, patches)


def blanked(patches: Float[Array, "B N P"], mask: Float[Array, "B N"]) -> Float[Array, "B N P"]:
    """The patches, hidden ones in the darkest grey."""
    return jnp.where(mask[..., None] > 0, patches.min(), patches)


def build_mae(
    config: Mae, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, compute: Compute
) -> Objective:
    """The MAE objective for one encoder. Volumes are [B, D, H, W] of `pretrain.crop`."""
    patch = encoder.patch
    masking = build_masking(config, pretrain.crop, patch)
    backbone = build_backbone(encoder, decoder, pretrain.crop, compute)

    def predict(
        parameters: Parameters,
        patches: Float[Array, "B N P"],
        key: PRNGKeyArray,
        part: Part = WHOLE,
    ) -> tuple[Float[Array, "B N P"], Float[Array, "B N"]]:
        """All patches from the visible ones, and the mask."""
        visible, mask = masking(key, len(patches), part)
        features = backbone.encode_visible(parameters["encoder"], patches, visible)
        return backbone.decode(parameters["decoder"], features, visible), mask

    def part_loss(
        parameters: Parameters,
        volumes: Float[Array, "B D H W"],
        key: PRNGKeyArray,
        step: Array,
        part: Part,
    ) -> Loss:
        patches = exact_patches(volumes, patch)
        predicted, mask = predict(parameters, patches, key, part)
        return reconstruction_loss(predicted, patches, mask, config), Logged({})

    def loss(
        parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray, step: Array
    ) -> Loss:
        return part_loss(parameters, volumes, key, step, WHOLE)

    def reconstruct(
        parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Array, Array]:
        patches = exact_patches(volumes, patch)
        predicted, mask = predict(parameters, patches, key)
        seen = unpatchify(blanked(patches, mask), pretrain.crop, patch)
        filled = unpatchify(filled_in(predicted, patches, mask, config), pretrain.crop, patch)
        return volumes, seen, filled

    return Objective(backbone.init, loss, reconstruct, part_loss=part_loss)

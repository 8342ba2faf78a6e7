"""Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"), for volumes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models.backbone import build_backbone
from scaling.models.patches import patchify, unpatchify
from scaling.models.transformer import Constrain
from scaling.objectives.objective import Metrics, Objective, Parameters
from scaling.study.config import Mae, Pretrain
from scaling.study.cost import visible_tokens
from scaling.study.ladder import Decoder, Encoder, tokens

EPSILON = 1e-6


def random_masking(key: PRNGKeyArray, batch: int, n: int, m: int) -> tuple[Int[Array, "B M"], Float[Array, "B N"]]:
    """Keep m of n patches of each sample, uniformly at random: their indices [B, M], and a mask [B, N] with 1 where hidden."""
    order = jnp.argsort(jax.random.uniform(key, (batch, n)), axis=1)
    kept = order[:, :m]
    return kept, jnp.ones((batch, n)).at[jnp.arange(batch)[:, None], kept].set(0.0)


def patch_statistics(patches: Float[Array, "B N P"]) -> tuple[Float[Array, "B N 1"], Float[Array, "B N 1"]]:
    """Mean and standard deviation of the voxels of each patch."""
    mean = patches.mean(-1, keepdims=True)
    return mean, jnp.sqrt(patches.var(-1, keepdims=True) + EPSILON)


def reconstruction_loss(
    predicted: Float[Array, "B N P"], patches: Float[Array, "B N P"], mask: Float[Array, "B N"], normalise: bool
) -> Float[Array, ""]:
    """Mean squared error over the voxels of the hidden patches, each patch normalised to zero mean and unit variance if asked."""
    if normalise:
        mean, deviation = patch_statistics(patches)
        patches = (patches - mean) / deviation
    per_patch = jnp.square(predicted - patches).mean(-1)
    return (per_patch * mask).sum() / mask.sum()


def build_mae(config: Mae, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, constrain: Constrain) -> Objective:
    """The MAE objective for one encoder. Volumes are [B, D, H, W] of `pretrain.crop`."""
    n = tokens(pretrain.crop, encoder.patch)
    m = visible_tokens(n, config.mask_ratio)
    backbone = build_backbone(encoder, decoder, pretrain.crop, pretrain.dtype, pretrain.remat, constrain)

    def predict(parameters: Parameters, patches: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        kept, mask = random_masking(key, patches.shape[0], n, m)
        features = backbone.encode_visible(parameters["encoder"], patches, kept)
        return backbone.decode(parameters["decoder"], features, kept), mask

    def loss(parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray) -> tuple[Array, Metrics]:
        patches = patchify(volumes, encoder.patch)
        predicted, mask = predict(parameters, patches, key)
        return reconstruction_loss(predicted, patches, mask, config.normalise_targets), {}

    def reconstruct(parameters: Parameters, volumes: Float[Array, "B D H W"], key: PRNGKeyArray) -> tuple[Array, Array]:
        patches = patchify(volumes, encoder.patch)
        predicted, mask = predict(parameters, patches, key)
        if config.normalise_targets:
            # The network predicts each patch up to its mean and contrast, which only the original has.
            mean, deviation = patch_statistics(patches)
            predicted = predicted * deviation + mean
        hidden = mask[..., None]
        seen = jnp.where(hidden > 0, patches.min(), patches)
        filled = jnp.where(hidden > 0, predicted, patches)
        return tuple(unpatchify(x, pretrain.crop, encoder.patch) for x in (seen, filled))  # type: ignore[return-value]

    return Objective(backbone.init, loss, reconstruct)

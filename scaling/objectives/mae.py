"""Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"), for volumes."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models.patches import patchify, sincos_positions, unpatchify
from scaling.models.transformer import Constrain
from scaling.models.vit import MaeDecoder, VitEncoder
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
    dtype = jnp.dtype(pretrain.dtype)
    n = tokens(pretrain.crop, encoder.patch)
    m = visible_tokens(n, config.mask_ratio)
    positions = sincos_positions(pretrain.crop, encoder.patch, encoder.width)

    def make_encoder(rngs: nnx.Rngs) -> VitEncoder:
        return VitEncoder(encoder, rngs, dtype, pretrain.remat, constrain)

    def make_decoder(rngs: nnx.Rngs) -> MaeDecoder:
        return MaeDecoder(decoder, encoder, pretrain.crop, rngs, dtype, pretrain.remat, constrain)

    encoder_graph = nnx.split(nnx.eval_shape(lambda: make_encoder(nnx.Rngs(0))))[0]
    decoder_graph = nnx.split(nnx.eval_shape(lambda: make_decoder(nnx.Rngs(0))))[0]

    def init(key: PRNGKeyArray) -> Parameters:
        rngs = nnx.Rngs(key)
        modules = {"encoder": make_encoder(rngs), "decoder": make_decoder(rngs)}
        return {name: nnx.to_pure_dict(nnx.split(module)[1]) for name, module in modules.items()}

    def predict(parameters: Parameters, patches: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        kept, mask = random_masking(key, patches.shape[0], n, m)
        encode = nnx.merge(encoder_graph, parameters["encoder"])
        decode = nnx.merge(decoder_graph, parameters["decoder"])
        visible = jnp.take_along_axis(patches, kept[..., None], axis=1)
        latent = encode.encode_patches(visible, jnp.asarray(positions)[kept])
        return decode(latent, kept).astype(jnp.float32), mask

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

    return Objective(init, loss, reconstruct)

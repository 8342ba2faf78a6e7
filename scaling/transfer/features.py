"""Features of frozen encoders, a vector or a grid of tokens a case, for readouts."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.decomposition import PCA

from scaling.costs.accelerators import accelerator_of
from scaling.costs.transfer_memory import probe_cases
from scaling.data.tasks import Cases
from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute, platform_of
from scaling.models.patches import grid_pool
from scaling.objectives.interface import Parameters
from scaling.study.config import Probe, Shape3
from scaling.study.ladder import Encoder
from scaling.transfer.chunks import in_chunks


@lru_cache
def embedder(
    encoder: Encoder, shape: Shape3, device: jax.Device | None = None
) -> jax.stages.Wrapped:
    """Compiled: parameters and images [B, S, D, H, W] to token features [B, S, N, E]; for the
    first device, unless another is given.
    """
    device = device or jax.devices()[0]
    platform = platform_of(device)
    accelerator = accelerator_of(device.device_kind, platform)
    encode = build_encoder(encoder, Compute(platform=platform)).encode

    def encode_all(parameters: Parameters, images: Array) -> Array:
        B, S = images.shape[:2]
        tokens = encode(parameters, images.reshape(B * S, *shape).astype(jnp.float32))
        return tokens.reshape(B, S, *tokens.shape[1:])

    def embed(parameters: Parameters, images: Array) -> Array:
        cases = probe_cases(encoder, images.shape[1], shape, accelerator)
        if cases >= len(images):
            return encode_all(parameters, images)

        def embed_case(case: Array) -> Array:
            return encode_all(parameters, case[None])[0]

        return jax.lax.map(embed_case, images, batch_size=cases)

    return jax.jit(embed)


def encode_cases(
    encoder: Encoder, parameters: Parameters, cases: Cases
) -> Float[np.ndarray, "n N F"]:
    """Token features of all cases, a chunk at a time, their sequences side by side: F = S*E, not a
    number where one is absent.
    """
    embed, n = embedder(encoder, cases.images.shape[2:]), len(cases.ids)
    tokens = np.concatenate(
        [np.asarray(embed(parameters, cases.images[rows])) for rows in in_chunks(n)]
    )[:n]
    tokens[~cases.present] = np.nan
    return np.moveaxis(tokens, 1, 2).reshape(n, tokens.shape[2], -1)


def absent_as_average(
    train: Float[np.ndarray, "n N F"], test: Float[np.ndarray, "m N F"]
) -> tuple[np.ndarray, np.ndarray]:
    """Absent sequences take the training cases' average, which says nothing of a case."""
    there = ~np.isnan(train)
    average = (np.where(there, train, 0).sum((0, 1)) / np.maximum(1, there.sum((0, 1)))).astype(
        train.dtype
    )
    return np.where(there, train, average), np.where(np.isnan(test), average, test)


def pooled(
    train: np.ndarray, test: np.ndarray, shape: Shape3, stride: int, recipe: Probe
) -> list[list[np.ndarray]]:
    """One vector a case from its tokens [n, N, F], in three ways: means, means of whitened tokens,
    and their extremes; each a pair of training and test cases.
    """
    white = whiten(train, test, recipe.shrinkage)
    means = [
        [cell_means(tokens, shape, stride, recipe.grid) for tokens in pair]
        for pair in ((train, test), white)
    ]
    return [*means, [extremes(tokens) for tokens in white]]


def whiten(
    train: Float[np.ndarray, "n N F"], test: Float[np.ndarray, "m N F"], shrinkage: float
) -> tuple[Float[np.ndarray, "n N K"], Float[np.ndarray, "m N K"]]:
    """Uncorrelated features of equal variance: the K principal components of the training cases'
    tokens, each divided by its deviation.

    An encoder writes large what tells its tokens apart, such as where they are, and small what
    tells one brain from another; a linear readout with one penalty sees what is large. Variances
    are raised by `shrinkage` of their mean, so that what is nearly constant at one site does not
    blow up at another.
    """
    pca = PCA(svd_solver="covariance_eigh").fit(train.reshape(-1, train.shape[-1]))
    components = (
        pca.components_
        / np.sqrt(pca.explained_variance_ + shrinkage * pca.explained_variance_.mean())[:, None]
    )
    return (train - pca.mean_) @ components.T, (test - pca.mean_) @ components.T


def cell_means(
    tokens: Float[Array | np.ndarray, "n N F"], shape: Shape3, stride: int, grid: int
) -> Float[np.ndarray, "n GF"]:
    """Mean over the places of each of `grid` cells per axis: what is everywhere a little, such as
    ageing.
    """
    return np.asarray(grid_pool(jnp.asarray(tokens), shape, stride, grid)).reshape(len(tokens), -1)


def extremes(tokens: Float[np.ndarray, "n N F"]) -> Float[np.ndarray, "n 2*F"]:
    """Largest and smallest value of all places: what is in one place and strange there, such as a
    lesion.
    """
    return np.concatenate([tokens.max(1), tokens.min(1)], axis=-1)

"""Contrast between views (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations").

Written for the global batch: under jit the negatives are all other views, on whichever device they
are.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute
from scaling.models.projector import build_projector, pooled
from scaling.objectives.interface import (
    LOGGED,
    Logged,
    Loss,
    Metrics,
    Objective,
    Parameters,
    each_view,
)
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import Contrastive

LOWEST_TEMPERATURE = 0.01  # as CLIP (Radford et al. 2021) bounds its learned one


def unit(x: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Vectors scaled to length 1."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def nt_xent(
    projected: Float[Array, "BV K"], temperature: Float[Array, ""] | float
) -> Float[Array, ""]:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, eq. 1), mean over all views.

    Rows 2i and 2i + 1 are a pair.
    """
    z = unit(projected)
    similarity = z @ z.T / temperature  # [BV, BV]
    others = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, similarity)
    partner = z.reshape(-1, 2, z.shape[-1])[:, ::-1].reshape(z.shape)
    positives = (z * partner).sum(-1) / temperature
    return (jax.nn.logsumexp(others, axis=1) - positives).mean()


class Contrast(NamedTuple):
    """The contrastive part of an objective."""

    init: Callable[[PRNGKeyArray], Parameters]
    """`init(key)` makes its own parameters."""
    loss: Callable[[Parameters, Float[Array, "BV E"]], tuple[Array, Metrics]]
    """`loss(parameters, embeddings)` is NT-Xent of the pairs of rows, and what to log."""


def build_contrast(config: Contrastive, encoder: Encoder) -> Contrast:
    """Projection head and temperature for the embeddings of an encoder."""
    head = build_projector(encoder, config.hidden, config.projection)

    def init(key: PRNGKeyArray) -> Parameters:
        parameters: Parameters = {"projector": head.init(key)}
        if config.learned_temperature:
            parameters["temperature"] = {"log": jnp.asarray(math.log(config.temperature))}
        return parameters

    def loss(
        parameters: Parameters, embeddings: Float[Array, "BV E"]
    ) -> tuple[Float[Array, ""], Metrics]:
        metrics: Metrics = {"embeddings": embeddings[:LOGGED]}
        projected = head.apply(parameters["projector"], embeddings)
        if not config.learned_temperature:
            return nt_xent(projected, config.temperature), metrics
        learned = jnp.exp(parameters["temperature"]["log"])
        metrics["temperature"] = jnp.maximum(learned, LOWEST_TEMPERATURE)
        return nt_xent(projected, metrics["temperature"]), metrics

    return Contrast(init, loss)


def build_contrastive(
    config: Contrastive, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, compute: Compute
) -> Objective:
    """The contrastive objective for one encoder; there is nothing to decode.

    Volumes are pairs [B, 2, D, H, W].
    """
    backbone = build_encoder(encoder, compute)
    contrast = build_contrast(config, encoder)

    def init(key: PRNGKeyArray) -> Parameters:
        encoder_key, contrast_key = jax.random.split(key)
        return {"encoder": backbone.init(encoder_key), **contrast.init(contrast_key)}

    def loss(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray, step: Array
    ) -> Loss:
        embeddings = pooled(backbone.encode(parameters["encoder"], each_view(pairs)))
        contrastive, metrics = contrast.loss(parameters, embeddings)
        return contrastive, Logged(metrics)

    return Objective(init, loss)

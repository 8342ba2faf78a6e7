"""Contrast against a momentum encoder (Chen et al. 2021, "An Empirical Study of Training
Self-Supervised Vision Transformers").
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute
from scaling.models.projector import build_head, build_projector, pooled
from scaling.objectives.contrastive import unit
from scaling.objectives.interface import (
    LOGGED,
    Logged,
    Loss,
    Objective,
    Parameters,
    Volumes,
    each_view,
)
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import Momentum


def momentum_loss(
    queries: Float[Array, "BV K"], keys: Float[Array, "BV K"], temperature: float
) -> Float[Array, ""]:
    """MoCo v3's symmetric loss (Chen et al. 2021, algorithm 1): each view's query finds the other
    view's key among the keys of the batch.

    Rows 2i and 2i + 1 are a pair.
    """
    q, k = (unit(x).reshape(-1, 2, x.shape[-1]) for x in (queries, keys))  # [B, 2, K]
    logits = jnp.einsum("ivk,jvk->vij", q, k[:, ::-1]) / temperature  # [2, B, B]
    positives = jnp.diagonal(logits, axis1=1, axis2=2)  # [2, B]
    return 2 * temperature * (jax.nn.logsumexp(logits, axis=2) - positives).mean(1).sum()


def build_momentum(
    config: Momentum, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, compute: Compute
) -> Objective:
    """The momentum objective for one encoder. Volumes are pairs [B, 2, D, H, W]."""
    backbone = build_encoder(encoder, compute)
    projector = build_projector(encoder, config.hidden, config.projection)
    predictor = build_head(config.projection, config.hidden, config.projection)

    def init(key: PRNGKeyArray) -> Parameters:
        encoder_key, projector_key, predictor_key = jax.random.split(key, 3)
        return {
            "encoder": backbone.init(encoder_key),
            "projector": projector.init(projector_key),
            "predictor": predictor.init(predictor_key),
        }

    def followed(parameters: Parameters) -> Parameters:
        return {"target": {name: parameters[name] for name in ("encoder", "projector")}}

    def project(parameters: Parameters, views: Volumes) -> tuple[Array, Array]:
        """Projections [BV, K] of views, and their embeddings [BV, E]."""
        embeddings = pooled(backbone.encode(parameters["encoder"], views))
        return projector.apply(parameters["projector"], embeddings), embeddings

    def loss(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray, step: Array
    ) -> Loss:
        views = each_view(pairs)
        projected, embeddings = project(parameters, views)
        keys, _ = project(parameters["target"], views)
        queries = predictor.apply(parameters["predictor"], projected)
        value = momentum_loss(queries, jax.lax.stop_gradient(keys), config.temperature)
        return value, Logged({"embeddings": embeddings[:LOGGED]})

    return Objective(init, loss, followed=followed, momentum=config.momentum)

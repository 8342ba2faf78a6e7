"""Losses of the downstream tasks, per case, so that weights and draws stay outside. Logits and targets in, [B] out."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def classification_loss(logits: Float[Array, "B"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Binary cross-entropy."""
    return optax.sigmoid_binary_cross_entropy(logits, labels)


def regression_loss(
    predicted: Float[Array, "B"], standardised: Float[Array, "B"]
) -> Float[Array, "B"]:
    """Squared error of the standardised target."""
    return jnp.square(predicted - standardised)


def segmentation_loss(
    logits: Float[Array, "B D H W"], masks: Float[Array, "B D H W"]
) -> Float[Array, "B"]:
    """Soft Dice (Milletari et al. 2016) plus cross-entropy, in equal parts, as nnU-Net (Isensee et al. 2021)."""
    space = (1, 2, 3)
    probability = jax.nn.sigmoid(logits)
    overlap = 2 * (probability * masks).sum(space) + 1.0
    dice = overlap / (probability.sum(space) + masks.sum(space) + 1.0)
    return 1 - dice + optax.sigmoid_binary_cross_entropy(logits, masks).mean(space)

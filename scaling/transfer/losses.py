"""Losses of the downstream tasks, per case: logits and targets in, [B] out."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def classification_loss(logits: Float[Array, "B"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Binary cross-entropy."""
    return optax.sigmoid_binary_cross_entropy(logits, labels)


def classes_loss(logits: Float[Array, "B C"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Cross-entropy over C classes."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels.astype(jnp.int32))


def regression_loss(
    predicted: Float[Array, "B"], standardised: Float[Array, "B"]
) -> Float[Array, "B"]:
    """Squared error of the standardised target."""
    return jnp.square(predicted - standardised)


def segmentation_loss(
    logits: Float[Array, "B D H W"], masks: Float[Array, "B D H W"]
) -> Float[Array, "B"]:
    """Soft Dice (Milletari et al. 2016) plus cross-entropy, in equal parts, as nnU-Net (Isensee et
    al. 2021).
    """
    space = (1, 2, 3)
    probability = jax.nn.sigmoid(logits)
    overlap = 2 * (probability * masks).sum(space) + 1.0
    dice = overlap / (probability.sum(space) + masks.sum(space) + 1.0)
    return 1 - dice + optax.sigmoid_binary_cross_entropy(logits, masks).mean(space)


def labels_loss(
    logits: Float[Array, "B K D H W"], masks: Float[Array, "B C D H W"]
) -> Float[Array, "B"]:
    """Soft Dice, mean over C labels, plus cross-entropy over them and the background (K = 1 + C),
    in equal parts, as nnU-Net (Isensee et al. 2021).
    """
    space = (2, 3, 4)
    background = 1 - masks.sum(1, keepdims=True)  # [B, 1, D, H, W]
    targets = jnp.concatenate([background, masks], axis=1)  # [B, K, D, H, W]
    probability = jax.nn.softmax(logits, axis=1)[:, 1:]
    overlap = 2 * (probability * masks).sum(space) + 1.0
    dice = overlap / (probability.sum(space) + masks.sum(space) + 1.0)  # [B, C]
    entropy = optax.softmax_cross_entropy(logits, targets, axis=1)  # [B, D, H, W]
    return 1 - dice.mean(1) + entropy.mean((1, 2, 3))

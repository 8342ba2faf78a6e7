"""Augmentation on the device, from keys: what the host sends is never augmented, so results do not depend on the hosts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped


def flip_left_right(volumes: Shaped[Array, "B *S D H W"], key: PRNGKeyArray) -> Shaped[Array, "B *S D H W"]:
    """Mirror each case along its first spatial axis (left-right in RAS) with probability 1/2: [B, (S,) D, H, W].

    The same key flips the same cases, so that a case's sequences and its mask stay together.
    """
    flip = jax.random.bernoulli(key, 0.5, (volumes.shape[0],) + (1,) * (volumes.ndim - 1))
    return jnp.where(flip, jnp.flip(volumes, -3), volumes)


def jitter_intensity(volumes: Float[Array, "B D H W"], key: PRNGKeyArray) -> Float[Array, "B D H W"]:
    """Scale each volume by 0.9 to 1.1, shift it by -0.1 to 0.1 and add noise of up to 0.1 (in standard deviations)."""
    scale_key, shift_key, level_key, noise_key = jax.random.split(key, 4)
    each = (volumes.shape[0], 1, 1, 1)
    scale = jax.random.uniform(scale_key, each, minval=0.9, maxval=1.1)
    shift = jax.random.uniform(shift_key, each, minval=-0.1, maxval=0.1)
    level = jax.random.uniform(level_key, each, maxval=0.1)
    return volumes * scale + shift + level * jax.random.normal(noise_key, volumes.shape)


def augment(volumes: Float[Array, "B D H W"], key: PRNGKeyArray, preset: str) -> Float[Array, "B D H W"]:
    """Apply a preset of `Pretrain.augment`: "none", "flips", or "flips and intensity"."""
    flip_key, intensity_key = jax.random.split(key)
    if preset != "none":
        volumes = flip_left_right(volumes, flip_key)
    if preset == "flips and intensity":
        volumes = jitter_intensity(volumes, intensity_key)
    return volumes

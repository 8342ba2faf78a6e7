"""Augmentation on the device: what the host sends is never augmented, and every number comes from
the step's key, so results depend neither on hosts nor on devices.

    preset      flips   affine, crop-resize   blur, thick slices, bias field, gamma, contrast, noise
    none
    flips       x
    spatial     x       x
    intensity                                 x
    all         x       x                     x

Geometry is in `scaling.augmentation.spatial`, intensities in `scaling.augmentation.intensity`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.augmentation.intensity import jitter_intensity
from scaling.augmentation.spatial import flip_left_right, move, random_moves
from scaling.study.config import BACKGROUND, Augmentation
from scaling.study.shapes import Platform


def augment(
    volumes: Float[Array, "B *S D H W"],
    key: PRNGKeyArray,
    preset: Augmentation,
    platform: Platform = "cpu",
) -> Float[Array, "B *S D H W"]:
    """Apply a preset to volumes [B, (S,) D, H, W]: geometry alike for the S volumes of a case,
    intensities for each by itself; in the form that is fast on a platform.

    What interpolates or changes intensities gives float32; flips keep the type of the volumes.
    """
    geometry, intensity = jax.random.split(key)
    if preset in ("intensity", "all"):
        # Before any interpolation mixes the background into the head's rim.
        flat = volumes.astype(jnp.float32).reshape(-1, *volumes.shape[-3:])  # [B S, D, H, W]
        volumes = jitter_intensity(flat, intensity).reshape(volumes.shape)
    return _place(volumes, geometry, preset, BACKGROUND, platform)


def augment_masks(
    masks: Float[Array, "B *C D H W"],
    key: PRNGKeyArray,
    preset: Augmentation,
    platform: Platform = "cpu",
) -> Float[Array, "B *C D H W"]:
    """Masks of {0, 1} moved as `augment` with the same key moves their volumes; a voxel counts as
    inside from one half on.
    """
    moved = _place(masks, jax.random.split(key)[0], preset, 0.0, platform)
    return (moved >= 0.5).astype(masks.dtype)


def _place(
    volumes: Float[Array, "B *S D H W"],
    key: PRNGKeyArray,
    preset: Augmentation,
    fill: float,
    platform: Platform,
) -> Float[Array, "B *S D H W"]:
    flip_key, move_key = jax.random.split(key)
    if preset in ("flips", "spatial", "all"):
        volumes = flip_left_right(volumes, flip_key)
    if preset in ("spatial", "all"):
        matrices, shifts = random_moves(move_key, volumes.shape[0], volumes.shape[-3:])
        volumes = move(volumes.astype(jnp.float32), matrices, shifts, fill, platform)
    return volumes

"""Volumes to patches and back, and where each patch is."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.study.protocols import Shape3


def patchify(volume: Float[Array, "B D H W"], patch: int) -> Float[Array, "B N P"]:
    """Cut volumes into cubic patches of P = patch^3 voxels: [B, D, H, W] -> [B, N, P], N in
    row-major order of the patch grid.
    """
    B, D, H, W = volume.shape
    d, h, w = D // patch, H // patch, W // patch
    blocks = volume.reshape(B, d, patch, h, patch, w, patch)
    return blocks.transpose(0, 1, 3, 5, 2, 4, 6).reshape(B, d * h * w, patch**3)


def unpatchify(
    patches: Float[Array, "B N P"], shape: Shape3, patch: int
) -> Float[Array, "B D H W"]:
    """Inverse of `patchify`: [B, N, P] -> [B, D, H, W]."""
    d, h, w = (length // patch for length in shape)
    # [B, d, h, w, patch, patch, patch] -> [B, d, patch, h, patch, w, patch] -> [B, D, H, W]
    blocks = patches.reshape(patches.shape[0], d, h, w, patch, patch, patch)
    return blocks.transpose(0, 1, 4, 2, 5, 3, 6).reshape(patches.shape[0], *shape)


def sincos_positions(shape: tuple[int, ...], patch: int, width: int) -> Float[np.ndarray, "N E"]:
    """Fixed 3D sine-cosine positions [N, E]: a third of the width per axis, in units of patches.

    Source: Vaswani et al. 2017, section 3.5, per axis as in He et al. 2022. Channels left over by
    the division by six stay 0.
    """
    frequencies = width // 6
    rates = 10000.0 ** (-np.arange(frequencies) / frequencies)
    grid = np.meshgrid(*(np.arange(length // patch) for length in shape), indexing="ij")
    angles = [axis.reshape(-1, 1) * rates for axis in grid]
    waves = []
    for angle in angles:
        waves += [np.sin(angle), np.cos(angle)]
    encoded = np.concatenate(waves, axis=1)
    return np.pad(encoded, ((0, 0), (0, width - encoded.shape[1]))).astype(np.float32)


def grid_pool(
    tokens: Float[Array, "B N E"], shape: Shape3, patch: int, grid: int
) -> Float[Array, "B G E"]:
    """Mean of the tokens in each of G = grid^3 cells: [B, N, E] -> [B, G, E].

    It keeps location, which a mean of all tokens loses.
    """
    cells = []
    for length in shape:
        count = length // patch
        cells.append(np.arange(count) * grid // count)
    d, h, w = np.meshgrid(*cells, indexing="ij")
    cell = (d * grid + h) * grid + w  # of each token of the grid
    membership = np.eye(grid**3, dtype=np.float32)[cell].reshape(-1, grid**3)  # [N, G]
    weights = membership / np.maximum(membership.sum(0), 1)
    return jnp.einsum("bne,ng->bge", tokens, weights)

"""Networks of a window's size on volumes that are larger: the sliding windows of inference, and the
crops of their training.
"""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from scaling.study.protocols import Shape3

OVERLAP = 0.5  # of a window with the next one, at least
SIGMA = 1 / 8  # of the window's side


def by_windows(
    apply: Callable[[Float[Array, "B S d h w"]], Float[Array, "B *K d h w"]],
    images: Float[Array, "B S D H W"],
    window: Shape3,
    channels: tuple[int, ...] = (),
) -> Float[Array, "B *K D H W"]:
    """Logits of a network `apply` that takes windows of d x h x w voxels, for whole volumes:
    [B, S, D, H, W] -> [B, D, H, W], or [B, K, D, H, W] where it gives `channels` (K,).

    Windows overlap by half or more, evenly spread from border to border, and a voxel's logit is
    their mean under a Gaussian around each window's middle (Isensee et al. 2021, nnU-Net; as
    MONAI's sliding_window_inference with mode "gaussian"). One window is computed after the other,
    so that memory is that of one; a volume of one window is `apply` itself. Raises ValueError when
    a window is larger than the volume.
    """
    shape = images.shape[2:]
    check_window(window, shape)
    if window == shape:
        return apply(images)
    starts = [window_starts(length, side) for length, side in zip(shape, window, strict=True)]
    weight = outer([importance(side) for side in window])
    coverage = outer([covered(length, side) for length, side in zip(shape, window, strict=True)])

    def add(
        total: Float[Array, "B *K D H W"], start: Int[Array, "3"]
    ) -> tuple[Float[Array, "B *K D H W"], None]:
        logits = apply(cut(images, start, window)).astype(jnp.float32)
        summed = cut(total, start, window) + weight * logits
        corner = (0,) * (1 + len(channels)) + tuple(start)
        return jax.lax.dynamic_update_slice(total, summed, corner), None

    places = jnp.asarray(list(itertools.product(*starts)), jnp.int32)
    zeros = jnp.zeros((images.shape[0], *channels, *shape), jnp.float32)
    total, _ = jax.lax.scan(add, zeros, places)
    return total / coverage


def lesion_crops(
    key: PRNGKeyArray,
    images: Float[Array, "B S D H W"],
    masks: Shaped[Array, "B D H W"],
    window: Shape3,
    foreground_share: float | Float[Array, ""] = 0.5,
) -> tuple[Float[Array, "B S d h w"], Shaped[Array, "B d h w"]]:
    """One random window of each case, images and mask cut alike:
    [B, S, D, H, W], [B, D, H, W] -> [B, S, d, h, w], [B, d, h, w].

    With probability `foreground_share` it is centred on a random lesion voxel, as far as the
    borders allow; else, and where there is no lesion, it lies anywhere with equal probability.
    Lesions are rare: nnU-Net forces them into a third of its crops (Isensee et al. 2021). Raises
    ValueError when a window is larger than the volume.
    """
    shape = masks.shape[1:]
    check_window(window, shape)
    room = jnp.asarray(shape) - jnp.asarray(window)

    def start_in(key: PRNGKeyArray, mask: Shaped[Array, "D H W"]) -> Int[Array, "3"]:
        coin, voxel, place = jax.random.split(key, 3)
        counted = jnp.cumsum(mask.ravel() > 0)
        chosen = jnp.argmax(counted > jax.random.randint(voxel, (), 0, jnp.maximum(1, counted[-1])))
        middle = jnp.stack(jnp.unravel_index(chosen, shape))
        on_lesion = jax.random.bernoulli(coin, foreground_share) & (counted[-1] > 0)
        anywhere = jax.random.randint(place, (3,), 0, room + 1)
        return jnp.where(on_lesion, jnp.clip(middle - jnp.asarray(window) // 2, 0, room), anywhere)

    starts = jax.vmap(start_in)(jax.random.split(key, masks.shape[0]), masks)
    cut_each = jax.vmap(cut, in_axes=(0, 0, None))
    return cut_each(images, starts, window), cut_each(masks, starts, window)


def check_window(window: Shape3, shape: tuple[int, ...]) -> None:
    """Raises ValueError when a window does not fit into volumes of `shape`."""
    if any(side > length for side, length in zip(window, shape, strict=True)):
        raise ValueError(
            f"a window of {window} voxels does not fit into volumes of {shape}; "
            "expected one no larger on any axis"
        )


def window_starts(length: int, side: int) -> list[int]:
    """First voxels of the windows along one axis: as few as overlap enough, evenly spread, the last
    one ending at the border.
    """
    count = math.ceil((length - side) / max(1, int((1 - OVERLAP) * side))) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def importance(side: int) -> Float[np.ndarray, "side"]:
    """A window's weights along one axis: a Gaussian around its middle."""
    from_middle = np.arange(side) - (side - 1) / 2
    return np.exp(-0.5 * np.square(from_middle / (SIGMA * side))).astype(np.float32)


def covered(length: int, side: int) -> Float[np.ndarray, "length"]:
    """Sum of all windows' weights along one axis."""
    total = np.zeros(length, np.float32)
    for start in window_starts(length, side):
        total[start : start + side] += importance(side)
    return total


def outer(axes: list[Float[np.ndarray, " _"]]) -> Float[Array, "D H W"]:
    """The product of three axes' weights, made where it is used: a program holds the axes alone."""
    first, second, third = (jnp.asarray(axis) for axis in axes)
    return first[:, None, None] * second[:, None] * third


def cut(
    volumes: Shaped[Array, "*B D H W"], start: Int[Array, "3"], window: Shape3
) -> Shaped[Array, "*B d h w"]:
    """The window of each volume that begins at voxel `start`."""
    leading = volumes.ndim - 3
    return jax.lax.dynamic_slice(
        volumes, (0,) * leading + tuple(start), volumes.shape[:leading] + window
    )

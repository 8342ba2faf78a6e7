"""Geometric augmentation: mirror images, and one resampling for rotation, zoom, crop-resize and
shift together.
"""

from functools import partial
from typing import assert_never

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from scaling.study.shapes import Platform

ROTATION = 0.17  # radians about each axis, ten degrees
ZOOM = (0.7, 1.1)  # side of the box that becomes the volume, as a share: below 1 a crop, resized
STRETCH = 0.05  # by how much the three sides of the box differ


def flip_left_right(
    volumes: Shaped[Array, "B *S D H W"], key: PRNGKeyArray
) -> Shaped[Array, "B *S D H W"]:
    """Mirror each case [B, (S,) D, H, W] along its first spatial axis (left-right in RAS) with
    probability 1/2.

    The same key flips the same cases, so that a case's sequences and its mask stay together.
    """
    flip = jax.random.bernoulli(key, 0.5, (volumes.shape[0],) + (1,) * (volumes.ndim - 1))
    return jnp.where(flip, jnp.flip(volumes, -3), volumes)


def random_moves(
    key: PRNGKeyArray, cases: int, shape: tuple[int, ...]
) -> tuple[Float[Array, "B 3 3"], Float[Array, "B 3"]]:
    """Matrices [B, 3, 3] and shifts [B, 3] (voxels) for `move`: a random box of the volume, turned
    by a random rotation.

    The box stays inside the volume but for its turned corners; a box larger than the volume holds
    it.
    """
    angle_key, zoom_key, stretch_key, place_key = jax.random.split(key, 4)
    angles = jax.random.uniform(angle_key, (cases, 3), minval=-ROTATION, maxval=ROTATION)
    zoom = jax.random.uniform(zoom_key, (cases, 1), minval=ZOOM[0], maxval=ZOOM[1])
    stretch = jax.random.uniform(stretch_key, (cases, 3), minval=1 - STRETCH, maxval=1 + STRETCH)
    sides = zoom * stretch  # of the box, as shares of the volume's
    # The middle of the box may lie as far from the volume's as its walls allow.
    room = jnp.abs(1 - sides) * jnp.asarray(shape) / 2
    places = jax.random.uniform(place_key, (cases, 3), minval=-1, maxval=1)
    return rotations(angles) * sides[:, None, :], room * places


def rotations(angles: Float[Array, "B 3"]) -> Float[Array, "B 3 3"]:
    """Rotation matrices: about the first axis, then the second, then the third; radians."""
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    identity = jnp.broadcast_to(jnp.eye(3), (len(angles), 3, 3))
    turned = identity
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        plane = identity.at[:, a, a].set(cos[:, axis]).at[:, b, b].set(cos[:, axis])
        plane = plane.at[:, a, b].set(-sin[:, axis]).at[:, b, a].set(sin[:, axis])
        turned = plane @ turned
    return turned


def move(
    volumes: Float[Array, "B *S D H W"],
    matrices: Float[Array, "B 3 3"],
    shifts: Float[Array, "B 3"],
    fill: float,
    platform: Platform = "cpu",
) -> Float[Array, "B *S D H W"]:
    """Resample each case linearly: with places counted from the middle, voxel i shows what was at
    matrix i + shift, outside `fill`.

    On a CPU plane by plane, elsewhere all planes at once: a loop of small kernels leaves an
    accelerator idle. The same as scipy.ndimage.affine_transform with order=1, mode="grid-constant".
    """
    shape = volumes.shape[-3:]
    cases = volumes.reshape(len(volumes), -1, *shape)  # [B, S, D, H, W]
    match platform:
        case "cpu":
            moved = moved_by_planes(cases, matrices, shifts, fill)
        case "gpu" | "tpu":
            moved = jax.vmap(partial(moved_at_once, fill=fill))(cases, matrices, shifts)
            # What is fused with the interpolation would do it anew wherever a voxel is used.
            moved = jax.lax.optimization_barrier(moved)
        case _:
            assert_never(platform)
    return moved.reshape(volumes.shape)


def moved_by_planes(
    cases: Float[Array, "B S D H W"],
    matrices: Float[Array, "B 3 3"],
    shifts: Float[Array, "B 3"],
    fill: float,
) -> Float[Array, "B S D H W"]:
    """`move`, one plane of all cases after the other."""
    shape = cases.shape[-3:]
    middle = (jnp.asarray(shape, jnp.float32) - 1) / 2
    index = jnp.stack(jnp.meshgrid(*map(jnp.arange, shape), indexing="ij"), -1) - middle

    def interpolate(
        case: Float[Array, "S D H W"], places: Float[Array, "H W 3"]
    ) -> Float[Array, "S H W"]:
        coordinates = list(jnp.moveaxis(places, -1, 0))
        planes = [map_coordinates(volume, coordinates, 1, "constant", fill) for volume in case]
        return jnp.stack(planes)

    def plane(index: Float[Array, "H W 3"]) -> Float[Array, "B S H W"]:
        turned = jnp.einsum("hwj,bij->bhwi", index, matrices)
        places = turned + shifts[:, None, None] + middle
        return jax.vmap(interpolate)(cases, places)

    # Without the loop XLA would interpolate anew wherever a voxel is used, and a step on CPU take
    # five times as long.
    planes = jax.lax.map(plane, index)  # [D, B, S, H, W]
    return jnp.moveaxis(planes, 0, -3)


def moved_at_once(
    case: Float[Array, "S D H W"],
    matrix: Float[Array, "3 3"],
    shift: Float[Array, "3"],
    fill: float,
) -> Float[Array, "S D H W"]:
    """`move` of one case, all its planes at once.

    Places are sums of products, not a matrix product, which accelerators round to ten bits.
    """
    shape = case.shape[1:]
    from_middle = []
    for axis, length in enumerate(shape):
        line = jnp.arange(length) - (length - 1) / 2
        from_middle.append(jnp.expand_dims(line, [other for other in range(3) if other != axis]))
    places = []
    for axis, length in enumerate(shape):
        place = shift[axis] + (length - 1) / 2
        for other in range(3):
            place = place + matrix[axis, other] * from_middle[other]
        places.append(place)
    return jnp.stack([map_coordinates(volume, places, 1, "constant", fill) for volume in case])

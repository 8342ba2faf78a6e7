"""3D convolution, pooling and upsampling, channels last, in the form that is fast where it runs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = ("NDHWC", "DHWIO", "NDHWC")
LAYOUT_2D = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1
) -> Float[Array, "B d h w F"]:
    """3 x 3 x 3 convolution with a border of one zero: [B, D, H, W, C] -> [B, D/s, H/s, W/s, F]. Lengths are multiples of the stride.

    XLA's own 3D convolution is 6 to 10 times slower than PyTorch's on CPU, and the right one on accelerators.
    """
    return (decomposed if jax.default_backend() == "cpu" else native)(x, kernel, stride)


def native(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1
) -> Float[Array, "B d h w F"]:
    """`convolve` by XLA's 3D convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,) * 3, ((1, 1),) * 3, dimension_numbers=LAYOUT
    )


def decomposed(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1
) -> Float[Array, "B d h w F"]:
    """`convolve` by matrix products and 2D convolutions, its gradients too."""
    # XLA's own gradients serve where few convolutions go: between levels, and from the one channel of a scan, which needs none itself.
    return planar(x, kernel, stride) if stride > 1 or x.shape[-1] == 1 else unstrided(x, kernel)


def planar(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1
) -> Float[Array, "B d h w F"]:
    """`convolve` as one 2D convolution: depth folded into the batch, the three depth taps side by side on the channels."""
    B, _, H, W, C = x.shape
    planes = shifted(x, 1, stride).reshape(-1, H, W, 3 * C)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, 3 * C, -1)
    out = jax.lax.conv_general_dilated(
        planes, flat, (stride,) * 2, ((1, 1),) * 2, dimension_numbers=LAYOUT_2D
    )
    return out.reshape(B, -1, *out.shape[1:])


@jax.custom_vjp
def unstrided(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"]
) -> Float[Array, "B D H W F"]:
    """`convolve` with stride 1, plane by plane: what three neighbours along a row give to the nine rows around them, in one product that is
    small enough for the cache. XLA's 2D convolution takes twice as long on two cores.
    """
    B, D, H, W, C = x.shape
    flat = kernel.transpose(2, 3, 0, 1, 4).reshape(3 * C, -1)

    def add(plane: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        out, before, here = (
            sums  # finished planes; the one before this plane and the one at it, from all planes so far
        )
        along = shifted(jax.lax.dynamic_index_in_dim(x, plane, 1, keepdims=False), 2)
        products = (along.reshape(-1, 3 * C) @ flat).reshape(B, H, W, 3, 3, -1)
        rows = jnp.pad(products, ((0, 0), (1, 1)) + ((0, 0),) * 4)
        behind, own, front = (
            rows[:, :H, :, at, 0] + rows[:, 1:-1, :, at, 1] + rows[:, 2:, :, at, 2]
            for at in range(3)
        )
        # What the first plane writes, nothing being before it, the second overwrites.
        return (
            jax.lax.dynamic_update_index_in_dim(out, before + front, jnp.maximum(plane - 1, 0), 1),
            here + own,
            behind,
        )

    nought = jnp.zeros((B, D, H, W, kernel.shape[-1]), x.dtype)
    out, last, _ = jax.lax.fori_loop(0, D, add, (nought, nought[:, 0], nought[:, 0]))
    return jax.lax.dynamic_update_index_in_dim(out, last, D - 1, 1)


def unstrided_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return unstrided(x, kernel), (x, kernel)


def unstrided_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    return unstrided(gradient, turned), correlate(x, gradient).astype(kernel.dtype)


unstrided.defvjp(unstrided_forward, unstrided_backward)


def correlate(
    x: Float[Array, "B D H W C"], y: Float[Array, "B D H W F"]
) -> Float[Array, "3 3 3 C F"]:
    """Sum over all places of x, shifted by one voxel or none each way, times y: the gradient of a kernel.

    A matrix product per plane, small enough for the cache: three shifts of x against nine of y, which is the same sum seen from y. Cases
    lie side by side in it: one after the other, all would be computed on each of several devices.
    """
    B, D, C, F = *x.shape[:2], x.shape[-1], y.shape[-1]
    padded = jnp.pad(y, ((0, 0), (1, 1)) + ((0, 0),) * 3)

    def add(plane: int, total: Array) -> Array:
        ours = shifted(jax.lax.dynamic_index_in_dim(x, plane, 1, keepdims=False), 2)
        three = [
            jax.lax.dynamic_index_in_dim(padded, plane + tap, 1, keepdims=False) for tap in range(3)
        ]
        theirs = shifted(jnp.concatenate(three, -1), 1)
        pairs = ours.reshape(B, -1, 3 * C), theirs.reshape(B, -1, 9 * F)
        return total + jnp.einsum("bnc,bnf->bcf", *pairs, preferred_element_type=jnp.float32)

    total = jax.lax.fori_loop(0, D, add, jnp.zeros((B, 3 * C, 9 * F), jnp.float32)).sum(0)
    return total.reshape(3, C, 3, 3, F)[:, :, ::-1, ::-1].transpose(3, 2, 0, 1, 4)


def shifted(x: Float[Array, "*S C"], axis: int, stride: int = 1) -> Float[Array, "*s 3C"]:
    """The neighbour before, the value and the neighbour behind along an axis, side by side on the channels, at every `stride`-th place;
    nought beyond the border.
    """
    length = x.shape[axis]
    padded = jnp.pad(x, [(1, 1) if other == axis else (0, 0) for other in range(x.ndim)])
    return jnp.concatenate(
        [jax.lax.slice_in_dim(padded, tap, tap + length, stride, axis) for tap in range(3)], -1
    )


def blocks_of_two(x: Float[Array, "B D H W C"]) -> Float[Array, "B d 2 h 2 w 2 C"]:
    """View a volume as cubes of 2 x 2 x 2 voxels."""
    B, D, H, W, C = x.shape
    return x.reshape(B, D // 2, 2, H // 2, 2, W // 2, 2, C)


def max_pool(x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w C"]:
    """Halve each axis, keeping the largest value of each cube, the first of equal ones: the gradient is that one's.

    XLA's own maximum shares its gradient among all that equal it, 0 / 0 where a value computed a second time is rounded differently.
    """
    cubes = blocks_of_two(x)
    for axis in (6, 4, 2):
        one, other = (
            jax.lax.index_in_dim(cubes, place, axis, keepdims=False) for place in range(2)
        )
        cubes = jnp.where(one >= other, one, other)
    return cubes


def mean_pool(x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w C"]:
    """Halve each axis, keeping the mean of each cube."""
    return blocks_of_two(x).mean((2, 4, 6))


def upsample(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "C 8F"]
) -> Float[Array, "B 2D 2H 2W F"]:
    """Transposed convolution with kernel and stride 2, as a product and a reshape: [B, D, H, W, C] -> [B, 2D, 2H, 2W, F].

    The kernel's columns are ordered by place in the cube, then by channel.
    """
    B, D, H, W, C = x.shape
    cubes = (x.reshape(-1, C) @ kernel).reshape(B, D, H, W, 2, 2, 2, -1)
    return cubes.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, 2 * D, 2 * H, 2 * W, -1)

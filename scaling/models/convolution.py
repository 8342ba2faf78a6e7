"""3D convolution, pooling and upsampling, channels last, in the form that is fast where it runs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from scaling.study.shapes import Platform

LAYOUT = ("NDHWC", "DHWIO", "NDHWC")
LAYOUT_2D = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: Float[Array, "B D H W C"],
    kernel: Float[Array, "3 3 3 C F"],
    platform: Platform,
    stride: int = 1,
) -> Float[Array, "B d h w F"]:
    """3 x 3 x 3 convolution with a border of one zero, [B, D, H, W, C] -> [B, D/s, H/s, W/s, F].

    Lengths are multiples of the stride s. XLA's own 3D convolution is 6 to 10 times slower than
    PyTorch's on CPU, and the right one on accelerators.
    """
    match platform:
        case "cpu":
            return decomposed(x, kernel, stride)
        case "gpu" | "tpu":
            return native(x, kernel, stride)


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
    # XLA's own gradients serve where few convolutions go: between levels, and from the one channel
    # of a scan, which needs none itself.
    if stride > 1 or x.shape[-1] == 1:
        return planar(x, kernel, stride)
    return unstrided(x, kernel)


def planar(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1
) -> Float[Array, "B d h w F"]:
    """`convolve` as one 2D convolution: depth folded into the batch, the three depth taps side by
    side on the channels.
    """
    B, _, H, W, C = x.shape
    planes = neighbours(x, 1, stride).reshape(-1, H, W, 3 * C)  # [B d, H, W, 3 C]
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, 3 * C, -1)
    out = jax.lax.conv_general_dilated(
        planes, flat, (stride,) * 2, ((1, 1),) * 2, dimension_numbers=LAYOUT_2D
    )
    return out.reshape(B, -1, *out.shape[1:])


@jax.custom_vjp
def unstrided(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"]
) -> Float[Array, "B D H W F"]:
    """`convolve` with stride 1, plane by plane.

    What three neighbours along a row give to the nine rows around them is one product that is small
    enough for the cache. XLA's 2D convolution takes twice as long on two cores.
    """
    B, D, H, W, C = x.shape
    flat = kernel.transpose(2, 3, 0, 1, 4).reshape(3 * C, -1)  # columns: row tap, depth tap, F

    def add_plane(index: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        # Finished planes; the plane before this one and this one, from all planes so far.
        out, before, here = sums
        plane = jax.lax.dynamic_index_in_dim(x, index, 1, keepdims=False)  # [B, H, W, C]
        along = neighbours(plane, 2).reshape(-1, 3 * C)
        products = (along @ flat).reshape(B, H, W, 3, 3, -1)
        rows = jnp.pad(products, ((0, 0), (1, 1)) + ((0, 0),) * 4)
        # What this plane gives to the plane behind it, to itself, and to the one in front of it.
        behind, itself, front = (
            rows[:, :H, :, tap, 0] + rows[:, 1:-1, :, tap, 1] + rows[:, 2:, :, tap, 2]
            for tap in range(3)
        )
        # What the first plane writes, nothing being before it, the second overwrites.
        place = jnp.maximum(index - 1, 0)
        out = jax.lax.dynamic_update_index_in_dim(out, before + front, place, 1)
        return out, here + itself, behind

    zeros = jnp.zeros((B, D, H, W, kernel.shape[-1]), x.dtype)
    out, last, _ = jax.lax.fori_loop(0, D, add_plane, (zeros, zeros[:, 0], zeros[:, 0]))
    return jax.lax.dynamic_update_index_in_dim(out, last, D - 1, 1)


def unstrided_forward(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"]
) -> tuple[Float[Array, "B D H W F"], tuple[Array, Array]]:
    """The convolution, and what its backward pass needs."""
    return unstrided(x, kernel), (x, kernel)


def unstrided_backward(
    residuals: tuple[Array, Array], gradient: Float[Array, "B D H W F"]
) -> tuple[Float[Array, "B D H W C"], Float[Array, "3 3 3 C F"]]:
    """Gradients of the input, a convolution with the turned kernel, and of the kernel."""
    x, kernel = residuals
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    return unstrided(gradient, turned), correlate(x, gradient).astype(kernel.dtype)


unstrided.defvjp(unstrided_forward, unstrided_backward)


def correlate(
    x: Float[Array, "B D H W C"], y: Float[Array, "B D H W F"]
) -> Float[Array, "3 3 3 C F"]:
    """Sum over all places of x, shifted by one voxel or none each way, times y: the gradient of a
    kernel.

    It is a matrix product per plane, small enough for the cache: three shifts of x against nine of
    y, which is the same sum seen from y. Cases lie side by side in it: one after the other, all
    would be computed on each of several devices.
    """
    B, D, C, F = *x.shape[:2], x.shape[-1], y.shape[-1]
    padded = jnp.pad(y, ((0, 0), (1, 1)) + ((0, 0),) * 3)

    def add_plane(index: Int[Array, ""], total: Array) -> Array:
        plane = jax.lax.dynamic_index_in_dim(x, index, 1, keepdims=False)
        around = [
            jax.lax.dynamic_index_in_dim(padded, index + tap, 1, keepdims=False) for tap in range(3)
        ]
        shifts_of_x = neighbours(plane, 2).reshape(B, -1, 3 * C)
        shifts_of_y = neighbours(jnp.concatenate(around, -1), 1).reshape(B, -1, 9 * F)
        return total + jnp.einsum(
            "bnc,bnf->bcf", shifts_of_x, shifts_of_y, preferred_element_type=jnp.float32
        )

    zeros = jnp.zeros((B, 3 * C, 9 * F), jnp.float32)
    total = jax.lax.fori_loop(0, D, add_plane, zeros).sum(0)
    # [3 C, 9 F] -> [W, C, H, D, F], the taps of y being turned, -> [D, H, W, C, F]
    return total.reshape(3, C, 3, 3, F)[:, :, ::-1, ::-1].transpose(3, 2, 0, 1, 4)


def neighbours(x: Float[Array, "*S C"], axis: int, stride: int = 1) -> Float[Array, "*s 3*C"]:
    """The neighbour before, the value and the neighbour behind along an axis, side by side on the
    channels, at every `stride`-th place; zero beyond the border.
    """
    length = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = (1, 1)
    padded = jnp.pad(x, padding)
    taps = [jax.lax.slice_in_dim(padded, tap, tap + length, stride, axis) for tap in range(3)]
    return jnp.concatenate(taps, -1)


def blocks_of_two(x: Float[Array, "B D H W C"]) -> Float[Array, "B d 2 h 2 w 2 C"]:
    """View a volume as cubes of 2 x 2 x 2 voxels."""
    B, D, H, W, C = x.shape
    return x.reshape(B, D // 2, 2, H // 2, 2, W // 2, 2, C)


def max_pool(x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w C"]:
    """Halve each axis, keeping the largest value of each cube, the first of equal ones: the
    gradient is that one's.

    XLA's own maximum shares its gradient among all that equal it, 0 / 0 where a value computed a
    second time is rounded differently.
    """
    cubes = blocks_of_two(x)
    for axis in (6, 4, 2):
        first = jax.lax.index_in_dim(cubes, 0, axis, keepdims=False)
        second = jax.lax.index_in_dim(cubes, 1, axis, keepdims=False)
        cubes = jnp.where(first >= second, first, second)
    return cubes


def mean_pool(x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w C"]:
    """Halve each axis, keeping the mean of each cube."""
    return blocks_of_two(x).mean((2, 4, 6))


def upsample(
    x: Float[Array, "B D H W C"], kernel: Float[Array, "C F8"]
) -> Float[Array, "B 2*D 2*H 2*W F"]:
    """Transposed convolution with kernel and stride 2, as a product and a reshape.

    The kernel's columns are ordered by place in the cube, then by channel.
    """
    B, D, H, W, C = x.shape
    cubes = (x.reshape(-1, C) @ kernel).reshape(B, D, H, W, 2, 2, 2, -1)
    return cubes.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, 2 * D, 2 * H, 2 * W, -1)

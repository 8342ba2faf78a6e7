"""3D convolution, pooling and upsampling, channels last, in the form that is fast where it runs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = ("NDHWC", "DHWIO", "NDHWC")
LAYOUT_2D = ("NHWC", "HWIO", "NHWC")


def convolve(x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1) -> Float[Array, "B d h w F"]:
    """3 x 3 x 3 convolution with a border of one zero: [B, D, H, W, C] -> [B, D/s, H/s, W/s, F]. Lengths are multiples of the stride.

    XLA's own 3D convolution is 6 to 10 times slower than PyTorch's on CPU, and the right one on accelerators.
    """
    return (decomposed if jax.default_backend() == "cpu" else native)(x, kernel, stride)


def native(x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1) -> Float[Array, "B d h w F"]:
    """`convolve` by XLA's 3D convolution."""
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * 3, ((1, 1),) * 3, dimension_numbers=LAYOUT)


def decomposed(x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1) -> Float[Array, "B d h w F"]:
    """`convolve` by 2D convolutions, its gradients too."""
    # XLA's own gradients serve where few convolutions go: between levels, and from the one channel of a scan, which needs none itself.
    return planar(x, kernel, stride) if stride > 1 or x.shape[-1] == 1 else unstrided(x, kernel)


def planar(x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"], stride: int = 1) -> Float[Array, "B d h w F"]:
    """`convolve` as one 2D convolution: depth folded into the batch, the three depth taps side by side on the channels."""
    B, _, H, W, C = x.shape
    planes = shifted(x, 1, stride).reshape(-1, H, W, 3 * C)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, 3 * C, -1)
    out = jax.lax.conv_general_dilated(planes, flat, (stride,) * 2, ((1, 1),) * 2, dimension_numbers=LAYOUT_2D)
    return out.reshape(B, -1, *out.shape[1:])


@jax.custom_vjp
def unstrided(x: Float[Array, "B D H W C"], kernel: Float[Array, "3 3 3 C F"]) -> Float[Array, "B D H W F"]:
    """`planar` with stride 1, its kernel's gradient by `correlate`: XLA's takes four times as long as the convolution itself."""
    return planar(x, kernel)


def unstrided_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return planar(x, kernel), (x, kernel)


def unstrided_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    return planar(gradient, turned), correlate(x, gradient).astype(kernel.dtype)


unstrided.defvjp(unstrided_forward, unstrided_backward)


def correlate(x: Float[Array, "B D H W C"], y: Float[Array, "B D H W F"]) -> Float[Array, "3 3 3 C F"]:
    """Sum over all places of x, shifted by one voxel or none each way, times y: the gradient of a kernel.

    A matrix product per plane, small enough for the cache: three shifts of x against nine of y, which is the same sum seen from y.
    """
    W, C, F = x.shape[3], x.shape[4], y.shape[4]
    columns = shifted(y, 1)

    def add(total: Array, planes: tuple[Array, Array]) -> tuple[Array, None]:
        ours, theirs = (shifted(plane, axis) for plane, axis in zip(planes, (1, 0), strict=True))
        product = jnp.matmul(ours.reshape(-1, 3 * C).T, theirs.reshape(-1, 9 * F), preferred_element_type=jnp.float32)
        return total + product, None

    each = (x.reshape(-1, *x.shape[2:]), columns.reshape(-1, x.shape[2], W, 3 * F))
    total, _ = jax.lax.scan(add, jnp.zeros((3 * C, 9 * F), jnp.float32), each)
    return total.reshape(3, C, 3, 3, F)[:, :, ::-1, ::-1].transpose(3, 2, 0, 1, 4)


def shifted(x: Float[Array, "*S C"], axis: int, stride: int = 1) -> Float[Array, "*s 3C"]:
    """The neighbour before, the value and the neighbour behind along an axis, side by side on the channels, at every `stride`-th place;
    nought beyond the border.
    """
    length = x.shape[axis]
    padded = jnp.pad(x, [(1, 1) if other == axis else (0, 0) for other in range(x.ndim)])
    return jnp.concatenate([jax.lax.slice_in_dim(padded, tap, tap + length, stride, axis) for tap in range(3)], -1)


def blocks_of_two(x: Float[Array, "B D H W C"]) -> Float[Array, "B d 2 h 2 w 2 C"]:
    """View a volume as cubes of 2 x 2 x 2 voxels."""
    B, D, H, W, C = x.shape
    return x.reshape(B, D // 2, 2, H // 2, 2, W // 2, 2, C)


def max_pool(x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w C"]:
    """Halve each axis, keeping the largest value of each cube."""
    return blocks_of_two(x).max((2, 4, 6))


def mean_pool(x: Float[Array, "B D H W C"]) -> Float[Array, "B d h w C"]:
    """Halve each axis, keeping the mean of each cube."""
    return blocks_of_two(x).mean((2, 4, 6))


def upsample(x: Float[Array, "B D H W C"], kernel: Float[Array, "C 8F"]) -> Float[Array, "B 2D 2H 2W F"]:
    """Transposed convolution with kernel and stride 2, as a product and a reshape: [B, D, H, W, C] -> [B, 2D, 2H, 2W, F].

    The kernel's columns are ordered by place in the cube, then by channel.
    """
    B, D, H, W, C = x.shape
    cubes = (x.reshape(-1, C) @ kernel).reshape(B, D, H, W, 2, 2, 2, -1)
    return cubes.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, 2 * D, 2 * H, 2 * W, -1)

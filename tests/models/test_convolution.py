"""Convolutions against XLA's own 3D ones, and against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate

from scaling.models.convolution import decomposed, max_pool, mean_pool, native, upsample


def arrays(channels: int, features: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, 6, 8, 4, channels)), jnp.float32), jnp.asarray(
        rng.normal(size=(3, 3, 3, channels, features)), jnp.float32
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 5])
def test_decomposed_convolution_equals_the_native_one_in_value_and_gradients(
    stride: int, channels: int
) -> None:
    x, kernel = arrays(channels, 4)
    weights = jnp.asarray(
        np.random.default_rng(1).normal(size=native(x, kernel, stride).shape), jnp.float32
    )

    def both(convolution):  # type: ignore[no-untyped-def]
        return jax.value_and_grad(
            lambda x, kernel: (weights * convolution(x, kernel, stride)).sum(), argnums=(0, 1)
        )(x, kernel)

    np.testing.assert_allclose(decomposed(x, kernel, stride), native(x, kernel, stride), atol=1e-4)
    for ours, theirs in zip(
        jax.tree.leaves(both(decomposed)), jax.tree.leaves(both(native)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("convolution", [decomposed, native])
def test_convolution_is_the_sum_over_channels_of_scipys_correlations(convolution) -> None:  # type: ignore[no-untyped-def]
    x, kernel = arrays(3, 2)
    volumes, weights = np.asarray(x), np.asarray(kernel)
    for feature in range(2):
        expected = sum(
            correlate(volumes[0, ..., c], weights[..., c, feature], mode="constant")
            for c in range(3)
        )
        np.testing.assert_allclose(convolution(x, kernel)[0, ..., feature], expected, atol=1e-4)
        np.testing.assert_allclose(
            convolution(x, kernel, 2)[0, ..., feature], expected[::2, ::2, ::2], atol=1e-4
        )


def test_pooling_reduces_each_cube() -> None:
    x = arrays(3, 1)[0]
    values = np.asarray(x)
    cubes = np.stack(
        [values[:, i::2, j::2, k::2] for i in range(2) for j in range(2) for k in range(2)]
    )
    np.testing.assert_array_equal(max_pool(x), cubes.max(0))
    np.testing.assert_allclose(mean_pool(x), cubes.mean(0), atol=1e-6)


def test_upsampling_is_the_transposed_convolution_with_stride_two() -> None:
    x = arrays(3, 1)[0]
    kernel = jnp.asarray(np.random.default_rng(2).normal(size=(3, 8 * 5)), jnp.float32)
    # Unlike ours, `conv_transpose` turns its kernel around.
    turned = kernel.reshape(3, 2, 2, 2, 5).transpose(1, 2, 3, 0, 4)[::-1, ::-1, ::-1]
    expected = jax.lax.conv_transpose(
        x, turned, (2, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(upsample(x, kernel), expected, atol=1e-5)


def test_gradient_of_the_largest_goes_to_one_of_equal_values() -> None:
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((2, 4, 6, 4, 3)))
    cubes = np.stack(
        [gradient[:, i::2, j::2, k::2] for i in range(2) for j in range(2) for k in range(2)]
    )
    assert np.isin(cubes, (0, 1)).all()
    assert (cubes.sum(0) == 1).all()

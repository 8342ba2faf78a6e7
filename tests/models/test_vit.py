"""Models against plain NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf, softmax
from scipy.stats import norm

from scaling.models.attention import tiled
from scaling.models.compute import Compute
from scaling.models.heads import PooledHead, SegmentationHead, side_by_side
from scaling.models.patches import grid_pool, patchify, sincos_positions, unpatchify
from scaling.models.transformer import Block, Stack
from scaling.models.vit import VitEncoder
from scaling.study.config import Remat, ViT
from scaling.study.ladder import resolve_encoder

SHAPE = (16, 24, 8)


def test_patchify_cuts_the_cubes_that_slicing_cuts() -> None:
    volume = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    cubes = [
        volume[:, i : i + 8, j : j + 8, k : k + 8].reshape(2, -1)
        for i, j, k in itertools.product(range(0, 16, 8), range(0, 24, 8), range(0, 8, 8))
    ]
    patches = patchify(jnp.asarray(volume), 8)
    np.testing.assert_array_equal(patches, np.stack(cubes, 1))
    np.testing.assert_array_equal(unpatchify(patches, SHAPE, 8), volume)


def test_positions_are_the_sines_and_cosines_of_each_axis() -> None:
    encoded = sincos_positions(SHAPE, 8, 64)
    assert encoded.shape == (6, 64)
    rates = 10000.0 ** (-np.arange(10) / 10)
    for n, place in enumerate(itertools.product(range(2), range(3), range(1))):
        expected = np.concatenate([wave(x * rates) for x in place for wave in (np.sin, np.cos)])
        np.testing.assert_allclose(encoded[n, :60], expected, atol=1e-6)
    assert not encoded[:, 60:].any()


def test_grid_pool_is_the_mean_of_each_cell() -> None:
    tokens = np.random.default_rng(0).normal(size=(2, 5 * 4 * 3, 7)).astype(np.float32)
    pooled = np.asarray(grid_pool(jnp.asarray(tokens), (40, 32, 24), 8, 2))
    volume = tokens.reshape(2, 5, 4, 3, 7)
    edges = [[slice(0, 3), slice(3, 5)], [slice(0, 2), slice(2, 4)], [slice(0, 2), slice(2, 3)]]
    expected = [volume[:, a, b, c].mean((1, 2, 3)) for a, b, c in itertools.product(*edges)]
    np.testing.assert_allclose(pooled, np.stack(expected, 1), atol=1e-6)


def numpy_block(parameters: dict, x: np.ndarray, heads: int) -> np.ndarray:
    def norm(x: np.ndarray, p: dict) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p[
            "scale"
        ] + p["bias"]

    def linear(x: np.ndarray, p: dict) -> np.ndarray:
        return x @ p["kernel"] + p["bias"]

    B, N, E = x.shape
    kernels, biases = parameters["qkv"]["kernel"], parameters["qkv"]["bias"]
    normed = norm(x, parameters["attention_norm"])
    q, k, v = (
        (normed @ kernel + bias).reshape(B, N, heads, -1)
        for kernel, bias in zip(kernels, biases, strict=True)
    )
    weights = softmax(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(E // heads), axis=-1)
    x = x + linear(
        np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, N, E), parameters["attention_out"]
    )
    hidden = linear(norm(x, parameters["mlp_norm"]), parameters["mlp_in"])
    cubic = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    assert np.abs(cubic - 0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))).max() < 1e-3
    return x + linear(cubic, parameters["mlp_out"])


def test_block_computes_pre_norm_attention_and_mlp() -> None:
    block = Block(96, 3, 384, Compute(), nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 9, 96)).astype(np.float32)
    parameters = jax.tree.map(np.float64, nnx.to_pure_dict(nnx.split(block)[1]))
    np.testing.assert_allclose(
        block(jnp.asarray(x)), numpy_block(parameters, x.astype(np.float64), 3), atol=2e-5
    )


@pytest.mark.parametrize("remat", ["none", "blocks", "dots"])
def test_stack_is_its_blocks_one_after_the_other(remat: Remat) -> None:
    stack = Stack(
        3,
        lambda rngs: Block(64, 1, 256, Compute(remat=remat), rngs),
        Compute(remat=remat),
        nnx.Rngs(0),
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 64)), jnp.float32)
    graph, stacked = nnx.split(stack.blocks)
    expected = x
    for layer in range(3):
        expected = nnx.merge(graph, jax.tree.map(lambda leaf, i=layer: leaf[i], stacked))(expected)
    np.testing.assert_allclose(stack(x), expected, atol=1e-5)
    kernels = nnx.to_pure_dict(stacked)["qkv"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])


def test_encoder_sees_where_a_patch_is() -> None:
    encoder = VitEncoder(resolve_encoder(ViT(), "xxs"), nnx.Rngs(0), Compute())
    volume = np.zeros((2, *SHAPE), np.float32)
    volume[0, :8, :8] = volume[1, 8:, 16:] = 1.0
    tokens = np.asarray(encoder(jnp.asarray(volume)))
    assert np.abs(tokens[0, 0] - tokens[1, 5]).max() > 0.01


def test_absent_sequences_change_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    present = jnp.asarray([[True, False, True]])
    other = features.copy()
    other[:, 1] = 99.0
    np.testing.assert_array_equal(
        side_by_side(jnp.asarray(features), present), side_by_side(jnp.asarray(other), present)
    )
    expected = np.concatenate([features[0, 0], np.zeros((4, 5)), features[0, 2]], -1) * 1.5
    np.testing.assert_allclose(side_by_side(jnp.asarray(features), present)[0], expected, rtol=1e-6)


def test_pooled_head_reads_the_sequences_of_a_place_together() -> None:
    encoder, rng = resolve_encoder(ViT(), "xxs"), np.random.default_rng(0)
    head = PooledHead(encoder, 2, nnx.Rngs(0))
    head.output.kernel[...] = jnp.asarray(rng.normal(size=head.output.kernel.shape), jnp.float32)
    tokens = rng.normal(size=(3, 2, 6, 64)).astype(np.float32)
    beside = np.concatenate([tokens[:, 0], tokens[:, 1]], -1)
    before = beside @ np.asarray(head.hidden.kernel) + np.asarray(head.hidden.bias)
    hidden = before * norm.cdf(before)
    expected = (
        np.concatenate([hidden.mean(1), hidden.max(1)], -1) @ np.asarray(head.output.kernel)[:, 0]
    )
    np.testing.assert_allclose(
        head((jnp.asarray(tokens),), jnp.ones((3, 2), bool)), expected, atol=0.01
    )  # our GELU is the approximate one


def test_heads_start_where_they_say() -> None:
    encoder = resolve_encoder(ViT(), "xxs")
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6, 64)), jnp.float32)
    present = jnp.ones((2, 3), bool)
    assert not np.asarray(PooledHead(encoder, 3, nnx.Rngs(0))((tokens,), present)).any()
    logits = SegmentationHead(encoder, 3, SHAPE, nnx.Rngs(0))((tokens,), present)
    assert logits.shape == (2, *SHAPE)
    np.testing.assert_allclose(jax.nn.sigmoid(logits), 0.047, atol=0.01)


@pytest.mark.parametrize(
    "length", [7, 131, 192, 320]
)  # one part; one, for want of a divisor; two; four
def test_tiled_attention_equals_jaxs_in_value_and_gradients(length: int) -> None:
    q, k, v, weights = jnp.asarray(
        np.random.default_rng(0).normal(size=(4, 2, length, 3, 8)), jnp.float32
    )

    def both(attention):  # type: ignore[no-untyped-def]
        return jax.value_and_grad(
            lambda *qkv: (weights * attention(*qkv)).sum(), argnums=(0, 1, 2)
        )(3 * q, k, v)

    for ours, theirs in zip(
        jax.tree.leaves(both(tiled)),
        jax.tree.leaves(both(jax.nn.dot_product_attention)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

"""Softmax attention in the form that is fast where it runs."""

from typing import assert_never

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scaling.study.shapes import Platform

TILE = 128  # keys, or queries, whose weights are in the cache together

Heads = Float[Array, "B N H K"]


def attend(q: Heads, k: Heads, v: Heads, platform: Platform) -> Heads:
    """Softmax attention.

    On GPUs it is cuDNN's in bfloat16, which never writes the N x N weights down and takes heads of
    8, 16, ... 128 channels.
    """
    match platform:
        case "cpu":
            exact = tiled(*(x.astype(jnp.float32) for x in (q, k, v)))
            return exact.astype(q.dtype)
        case "gpu" if q.dtype == jnp.bfloat16:
            return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        case "gpu" | "tpu":
            return jax.nn.dot_product_attention(q, k, v)
        case _:
            assert_never(platform)


@jax.custom_vjp
def tiled(q: Heads, k: Heads, v: Heads) -> Heads:
    """Softmax attention, some queries at a time; the backward pass computes the weights again, for
    some keys at a time.

    Source: Dao et al. 2022 (FlashAttention), without splitting the softmax.
    """
    return tiled_forward(q, k, v)[0]


def tiled_forward(q: Heads, k: Heads, v: Heads) -> tuple[Heads, tuple[Array, ...]]:
    """Attention, and what the backward pass needs."""
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # [B, H, N, K]

    def attend_some(queries: Float[Array, "B H n K"]) -> tuple[Array, Array]:
        scores = scaled(queries) @ jnp.swapaxes(k, -1, -2)  # [B, H, n, N]
        top = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        return (weights @ v) / total, top + jnp.log(total)

    out, log_total = (joined(x) for x in jax.lax.map(attend_some, tiles(q)))
    return jnp.swapaxes(out, 1, 2), (q, k, v, out, log_total)


def tiled_backward(residuals: tuple[Array, ...], gradient: Heads) -> tuple[Heads, Heads, Heads]:
    """Gradients of queries, keys and values."""
    q, k, v, out, log_total = residuals
    gradient = jnp.swapaxes(gradient, 1, 2)  # [B, H, N, K]
    mean = jnp.swapaxes((gradient * out).sum(-1, keepdims=True), -1, -2)  # [B, H, 1, N]
    log_total = jnp.swapaxes(log_total, -1, -2)  # [B, H, 1, N]
    queries = scaled(q)

    def of_some_keys(of_q: Array, some: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        keys, values = some  # [B, H, n, K]
        # The weights are transposed, [B, H, n, N], which spares most transposed products.
        weights = jnp.exp(keys @ jnp.swapaxes(queries, -1, -2) - log_total)
        of_scores = weights * (values @ jnp.swapaxes(gradient, -1, -2) - mean)
        of_q = of_q + jnp.swapaxes(of_scores, -1, -2) @ scaled(keys)
        return of_q, (of_scores @ queries, weights @ gradient)

    of_q, (of_k, of_v) = jax.lax.scan(of_some_keys, jnp.zeros_like(q), (tiles(k), tiles(v)))
    of_k, of_v = joined(of_k), joined(of_v)
    return jnp.swapaxes(of_q, 1, 2), jnp.swapaxes(of_k, 1, 2), jnp.swapaxes(of_v, 1, 2)


tiled.defvjp(tiled_forward, tiled_backward)


def scaled(x: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Divided by the square root of the length."""
    return x * x.shape[-1] ** -0.5


def tiles(x: Float[Array, "B H N K"]) -> Float[Array, "T B H n K"]:
    """Cut the tokens into T equal tiles of at most `TILE`; into one where they divide badly."""
    B, H, N, K = x.shape
    size = max(size for size in range(1, TILE + 1) if N % size == 0)
    if 4 * size < TILE:
        size = N
    return jnp.moveaxis(x.reshape(B, H, N // size, size, K), 2, 0)


def joined(x: Float[Array, "T B H n K"]) -> Float[Array, "B H N K"]:
    """Undo `tiles`."""
    T, B, H, n, K = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(B, H, T * n, K)

"""Softmax attention in the form that is fast where it runs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TILE = 128  # keys, or queries, whose weights are in the cache together


def attend(
    q: Float[Array, "B N H K"], k: Float[Array, "B N H K"], v: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Softmax attention; on GPUs cuDNN's, which never writes the N x N weights down, in bfloat16 (it takes heads 8, 16, ... 128 wide)."""
    backend = jax.default_backend()
    if backend == "cpu":
        return tiled(*(x.astype(jnp.float32) for x in (q, k, v))).astype(q.dtype)
    flash = backend == "gpu" and q.dtype == jnp.bfloat16
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn" if flash else None)


@jax.custom_vjp
def tiled(
    q: Float[Array, "B N H K"], k: Float[Array, "B N H K"], v: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Softmax attention, some queries at a time; the backward pass computes the weights again, for some keys at a time.

    Source: Dao et al. 2022 (FlashAttention), without splitting the softmax.
    """
    return tiled_forward(q, k, v)[0]


def tiled_forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, ...]]:
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))

    def some(q: Float[Array, "B H n K"]) -> tuple[Array, Array]:
        scores = scaled(q) @ jnp.swapaxes(k, -1, -2)
        top = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        return (weights @ v) / total, top + jnp.log(total)

    out, log_total = (joined(x) for x in jax.lax.map(some, parts(q)))
    return jnp.swapaxes(out, 1, 2), (q, k, v, out, log_total)


def tiled_backward(kept: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    q, k, v, out, log_total = kept
    gradient = jnp.swapaxes(gradient, 1, 2)
    mean = jnp.swapaxes((gradient * out).sum(-1, keepdims=True), -1, -2)
    log_total, queries = jnp.swapaxes(log_total, -1, -2), scaled(q)

    def some(of_q: Array, keys: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        k, v = keys  # [B, H, n, K]
        weights = jnp.exp(
            k @ jnp.swapaxes(queries, -1, -2) - log_total
        )  # [B, H, n, N]: transposed, which spares most transposed products
        of_scores = weights * (v @ jnp.swapaxes(gradient, -1, -2) - mean)
        return of_q + jnp.swapaxes(of_scores, -1, -2) @ scaled(k), (
            of_scores @ queries,
            weights @ gradient,
        )

    of_q, (of_k, of_v) = jax.lax.scan(some, jnp.zeros_like(q), (parts(k), parts(v)))
    return tuple(jnp.swapaxes(x, 1, 2) for x in (of_q, joined(of_k), joined(of_v)))  # type: ignore[return-value]


tiled.defvjp(tiled_forward, tiled_backward)


def scaled(x: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Divided by the square root of the length."""
    return x * x.shape[-1] ** -0.5


def parts(x: Float[Array, "B H N K"]) -> Float[Array, "P B H n K"]:
    """Cut the tokens into equal parts of at most `TILE`; into one where they divide badly."""
    B, H, N, K = x.shape
    size = max(size for size in range(1, TILE + 1) if N % size == 0)
    size = size if 4 * size >= TILE else N
    return jnp.moveaxis(x.reshape(B, H, N // size, size, K), 2, 0)


def joined(x: Float[Array, "P B H n K"]) -> Float[Array, "B H N K"]:
    """Undo `parts`."""
    P, B, H, n, K = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(B, H, P * n, K)

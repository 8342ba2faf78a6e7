"""Pre-norm transformer blocks, and stacks of equal blocks, stored stacked and run by one scan."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from scaling.models.attention import attend
from scaling.models.compute import Compute
from scaling.models.parameters import keys_from
from scaling.models.pinning import pin
from scaling.models.remat import rematerialised
from scaling.study.shapes import Platform

# Where blocks of which nothing is computed again are written out one after the other: the copies
# into and out of a scan's stacks of residuals take a quarter of a step on CPU and 42 % of one on a
# GPU.
UNROLLED: tuple[Platform, ...] = ("cpu", "gpu")


class Linear(nnx.Linear):
    """A linear layer over the last axis: float32 parameters (Xavier-uniform weights), computed in
    `dtype`.

    All leading axes are flattened to one: the gradient of the weights is then a plain matrix
    product, on CPU four times faster than the contraction over two axes.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        dtype: str,
        rngs: nnx.Rngs,
        use_bias: bool = True,
    ):
        super().__init__(
            features_in,
            features_out,
            use_bias=use_bias,
            dtype=jnp.dtype(dtype),
            kernel_init=nnx.initializers.xavier_uniform(),
            rngs=rngs,
        )

    def __call__(self, inputs: Array, out_sharding: object = None) -> Array:
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], flat.shape[-1])


class Projections(nnx.Module):
    """Queries, keys and values: three linear maps of one input, [B, N, E] -> [3, B, N, E].

    Weights are [3, E, E]: heads are neighbours in their last axis, which devices can share out.
    """

    def __init__(self, width: int, dtype: str, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(dtype)
        drawn = Linear(width, 3 * width, dtype, rngs).kernel[...]
        self.kernel = nnx.Param(jnp.swapaxes(drawn.reshape(width, 3, width), 0, 1))
        self.bias = nnx.Param(jnp.zeros((3, width)))

    def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "3 B N E"]:
        B, N, E = x.shape
        flat = x.reshape(B * N, E).astype(self.dtype)
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        # Each of the three is contiguous: slices of [B, N, 3, E] would be copied on a GPU.
        projected = jnp.einsum("ne,kef->knf", flat, kernel) + bias[:, None]
        return projected.reshape(3, B, N, E)


class Block(nnx.Module):
    """Pre-norm attention and MLP, [B, N, E] -> [B, N, E].

    Source: Vaswani et al. 2017; pre-norm as in Dosovitskiy et al. 2021.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, compute: Compute, rngs: nnx.Rngs):
        dtype = compute.dtype
        self.heads, self.platform = heads, compute.platform
        self.attention_norm = nnx.LayerNorm(width, dtype=jnp.dtype(dtype), rngs=rngs)
        self.qkv = Projections(width, dtype, rngs)
        self.attention_out = Linear(width, width, dtype, rngs)
        self.mlp_norm = nnx.LayerNorm(width, dtype=jnp.dtype(dtype), rngs=rngs)
        self.mlp_in = Linear(width, mlp_width, dtype, rngs)
        self.mlp_out = Linear(mlp_width, width, dtype, rngs)

    def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
        B, N, E = x.shape
        projected = pin(self.qkv(self.attention_norm(x)), None, "batch", None, "heads")
        # Unpinned, XLA spreads the heads as it does the weights before and after, and shuffles
        # where they do not divide.
        parts = [part.reshape(B, N, self.heads, E // self.heads) for part in projected]
        q, k, v = (pin(part, "batch", None, "heads") for part in parts)
        attended = pin(attend(q, k, v, self.platform), "batch", None, "heads")
        x = x + self.attention_out(attended.reshape(B, N, E))
        hidden = pin(self.mlp_in(self.mlp_norm(x)), "batch", None, "hidden")
        return x + self.mlp_out(jax.nn.gelu(hidden))


class Stack(nnx.Module):
    """`depth` equal blocks whose parameters share a leading axis, [B, ..., E] -> [B, ..., E].

    They are scanned, so that compile time does not grow with depth, but for those of `UNROLLED`.
    """

    def __init__(
        self,
        depth: int,
        make_block: Callable[[nnx.Rngs], nnx.Module],
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.compute = compute
        keys = jax.random.split(rngs.params(), depth)
        self.blocks = nnx.merge(*jax.vmap(lambda key: nnx.split(make_block(keys_from(key))))(keys))

    def __call__(self, x: Float[Array, "B *N E"]) -> Float[Array, "B *N E"]:
        graph, stacked = nnx.split(self.blocks)

        def block(x: Array, parameters: nnx.State) -> tuple[Array, None]:
            return pin(nnx.merge(graph, parameters)(x), "batch"), None

        # On CPU what is outside of a scan is never computed again.
        remat = self.compute.remat
        unrolled = remat == "none" and self.compute.platform in UNROLLED
        x, _ = jax.lax.scan(rematerialised(block, remat), pin(x, "batch"), stacked, unroll=unrolled)
        return x

"""Pre-norm transformer blocks, and stacks of equal blocks, stored stacked and run by one scan."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from scaling.models.attention import attend
from scaling.models.parameters import keys_from
from scaling.models.remat import rematerialised
from scaling.study.config import Remat


class Constrain(Protocol):
    """Pins activations [B, ...] to devices; `shared` is the axis (attention heads, or the units of an MLP) that devices with the same
    cases may share out.
    """

    def __call__(self, x: Array, shared: int | None = None) -> Array: ...


def unconstrained(x: Array, shared: int | None = None) -> Array:
    """Leave activations where the compiler puts them: right for one device."""
    return x


class Linear(nnx.Linear):
    """A linear layer over the last axis: float32 parameters (Xavier-uniform weights), computed in `dtype`.

    All leading axes are flattened to one: the gradient of the weights is then a plain matrix product, on CPU four times
    faster than the contraction over two axes.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        use_bias: bool = True,
    ):
        xavier = nnx.initializers.xavier_uniform()
        super().__init__(
            features_in, features_out, use_bias=use_bias, dtype=dtype, kernel_init=xavier, rngs=rngs
        )

    def __call__(self, inputs: Array, out_sharding: object = None) -> Array:
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], flat.shape[-1])


class Projections(nnx.Module):
    """Queries, keys and values: three linear maps of one input in one product, [B, N, E] -> [B, N, 3, E].

    Weights are [3, E, E]: heads are neighbours in their last axis, which devices can share out.
    """

    def __init__(self, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        drawn = Linear(width, 3 * width, dtype, rngs).kernel[...]
        self.kernel = nnx.Param(jnp.swapaxes(drawn.reshape(width, 3, width), 0, 1))
        self.bias = nnx.Param(jnp.zeros((3, width)))

    def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N 3 E"]:
        B, N, E = x.shape
        flat, kernel, bias = (
            a.astype(self.dtype) for a in (x.reshape(B * N, E), self.kernel[...], self.bias[...])
        )
        return (jnp.einsum("ne,kef->nkf", flat, kernel) + bias).reshape(B, N, 3, E)


class Block(nnx.Module):
    """Pre-norm attention and MLP (Vaswani et al. 2017; pre-norm as in Dosovitskiy et al. 2021): [B, N, E] -> [B, N, E]."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        constrain: Constrain = unconstrained,
    ):
        self.heads, self.constrain = heads, constrain
        self.attention_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.qkv = Projections(width, dtype, rngs)
        self.attention_out = Linear(width, width, dtype, rngs)
        self.mlp_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp_in = Linear(width, mlp_width, dtype, rngs)
        self.mlp_out = Linear(mlp_width, width, dtype, rngs)

    def __call__(self, x: Float[Array, "B N E"]) -> Float[Array, "B N E"]:
        B, N, E = x.shape
        projected = self.constrain(self.qkv(self.attention_norm(x)), shared=3)
        # Unpinned, XLA spreads the heads as it does the weights before and after, and shuffles where they do not divide.
        q, k, v = (
            self.constrain(projected[:, :, i].reshape(B, N, self.heads, E // self.heads), shared=2)
            for i in range(3)
        )
        attended = self.constrain(attend(q, k, v), shared=2).reshape(B, N, E)
        x = x + self.attention_out(attended)
        hidden = self.constrain(self.mlp_in(self.mlp_norm(x)), shared=2)
        return x + self.mlp_out(jax.nn.gelu(hidden))


class Stack(nnx.Module):
    """`depth` equal blocks whose parameters share a leading axis, scanned: compile time does not grow with depth.

    `remat` says what a block keeps for the backward pass (`scaling.models.remat`); `constrain` pins activations at block boundaries
    (sharding is decided by `scaling.training.mesh`, not here).
    """

    def __init__(
        self,
        depth: int,
        make_block: Callable[[nnx.Rngs], nnx.Module],
        remat: Remat,
        constrain: Constrain,
        rngs: nnx.Rngs,
    ):
        self.remat, self.constrain = remat, constrain
        keys = jax.random.split(rngs.params(), depth)
        self.blocks = nnx.merge(*jax.vmap(lambda key: nnx.split(make_block(keys_from(key))))(keys))

    def __call__(self, x: Float[Array, "B *N E"]) -> Float[Array, "B *N E"]:
        graph, stacked = nnx.split(self.blocks)

        def block(x: Array, parameters: nnx.State) -> tuple[Array, None]:
            return self.constrain(nnx.merge(graph, parameters)(x)), None

        # On CPU the copies into and out of the scan's stacks take a quarter of the step; but what is outside of a scan is never computed
        # again there.
        unrolled = jax.default_backend() == "cpu" and self.remat == "none"
        x, _ = jax.lax.scan(
            rematerialised(block, self.remat), self.constrain(x), stacked, unroll=unrolled
        )
        return x

"""Hyperparameters that hold for every size: maximal-update parametrisation for AdamW.

Source: Yang et al. 2022 (Tensor Programs V, table 8) for width, in the form that needs no
multipliers in the forward pass; Yang et al. 2023 (Tensor Programs VI) for depth. With
r = width / base width and l = depth / base depth:

    weights (rows grow, columns grow)      deviation at the start     learning rate
    input     no,  yes: and biases, norms  as at the base             1
    hidden    yes, yes                     that / sqrt(r)             1 / r
    output    yes, no                      that / r                   1 / r
    within a stack of l times the blocks   last layers: / sqrt(l)     / sqrt(l), last layers of a
                                                                      branch / l

Attention keeps 1 / sqrt(head width): heads stay 64 wide, their number grows. Convolutional levels
are normalised and their number of blocks does not follow the width: no rule for depth. Weight decay
is not scaled: a weight shrinks by the scheduled rate times the decay at every width (see
`scaling.training.optimizer`). Adam's epsilon is far below every gradient.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from scaling.study.ladder import Encoder

Init = Callable[[PRNGKeyArray], Any]
BRANCH_ENDS = ("attention_out", "mlp_out")


def scaled_init(init_of: Callable[[Encoder], Init], encoder: Encoder) -> Init:
    """`init_of(encoder)` with its weights started as the parametrisation has it."""
    if encoder.widening == encoder.deepening == 1:
        return init_of(encoder)

    def scale(value: Any, factor: float) -> Any:
        return value if factor == 1 else value * factor

    def init(key: PRNGKeyArray) -> Any:
        starts, _ = multipliers(init_of, encoder)
        return jax.tree.map(scale, init_of(encoder)(key), starts)

    return init


def rate_multipliers(init_of: Callable[[Encoder], Init], encoder: Encoder) -> Any:
    """Each parameter's share of the scheduled learning rate, a tree of floats.

    None, for all 1, at the base, as in the standard parametrisation, whose every width is its own
    base.
    """
    if encoder.widening == encoder.deepening == 1:
        return None
    _, rates = multipliers(init_of, encoder)
    return rates


def multipliers(init_of: Callable[[Encoder], Init], encoder: Encoder) -> tuple[Any, Any]:
    """Factors on each parameter's initial values (Xavier at its own width) and on its learning
    rate, two trees of floats.

    Which dimensions grow is read off the shapes of `init_of` a wider and a deeper encoder: any
    model and any objective will do. All three are their own base, so that nothing is scaled twice.
    """
    key = jax.random.key(0)
    normal = jax.eval_shape(init_of(encoder.as_base()), key)
    wide = jax.eval_shape(init_of(encoder.widened().as_base()), key)
    deep = jax.eval_shape(init_of(encoder.deepened().as_base()), key)

    def factors(path: Any, normal: Any, wide: Any, deep: Any) -> tuple[float, float]:
        start, rate = 1.0, 1.0
        if path[-1].key == "kernel":
            start, rate = width_factors(normal.shape[-2:], wide.shape[-2:], encoder.widening)
        if normal.shape != deep.shape:
            root = math.sqrt(encoder.deepening)
            rate /= root
            if path[-2].key in BRANCH_ENDS:
                start, rate = start / root, rate / root
        return start, rate

    both = jax.tree_util.tree_map_with_path(factors, normal, wide, deep)
    return jax.tree.transpose(jax.tree.structure(normal), jax.tree.structure((0, 0)), both)


def width_factors(
    fans: tuple[int, ...], wide_fans: tuple[int, ...], widening: float
) -> tuple[float, float]:
    """Factors on initial values and rate of weights with these (rows, columns), which are
    `wide_fans` at twice the width.
    """
    rows_grow, columns_grow = fans[0] != wide_fans[0], fans[1] != wide_fans[1]
    base_rows = fans[0] / widening if rows_grow else fans[0]
    base_columns = fans[1] / widening if columns_grow else fans[1]
    # Xavier's deviation at the base: the weights were drawn with that of their own width.
    start = math.sqrt(sum(fans) / (base_rows + base_columns))
    rate = 1.0
    if rows_grow:
        start /= math.sqrt(widening) if columns_grow else widening
        rate /= widening
    return start, rate

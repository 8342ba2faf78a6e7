"""Hyperparameters that hold for every size: maximal-update parametrisation for AdamW.

Source: Yang et al. 2022 (Tensor Programs V, table 8) for width, in the form that needs no multipliers in the forward pass; Yang et al.
2023 (Tensor Programs VI) for depth. With r = width / base width and l = depth / base depth:

    weights (rows grow, columns grow)      deviation at the start     learning rate
    input     no,  yes: and biases, norms  as at the base             1
    hidden    yes, yes                     that / sqrt(r)             1 / r
    output    yes, no                      that / r                   1 / r
    within a stack of l times the blocks   last layers: / sqrt(l)     / sqrt(l), last layers of a branch / l

Attention keeps 1 / sqrt(head width): heads stay 64 wide, their number grows. Convolutional levels are normalised and their number of
blocks does not follow the width: no rule for depth. Weight decay is not scaled: a weight shrinks by the scheduled rate times the decay
at every width (see `scaling.training.optimizer`). Adam's epsilon is far below every gradient.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from scaling.study.ladder import Encoder, VitShape

Init = Callable[[PRNGKeyArray], Any]
BRANCH_ENDS = ("attention_out", "mlp_out")


def widened(encoder: Encoder) -> Encoder:
    """The encoder at twice the width: what grows, grows here."""
    if isinstance(encoder, VitShape):
        return replace(
            encoder,
            width=2 * encoder.width,
            heads=2 * encoder.heads,
            mlp_width=2 * encoder.mlp_width,
        )
    return replace(encoder, features=tuple(2 * channels for channels in encoder.features))


def deepened(encoder: Encoder) -> Encoder:
    """The encoder with one more transformer block."""
    return replace(encoder, depth=encoder.depth + 1) if isinstance(encoder, VitShape) else encoder


def as_base(encoder: Encoder) -> Encoder:
    """An encoder of the same shape that is its own base: its initial values are not scaled in turn."""
    if isinstance(encoder, VitShape):
        return replace(encoder, base_width=encoder.width, base_depth=encoder.depth)
    return replace(encoder, base_width=encoder.features[0])


def scaled_init(init_of: Callable[[Encoder], Init], encoder: Encoder) -> Init:
    """`init_of(encoder)` with its weights started as the parametrisation has it."""
    if encoder.widening == encoder.deepening == 1:
        return init_of(encoder)

    def init(key: PRNGKeyArray) -> Any:
        starts, _ = multipliers(init_of, encoder)
        return jax.tree.map(
            lambda value, factor: value if factor == 1 else value * factor,
            init_of(encoder)(key),
            starts,
        )

    return init


def rate_multipliers(init_of: Callable[[Encoder], Init], encoder: Encoder) -> Any:
    """Each parameter's share of the scheduled learning rate, a tree of floats. None, for all 1, at the base, as in the standard
    parametrisation, whose every width is its own base.
    """
    return None if encoder.widening == encoder.deepening == 1 else multipliers(init_of, encoder)[1]


def multipliers(init_of: Callable[[Encoder], Init], encoder: Encoder) -> tuple[Any, Any]:
    """Factors on each parameter's initial values (Xavier at its own width) and on its learning rate, two trees of floats.

    Which dimensions grow is read off the shapes of `init_of` a wider and a deeper encoder: any model and any objective will do.
    """
    shapes = (as_base(shape) for shape in (encoder, widened(encoder), deepened(encoder)))
    own, wide, deep = (jax.eval_shape(init_of(shape), jax.random.key(0)) for shape in shapes)
    r, l = encoder.widening, encoder.deepening  # noqa: E741

    def factors(path: Any, own: Any, wide: Any, deep: Any) -> tuple[float, float]:
        start, rate = 1.0, 1.0
        if path[-1].key == "kernel":
            fans, grow = (
                own.shape[-2:],
                [a != b for a, b in zip(own.shape[-2:], wide.shape[-2:], strict=True)],
            )
            base = [fan / r if grows else fan for fan, grows in zip(fans, grow, strict=True)]
            start *= math.sqrt(sum(fans) / sum(base))
            if grow[0]:
                start /= math.sqrt(r) if grow[1] else r
                rate /= r
        if own.shape != deep.shape:
            rate /= math.sqrt(l)
            if path[-2].key in BRANCH_ENDS:
                start, rate = start / math.sqrt(l), rate / math.sqrt(l)
        return start, rate

    both = jax.tree_util.tree_map_with_path(factors, own, wide, deep)
    return jax.tree.transpose(jax.tree.structure(own), jax.tree.structure((0, 0)), both)

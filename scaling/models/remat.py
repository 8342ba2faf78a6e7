"""Rematerialisation: which values of the forward pass the backward pass finds, and which it
computes once more.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from scaling.study.config import Remat

Function = TypeVar("Function", bound=Callable[..., Any])


def products(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """Whether a value is worth keeping: products of weights with activations, and convolutions.

    Those of attention are not.
    """
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return primitive.name == "conv_general_dilated" or dots(primitive, *_, **parameters)


def rematerialised(function: Function, remat: Remat) -> Function:
    """`function` as it is ("none"), keeping its inputs alone ("blocks"), or those and its linear
    maps' outputs ("dots").

    Outside of a scan XLA undoes this on CPU: it takes the second computation for a copy of the
    first.
    """
    match remat:
        case "none":
            return function
        case "blocks":
            return jax.checkpoint(function)  # type: ignore[return-value]
        case "dots":
            return jax.checkpoint(function, policy=products)  # type: ignore[return-value]

"""Names for the axes of activations, for whoever spreads them over devices.

A network names the axes of what it pins; `scaling.training.mesh` says which devices share an axis.
Outside of `pinned_by` nothing is pinned: right for one device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from jaxtyping import Array

# The samples of a batch; attention heads, or the channels of all heads; the units of an MLP.
Axis = Literal["batch", "heads", "hidden"]
Rule = Callable[[Array, tuple[Axis | None, ...]], Array]

RULE: ContextVar[Rule | None] = ContextVar("rule", default=None)


def pin(x: Array, *axes: Axis | None) -> Array:
    """Lay `x` on the devices as the rule in force says: one name, or None, for each axis.

    Axes after the last one named have no name.
    """
    rule = RULE.get()
    if rule is None:
        return x
    return rule(x, axes + (None,) * (x.ndim - len(axes)))


@contextmanager
def pinned_by(rule: Rule) -> Iterator[None]:
    """Apply a rule to all that is traced inside."""
    token = RULE.set(rule)
    try:
        yield
    finally:
        RULE.reset(token)

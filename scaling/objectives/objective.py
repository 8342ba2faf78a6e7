"""The one signature of all pretraining objectives. Written for the global batch: no mesh, no device count."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.backbone import Parameters as Parameters

Metrics = dict[str, Array]


class Objective(NamedTuple):
    """Pure functions of a pretraining objective.

    `init(key)` makes the parameters, a nested dict with the transferable part under "encoder";
    `loss(parameters, volumes [B, D, H, W], key)` is the scalar to minimise and what to log beside it;
    `reconstruct(parameters, volumes, key)` shows what the model sees and what it makes of it, both [B, D, H, W].
    """

    init: Callable[[PRNGKeyArray], Parameters]
    loss: Callable[[Parameters, Float[Array, "B D H W"], PRNGKeyArray], tuple[Array, Metrics]]
    reconstruct: Callable[[Parameters, Float[Array, "B D H W"], PRNGKeyArray], tuple[Array, Array]]

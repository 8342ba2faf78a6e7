"""The one signature of all pretraining objectives. Written for the global batch: no mesh, no device count."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.parameters import Parameters as Parameters

Metrics = dict[str, Array]
Volumes = Float[Array, "B *V D H W"]


def nothing(parameters: Parameters) -> Parameters:
    """What most objectives average over training."""
    return {}


class Part(NamedTuple):
    """One of `of` equal parts of a batch: its rows place, place + of, ... What is drawn at random is drawn for the whole batch."""

    place: Array | int
    of: int


WHOLE = Part(0, 1)


class Objective(NamedTuple):
    """Pure functions of a pretraining objective. Volumes are [B, D, H, W], or pairs [B, 2, D, H, W] (`pairs` of its config).

    `init(key)` makes the parameters, a nested dict with the transferable part under "encoder";
    `loss(parameters, volumes, key)` is the scalar to minimise and what to log beside it: numbers, and the pooled "embeddings" [n, E] of
    up to `LOGGED` crops where collapse threatens;
    `reconstruct(parameters, volumes, key)` shows a volume, what the model sees and what it makes of it, [B, D, H, W] each;
    `followed(parameters)` is what the objective wants the running mean of, `momentum` of it kept each step: loss and reconstruct find
    it among the parameters;
    `part_loss(parameters, volumes, key, part)` is the loss of a part of a batch: its mean over all parts is `loss`. None where it
    needs the whole batch: gradients of parts say nothing when its cases are compared with each other;
    `aligned` says that the two volumes of a pair must go on showing the same place: they are moved alike by augmentation.
    """

    init: Callable[[PRNGKeyArray], Parameters]
    loss: Callable[[Parameters, Volumes, PRNGKeyArray], tuple[Array, Metrics]]
    reconstruct: (
        Callable[[Parameters, Volumes, PRNGKeyArray], tuple[Array, Array, Array]] | None
    ) = None
    followed: Callable[[Parameters], Parameters] = nothing
    momentum: float = 0.0
    aligned: bool = False
    part_loss: Callable[[Parameters, Volumes, PRNGKeyArray, Part], tuple[Array, Metrics]] | None = (
        None
    )


LOGGED = 128  # embeddings: enough for an effective rank, few enough to send to the host


def each_view(pairs: Float[Array, "B 2 D H W"]) -> Float[Array, "2B D H W"]:
    """Both volumes of every pair, one after the other: rows 2i and 2i + 1 belong together."""
    return pairs.reshape(-1, *pairs.shape[2:])

"""The one signature of all pretraining objectives.

Objectives are written for the global batch: they know no mesh and no number of devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models.parameters import Parameters as Parameters

Metrics = dict[str, Array]
Statistics = dict[str, Any]
Volumes = Float[Array, "B *V D H W"]

LOGGED = 128  # embeddings: enough for an effective rank, few enough to send to the host


class Logged(NamedTuple):
    """What a loss gives beside its value.

    `metrics` are numbers to log, and the pooled "embeddings" [n, E] of up to `LOGGED` crops where
    collapse threatens; `statistics` are the new values of what `Objective.statistics` started.
    """

    metrics: Metrics
    statistics: Statistics = {}  # noqa: RUF012  # nothing writes to it


Loss = tuple[Float[Array, ""], Logged]


class Part(NamedTuple):
    """One of `of` equal parts of a batch: its rows place, place + of, ...

    What is drawn at random is drawn for the whole batch.
    """

    place: Int[Array, ""] | int
    of: int


WHOLE = Part(0, 1)


def nothing(parameters: Parameters) -> Parameters:
    """What most objectives average over training, and carry from step to step."""
    return {}


class Objective(NamedTuple):
    """Pure functions of a pretraining objective.

    Volumes are [B, D, H, W], or V views of each case, [B, V, D, H, W] (`pairs` of its config).
    """

    init: Callable[[PRNGKeyArray], Parameters]
    """`init(key)` makes the parameters, a nested dict; under "encoder" is what is transferred."""
    loss: Callable[[Parameters, Volumes, PRNGKeyArray, Array], Loss]
    """`loss(parameters, volumes, key, step)` is the scalar to minimise and what comes with it.

    Volumes are float16 unless augmentation has interpolated them: compute in float32.

    `step` counts from 0: temperatures and weights may follow a schedule of it. Running means and
    statistics are found among the parameters.
    """
    reconstruct: (
        Callable[[Parameters, Volumes, PRNGKeyArray], tuple[Array, Array, Array]] | None
    ) = None
    """`reconstruct(parameters, volumes, key)` shows a volume, what the model sees and what it makes
    of it, [B, D, H, W] each. None where there is nothing to show.
    """
    followed: Callable[[Parameters], Parameters] = nothing
    """`followed(parameters)` is what the objective wants the running mean of."""
    momentum: float = 0.0
    """Share of the running mean that each step keeps."""
    statistics: Callable[[Parameters], Statistics] = nothing
    """`statistics(parameters)` starts running statistics, such as a centre of outputs. The loss
    returns their new values, which the state carries to the next step and into checkpoints.
    """
    aligned: bool = False
    """Whether the views of a case must go on showing the same place: augmentation moves them
    alike.
    """
    part_loss: Callable[[Parameters, Volumes, PRNGKeyArray, Array, Part], Loss] | None = None
    """`part_loss(parameters, volumes, key, step, part)` is the loss of a part of a batch: its mean
    over all parts is `loss`. None where cases are compared with each other: gradients of parts say
    nothing then.
    """


def each_view(views: Float[Array, "B V D H W"]) -> Float[Array, "B*V D H W"]:
    """All volumes of every case, one after the other: rows V i to V i + V - 1 belong together."""
    return views.reshape(-1, *views.shape[2:])

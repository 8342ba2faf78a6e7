"""Readouts of frozen features: what a linear model, and the nearest neighbours, find in what the
encoder already has.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from scaling.data.tasks import TaskArrays, draws_of
from scaling.models.patches import patchify, unpatchify
from scaling.objectives.interface import Parameters
from scaling.study.config import Probe, Shape3, Task
from scaling.study.ladder import Encoder
from scaling.transfer.features import absent_as_average, encode_cases, pooled
from scaling.transfer.kinds import Learner, learner_of
from scaling.transfer.predictions import Predicted
from scaling.transfer.readouts import (
    neighbour_masks,
    neighbour_scores,
    ridge_masks,
    ridge_scores,
)


def probe(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Probe
) -> Iterator[Predicted]:
    """Read every draw's labels out of the frozen encoder, and predict the test cases: linearly
    ("probe") and from "neighbours".
    """
    learner = learner_of(task)
    train = encode_cases(encoder, parameters, arrays.train)
    test = encode_cases(encoder, parameters, arrays.test)
    shape: Shape3 = arrays.test.images.shape[2:]
    for shots in task.shots:
        for draw, chosen in draws_of(task, arrays, shots):
            labels = arrays.train.labels[chosen]
            of_shots, of_test = absent_as_average(train[chosen], test)
            if learner.masks:
                outputs = mask_readouts(
                    of_shots, labels, of_test, shape, encoder.stride, learner, recipe
                )
            else:
                pools = pooled(of_shots, of_test, shape, encoder.stride, recipe)
                outputs = case_readouts(pools, labels, learner, recipe)
            for protocol, output in outputs.items():
                yield Predicted(protocol, shots, draw, 0.0, output)


def case_readouts(
    pools: list[list[np.ndarray]], labels: np.ndarray, learner: Learner, recipe: Probe
) -> dict[str, np.ndarray]:
    """Predictions of the test cases by protocol, from pairs of features of shots and test cases."""
    targets = learner.readout_targets(labels)
    outputs = {"probe": ridge_scores(pools, targets, recipe.penalties)}
    neighbours = min(recipe.neighbours, len(labels))
    if neighbours:
        shots, test = pools[0]
        outputs["neighbours"] = neighbour_scores(shots, targets, test, neighbours)
    return {protocol: learner.from_readout(scores) for protocol, scores in outputs.items()}


def mask_readouts(
    shots: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    shape: Shape3,
    stride: int,
    learner: Learner,
    recipe: Probe,
) -> dict[str, np.ndarray]:
    """Masks of the test cases by protocol, a linear readout of every token for each label."""
    targets = learner.readout_targets(labels)  # [n, D, H, W, C]
    above: dict[str, list[np.ndarray]] = {"probe": [], "neighbours": []}
    neighbours = min(recipe.neighbours, len(labels))
    for label in range(targets.shape[-1]):
        masks = np.asarray(patchify(jnp.asarray(targets[..., label]), stride))  # [n, N, P]
        readouts = {"probe": ridge_masks(shots, masks, test, recipe.mask_penalty)}
        if neighbours:
            readouts["neighbours"] = neighbour_masks(shots, masks, test, neighbours)
        for protocol, (scores, threshold) in readouts.items():
            volumes = np.asarray(unpatchify(jnp.asarray(scores), shape, stride))
            above[protocol].append(volumes - threshold)
    return {
        protocol: learner.from_readout(np.stack(labels, axis=-1))
        for protocol, labels in above.items()
        if labels
    }

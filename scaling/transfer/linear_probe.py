"""The linear probe that FOMO26 reads embeddings with, in NumPy.

One linear layer per learning rate, weights N(0, 0.01^2), cross-entropy, SGD with momentum 0.9 and
no weight decay, a cosine schedule to 0 in every step, 20 epochs in batches of 64, embeddings as
they are. The layer with the best macro AUROC on the validation cases is tested (after the
LinearProbeModule of Sllambias/asparagus on GitHub).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scaling.data.tasks import TaskArrays, draws_of
from scaling.objectives.interface import Parameters
from scaling.study.config import SgdProbe, Task
from scaling.study.ladder import Encoder
from scaling.transfer.features import absent_as_average, encode_cases
from scaling.transfer.metrics import macro_auroc
from scaling.transfer.predictions import Predicted

SEED = 42


def sgd_probe(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: SgdProbe
) -> Iterator[Predicted]:
    """Read every draw's classes out of the mean of all tokens, and predict the test cases."""
    train = encode_cases(encoder, parameters, arrays.train)
    test = encode_cases(encoder, parameters, arrays.test)
    classes = len(task.classes) or 2
    every = round(1 / recipe.validation_share)
    for shots in task.shots:
        for draw, chosen in draws_of(task, arrays, shots):
            of_shots, of_test = absent_as_average(train[chosen], test)
            features = of_shots.mean(1).astype(np.float64)  # [shots, F]
            labels = arrays.train.labels[chosen].astype(np.int64)
            # Shots list one class after the other: every k-th one holds out all in proportion.
            held_out = np.arange(shots) % every == 0
            result = fit_probe(
                features[~held_out],
                labels[~held_out],
                features[held_out],
                labels[held_out],
                of_test.mean(1).astype(np.float64),
                classes,
                recipe,
            )
            scores = result.scores if classes > 2 else result.scores[:, 1]
            yield Predicted("sgd_probe", shots, draw, result.rate, scores)


@dataclass(frozen=True)
class ProbeResult:
    """The probe's class probabilities of the test cases, and the learning rate that was chosen."""

    scores: Float[np.ndarray, "n C"]
    rate: float
    validation_auroc: float


def fit_probe(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, "n"],
    validation: Float[np.ndarray, "v d"],
    validation_labels: Int[np.ndarray, "v"],
    test: Float[np.ndarray, "t d"],
    classes: int,
    recipe: SgdProbe | None = None,
) -> ProbeResult:
    """Train the layers of all rates on the same batches and test the best.

    A test row that is not finite gets NaN scores.
    """
    recipe = recipe or SgdProbe()
    rng = np.random.default_rng(SEED)
    rates = np.array(recipe.learning_rates)
    features = train.shape[1]
    weights = rng.normal(0, recipe.weight_scale, (len(rates), features, classes))
    biases = np.zeros((len(rates), 1, classes))
    weight_speed, bias_speed = np.zeros_like(weights), np.zeros_like(biases)
    steps = recipe.epochs * -(-len(train) // recipe.batch)
    step = 0
    for _ in range(recipe.epochs):
        order = rng.permutation(len(train))
        for start in range(0, len(train), recipe.batch):
            rows = order[start : start + recipe.batch]
            target = np.eye(classes)[train_labels[rows]]
            residual = (softmax(train[rows] @ weights + biases) - target) / len(rows)
            decay = 0.5 * (1 + np.cos(np.pi * step / steps))
            rate = (rates * decay)[:, None, None]
            weight_speed = recipe.momentum * weight_speed + train[rows].T @ residual
            bias_speed = recipe.momentum * bias_speed + residual.sum(1, keepdims=True)
            weights = weights - rate * weight_speed
            biases = biases - rate * bias_speed
            step += 1
    probabilities = softmax(validation @ weights + biases)  # [rates, v, C]
    aurocs = [validation_auroc(validation_labels, scores) for scores in probabilities]
    best = int(np.argmax(aurocs))
    finite = np.isfinite(test).all(1)
    scores = softmax(np.where(finite[:, None], test, 0.0) @ weights[best] + biases[best])
    scores[~finite] = np.nan
    return ProbeResult(scores, float(rates[best]), float(aurocs[best]))


def validation_auroc(labels: np.ndarray, scores: Float[np.ndarray, "v C"]) -> float:
    """Macro AUROC, -1 where it does not exist or the layer has diverged."""
    if not np.isfinite(scores).all():
        return -1.0
    return float(np.nan_to_num(macro_auroc(labels, scores), nan=-1.0))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis; a diverged layer's NaN stays NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)

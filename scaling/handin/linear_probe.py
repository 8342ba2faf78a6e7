"""The linear probe that challenges read embeddings with, in NumPy.

One linear layer per learning rate, weights N(0, 0.01^2), cross-entropy, SGD with momentum 0.9 and
no weight decay, a cosine schedule to 0 in every step, 20 epochs in batches of 64, embeddings as
they are. The layer with the best macro AUROC on the validation cases is tested (after fomo26/fomo-lp
and the LinearProbeModule of Sllambias/asparagus on GitHub; splits are seeded here, not copied).
"""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from scaling.handin import challenge_metrics

RATES = (*np.outer(10.0 ** np.arange(-5, -1), (1, 2, 5)).ravel(), 0.1)  # 1e-5 to 0.1
EPOCHS, BATCH, MOMENTUM = 20, 64, 0.9
SEED = 42
TEST, TRAIN, VALIDATION = "test", "train", "validation"


@dataclass(frozen=True)
class ProbeResult:
    """The probe's class probabilities of the test cases, and the learning rate that was chosen."""

    scores: Float[np.ndarray, "n C"]
    rate: float
    validation_auroc: float


def split_cases(classes: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Part of every case [n]: half of a class is "test", 4 of 10 "train", 1 of 10 "validation".

    Within a class the parts are balanced over `stratum` (such as the decade of age).
    """
    rng = np.random.default_rng(SEED)
    parts = np.empty(len(classes), dtype=object)
    # Ten neighbours in the order of the stratum: five tested, four trained on, one to choose by.
    pattern = np.array([TEST, TRAIN] * 4 + [TEST, VALIDATION], dtype=object)
    for name in sorted(set(classes)):
        members = np.flatnonzero(classes == name)
        order = members[np.lexsort((rng.random(len(members)), stratum[members]))]
        start = int(rng.integers(len(pattern)))
        if len(order) < len(pattern):
            start = 9 - len(order) // 2  # so that every part of a small class has a case
        parts[order] = pattern[(start + np.arange(len(order))) % len(pattern)]
    return parts


def fit_probe(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, "n"],
    validation: Float[np.ndarray, "v d"],
    validation_labels: Int[np.ndarray, "v"],
    test: Float[np.ndarray, "t d"],
    classes: int,
) -> ProbeResult:
    """Train the layers of all rates on the same batches and test the best.

    A test row that is not finite gets NaN scores.
    """
    rng = np.random.default_rng(SEED)
    rates = np.array(RATES)
    features = train.shape[1]
    weights = rng.normal(0, 0.01, (len(rates), features, classes))
    biases = np.zeros((len(rates), 1, classes))
    weight_speed, bias_speed = np.zeros_like(weights), np.zeros_like(biases)
    steps = EPOCHS * -(-len(train) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(train))
        for start in range(0, len(train), BATCH):
            rows = order[start : start + BATCH]
            target = np.eye(classes)[train_labels[rows]]
            residual = (softmax(train[rows] @ weights + biases) - target) / len(rows)
            decay = 0.5 * (1 + np.cos(np.pi * step / steps))
            rate = (rates * decay)[:, None, None]
            weight_speed = MOMENTUM * weight_speed + train[rows].T @ residual
            bias_speed = MOMENTUM * bias_speed + residual.sum(1, keepdims=True)
            weights = weights - rate * weight_speed
            biases = biases - rate * bias_speed
            step += 1
    probabilities = softmax(validation @ weights + biases)  # [rates, v, C]
    aurocs = [
        challenge_metrics.auroc_one_vs_rest(validation_labels, scores) for scores in probabilities
    ]
    best = int(np.argmax(np.nan_to_num(aurocs, nan=-1.0)))
    finite = np.isfinite(test).all(1)
    scores = softmax(np.where(finite[:, None], test, 0.0) @ weights[best] + biases[best])
    scores[~finite] = np.nan
    return ProbeResult(scores, float(rates[best]), float(aurocs[best]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis; a diverged layer's NaN stays NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)


def group_of(values: pd.Series, bounds: tuple[float, ...]) -> list[str | None]:
    """Group of every case: the lower-cased text, or the bin of a number.

    `bounds` are ascending inclusive upper bounds of the bins; numbers that are missing or not
    positive have no group.
    """
    if not bounds:
        return [text.strip().lower() or None for text in values.fillna("").astype(str)]
    groups: list[str | None] = []
    for number in pd.to_numeric(values, errors="coerce"):
        if not number > 0:
            groups.append(None)
            continue
        index = int(np.searchsorted(bounds, number))
        groups.append(f"up to {bounds[index]:g}" if index < len(bounds) else f"> {bounds[-1]:g}")
    return groups


def parse_group(text: str) -> tuple[str, tuple[float, ...]]:
    """Column and bounds of a group such as "sex" or "age:45,65". Raises ValueError."""
    match = re.fullmatch(r"([\w ]+?)(?::([\d.,\s]+))?", text)
    if match is None:
        raise ValueError(f"group {text!r} is not understood; expected such as sex or age:45,65")
    bounds = tuple(float(bound) for bound in (match[2] or "").split(",") if bound.strip())
    if list(bounds) != sorted(bounds):
        raise ValueError(f"group {text!r} has bounds {bounds}; expected them ascending")
    return match[1], bounds

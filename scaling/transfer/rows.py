"""Rows of a fine-tuning program: which cases each sees, its label scaling, rate and key."""

import zlib
from typing import NamedTuple

import jax
import numpy as np

from scaling.data.tasks import Cases
from scaling.study.config import Task
from scaling.study.task_kinds import kind_of


class Row(NamedTuple):
    """One fine-tune: `cases` are the places of its labelled cases, one class after the other."""

    shots: int
    draw: int
    cases: np.ndarray


def in_classes(cases: Cases, task: Task) -> np.ndarray:
    """Places of all cases, one class after the other."""
    if kind_of(task).stratified:
        return np.argsort(cases.labels, kind="stable")
    return np.arange(len(cases.ids))


def row_weights(rows: list[Row], n: int, left_out: list[np.ndarray] | None = None) -> np.ndarray:
    """Weights float32 [R, n]: 1 for the cases of each row, but for those `left_out` of it."""
    weights = np.zeros((len(rows), n), np.float32)
    for r, row in enumerate(rows):
        weights[r, row.cases] = 1.0
        if left_out is not None:
            weights[r, left_out[r]] = 0.0
    return weights


def label_scaling(labels: np.ndarray, weights: np.ndarray, standardised: bool) -> np.ndarray:
    """Mean and standard deviation of each row's own labels [R, 2], or (0, 1) for all."""
    if not standardised:
        return np.tile(np.array([0, 1], np.float32), (len(weights), 1))
    seen = [labels[row > 0] for row in weights]
    return np.array([(values.mean(), max(values.std(), 1e-3)) for values in seen], np.float32)


def best_rates(
    losses: np.ndarray, rows: list[Row], candidates: tuple[float, ...], budget: int
) -> np.ndarray:
    """The learning rate of every row: of the first `budget` candidates that with the lowest loss
    [candidates, R], on average over all rows of its number of shots.

    A loss that is not a number never wins.
    """
    shots = np.array([row.shots for row in rows])
    competing = np.nan_to_num(losses[: max(budget, 1)], nan=np.inf)
    chosen = [int(np.argmin(competing[:, shots == row.shots].mean(1))) for row in rows]
    return np.array([candidates[candidate] for candidate in chosen])


def row_keys(task: Task, rows: list[Row]) -> jax.Array:
    """Keys [R] of heads and batches. They are the same for every arm of a task: arms are compared
    draw by draw.
    """
    seeds = [zlib.crc32(f"{task.name}/{row.shots}/{row.draw}".encode()) for row in rows]
    return jax.vmap(jax.random.key)(np.array(seeds, np.uint32))

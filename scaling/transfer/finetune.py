"""Protocols that train encoder and head: few-shot finetuning on draws, and the supervised controls on all labelled cases.

Every row (a number of shots and a draw) of a task is a row of one compiled program (`scaling.transfer.finetune_program`).
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from scipy.special import expit

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.objectives.interface import Parameters
from scaling.study.config import Finetune, Task
from scaling.study.ladder import Encoder
from scaling.transfer.finetune_program import (
    EVERYWHERE,
    FinetuneProgram,
    Kind,
    finetune_program,
    row_mesh,
)
from scaling.transfer.predictions import Predicted

CHUNK = 8  # cases predicted at a time


class Row(NamedTuple):
    """One finetune: `cases` are the places of its labelled cases, one class after the other."""

    shots: int
    draw: int
    cases: np.ndarray


class Fit(NamedTuple):
    """Finetuned networks: parameters [R], each row's label scaling (mean, deviation) [R, 2] and learning rate [R]; `budget` is how many
    rates competed.
    """

    budget: int
    parameters: Any
    scaling: np.ndarray
    rates: np.ndarray


def finetune(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune
) -> Iterator[Predicted]:
    """Finetune on every draw of every number of shots, and predict the test cases: protocol "finetune", and "finetune, N trials" for
    each smaller tuning budget.

    Raises FloatingPointError if a prediction is not finite.
    """
    rows = [
        Row(shots, draw, cases) for shots in task.shots for draw, cases in enumerate(few_shot_draws(task, arrays.train, shots))
    ]  # fmt: skip
    yield from fit_and_predict(
        "finetune", encoder, parameters, arrays.train, rows, arrays.test, task, recipe
    )


def supervised(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune
) -> Iterator[Predicted]:
    """Train an untrained encoder on every labelled case: of the finetuning site ("supervised out of domain"), and of the sites tested
    out of domain ("supervised in domain"), where the task names such cases. The draws differ in head and batches only.
    """
    for protocol, cases in (
        ("supervised out of domain", arrays.train),
        ("supervised in domain", arrays.inside),
    ):
        if cases is not None:
            rows = [
                Row(len(cases.ids), draw, in_classes(cases, task.kind))
                for draw in range(task.draws)
            ]
            yield from fit_and_predict(
                protocol, encoder, parameters, cases, rows, arrays.test, task, recipe
            )


def in_classes(cases: Cases, kind: Kind) -> np.ndarray:
    """Places of all cases, one class after the other."""
    return (
        np.argsort(cases.labels, kind="stable")
        if kind == "classification"
        else np.arange(len(cases.ids))
    )


def fit_and_predict(
    protocol: str,
    encoder: Encoder,
    parameters: Parameters,
    cases: Cases,
    rows: list[Row],
    test: Cases,
    task: Task,
    recipe: Finetune,
) -> Iterator[Predicted]:
    """Fit every row and predict the test cases, once for every tuning budget."""
    program = finetune_program(
        encoder, task.kind, len(task.sequences), test.images.shape[2:], recipe
    )
    for fit in fit_rows(program, parameters, cases, rows, row_keys(task, rows), task.kind, recipe):
        name = (
            protocol
            if fit.budget == len(recipe.learning_rates)
            else f"{protocol}, {fit.budget} trials"
        )

        def finished(outputs: np.ndarray, fit: Fit = fit) -> np.ndarray:
            return as_predictions(outputs, fit, rows, task)

        for row, rate, outputs in zip(
            rows, fit.rates, predict_cases(program, fit.parameters, test, finished), strict=True
        ):
            yield Predicted(name, row.shots, row.draw, float(rate), outputs)


def as_predictions(outputs: np.ndarray, fit: Fit, rows: list[Row], task: Task) -> np.ndarray:
    """What networks put out [R, n, ...] as probabilities, years or masks. Raises FloatingPointError where it is not finite."""
    finite = np.isfinite(outputs.reshape(len(rows), -1)).all(1)
    if not finite.all():
        worst = int(np.argmin(finite))
        raise FloatingPointError(
            f"finetuning on task {task.name!r} with {rows[worst].shots} shots diverged at learning rate {fit.rates[worst]:g}; "
            "give smaller transfer.finetune.learning_rates"
        )
    match task.kind:
        case "segmentation":
            return outputs > 0
        case "classification":
            return expit(outputs.astype(np.float64))
        case "regression":
            return outputs * fit.scaling[:, 1:] + fit.scaling[:, :1]


def fit_rows(
    program: FinetuneProgram,
    encoder: Parameters,
    cases: Cases,
    rows: list[Row],
    keys: jax.Array,
    kind: Kind,
    recipe: Finetune,
) -> Iterator[Fit]:
    """Finetune every row, once for every tuning budget: that of all learning rates first, then those of `recipe.tuning`.

    Of a budget's rates each number of shots takes the one with the lowest mean loss of its draws on their own held-out shots.
    """
    n = len(cases.ids)
    everywhere = NamedSharding(row_mesh(len(rows)), EVERYWHERE)
    encoder, images, present, labels = jax.device_put(
        (encoder, cases.images, cases.present, cases.labels), everywhere
    )
    heads = program.init_heads(keys)

    def fit(weights: np.ndarray, rates: np.ndarray) -> tuple[Any, np.ndarray]:
        scaling = label_scaling(cases.labels, weights, kind)
        return program.fit(
            encoder,
            heads,
            (images, present, labels),
            weights,
            scaling,
            rates.astype(np.float32),
            keys,
        ), scaling

    losses = np.zeros((len(recipe.learning_rates), len(rows)))
    budgets = (len(recipe.learning_rates), *recipe.tuning)
    every = round(
        1 / recipe.validation_share
    )  # rows list one class after the other, so every k-th shot holds out both in proportion
    held = [row.cases[::every] for row in rows]
    for candidate, rate in enumerate(
        recipe.learning_rates[: max(budgets)] if max(budgets) > 1 else ()
    ):
        fitted, scaling = fit(row_weights(rows, n, held), np.full(len(rows), rate))
        outputs = predict_cases(program, fitted, cases)
        for r, out in enumerate(held):
            targets = (np.float32(cases.labels[out]) - scaling[r][0]) / scaling[r][1]
            losses[candidate, r] = np.mean(
                program.losses(jnp.asarray(outputs[r][out]), jnp.asarray(targets))
            )
    done: dict[tuple[float, ...], tuple[Any, np.ndarray]] = {}
    for budget in budgets:
        rates = best_rates(losses, rows, recipe.learning_rates, budget)
        if tuple(rates) not in done:
            done[tuple(rates)] = fit(row_weights(rows, n), rates)
        yield Fit(budget, *done[tuple(rates)], rates)


def best_rates(
    losses: np.ndarray, rows: list[Row], candidates: tuple[float, ...], budget: int
) -> np.ndarray:
    """The learning rate of every row: of the first `budget` candidates that with the lowest loss [candidates, R], on average over all
    rows of its number of shots. A loss that is not a number never wins.
    """
    shots = np.array([row.shots for row in rows])
    known = np.nan_to_num(losses[: max(budget, 1)], nan=np.inf)
    return np.array(
        [candidates[int(np.argmin(known[:, shots == row.shots].mean(1)))] for row in rows]
    )


def predict_cases(
    program: FinetuneProgram,
    fitted: Any,
    cases: Cases,
    finished: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> np.ndarray:
    """Outputs [R, n, ...] of R networks for all cases, a chunk at a time, each chunk as `finished` makes it."""
    n = len(cases.ids)
    outputs = [
        finished(np.asarray(program.predict(fitted, cases.images[places], cases.present[places])))
        for places in in_chunks(n)
    ]
    return np.concatenate(outputs, axis=1)[:, :n]


def in_chunks(n: int) -> Iterator[np.ndarray]:
    """Places int [CHUNK] of n cases, a chunk at a time, the last one filled up with the last case: one program serves all."""
    for first in range(0, n, CHUNK):
        yield np.minimum(np.arange(first, first + CHUNK), n - 1)


def label_scaling(labels: np.ndarray, weights: np.ndarray, kind: Kind) -> np.ndarray:
    """Mean and standard deviation of each row's own labels [R, 2] for regression; (0, 1) otherwise."""
    if kind != "regression":
        return np.tile(np.array([0, 1], np.float32), (len(weights), 1))
    seen = [labels[row > 0] for row in weights]
    return np.array([(values.mean(), max(values.std(), 1e-3)) for values in seen], np.float32)


def row_weights(rows: list[Row], n: int, left_out: list[np.ndarray] | None = None) -> np.ndarray:
    """Weights float32 [R, n]: 1 for the cases of each row, but for those `left_out` of it."""
    weights = np.zeros((len(rows), n), np.float32)
    for r, row in enumerate(rows):
        weights[r, row.cases] = 1.0
        if left_out is not None:
            weights[r, left_out[r]] = 0.0
    return weights


def row_keys(task: Task, rows: list[Row]) -> jax.Array:
    """Keys [R] of heads and batches. They are the same for every arm of a task: arms are compared draw by draw."""
    seeds = [zlib.crc32(f"{task.name}/{row.shots}/{row.draw}".encode()) for row in rows]
    return jax.vmap(jax.random.key)(np.array(seeds, np.uint32))

"""Protocols that train encoder and head: few-shot fine-tuning on draws, and the supervised controls
on all labelled cases.

Every row (a number of shots and a draw) of a task is a row of one compiled program
(`scaling.transfer.finetune_program`).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.objectives.interface import Parameters
from scaling.study.config import Finetune, Task
from scaling.study.ladder import Encoder
from scaling.transfer.chunks import in_chunks
from scaling.transfer.finetune_program import (
    EVERYWHERE,
    FinetuneProgram,
    finetune_program,
    row_mesh,
)
from scaling.transfer.kinds import Learner, learner_of
from scaling.transfer.predictions import Predicted
from scaling.transfer.rows import (
    Row,
    best_rates,
    in_classes,
    label_scaling,
    row_keys,
    row_weights,
)


class Fit(NamedTuple):
    """Fine-tuned networks: parameters [R], each row's label scaling (mean, deviation) [R, 2] and
    learning rate [R]; `budget` is how many rates competed.
    """

    budget: int
    parameters: Any
    scaling: np.ndarray
    rates: np.ndarray


def finetune(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune
) -> Iterator[Predicted]:
    """Fine-tune on every draw of every number of shots, and predict the test cases: protocol
    "finetune", and "finetune, N trials" for each smaller tuning budget.

    Raises FloatingPointError if a prediction is not finite.
    """
    rows = []
    for shots in task.shots:
        for draw, cases in enumerate(few_shot_draws(task, arrays.train, shots)):
            rows.append(Row(shots, draw, cases))
    yield from fit_and_predict(
        "finetune", encoder, parameters, arrays.train, rows, arrays.test, task, recipe
    )


def supervised(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune
) -> Iterator[Predicted]:
    """Train an untrained encoder on every labelled case: of the fine-tuning site ("supervised out
    of domain"), and of the sites tested out of domain ("supervised in domain"), where the task
    names such cases. The draws differ in head and batches only.
    """
    for protocol, cases in (
        ("supervised out of domain", arrays.train),
        ("supervised in domain", arrays.inside),
    ):
        if cases is not None:
            everything = in_classes(cases, task)
            rows = [Row(len(cases.ids), draw, everything) for draw in range(task.draws)]
            yield from fit_and_predict(
                protocol, encoder, parameters, cases, rows, arrays.test, task, recipe
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
    learner = learner_of(task)
    shape = test.images.shape[2:]
    program = finetune_program(encoder, learner, len(task.sequences), shape, recipe, len(rows))
    keys = row_keys(task, rows)
    for fit in fit_rows(program, parameters, cases, rows, keys, learner, recipe):
        name = protocol
        if fit.budget < len(recipe.learning_rates):
            name = f"{protocol}, {fit.budget} trials"

        def finished(outputs: np.ndarray, fit: Fit = fit) -> np.ndarray:
            return as_predictions(outputs, fit, rows, task)

        predictions = predict_cases(program, fit.parameters, test, finished)
        for row, rate, outputs in zip(rows, fit.rates, predictions, strict=True):
            yield Predicted(name, row.shots, row.draw, float(rate), outputs)


def as_predictions(outputs: np.ndarray, fit: Fit, rows: list[Row], task: Task) -> np.ndarray:
    """What networks put out [R, n, ...] as probabilities, years or masks.

    Raises FloatingPointError where it is not finite.
    """
    finite = np.isfinite(outputs.reshape(len(rows), -1)).all(1)
    if not finite.all():
        worst = int(np.argmin(finite))
        raise FloatingPointError(
            f"finetuning on task {task.name!r} with {rows[worst].shots} shots diverged at learning "
            f"rate {fit.rates[worst]:g}; give smaller transfer.finetune.learning_rates"
        )
    learner = learner_of(task)
    if learner.standardised:
        outputs = outputs * fit.scaling[:, 1:] + fit.scaling[:, :1]
    return learner.predict(outputs)


def fit_rows(
    program: FinetuneProgram,
    encoder: Parameters,
    cases: Cases,
    rows: list[Row],
    keys: jax.Array,
    learner: Learner,
    recipe: Finetune,
) -> Iterator[Fit]:
    """Fine-tune every row, once for every tuning budget: that of all learning rates first, then
    those of `recipe.tuning`.

    Of a budget's rates each number of shots takes the one with the lowest mean loss of its draws on
    their own held-out shots.
    """
    n = len(cases.ids)
    everywhere = NamedSharding(row_mesh(len(rows)), EVERYWHERE)
    encoder, images, present, labels = jax.device_put(
        (encoder, cases.images, cases.present, cases.labels), everywhere
    )
    heads = program.init_heads(keys)

    def fit(weights: np.ndarray, rates: np.ndarray) -> tuple[Any, np.ndarray]:
        scaling = label_scaling(cases.labels, weights, learner.standardised)
        fitted = program.fit(
            encoder,
            heads,
            (images, present, labels),
            weights,
            scaling,
            rates.astype(np.float32),
            keys,
        )
        return fitted, scaling

    losses = np.zeros((len(recipe.learning_rates), len(rows)))
    budgets = (len(recipe.learning_rates), *recipe.tuning)
    # Rows list one class after the other: every k-th shot holds out all classes in proportion.
    every = round(1 / recipe.validation_share)
    held_out = [row.cases[::every] for row in rows]
    if max(budgets) > 1:
        for candidate, rate in enumerate(recipe.learning_rates[: max(budgets)]):
            fitted, scaling = fit(row_weights(rows, n, held_out), np.full(len(rows), rate))
            losses[candidate] = held_out_losses(program, fitted, cases, held_out, scaling)
    done: dict[tuple[float, ...], tuple[Any, np.ndarray]] = {}
    for budget in budgets:
        rates = best_rates(losses, rows, recipe.learning_rates, budget)
        if tuple(rates) not in done:
            done[tuple(rates)] = fit(row_weights(rows, n), rates)
        yield Fit(budget, *done[tuple(rates)], rates)


def held_out_losses(
    program: FinetuneProgram,
    fitted: Any,
    cases: Cases,
    held_out: list[np.ndarray],
    scaling: np.ndarray,
) -> np.ndarray:
    """Mean loss of every row on the cases that are held out of it [R]."""
    outputs = predict_cases(program, fitted, cases)
    losses = np.zeros(len(held_out))
    for r, places in enumerate(held_out):
        targets = (np.float32(cases.labels[places]) - scaling[r][0]) / scaling[r][1]
        losses[r] = np.mean(program.losses(jnp.asarray(outputs[r][places]), jnp.asarray(targets)))
    return losses


def predict_cases(
    program: FinetuneProgram,
    fitted: Any,
    cases: Cases,
    finished: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> np.ndarray:
    """Outputs [R, n, ...] of R networks for all cases, a chunk at a time, each chunk as `finished`
    makes it.
    """
    n = len(cases.ids)
    outputs = [
        finished(np.asarray(program.predict(fitted, cases.images[places], cases.present[places])))
        for places in in_chunks(n)
    ]
    return np.concatenate(outputs, axis=1)[:, :n]

"""Protocols that train encoder and head: few-shot fine-tuning on draws, and the supervised controls
on all labelled cases.

Every row (a number of shots and a draw) of a task is a row of one compiled program
(`scaling.transfer.finetune_program`).
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from scaling.data.tasks import Cases, TaskArrays, draws_of
from scaling.objectives.interface import Parameters
from scaling.study.config import Finetune, Task
from scaling.study.ladder import Encoder
from scaling.transfer.chunks import in_chunks
from scaling.transfer.drafts import Keep, computed
from scaling.transfer.finetune_program import (
    EVERYWHERE,
    FinetuneProgram,
    finetune_program,
    row_mesh,
)
from scaling.transfer.kinds import learner_of
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


Protocol = tuple[str, Iterator[Predicted]]  # its name, and its predictions once they are asked for


def finetune(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune
) -> Iterator[Predicted]:
    """Fine-tune on every draw of every number of shots, and predict the test cases: protocol
    "finetune", and "finetune, N trials" for each smaller tuning budget.

    Raises FloatingPointError if a prediction is not finite.
    """
    for _, predicted in few_shot_protocols(encoder, parameters, arrays, task, recipe):
        yield from predicted


def few_shot_protocols(
    encoder: Encoder,
    parameters: Parameters,
    arrays: TaskArrays,
    task: Task,
    recipe: Finetune,
    keep: Keep = computed,
) -> Iterator[Protocol]:
    """What `finetune` does, a protocol at a time. `keep` keeps losses that take long to compute."""
    rows = []
    for shots in task.shots:
        for draw, cases in draws_of(task, arrays, shots):
            rows.append(Row(shots, draw, cases))
    yield from tuned_protocols(
        "finetune", encoder, parameters, arrays.train, rows, arrays.test, task, recipe, keep
    )


def supervised(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune
) -> Iterator[Predicted]:
    """Train an untrained encoder on every labelled case: of the fine-tuning site ("supervised out
    of domain"), and of the sites tested out of domain ("supervised in domain"), where the task
    names such cases. The draws differ in head and batches only.
    """
    for _, predicted in supervised_protocols(encoder, parameters, arrays, task, recipe):
        yield from predicted


def supervised_protocols(
    encoder: Encoder,
    parameters: Parameters,
    arrays: TaskArrays,
    task: Task,
    recipe: Finetune,
    keep: Keep = computed,
) -> Iterator[Protocol]:
    """What `supervised` does, a protocol at a time. `keep` keeps losses that take long to
    compute.
    """
    for protocol, cases in (
        ("supervised out of domain", arrays.train),
        ("supervised in domain", arrays.inside),
    ):
        if cases is not None:
            everything = in_classes(cases, task)
            new_draws = range(arrays.first_draw, task.draws)
            rows = [Row(len(cases.ids), draw, everything) for draw in new_draws]
            yield from tuned_protocols(
                protocol, encoder, parameters, cases, rows, arrays.test, task, recipe, keep
            )


def tuned_protocols(
    protocol: str,
    encoder: Encoder,
    parameters: Parameters,
    cases: Cases,
    rows: list[Row],
    test: Cases,
    task: Task,
    recipe: Finetune,
    keep: Keep,
) -> Iterator[Protocol]:
    """A protocol for every tuning budget; nothing is fitted before it is asked for."""
    learner = learner_of(task)
    shape = test.images.shape[2:]
    program = finetune_program(encoder, learner, len(task.sequences), shape, recipe, len(rows))

    def keep_losses(name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        return keep(f"{protocol}, {name}", compute)

    fits = Fits(program, parameters, cases, rows, task, recipe, keep_losses)
    for budget in (len(recipe.learning_rates), *recipe.tuning):
        name = protocol
        if budget < len(recipe.learning_rates):
            name = f"{protocol}, {budget} trials"
        yield name, fit_and_predict(name, fits, budget, test, task)


def fit_and_predict(
    name: str, fits: "Fits", budget: int, test: Cases, task: Task
) -> Iterator[Predicted]:
    """Fit every row with the rates of one tuning budget, and predict the test cases."""
    fit = fits.of_budget(budget)

    def finished(outputs: np.ndarray) -> np.ndarray:
        return as_predictions(outputs, fit, fits.rows, task)

    predictions = predict_cases(fits.program, fit.parameters, test, finished)
    for row, rate, outputs in zip(fits.rows, fit.rates, predictions, strict=True):
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


class Fits:
    """The fits of all rows of one protocol, each made when it is asked for.

    Of a budget's rates each number of shots takes the one with the lowest mean loss of its draws on
    their own held-out shots. `keep` keeps those losses.
    """

    def __init__(
        self,
        program: FinetuneProgram,
        encoder: Parameters,
        cases: Cases,
        rows: list[Row],
        task: Task,
        recipe: Finetune,
        keep: Keep = computed,
    ):
        self.program = program
        self.encoder = encoder
        self.cases = cases
        self.rows = rows
        self.recipe = recipe
        self.learner = learner_of(task)
        self.keep = keep
        self.keys = row_keys(task, rows)
        self.made: dict[tuple[float, ...], tuple[Any, np.ndarray]] = {}  # rates -> fit

    @cached_property
    def on_devices(self) -> tuple[Parameters, Any, tuple[jax.Array, jax.Array, jax.Array]]:
        """The encoder, the heads of all rows, and images, presence and labels of the cases."""
        everywhere = NamedSharding(row_mesh(len(self.rows)), EVERYWHERE)
        encoder, images, present, labels = jax.device_put(
            (self.encoder, self.cases.images, self.cases.present, self.cases.labels), everywhere
        )
        return encoder, self.program.init_heads(self.keys), (images, present, labels)

    def fit(self, weights: np.ndarray, rates: np.ndarray) -> tuple[Any, np.ndarray]:
        """Fine-tune every row on the cases that `weights` [R, n] names, at `rates` [R]."""
        scaling = label_scaling(self.cases.labels, weights, self.learner.standardised)
        encoder, heads, cases = self.on_devices
        fitted = self.program.fit(
            encoder, heads, cases, weights, scaling, rates.astype(np.float32), self.keys
        )
        return fitted, scaling

    @cached_property
    def losses(self) -> np.ndarray:
        """Losses of the candidate rates on held-out shots [candidates, R]: zeros where no two
        compete.
        """
        rates, rows = self.recipe.learning_rates, self.rows
        losses = np.zeros((len(rates), len(rows)))
        if len(rates) > 1:
            # Rows list one class after the other: every k-th shot holds out all classes in
            # proportion.
            every = round(1 / self.recipe.validation_share)
            held_out = [row.cases[::every] for row in rows]
            for candidate, rate in enumerate(rates):
                compute = partial(self.losses_at, rate, held_out)
                losses[candidate] = self.keep(f"losses {candidate}", compute)
        return losses

    def losses_at(self, rate: float, held_out: list[np.ndarray]) -> np.ndarray:
        """Losses of one rate on held-out shots [R]."""
        weights = row_weights(self.rows, len(self.cases.ids), held_out)
        fitted, scaling = self.fit(weights, np.full(len(self.rows), rate))
        return held_out_losses(self.program, fitted, self.cases, held_out, scaling)

    def of_budget(self, budget: int) -> Fit:
        """The fit of every row at the rate that is best among the first `budget` (0: at the
        first).
        """
        rates = best_rates(self.losses, self.rows, self.recipe.learning_rates, budget)
        if tuple(rates) not in self.made:
            weights = row_weights(self.rows, len(self.cases.ids))
            self.made[tuple(rates)] = self.fit(weights, rates)
        return Fit(budget, *self.made[tuple(rates)], rates)


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

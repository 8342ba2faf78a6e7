"""Few-shot finetuning as one compiled program: a scan over steps, vmapped over draws.

All cases of a few-shot task fit on the device. A draw is a row of weights over the training cases, zero for those it may not see.
"""

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import expit

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.models.backbone import build_encoder
from scaling.models.heads import make_head
from scaling.objectives.augment import augment, augment_masks
from scaling.objectives.objective import Parameters
from scaling.objectives.supervised import classification_loss, regression_loss, segmentation_loss
from scaling.study.config import Finetune, Shape3, Task
from scaling.study.ladder import Encoder, VitShape
from scaling.training.optimizer import adamw_direction, descend, warmup_stable_decay
from scaling.transfer.predictions import Predicted

Kind = Literal["classification", "segmentation", "regression"]
CHUNK = 8  # cases predicted at a time


class FinetuneProgram(NamedTuple):
    """Compiled functions of one (encoder, kind of task, recipe).

    `init_heads(keys [R])` makes the heads' parameters;
    `fit(encoder, heads, cases, weights [R, n], scaling [R, 2], rate, keys [R])` finetunes R draws;
    `predict(fitted, images [CHUNK, S, D, H, W], present [CHUNK, S])` gives logits, or standardised predictions, [R, CHUNK, ...];
    `losses(outputs, targets)` are the task's losses, per case.
    """

    init_heads: Callable[[Array], Any]
    fit: Callable[..., Any]
    predict: Callable[[Any, Array, Array], Array]
    losses: Callable[[Array, Array], Array]


@lru_cache
def finetune_program(encoder: Encoder, kind: Kind, sequences: int, shape: Shape3, recipe: Finetune) -> FinetuneProgram:
    """The finetuning program of one encoder for tasks of `kind` with S `sequences` of `shape` voxels."""

    def head(rngs: nnx.Rngs) -> nnx.Module:
        return make_head(kind, encoder, sequences, shape, recipe.grid, rngs)

    features = build_encoder(encoder).features
    head_graph = nnx.split(nnx.eval_shape(lambda: head(nnx.Rngs(0))))[0]
    losses = {
        "classification": classification_loss,
        "regression": regression_loss,
        "segmentation": segmentation_loss,
    }[kind]
    optimizer = adamw_direction(0.999, recipe.weight_decay, recipe.clip_norm)
    warmup = round(recipe.warmup_share * recipe.steps)

    def init_head(key: PRNGKeyArray) -> Parameters:
        return nnx.to_pure_dict(nnx.split(head(nnx.Rngs(key)))[1])

    def apply(parameters: Any, images: Float[Array, "B S D H W"], present: Array) -> Array:
        B, S = images.shape[:2]
        found = features(parameters["encoder"], images.reshape(B * S, *images.shape[2:]))
        return nnx.merge(head_graph, parameters["head"])(tuple(x.reshape(B, S, *x.shape[1:]) for x in found), present)

    def fit_one(
        encoder_parameters: Parameters,
        head: Parameters,
        cases: tuple[Array, Array, Array],
        weights: Float[Array, "n"],
        scaling: Float[Array, "2"],
        rate: Array,
        key: PRNGKeyArray,
    ) -> Any:
        images, present, labels = cases

        def step(carry: Any, index: Array) -> tuple[Any, None]:
            parameters, moments = carry
            choose, change = jax.random.split(jax.random.fold_in(key, index))
            chosen = jax.random.categorical(choose, jnp.log(weights), shape=(recipe.batch,))
            inputs = augment(images[chosen].astype(jnp.float32), change, recipe.augment)
            targets = (labels[chosen].astype(jnp.float32) - scaling[0]) / scaling[1]
            if kind == "segmentation":
                targets = augment_masks(targets, change, recipe.augment)

            def loss(parameters: Any) -> Array:
                return losses(apply(parameters, inputs, present[chosen]), targets).mean()

            gradients = jax.grad(loss)(parameters)
            direction, moments = optimizer.update(gradients, moments, parameters)
            schedule = warmup_stable_decay(index, 1.0, warmup, jnp.asarray(warmup), jnp.asarray(recipe.steps))
            return (descend(parameters, direction, rate * schedule), moments), None

        parameters = {"encoder": encoder_parameters, "head": head}
        (parameters, _), _ = jax.lax.scan(step, (parameters, optimizer.init(parameters)), jnp.arange(recipe.steps))
        return parameters

    # Convolutions with weights of their own per draw would be grouped ones, which are slow everywhere: one draw after the other then.
    over_draws = jax.vmap if isinstance(encoder, VitShape) else one_by_one

    def fit(
        encoder_parameters: Parameters, heads: Parameters, cases: Any, weights: Array, scaling: Array, rate: Array, keys: PRNGKeyArray
    ) -> Any:
        def one(head: Parameters, weights: Array, scaling: Array, key: PRNGKeyArray) -> Any:
            return fit_one(encoder_parameters, head, cases, weights, scaling, rate, key)

        return over_draws(one)(heads, weights, scaling, keys)

    def predict(fitted: Any, images: Array, present: Array) -> Array:
        return over_draws(lambda parameters: apply(parameters, images.astype(jnp.float32), present))(fitted)

    return FinetuneProgram(
        init_heads=jax.jit(jax.vmap(init_head)),
        fit=jax.jit(fit),
        predict=jax.jit(predict),
        losses=losses,
    )


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` over the leading axis of its arguments, as `jax.vmap`, but one after the other."""
    return lambda *batched: jax.lax.map(lambda each: function(*each), batched)


def in_chunks(n: int) -> Iterator[np.ndarray]:
    """Places int [CHUNK] of n cases, a chunk at a time, the last one filled up with the last case: one program serves all."""
    for first in range(0, n, CHUNK):
        yield np.minimum(np.arange(first, first + CHUNK), n - 1)


def predict_cases(program: FinetuneProgram, fitted: Any, cases: Cases) -> np.ndarray:
    """Outputs [R, n, ...] for all cases, a chunk at a time."""
    n = len(cases.ids)
    outputs = []
    for rows in in_chunks(n):
        outputs.append(np.asarray(program.predict(fitted, jnp.asarray(cases.images[rows]), jnp.asarray(cases.present[rows]))))
    return np.concatenate(outputs, axis=1)[:, :n]


def label_scaling(labels: np.ndarray, weights: np.ndarray, kind: Kind) -> np.ndarray:
    """Mean and standard deviation of each draw's own labels [R, 2] for regression; (0, 1) otherwise."""
    if kind != "regression":
        return np.tile(np.array([0, 1], np.float32), (len(weights), 1))
    seen = [labels[row > 0] for row in weights]
    return np.array([(values.mean(), max(values.std(), 1e-3)) for values in seen], np.float32)


def draw_weights(draws: np.ndarray, n: int, left_out: np.ndarray | None = None) -> np.ndarray:
    """Weights float32 [R, n]: 1 for the cases of each draw [R, shots], but for the positions `left_out` of it."""
    weights = np.zeros((len(draws), n), np.float32)
    positions = np.setdiff1d(np.arange(draws.shape[1]), [] if left_out is None else left_out)
    for row, draw in zip(weights, draws, strict=True):
        row[draw[positions]] = 1.0
    return weights


def finetune(encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Finetune) -> Iterator[Predicted]:
    """Finetune encoder and head on every draw, all draws of a number of shots at once, and predict the test cases.

    Raises FloatingPointError if a prediction is not finite.
    """
    shape: Shape3 = arrays.test.images.shape[2:]
    program = finetune_program(encoder, task.kind, len(task.sequences), shape, recipe)
    for shots in task.shots:
        draws = few_shot_draws(task, arrays.train, shots)
        fitted, scaling, rate = fit_draws(program, parameters, arrays.train, draws, draw_keys(task, shots), task.kind, recipe)
        outputs = predict_cases(program, fitted, arrays.test)
        if not np.isfinite(outputs).all():
            raise FloatingPointError(
                f"finetuning on task {task.name!r} with {shots} shots diverged at learning rate {rate:g}; "
                "give smaller transfer.finetune.learning_rates"
            )
        for draw, output in enumerate(outputs):
            match task.kind:
                case "segmentation":
                    yield Predicted("finetune", shots, draw, rate, output > 0)
                case "classification":
                    yield Predicted("finetune", shots, draw, rate, expit(output.astype(np.float64)))
                case "regression":
                    yield Predicted("finetune", shots, draw, rate, output * scaling[draw, 1] + scaling[draw, 0])


def draw_keys(task: Task, shots: int) -> Array:
    """Keys [R] of heads and batches, one per draw. They are the same for every arm of a task: arms are compared draw by draw."""
    seeds = [zlib.crc32(f"{task.name}/{shots}/{draw}".encode()) for draw in range(task.draws)]
    return jax.vmap(jax.random.key)(np.array(seeds, np.uint32))


def fit_draws(
    program: FinetuneProgram, encoder: Parameters, train: Cases, draws: np.ndarray, keys: Array, kind: Kind, recipe: Finetune
) -> tuple[Any, np.ndarray, float]:
    """Finetune every draw [R, shots]. Returns the fitted parameters [R], each draw's label scaling [R, 2], and the rate.

    With several rates, the one with the lowest mean loss over all draws on their own held-out shots is taken.
    """
    n = len(train.ids)
    heads = program.init_heads(keys)
    cases = (jnp.asarray(train.images), jnp.asarray(train.present), jnp.asarray(train.labels))

    def fit(weights: np.ndarray, rate: float) -> tuple[Any, np.ndarray]:
        scaling = label_scaling(train.labels, weights, kind)
        return program.fit(encoder, heads, cases, weights, scaling, jnp.float32(rate), keys), scaling

    rate = recipe.learning_rates[0]
    if len(recipe.learning_rates) > 1:
        # Every k-th shot: draws list one class after the other, so both are held out in proportion.
        held = np.arange(0, draws.shape[1], round(1 / recipe.validation_share))
        weights = draw_weights(draws, n, held)
        validation_losses = []
        for candidate in recipe.learning_rates:
            fitted, scaling = fit(weights, candidate)
            outputs = predict_cases(program, fitted, train)
            losses = [
                program.losses(outputs[r][draw[held]], (np.float32(train.labels[draw[held]]) - scaling[r][0]) / scaling[r][1])
                for r, draw in enumerate(draws)
            ]
            validation_losses.append(float(np.mean([np.asarray(loss) for loss in losses])))
        rate = recipe.learning_rates[int(np.argmin(np.nan_to_num(validation_losses, nan=np.inf)))]
    fitted, scaling = fit(draw_weights(draws, n), rate)
    return fitted, scaling, rate

"""One row of a fine-tuning program: an encoder under a task's head, and its fit to the cases that
the row may see, a scan over steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.augmentation.presets import augment, augment_masks
from scaling.models.backbone import build_encoder, make_head
from scaling.models.compute import Compute
from scaling.models.parameters import keys_from, parameters_of, structure
from scaling.models.windows import by_windows, lesion_crops
from scaling.objectives.interface import Parameters
from scaling.study.config import Finetune, Shape3
from scaling.study.ladder import Encoder
from scaling.training.optimizer import adamw_direction, descend, warmup_stable_decay
from scaling.transfer.kinds import Learner


class Network(NamedTuple):
    """An encoder with the head of a task, apart from its parameters {"encoder", "head"}.

    `init_head(key)` makes the head's parameters; `forward(parameters, images [B, S, d, h, w],
    present [B, S])` gives the head's outputs for what it is trained on, [B, ...], `apply` the same
    for whole volumes, by windows where the recipe has them.
    """

    init_head: Callable[[PRNGKeyArray], Parameters]
    forward: Callable[[Any, Array, Array], Array]
    apply: Callable[[Any, Array, Array], Array]


def finetuned_network(
    encoder: Encoder,
    learner: Learner,
    sequences: int,
    shape: Shape3,
    recipe: Finetune,
    compute: Compute,
) -> Network:
    """The network that a recipe fine-tunes, for S `sequences` of `shape` voxels."""
    window = window_of(recipe, learner, shape)
    channels = (learner.outputs,) if learner.masks and learner.outputs > 1 else ()

    def head(rngs: nnx.Rngs) -> nnx.Module:
        return make_head(learner.outputs, learner.masks, encoder, sequences, window, rngs, compute)

    features = build_encoder(encoder, compute).features
    head_graph = structure(head)

    def init_head(key: PRNGKeyArray) -> Parameters:
        return parameters_of(head(keys_from(key)))

    def forward(parameters: Any, images: Float[Array, "B S d h w"], present: Array) -> Array:
        B, S = images.shape[:2]
        volumes = images.reshape(B * S, *images.shape[2:])  # [B * S, d, h, w]
        levels = features(parameters["encoder"], volumes.astype(jnp.float32))
        # A level of the encoder, [B * S, ...] -> [B, S, ...]: the head joins the sequences.
        of_cases = tuple(level.reshape(B, S, *level.shape[1:]) for level in levels)
        task_head = nnx.merge(head_graph, parameters["head"])
        return task_head(of_cases, present).astype(jnp.float32)

    def apply(parameters: Any, images: Float[Array, "B S D H W"], present: Array) -> Array:
        def of_window(crops: Array) -> Array:
            return forward(parameters, crops, present)

        return by_windows(of_window, images, window, channels)

    return Network(init_head, forward, apply)


def window_of(recipe: Finetune, learner: Learner, shape: Shape3) -> Shape3:
    """Voxels that a network sees at once."""
    return recipe.window if learner.masks and recipe.window else shape


def row_fit(
    network: Network, learner: Learner, recipe: Finetune, shape: Shape3, compute: Compute
) -> Callable[..., Any]:
    """The fit of one row: a function of the encoder's parameters, the cases, and the head,
    weights, scaling, rate and key of the row, whose result are the fitted parameters.
    """
    window = window_of(recipe, learner, shape)
    optimizer = adamw_direction(0.999, recipe.weight_decay, recipe.clip_norm)
    warmup = round(recipe.warmup_share * recipe.steps)

    def batch_of(
        cases: tuple[Array, Array, Array],
        weights: Float[Array, "n"],
        scaling: Float[Array, "2"],
        key: PRNGKeyArray,
    ) -> tuple[Array, Array, Array]:
        """Inputs, which sequences are present, and targets of the cases drawn for a step."""
        images, present, labels = cases
        choose, change = jax.random.split(key)
        chosen = jax.random.categorical(choose, jnp.log(weights), shape=(recipe.batch,))
        inputs, targets = images[chosen], labels[chosen]
        if window != shape:
            inputs, targets = lesion_crops(jax.random.fold_in(choose, 1), inputs, targets, window)
        inputs = augment(inputs.astype(jnp.float32), change, recipe.augment, compute.platform)
        targets = learner.targets((targets.astype(jnp.float32) - scaling[0]) / scaling[1])
        if learner.masks:
            targets = augment_masks(targets, change, recipe.augment, compute.platform)
        return inputs, present[chosen], targets

    def fit_row(
        encoder: Parameters,
        cases: tuple[Array, Array, Array],
        head: Parameters,
        weights: Float[Array, "n"],
        scaling: Float[Array, "2"],
        rate: Array,
        key: PRNGKeyArray,
    ) -> Any:
        def step(carry: Any, index: Array) -> tuple[Any, None]:
            parameters, moments = carry
            step_key = jax.random.fold_in(key, index)
            inputs, present, targets = batch_of(cases, weights, scaling, step_key)

            def loss(parameters: Any) -> Array:
                return learner.loss(network.forward(parameters, inputs, present), targets).mean()

            gradients = jax.grad(loss)(parameters)
            direction, moments = optimizer.update(gradients, moments, parameters)
            schedule = warmup_stable_decay(
                index, 1.0, warmup, jnp.asarray(warmup), jnp.asarray(recipe.steps)
            )
            return (descend(parameters, direction, rate * schedule), moments), None

        parameters = {"encoder": encoder, "head": head}
        start = (parameters, optimizer.init(parameters))
        (fitted, _), _ = jax.lax.scan(step, start, jnp.arange(recipe.steps))
        return fitted

    return fit_row

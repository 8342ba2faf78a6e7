"""Few-shot fine-tuning as one compiled program: a scan over steps, over all rows (shots x draws) at
once, the rows spread over devices.

All cases of a few-shot task fit on the device. A row is one fine-tune: weights over the labelled
cases, zero for those it may not see, a learning rate, and a key for its batches.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.augmentation.presets import augment, augment_masks
from scaling.costs.accelerators import accelerator_of
from scaling.costs.transfer_memory import Layout, finetune_layout
from scaling.models.backbone import build_encoder, make_head
from scaling.models.compute import Compute, platform_of
from scaling.models.parameters import keys_from, parameters_of, structure
from scaling.models.windows import by_windows, lesion_crops
from scaling.objectives.interface import Parameters
from scaling.study.config import Finetune, Shape3
from scaling.study.ladder import Encoder
from scaling.training.optimizer import adamw_direction, descend, warmup_stable_decay
from scaling.transfer.kinds import Learner

ROWS, EVERYWHERE = PartitionSpec("rows"), PartitionSpec()


class FinetuneProgram(NamedTuple):
    """Functions of one (encoder, learner, recipe); all but `apply` and `losses` are compiled, and
    keep row r on one device.

    `init_heads(keys [R])` makes the heads' parameters; `fit(encoder, heads [R], cases, weights [R,
    n], scaling [R, 2], rates [R], keys [R])` fine-tunes R networks; `predict(fitted [R], images [B,
    S, D, H, W], present [B, S])` gives a head's outputs [R, B, ...]; `apply(parameters, images,
    present)` the same of one network, [B, ...]; `losses(outputs, labels)` are the task's losses,
    per case.
    """

    init_heads: Callable[[Array], Any]
    fit: Callable[..., Any]
    predict: Callable[[Any, Array, Array], Array]
    apply: Callable[[Any, Array, Array], Array]
    losses: Callable[[Array, Array], Array]


def finetune_program(
    encoder: Encoder,
    learner: Learner,
    sequences: int,
    shape: Shape3,
    recipe: Finetune,
    rows: int,
    devices: Sequence[jax.Device] = (),
) -> FinetuneProgram:
    """The program that fine-tunes `rows` networks of one encoder for S `sequences` of `shape`
    voxels, cut to fit the devices: this process's, unless others are given.
    """
    devices = tuple(devices or jax.local_devices())
    accelerator = accelerator_of(devices[0].device_kind, platform_of(devices[0]))
    here = rows // row_mesh(rows, devices).size
    layout = finetune_layout(encoder, recipe, learner.masks, sequences, shape, here, accelerator)
    return compiled_once(encoder, learner, sequences, shape, recipe, layout, devices)


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
        volumes = images.reshape(B * S, *images.shape[2:]).astype(jnp.float32)
        levels = features(parameters["encoder"], volumes)
        of_cases = tuple(level.reshape(B, S, *level.shape[1:]) for level in levels)
        return nnx.merge(head_graph, parameters["head"])(of_cases, present).astype(jnp.float32)

    def apply(parameters: Any, images: Float[Array, "B S D H W"], present: Array) -> Array:
        def of_window(crops: Array) -> Array:
            return forward(parameters, crops, present)

        return by_windows(of_window, images, window, channels)

    return Network(init_head, forward, apply)


def window_of(recipe: Finetune, learner: Learner, shape: Shape3) -> Shape3:
    """Voxels that a network sees at once."""
    return recipe.window if learner.masks and recipe.window else shape


@lru_cache
def compiled_once(
    encoder: Encoder,
    learner: Learner,
    sequences: int,
    shape: Shape3,
    recipe: Finetune,
    layout: Layout,
    devices: tuple[jax.Device, ...],
) -> FinetuneProgram:
    """`finetune_program` cut in one way."""
    compute = Compute(recipe.dtype, layout.remat, platform_of(devices[0]))
    window = window_of(recipe, learner, shape)
    network = finetuned_network(encoder, learner, sequences, shape, recipe, compute)
    apply = network.apply
    optimizer = adamw_direction(0.999, recipe.weight_decay, recipe.clip_norm)
    warmup = round(recipe.warmup_share * recipe.steps)

    def losses(outputs: Array, labels: Array) -> Array:
        return learner.loss(outputs, learner.targets(labels))

    def fit_one(
        encoder_parameters: Parameters,
        cases: tuple[Array, Array, Array],
        head: Parameters,
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
            inputs, targets = images[chosen], labels[chosen]
            if window != shape:
                inputs, targets = lesion_crops(
                    jax.random.fold_in(choose, 1), inputs, targets, window
                )
            inputs = augment(inputs.astype(jnp.float32), change, recipe.augment, compute.platform)
            targets = learner.targets((targets.astype(jnp.float32) - scaling[0]) / scaling[1])
            if learner.masks:
                targets = augment_masks(targets, change, recipe.augment, compute.platform)

            def loss(parameters: Any) -> Array:
                outputs = network.forward(parameters, inputs, present[chosen])
                return learner.loss(outputs, targets).mean()

            gradients = jax.grad(loss)(parameters)
            direction, moments = optimizer.update(gradients, moments, parameters)
            schedule = warmup_stable_decay(
                index, 1.0, warmup, jnp.asarray(warmup), jnp.asarray(recipe.steps)
            )
            return (descend(parameters, direction, rate * schedule), moments), None

        parameters = {"encoder": encoder_parameters, "head": head}
        (parameters, _), _ = jax.lax.scan(
            step, (parameters, optimizer.init(parameters)), jnp.arange(recipe.steps)
        )
        return parameters

    # Convolutions with weights of their own per row would be grouped ones, which are slow
    # everywhere: one row after the other then.
    at_once = layout.rows if encoder.vmapped else 1

    def fit(
        encoder: Parameters,
        heads: Parameters,
        cases: Any,
        weights: Array,
        scaling: Array,
        rates: Array,
        keys: Array,
    ) -> Any:
        def here(encoder: Parameters, cases: Any, *rows: Any) -> Any:
            return some_at_once(lambda *row: fit_one(encoder, cases, *row), at_once)(*rows)

        spread = jax.shard_map(
            here,
            mesh=row_mesh(len(weights), devices),
            in_specs=(EVERYWHERE, EVERYWHERE) + (ROWS,) * 5,
            out_specs=ROWS,
            check_vma=False,
        )
        return spread(encoder, cases, heads, weights, scaling, rates, keys)

    def predict(fitted: Any, images: Array, present: Array) -> Array:
        def here(fitted: Any, images: Array, present: Array) -> Array:
            def predict_row(parameters: Any) -> Array:
                def predict_case(image: Array, present: Array) -> Array:
                    return apply(parameters, image[None], present[None])[0]

                if layout.cases >= len(images):
                    return apply(parameters, images, present)
                return some_at_once(predict_case, layout.cases)(images, present)

            return some_at_once(predict_row, at_once)(fitted)

        rows = len(jax.tree.leaves(fitted)[0])
        spread = jax.shard_map(
            here,
            mesh=row_mesh(rows, devices),
            in_specs=(ROWS, EVERYWHERE, EVERYWHERE),
            out_specs=ROWS,
            check_vma=False,
        )
        return spread(fitted, images, present)

    return FinetuneProgram(
        jax.jit(jax.vmap(network.init_head)), jax.jit(fit), jax.jit(predict), apply, losses
    )


def row_mesh(rows: int, devices: Sequence[jax.Device] = ()) -> Mesh:
    """As many devices as divide the rows evenly: this process's, unless others are given."""
    devices = devices or jax.local_devices()
    count = max(d for d in range(1, len(devices) + 1) if rows % d == 0)
    return jax.make_mesh((count,), ("rows",), (AxisType.Auto,), devices=devices[:count])


def some_at_once(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """`function` over the leading axis of its arguments, as `jax.vmap`, but `count` places at a
    time, one chunk after the other.
    """

    def over_places(*batched: Any) -> Any:
        places = len(jax.tree.leaves(batched)[0])
        if count == 1:
            return jax.lax.map(lambda place: function(*place), batched)
        if count >= places:
            return jax.vmap(function)(*batched)
        return jax.lax.map(lambda place: function(*place), batched, batch_size=count)

    return over_places

"""Few-shot fine-tuning as one compiled program: a scan over steps, over all rows (shots x draws) at
once, the rows spread over devices.

All cases of a few-shot task fit on the device. A row is one fine-tune: weights over the labelled
cases, zero for those it may not see, a learning rate, and a key for its batches.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array

from scaling.costs.accelerators import accelerator_of
from scaling.costs.transfer_memory import Layout, finetune_layout
from scaling.models.compute import Compute, platform_of
from scaling.objectives.interface import Parameters
from scaling.study.config import Finetune, Shape3
from scaling.study.ladder import Encoder
from scaling.transfer.finetune_row import finetuned_network, row_fit
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
    network = finetuned_network(encoder, learner, sequences, shape, recipe, compute)
    fit_row = row_fit(network, learner, recipe, shape, compute)
    # Convolutions with weights of their own per row would be grouped ones, which are slow
    # everywhere: one row after the other then.
    rows_at_once = layout.rows if encoder.vmapped else 1

    def losses(outputs: Array, labels: Array) -> Array:
        return learner.loss(outputs, learner.targets(labels))

    def fit(
        encoder: Parameters,
        heads: Parameters,
        cases: Any,
        weights: Array,
        scaling: Array,
        rates: Array,
        keys: Array,
    ) -> Any:
        def fit_rows(encoder: Parameters, cases: Any, *rows: Any) -> Any:
            def fit_one(*row: Any) -> Any:
                return fit_row(encoder, cases, *row)

            return some_at_once(fit_one, rows_at_once)(*rows)

        mesh = row_mesh(len(weights), devices)
        spread = over_devices(fit_rows, mesh, (EVERYWHERE, EVERYWHERE) + (ROWS,) * 5)
        return spread(encoder, cases, heads, weights, scaling, rates, keys)

    def predict_row(parameters: Any, images: Array, present: Array) -> Array:
        def predict_case(image: Array, present: Array) -> Array:
            return network.apply(parameters, image[None], present[None])[0]

        if layout.cases >= len(images):
            return network.apply(parameters, images, present)
        return some_at_once(predict_case, layout.cases)(images, present)

    def predict(fitted: Any, images: Array, present: Array) -> Array:
        def predict_rows(fitted: Any, images: Array, present: Array) -> Array:
            def predict_one(parameters: Any) -> Array:
                return predict_row(parameters, images, present)

            return some_at_once(predict_one, rows_at_once)(fitted)

        mesh = row_mesh(len(jax.tree.leaves(fitted)[0]), devices)
        spread = over_devices(predict_rows, mesh, (ROWS, EVERYWHERE, EVERYWHERE))
        return spread(fitted, images, present)

    return FinetuneProgram(
        jax.jit(jax.vmap(network.init_head)),
        jax.jit(fit),
        jax.jit(predict),
        network.apply,
        losses,
    )


def over_devices(
    function: Callable[..., Any], mesh: Mesh, in_specs: tuple[PartitionSpec, ...]
) -> Callable[..., Any]:
    """`function` of rows, on each device over the rows that lie there."""
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=ROWS, check_vma=False)


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

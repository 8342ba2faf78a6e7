"""The device mesh and every sharding rule: the only file that knows how arrays are spread.

One mesh with the axes "replica" (data parallel), "fsdp" (parameters sharded as well) and "tensor"
(the heads and MLPs of transformer blocks shared out, for more devices than samples in a batch). The
batch is split over the first two.
"""

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey
from jaxtyping import Array

from scaling.models.pinning import Axis

AXES = ("replica", "fsdp", "tensor")
BATCH_AXES = ("replica", "fsdp")
# The mesh axes whose devices share an axis of activations.
SHARED_BY: dict[Axis, str | tuple[str, ...]] = {
    "batch": BATCH_AXES,
    "heads": "tensor",
    "hidden": "tensor",
}
MIN_SHARDED = 4096  # elements; smaller arrays cost more to gather than to keep everywhere
# The axis of a block's weights that tensor parallelism splits: first columns, then rows, so that
# only the second product is summed over
# devices (Shoeybi et al. 2019, Megatron-LM).
TENSOR_SPLIT = {"qkv": -1, "attention_out": -2, "mlp_in": -1, "mlp_out": -2}


@lru_cache
def make_mesh(replica: int, fsdp: int, tensor: int = 1) -> Mesh:
    """A mesh of the first replica * fsdp * tensor devices. Raises ValueError when there are not
    enough, or a tensor axis spans hosts.
    """
    devices, count = jax.devices(), replica * fsdp * tensor
    if count > len(devices):
        raise ValueError(
            f"execution.mesh asks for {replica} x {fsdp} x {tensor} devices, but jax sees "
            f"{len(devices)} ({devices[0].platform}); ask for fewer with --set execution.mesh=[1,1]"
        )
    if jax.local_device_count() % tensor:
        raise ValueError(
            f"execution.mesh has a tensor axis of {tensor}, but a process has "
            f"{jax.local_device_count()} devices; expected a divisor of "
            "that: devices that share a sample must be on one host"
        )
    # Auto is written out: under Explicit axes the reshapes of patchify and cuDNN attention fail.
    chosen = np.asarray(devices[:count]).reshape(replica, fsdp, tensor)
    return Mesh(chosen, AXES, axis_types=(AxisType.Auto,) * 3)


def parameter_spec(layer: str, shape: tuple[int, ...], fsdp: int, tensor: int = 1) -> PartitionSpec:
    """The rule for one array of a layer: a block's weights are split over `tensor` devices as
    `TENSOR_SPLIT` says; over `fsdp` devices the largest dimension left that they divide, of every
    array large enough; the rest is replicated.
    """
    axes: list[str | None] = [None] * len(shape)
    if np.prod(shape) < MIN_SHARDED:
        return PartitionSpec()
    if (
        tensor > 1 and layer in TENSOR_SPLIT and len(shape) > 2
    ):  # weights, stacked; biases are small
        axes[TENSOR_SPLIT[layer]] = "tensor"
    divisible = [
        axis for axis, length in enumerate(shape) if axes[axis] is None and length % fsdp == 0
    ]
    if fsdp > 1 and divisible:
        axes[max(divisible, key=lambda axis: shape[axis])] = "fsdp"
    return PartitionSpec(*axes)


def state_sharding(mesh: Mesh, abstract: Any) -> Any:
    """Shardings of a tree of abstract arrays (parameters and optimiser state alike) under
    `parameter_spec`.
    """

    def sharding(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        names = [part.key for part in path if isinstance(part, DictKey)]
        layer = names[-2] if names[-1:] == ["kernel"] else ""
        return NamedSharding(
            mesh, parameter_spec(layer, leaf.shape, mesh.shape["fsdp"], mesh.shape["tensor"])
        )

    return jax.tree_util.tree_map_with_path(sharding, abstract)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading dimension over the devices of different samples."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device, so that every process can read it."""
    return NamedSharding(mesh, PartitionSpec())


class ActivationSharding:
    """Where activations lie, by the names of their axes (`scaling.models.pinning`): without it XLA
    adds all-to-alls to an FSDP step.
    """

    def __init__(self, mesh: Mesh):
        self.mesh = mesh

    def __call__(self, x: Array, axes: tuple[Axis | None, ...]) -> Array:
        spec = PartitionSpec(*(None if axis is None else SHARED_BY[axis] for axis in axes))
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))


def abstract_batch(mesh: Mesh, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Shape and sharding of a batch of volumes: what a program can be compiled for before there is
    any.
    """
    return jax.ShapeDtypeStruct(shape, np.float16, sharding=batch_sharding(mesh))


def spread(sharding: NamedSharding, value: np.ndarray) -> Array:
    """A global array out of a value that every process has whole."""
    return jax.make_array_from_callback(value.shape, sharding, lambda window: value[window])


def global_batch(mesh: Mesh, local: np.ndarray) -> Array:
    """The global array of a batch of which this process holds its share [B / processes, ...]."""
    return jax.make_array_from_process_local_data(batch_sharding(mesh), local)

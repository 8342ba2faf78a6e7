"""The device mesh and every sharding rule: the only file that knows how arrays are spread.

One mesh with the axes "replica" (data parallel) and "fsdp" (parameters sharded as well). The batch is split over both.
"""

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

BATCH_AXES = ("replica", "fsdp")
MIN_SHARDED = 4096  # elements; smaller arrays cost more to gather than to keep everywhere


@lru_cache
def make_mesh(replica: int, fsdp: int) -> Mesh:
    """A mesh of the first replica * fsdp devices. Raises ValueError when there are not enough."""
    devices = jax.devices()
    if replica * fsdp > len(devices):
        raise ValueError(
            f"execution.mesh asks for {replica} x {fsdp} devices, but jax sees {len(devices)} ({devices[0].platform}); "
            "ask for fewer with --set execution.mesh=[1,1]"
        )
    # Auto is written out: under Explicit axes the reshapes of patchify and cuDNN attention fail.
    chosen = np.asarray(devices[: replica * fsdp]).reshape(replica, fsdp)
    return Mesh(chosen, BATCH_AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def fsdp_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """The FSDP rule: split the largest dimension that `fsdp` divides, of every array large enough; replicate the rest."""
    divisible = [axis for axis, length in enumerate(shape) if length % fsdp == 0]
    if fsdp == 1 or not divisible or np.prod(shape) < MIN_SHARDED:
        return PartitionSpec()
    largest = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*("fsdp" if axis == largest else None for axis in range(len(shape))))


def state_sharding(mesh: Mesh, abstract: Any) -> Any:
    """Shardings of a tree of abstract arrays (parameters and optimiser state alike) under the FSDP rule."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, fsdp_spec(leaf.shape, mesh.shape["fsdp"])), abstract)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading dimension over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device, so that every process can read it."""
    return NamedSharding(mesh, PartitionSpec())


class BatchConstraint:
    """Pins activations [B, ...] at block boundaries to the batch sharding: without it XLA adds all-to-alls to an FSDP step."""

    def __init__(self, mesh: Mesh):
        self.sharding = batch_sharding(mesh)

    def __call__(self, x: Array) -> Array:
        return jax.lax.with_sharding_constraint(x, self.sharding)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchConstraint) and self.sharding == other.sharding

    def __hash__(self) -> int:
        return hash(self.sharding)


def abstract_batch(mesh: Mesh, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Shape and sharding of a batch of volumes: what a program can be compiled for before there is any."""
    return jax.ShapeDtypeStruct(shape, np.float16, sharding=batch_sharding(mesh))


def global_batch(mesh: Mesh, local: np.ndarray) -> Array:
    """The global array of a batch of which this process holds its share [B / processes, ...]."""
    return jax.make_array_from_process_local_data(batch_sharding(mesh), local)

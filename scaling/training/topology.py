"""Devices of an accelerator that is not at hand: programs compile for them, and do not run."""

import math
from collections.abc import Sequence
from importlib.util import find_spec

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from scaling.costs.accelerators import ACCELERATORS
from scaling.study.execution import Mesh as MeshShape
from scaling.training.mesh import AXES

# What XLA's compiler is told of a GPU: a GpuTargetConfigProto. The numbers are those of NVIDIA's
# architecture papers (A100, H100) and of the CUDA programming guide's compute capabilities.
GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {block}
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""
HOPPER = {
    "shared": 233472,
    "cores": 132,
    "fpus": 128,
    "cache": 52428800,
    "clock": 1.98,
    "block": 232448,
    "major": 9,
}
AMPERE = {
    "shared": 167936,
    "cores": 108,
    "fpus": 64,
    "cache": 41943040,
    "clock": 1.41,
    "block": 166912,
    "major": 8,
}
GPUS = {
    "a100": (AMPERE, "NVIDIA A100-SXM4-80GB"),
    "h100": (HOPPER, "NVIDIA H100 80GB HBM3"),
    "h200": (HOPPER, "NVIDIA H200"),
}
V5E = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))  # slices of TPU v5e, in chips


def devices_of(accelerator: str, count: int) -> Sequence[jax.Device]:
    """`count` devices of an accelerator, or more.

    Raises ValueError where its compiler is not installed, or there are not so many.
    """
    match ACCELERATORS[accelerator].platform:
        case "cpu":
            return cpu_devices(count)
        case "gpu":
            return gpu_devices(accelerator, count)
        case "tpu":
            return tpu_devices(count)


def mesh_on(devices: Sequence[jax.Device], shape: MeshShape) -> Mesh:
    """A mesh (replica, fsdp, tensor) of the first of these devices."""
    chosen = np.asarray(devices[: math.prod(shape)]).reshape(shape)
    return Mesh(chosen, AXES, axis_types=(AxisType.Auto,) * 3)


def cpu_devices(count: int) -> Sequence[jax.Device]:
    """This machine's own devices. Raises ValueError where there are fewer."""
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ValueError(
            f"the plan's largest mesh has {count} devices, but jax sees {len(devices)} here; set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    return devices


def gpu_devices(accelerator: str, count: int) -> Sequence[jax.Device]:
    """GPUs of one kind. Raises ValueError where JAX's CUDA compiler is not installed."""
    if not installed("jax_plugins.xla_cuda12") and not installed("jax_plugins.xla_cuda13"):
        raise ValueError(
            f"programs for {accelerator} need JAX's CUDA compiler, which is not installed here; "
            "pip install 'brain-mri-scaling[cuda]' brings it, and no GPU is needed"
        )
    facts, name = GPUS[accelerator]
    device = ACCELERATORS[accelerator]
    config = GPU.format(
        **facts, name=name, memory=round(device.memory), bandwidth=round(device.bandwidth)
    )
    topology = topologies.get_topology_desc(
        accelerator, "cuda", target_config=config, topology=f"1x1x{count}"
    )
    return topology.devices


def tpu_devices(count: int) -> Sequence[jax.Device]:
    """Chips of the smallest slice of TPU v5e that has so many.

    Raises ValueError where libtpu is not installed, or no slice is as large.
    """
    if not installed("libtpu"):
        raise ValueError(
            "programs for tpu-v5e need the TPU compiler libtpu, which is not installed here; "
            "pip install 'brain-mri-scaling[tpu]' brings it, and no TPU is needed"
        )
    for shape in V5E:
        if math.prod(shape) >= count:
            name = "v5e:" + "x".join(map(str, shape))
            return topologies.get_topology_desc(name, "tpu").devices
    raise ValueError(f"{count} devices are more than the largest slice of TPU v5e, 256 chips")


def installed(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False

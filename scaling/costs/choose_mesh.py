"""Which mesh of devices a run gets; `scaling.training.mesh` says how arrays lie on it."""

import math

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.memory import step_memory
from scaling.study.config import Execution, Mesh, Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig


def choose_mesh(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    execution: Execution,
) -> tuple[Mesh, int]:
    """The mesh of a run and the bytes it takes on each device.

    The mesh is the one of the config, or, of a number of devices, the first of `meshes_of` that
    divides the batch and has room; where none has, the one that takes least. Raises ValueError
    where the batch or the attention heads cannot be divided among the devices.
    """
    heads = common_heads(objective, encoder, decoder)
    if isinstance(execution.mesh, int):
        meshes = meshes_of(execution.mesh, heads)
    else:
        replica, fsdp, tensor = (*execution.mesh, 1)[:3]
        meshes = [(replica, fsdp, tensor)]
    check_tensor(meshes[0][2], heads, encoder)
    dividing = dividing_batch(meshes, objective, pretrain.batch, execution)

    def memory(mesh: Mesh) -> int:
        parts = execution.accumulate
        return step_memory(
            objective, encoder, decoder, pretrain, mesh, execution.accelerator, parts
        )

    candidates = [(mesh, memory(mesh)) for mesh in dividing]
    room = ACCELERATORS[execution.accelerator].usable - execution.resident_gib * 2**30
    for mesh, taken in candidates:
        if taken <= room:
            return mesh, taken
    return min(candidates, key=lambda candidate: candidate[1])


def check_tensor(tensor: int, heads: int, encoder: Encoder) -> None:
    """Raise ValueError where a tensor axis does not divide the attention heads."""
    if heads % tensor:
        raise ValueError(
            f"execution.mesh has a tensor axis of {tensor}, but the attention heads of a "
            f"{encoder.kind} of this size and its decoder can be shared out among {heads}; choose "
            "a divisor of that, other sizes, or for a ViT another decoder_width"
        )


def dividing_batch(
    meshes: list[Mesh], objective: ObjectiveConfig, batch: int, execution: Execution
) -> list[Mesh]:
    """The meshes whose devices share a batch evenly, no case being cut.

    Raises ValueError where there is none.
    """
    # Samples that stay together on a device: the views of a case, in each part of the batch.
    together = objective.views * execution.accumulate
    dividing = []
    for replica, fsdp, tensor in meshes:
        if batch % (together * replica * fsdp) == 0:
            dividing.append((replica, fsdp, tensor))
    if dividing:
        return dividing
    devices = execution.mesh
    if not isinstance(devices, int):
        devices = " x ".join(map(str, devices))  # type: ignore[assignment]
    times = ""
    if execution.accumulate > 1:
        times += f" times execution.accumulate={execution.accumulate}"
    if objective.pairs:
        times += " (in pairs)" if objective.views == 2 else f" (in views of {objective.views})"
    least = together * min(replica * fsdp for replica, fsdp, _ in meshes)
    raise ValueError(
        f"pretrain.batch={batch} is not divisible by the {devices} devices of "
        f"execution.mesh{times}; it must be a multiple of {least}"
    )


def meshes_of(devices: int, heads: int) -> list[Mesh]:
    """All meshes of a number of devices, best first.

    Few devices share a sample, which costs traffic in every block; then, few share the parameters,
    since copies have less to send.
    """
    meshes = []
    for tensor in range(1, heads + 1):
        if heads % tensor or devices % tensor:
            continue
        for fsdp in range(1, devices + 1):
            if devices % (fsdp * tensor) == 0:
                meshes.append((devices // (fsdp * tensor), fsdp, tensor))
    return meshes


def common_heads(objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder) -> int:
    """Largest common divisor of the numbers of attention heads, which a tensor axis must divide; 1
    for networks that have none.
    """
    if objective.work(encoder.width, 0).decoded:
        return math.gcd(encoder.heads_in_common, decoder.heads_in_common)
    return encoder.heads_in_common

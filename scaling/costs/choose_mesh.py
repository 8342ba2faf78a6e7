"""Which mesh of devices a run gets; `scaling.training.mesh` says how arrays lie on it."""

import math

from scaling.costs.flops import ACCELERATORS
from scaling.costs.memory import step_memory
from scaling.study.config import Execution, Mesh, Pretrain
from scaling.study.ladder import Decoder, Encoder, VitDecoderShape, VitShape
from scaling.study.objectives import Contrastive, Momentum, ObjectiveConfig


def choose_mesh(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    execution: Execution,
) -> tuple[Mesh, int]:
    """The mesh of a run and the bytes it takes on each device: as asked for, or, of a number of devices, the first of `meshes_of` that
    divides the batch and has room (where none has, the one that takes least).

    Raises ValueError where the batch or the attention heads cannot be divided among the devices.
    """
    asked, parts, heads = (
        execution.mesh,
        execution.accumulate,
        common_heads(objective, encoder, decoder),
    )
    meshes = meshes_of(asked, heads) if isinstance(asked, int) else [(*asked, 1)[:3]]
    if heads % meshes[0][2]:
        raise ValueError(
            f"execution.mesh has a tensor axis of {meshes[0][2]}, but the attention heads of a {encoder.kind} of this size and its decoder "
            f"can be shared out among {heads}; choose a divisor of that, other sizes, or for a ViT another decoder_width"
        )
    each = 2 if objective.pairs else 1
    divided = [mesh for mesh in meshes if pretrain.batch % (each * parts * mesh[0] * mesh[1]) == 0]
    if not divided:
        devices = asked if isinstance(asked, int) else " x ".join(map(str, asked))
        times = (f" times execution.accumulate={parts}" if parts > 1 else "") + (
            " (in pairs)" if objective.pairs else ""
        )
        least = each * parts * min(replica * fsdp for replica, fsdp, _ in meshes)
        raise ValueError(
            f"pretrain.batch={pretrain.batch} is not divisible by the {devices} devices of execution.mesh{times}; "
            f"it must be a multiple of {least}"
        )
    found = [
        (
            mesh,
            step_memory(objective, encoder, decoder, pretrain, mesh, execution.accelerator, parts),
        )
        for mesh in divided
    ]
    room = ACCELERATORS[execution.accelerator].memory - execution.resident_gib * 2**30
    return next((each for each in found if each[1] <= room), min(found, key=lambda each: each[1]))


def meshes_of(devices: int, heads: int) -> list[Mesh]:
    """All meshes of a number of devices, best first: few share a sample, which costs traffic in every block; then, few share the
    parameters, since copies have less to send.
    """
    tensors = [
        tensor for tensor in range(1, heads + 1) if heads % tensor == 0 and devices % tensor == 0
    ]
    fsdps = range(1, devices + 1)
    return [
        (devices // (fsdp * tensor), fsdp, tensor)
        for tensor in tensors
        for fsdp in fsdps
        if devices % (fsdp * tensor) == 0
    ]


def common_heads(objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder) -> int:
    """Largest common divisor of the numbers of attention heads, which a tensor axis must divide; 1 for CNNs, which have none."""
    if not isinstance(encoder, VitShape):
        return 1
    if isinstance(objective, Contrastive | Momentum):
        return encoder.heads
    assert isinstance(decoder, VitDecoderShape)
    return math.gcd(encoder.heads, decoder.heads)

"""Memory of a pretraining step on one device in closed form, nothing compiled.

It is what XLA's own account says, within 15 %: tests compile every objective and backbone on CPU,
and ViTs for a TPU; of what a GPU is given, compiled on CPU, up to a third more.

At its peak a step holds the state and the batch; what the forward pass kept for the backward pass;
the largest piece of work; and the gradients, twice once the optimiser turns them into updates.
"""

from dataclasses import replace

from scaling.costs.accelerators import ACCELERATORS
from scaling.study.config import Mesh, Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig
from scaling.study.shapes import Memory, Setting

FLOAT32, FLOAT16 = 4, 2  # bytes


def step_memory(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    mesh: Mesh = (1, 1, 1),
    accelerator: str = "cpu-2",
    accumulate: int = 1,
) -> int:
    """Bytes that a step takes on each device of a mesh (replica, fsdp, tensor), its batch in
    `accumulate` parts.
    """
    replica, fsdp, tensor = mesh
    trained, means = trained_parameters(objective, encoder, decoder, tensor)
    trained, means = trained / fsdp, means / fsdp
    setting = setting_of(pretrain, accelerator, tensor)
    samples = pretrain.batch / (replica * fsdp)
    gradients = FLOAT32 * trained
    # Parameters and the two moments of AdamW; volumes are float16.
    state = 3 * FLOAT32 * trained + FLOAT32 * means + FLOAT16 * setting.voxels * samples
    sample = sample_memory(objective, encoder, decoder, pretrain, accelerator, tensor)
    peak = (sample.kept + sample.work) * samples / accumulate + gradients
    if accumulate > 1:
        # Their sum so far, and all that is still to come.
        peak += gradients + FLOAT32 * setting.voxels * samples
    if fsdp > 1 and setting.platform == "cpu" and pretrain.remat == "none":
        # No scan and nothing computed again: weights stay gathered for the backward pass, and
        # gradients whole to its end.
        weights = FLOAT32 * (encoder.block_weights + decoder.block_weights) / tensor
        peak = weights + max(peak, fsdp * gradients)
    elif fsdp > 1:
        # One layer's weights, gathered, and its gradients, not yet scattered.
        largest = max(encoder.largest_layer, decoder.largest_layer)
        peak += 2 * FLOAT32 * largest / tensor
    return round(state + max(peak, 2 * gradients))


def setting_of(pretrain: Pretrain, accelerator: str, tensor: int = 1) -> Setting:
    """How a recipe is computed on an accelerator."""
    platform = ACCELERATORS[accelerator].platform
    return Setting(pretrain.crop, pretrain.dtype, pretrain.remat, platform, tensor)


def trained_parameters(
    objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, tensor: int
) -> tuple[float, float]:
    """Parameters that have gradients and moments, and those that follow them as running means, on
    each of `tensor` devices.
    """
    work = objective.work(encoder.width, 0)
    elsewhere = 1 - 1 / tensor
    encoding = encoder.parameters - elsewhere * encoder.block_weights
    trained = encoding + work.parameters
    if work.decoded:
        trained += decoder.parameters(encoder) - elsewhere * decoder.block_weights
    means = encoding + work.target_parameters if work.target else 0
    return trained, means


def sample_memory(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    accelerator: str = "cpu-2",
    tensor: int = 1,
) -> Memory:
    """Bytes of one sample that are kept for the backward pass, and of the largest piece of work
    beyond them.
    """
    work = objective.work(encoder.width, pretrain.batch)
    setting = setting_of(pretrain, accelerator, tensor)
    memory = encoder.memory(decoder, setting, work)
    for crop in work.local_crops:
        local = encoder.memory(decoder, replace(setting, volume=crop), replace(work, decoded=0))
        memory = Memory(memory.kept + local.kept, max(memory.work, local.work))
    return memory

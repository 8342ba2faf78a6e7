"""Seconds of training steps on one device in closed form: nothing is compiled.

On GPUs and TPUs a step multiplies at the peak and moves its bytes at the memory's bandwidth, one
after the other, and no kernel is shorter than its launch. The factors are fitted to programs that
XLA compiled for an H100 (ViT s, l and 4xl and U-Net b on crops of 96³, bfloat16), whose kernels'
rooflines they meet within 25 %: a bound, which no device was measured to reach.
"""

from dataclasses import replace
from functools import lru_cache

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.flops import pretraining_flops
from scaling.costs.memory import sample_memory, trained_parameters
from scaling.study.config import Finetune, Pretrain, Shape3
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig, Work
from scaling.study.shapes import DecoderShape, Setting

# Bytes read and written for each byte that the backward pass needs of the forward pass: a layer
# writes its output, others read it in both passes, and its gradient is as large.
TRAFFIC = 8.5
# Bytes read and written a parameter: weight, gradient and two moments in float32, and norms.
OPTIMISER = 36
KERNELS = 500  # of the smallest training step

NO_DECODER = DecoderShape("none")


@lru_cache(maxsize=1024)
def pretraining_step_seconds(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    accelerator: str,
) -> float:
    """Seconds of one pretraining step of a whole batch on one device."""
    flops = pretrain.batch * pretraining_flops(objective, encoder, decoder, pretrain)
    # Recomputation keeps less and moves as much.
    whole = replace(pretrain, remat="none")
    sample = sample_memory(objective, encoder, decoder, whole, accelerator)
    trained, _ = trained_parameters(objective, encoder, decoder, 1)
    moved = TRAFFIC * pretrain.batch * sample.kept + OPTIMISER * trained
    return network_seconds(flops, moved, accelerator, pretrain.dtype)


@lru_cache(maxsize=1024)
def transfer_network_seconds(
    flops: float, encoder: Encoder, recipe: Finetune | None, volume: Shape3, accelerator: str
) -> float:
    """Seconds of `flops` of fine-tuning, prediction and encoding of whole volumes on one device:
    they move as many bytes a FLOP as a training step of the encoder.
    """
    dtype = recipe.dtype if recipe else "float32"
    setting = Setting(volume, dtype, platform=ACCELERATORS[accelerator].platform)
    kept = encoder.memory(NO_DECODER, setting, Work()).kept
    moved = flops * TRAFFIC * kept / encoder.training_flops(volume, 0.0, "none")
    return network_seconds(flops, moved, accelerator, dtype)


def network_seconds(flops: float, moved: float, accelerator: str, dtype: str) -> float:
    """Seconds of `flops` and of `moved` bytes on one device; on a CPU at the rate that was
    measured.
    """
    device = ACCELERATORS[accelerator]
    if device.platform == "cpu":
        return flops / (device.peak * device.utilisation)
    # Products of float32 run at half the rate of bfloat16 (TF32) or less.
    peak = device.peak if dtype == "bfloat16" else device.peak / 2
    return max(KERNELS * device.launch, flops / peak + moved / device.bandwidth)

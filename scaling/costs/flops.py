"""Closed-form costs of the ladder: parameters, FLOPs, hours. Nothing is compiled, so a plan prints at once.

FLOPs count a multiply-add as two and matrix products only (Kaplan et al. 2020, appendix B); a training step is three forward
passes (four of rematerialised blocks). Tests count the same over the traced program.
"""

import math
from dataclasses import dataclass

from scaling.costs import cnn
from scaling.study.config import Finetune, Pretrain, Remat, Shape3, Task, Transfer
from scaling.study.ladder import (
    CnnDecoderShape,
    CnnShape,
    Decoder,
    Encoder,
    VitDecoderShape,
    VitShape,
    tokens,
)
from scaling.study.objectives import (
    Contrastive,
    CrossSequence,
    Hybrid,
    Mae,
    Momentum,
    ObjectiveConfig,
)


@dataclass(frozen=True)
class Accelerator:
    """One device: peak FLOP/s of the dtype it trains in, the share of it that is realistic here, its memory in bytes, and what stands
    in the name that jax gives it.
    """

    peak: float
    utilisation: float
    memory: float
    kind: str


# Peaks are the vendors' dense bf16 figures; cpu-2 is two cores of a current server CPU in float32, as measured.
ACCELERATORS = {
    "cpu-2": Accelerator(2.0e11, 0.35, 16e9, "cpu"),
    "a100": Accelerator(3.12e14, 0.30, 80e9, "A100"),
    "h100": Accelerator(9.89e14, 0.30, 80e9, "H100"),
    "h200": Accelerator(9.89e14, 0.30, 141e9, "H200"),
    "tpu-v5e": Accelerator(1.97e14, 0.30, 16e9, "TPU v5 lite"),
}


def block_parameters(width: int, mlp_width: int) -> int:
    """Parameters of one pre-norm transformer block: two norms, attention (qkv and output), two MLP layers, all with biases."""
    return 4 * width + (4 * width * width + 4 * width) + (2 * width * mlp_width + mlp_width + width)


def encoder_parameters(encoder: Encoder) -> int:
    """Parameters of the encoder. Of a ViT: patch embedding, blocks, final norm; positions are fixed."""
    if isinstance(encoder, CnnShape):
        return cnn.encoder_parameters(encoder)
    embedding = encoder.patch**3 * encoder.width + encoder.width
    return (
        embedding
        + encoder.depth * block_parameters(encoder.width, encoder.mlp_width)
        + 2 * encoder.width
    )


def decoder_parameters(encoder: Encoder, decoder: Decoder) -> int:
    """Parameters of the reconstruction decoder. Of a ViT: input projection, mask token, blocks, norm, output projection."""
    if isinstance(encoder, CnnShape):
        assert isinstance(decoder, CnnDecoderShape)
        return cnn.decoder_parameters(encoder, decoder)
    assert isinstance(decoder, VitDecoderShape)
    projection = encoder.width * decoder.width + decoder.width
    output = decoder.width * encoder.patch**3 + encoder.patch**3
    blocks = decoder.depth * block_parameters(decoder.width, decoder.mlp_width)
    return projection + decoder.width + blocks + 2 * decoder.width + output


def stack_flops(n: int, width: int, depth: int, mlp_width: int) -> int:
    """Forward FLOPs of `depth` blocks over n tokens: projections, MLP, and the two attention products."""
    return depth * (2 * n * (4 * width * width + 2 * width * mlp_width) + 4 * n * n * width)


def stack_again(n: int, stack: VitShape | VitDecoderShape, remat: Remat) -> int:
    """FLOPs of what `remat` computes once more of a stack: attention alone, or all but the last product, on which no gradient depends."""
    match remat:
        case "none":
            return 0
        case "dots":
            return 4 * n * n * stack.width * stack.depth
        case "blocks":
            return (
                stack_flops(n, stack.width, stack.depth, stack.mlp_width)
                - 2 * n * stack.depth * stack.mlp_width * stack.width
            )


def visible_tokens(n: int, mask_ratio: float) -> int:
    """Number of visible tokens M out of n."""
    return max(1, round(n * (1 - mask_ratio)))


def encoder_flops(encoder: Encoder, volume: Shape3) -> int:
    """Forward FLOPs of the encoder on a whole volume, a ViT's patch embedding included."""
    if isinstance(encoder, CnnShape):
        return sum(layer.flops for layer in cnn.encoder_layers(encoder, volume))
    n = tokens(volume, encoder.patch)
    return 2 * n * encoder.patch**3 * encoder.width + stack_flops(
        n, encoder.width, encoder.depth, encoder.mlp_width
    )


def encoder_training_flops(
    encoder: Encoder, volume: Shape3, mask_ratio: float, remat: Remat
) -> int:
    """FLOPs of one forward and backward pass of the encoder: a ViT's over the visible tokens, a CNN's over all voxels.

    A ViT's embedding needs no gradient of its input: two passes.
    """
    if isinstance(encoder, CnnShape):
        return cnn.encoder_training_flops(encoder, volume, remat)
    m = visible_tokens(tokens(volume, encoder.patch), mask_ratio)
    embedding = 2 * m * encoder.patch**3 * encoder.width
    stack = stack_flops(m, encoder.width, encoder.depth, encoder.mlp_width)
    return 2 * embedding + 3 * stack + stack_again(m, encoder, remat)


def decoder_training_flops(
    encoder: Encoder, decoder: Decoder, volume: Shape3, mask_ratio: float, remat: Remat
) -> int:
    """FLOPs of one forward and backward pass of the reconstruction decoder, from what is visible to all patches."""
    if isinstance(encoder, CnnShape):
        assert isinstance(decoder, CnnDecoderShape)
        return cnn.decoder_training_flops(encoder, decoder, volume, remat)
    assert isinstance(decoder, VitDecoderShape)
    n = tokens(volume, encoder.patch)
    projections = (
        2 * visible_tokens(n, mask_ratio) * encoder.width * decoder.width
        + 2 * n * decoder.width * encoder.patch**3
    )
    stack = stack_flops(n, decoder.width, decoder.depth, decoder.mlp_width)
    return 3 * (projections + stack) + stack_again(n, decoder, remat)


def head_parameters(width: int, hidden: int, out: int) -> int:
    """Parameters of a contrastive head: two layers and a norm between them."""
    return (width + 1) * hidden + 2 * hidden + (hidden + 1) * out


def head_flops(width: int, hidden: int, out: int) -> int:
    """Forward FLOPs of a contrastive head, one embedding."""
    return 2 * hidden * (width + out)


def pretraining_flops(
    objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, pretrain: Pretrain
) -> int:
    """Training FLOPs of one sample, half a pair."""
    whole = encoder_training_flops(encoder, pretrain.crop, 0.0, pretrain.remat)
    match objective:
        case Mae(mask_ratio=ratio):
            return reconstruction_flops(ratio, encoder, decoder, pretrain, decoded=1)
        case Contrastive():
            return whole + contrast_flops(objective, encoder.width, pretrain.batch)
        case Momentum(hidden=hidden, projection=out):
            # The target is a forward pass without gradients; each view is compared with one view of every pair, forward and backward
            # to the queries alone.
            head, predictor = head_flops(encoder.width, hidden, out), head_flops(out, hidden, out)
            target = encoder_flops(encoder, pretrain.crop) + head
            comparison = 2 * 2 * out * (pretrain.batch // 2)
            return whole + 3 * (head + predictor) + target + comparison
        case Hybrid(reconstruction=Mae(mask_ratio=ratio), contrast=contrast):
            masked = reconstruction_flops(ratio, encoder, decoder, pretrain, decoded=1)
            return masked + contrast_flops(contrast, encoder.width, pretrain.batch)
        case CrossSequence(reconstruction=Mae(mask_ratio=ratio)):
            return (
                reconstruction_flops(ratio, encoder, decoder, pretrain, decoded=2)
                + 3 * 2 * encoder.width**2
            )


def reconstruction_flops(
    mask_ratio: float, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, decoded: int
) -> int:
    """Training FLOPs of encoding what is visible of one sample and decoding it `decoded` times."""
    setting = (pretrain.crop, mask_ratio, pretrain.remat)
    return encoder_training_flops(encoder, *setting) + decoded * decoder_training_flops(
        encoder, decoder, *setting
    )


def contrast_flops(contrast: Contrastive, width: int, batch: int) -> int:
    """Training FLOPs of projecting one sample and comparing it with all others of the batch."""
    return 3 * (
        head_flops(width, contrast.hidden, contrast.projection) + 2 * contrast.projection * batch
    )


def transfer_flops(
    task: Task, transfer: Transfer, encoder: Encoder, volume: Shape3, untrained: bool = False
) -> int:
    """FLOPs of trying one checkpoint on one task: every finetune (those that choose the rate too), the probe's features, and, with an
    `untrained` encoder, the supervised controls.

    The number of test cases is unknown before the data is read: 100 stands for it.
    """
    total = 0
    if transfer.finetune:
        total += len(task.shots) * finetune_flops(task, transfer.finetune, encoder, volume)
    if transfer.supervised and untrained:
        total += (1 + (task.inside != ())) * finetune_flops(
            task, transfer.supervised, encoder, volume
        )
    if transfer.probe:
        total += len(task.sequences) * encoder_flops(encoder, volume) * (100 + max(task.shots))
    return total


def finetune_flops(task: Task, recipe: Finetune, encoder: Encoder, volume: Shape3) -> int:
    """FLOPs of finetuning all draws of one number of shots, choosing their rate, and predicting the test cases."""
    window = recipe.window if task.kind == "segmentation" and recipe.window else volume
    # Windows overlap by half.
    windows = math.prod(
        math.ceil(2 * (length - side) / side) + 1
        for length, side in zip(volume, window, strict=True)
    )
    forward = len(task.sequences) * encoder_flops(encoder, window)
    if task.kind == "segmentation" and isinstance(encoder, CnnShape):
        forward += sum(
            layer.flops
            for layer in cnn.decoder_layers(
                encoder.features, True, window, beside=len(task.sequences)
            )
        )
    rates, budgets = len(recipe.learning_rates), 1 + len(recipe.tuning)
    fits = budgets if rates == 1 else rates + budgets
    return task.draws * (
        fits * 3 * forward * recipe.steps * recipe.batch + budgets * 100 * windows * forward
    )


def peak_of(kind: str, devices: int) -> float | None:
    """Peak FLOP/s of devices of a kind as jax names it (virtual ones of one CPU together); None for what is not in `ACCELERATORS`."""
    known = next((each for each in ACCELERATORS.values() if each.kind in kind), None)
    return known.peak * (1 if known.kind == "cpu" else devices) if known else None


def hours(flops: float, accelerator: str) -> float:
    """Hours of `flops` on one accelerator at its realistic utilisation."""
    device = ACCELERATORS[accelerator]
    return flops / (device.peak * device.utilisation) / 3600

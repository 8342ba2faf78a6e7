"""Closed-form costs of the ladder: parameters, FLOPs, memory, hours. Nothing is compiled, so a plan prints at once.

FLOPs count a multiply-add as two and matrix products only (Kaplan et al. 2020, appendix B); a training step is three forward
passes (four of rematerialised blocks). Tests count the same over the traced program.
"""

from dataclasses import dataclass

from scaling.study.config import Pretrain, Task, Transfer
from scaling.study.ladder import Decoder, Encoder, tokens
from scaling.study.objectives import Contrastive, CrossSequence, Hybrid, Mae, Momentum, ObjectiveConfig


@dataclass(frozen=True)
class Accelerator:
    """One device: peak FLOP/s of the dtype it trains in, the share of it that is realistic here, and its memory in bytes."""

    peak: float
    utilisation: float
    memory: float


# Peaks are the vendors' dense bf16 figures; cpu-2 is two cores of a current server CPU in float32, as measured.
ACCELERATORS = {
    "cpu-2": Accelerator(2.0e11, 0.35, 16e9),
    "a100": Accelerator(3.12e14, 0.30, 80e9),
    "h100": Accelerator(9.89e14, 0.30, 80e9),
    "h200": Accelerator(9.89e14, 0.30, 141e9),
    "tpu-v5e": Accelerator(1.97e14, 0.30, 16e9),
}


def block_parameters(width: int, mlp_width: int) -> int:
    """Parameters of one pre-norm transformer block: two norms, attention (qkv and output), two MLP layers, all with biases."""
    return 4 * width + (4 * width * width + 4 * width) + (2 * width * mlp_width + mlp_width + width)


def encoder_parameters(encoder: Encoder) -> int:
    """Parameters of the encoder: patch embedding, blocks, final norm. Positions are fixed."""
    embedding = encoder.patch**3 * encoder.width + encoder.width
    return embedding + encoder.depth * block_parameters(encoder.width, encoder.mlp_width) + 2 * encoder.width


def decoder_parameters(encoder: Encoder, decoder: Decoder) -> int:
    """Parameters of the reconstruction decoder: input projection, mask token, blocks, norm, output projection."""
    projection = encoder.width * decoder.width + decoder.width
    output = decoder.width * encoder.patch**3 + encoder.patch**3
    blocks = decoder.depth * block_parameters(decoder.width, decoder.mlp_width)
    return projection + decoder.width + blocks + 2 * decoder.width + output


def stack_flops(n: int, width: int, depth: int, mlp_width: int) -> int:
    """Forward FLOPs of `depth` blocks over n tokens: projections, MLP, and the two attention products."""
    return depth * (2 * n * (4 * width * width + 2 * width * mlp_width) + 4 * n * n * width)


def encoder_flops(encoder: Encoder, n: int) -> int:
    """Forward FLOPs of the encoder over n tokens, patch embedding included."""
    return 2 * n * encoder.patch**3 * encoder.width + stack_flops(n, encoder.width, encoder.depth, encoder.mlp_width)


def visible_tokens(n: int, mask_ratio: float) -> int:
    """Number of visible tokens M out of n."""
    return max(1, round(n * (1 - mask_ratio)))


def encoder_training_flops(encoder: Encoder, n: int, remat: bool) -> int:
    """FLOPs of one forward and backward pass of the encoder over n tokens.

    The embedding needs no gradient of its input: two passes. A rematerialised block is computed once more, but for its last
    product, on which no gradient depends.
    """
    embedding = 2 * n * encoder.patch**3 * encoder.width
    stack = stack_flops(n, encoder.width, encoder.depth, encoder.mlp_width)
    last = 2 * n * encoder.depth * encoder.mlp_width * encoder.width
    return 2 * embedding + 3 * stack + (stack - last if remat else 0)


def decoder_training_flops(encoder: Encoder, decoder: Decoder, n: int, m: int, remat: bool) -> int:
    """FLOPs of one forward and backward pass of the reconstruction decoder from m visible tokens to n patches."""
    projections = 2 * m * encoder.width * decoder.width + 2 * n * decoder.width * encoder.patch**3
    stack = stack_flops(n, decoder.width, decoder.depth, decoder.mlp_width)
    last = 2 * n * decoder.depth * decoder.mlp_width * decoder.width
    return 3 * (projections + stack) + (stack - last if remat else 0)


def head_parameters(width: int, hidden: int, out: int) -> int:
    """Parameters of a contrastive head: two layers and a norm between them."""
    return (width + 1) * hidden + 2 * hidden + (hidden + 1) * out


def head_flops(width: int, hidden: int, out: int) -> int:
    """Forward FLOPs of a contrastive head, one embedding."""
    return 2 * hidden * (width + out)


def pretraining_flops(objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, pretrain: Pretrain) -> int:
    """Training FLOPs of one sample, half a pair."""
    n = tokens(pretrain.crop, encoder.patch)
    match objective:
        case Mae(mask_ratio=ratio):
            return reconstruction_flops(ratio, encoder, decoder, pretrain, decoded=1)
        case Contrastive():
            return encoder_training_flops(encoder, n, pretrain.remat) + contrast_flops(objective, encoder.width, pretrain.batch)
        case Momentum(hidden=hidden, projection=out):
            # The target is a forward pass without gradients; each view is compared with one view of every pair, forward and backward
            # to the queries alone.
            head, predictor = head_flops(encoder.width, hidden, out), head_flops(out, hidden, out)
            target = encoder_flops(encoder, n) + head
            comparison = 2 * 2 * out * (pretrain.batch // 2)
            return encoder_training_flops(encoder, n, pretrain.remat) + 3 * (head + predictor) + target + comparison
        case Hybrid(reconstruction=Mae(mask_ratio=ratio), contrast=contrast):
            masked = reconstruction_flops(ratio, encoder, decoder, pretrain, decoded=1)
            return masked + contrast_flops(contrast, encoder.width, pretrain.batch)
        case CrossSequence(reconstruction=Mae(mask_ratio=ratio)):
            return reconstruction_flops(ratio, encoder, decoder, pretrain, decoded=2) + 3 * 2 * encoder.width**2


def reconstruction_flops(mask_ratio: float, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, decoded: int) -> int:
    """Training FLOPs of encoding what is visible of one sample and decoding it `decoded` times."""
    n = tokens(pretrain.crop, encoder.patch)
    m = visible_tokens(n, mask_ratio)
    decoding = decoder_training_flops(encoder, decoder, n, m, pretrain.remat)
    return encoder_training_flops(encoder, m, pretrain.remat) + decoded * decoding


def contrast_flops(contrast: Contrastive, width: int, batch: int) -> int:
    """Training FLOPs of projecting one sample and comparing it with all others of the batch."""
    return 3 * (head_flops(width, contrast.hidden, contrast.projection) + 2 * contrast.projection * batch)


def pretraining_memory(objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, devices: int) -> int:
    """Bytes one device needs: parameters, two moments and gradients in float32, and the activations kept for backward."""
    n = tokens(pretrain.crop, encoder.patch)
    size = 2 if pretrain.dtype == "bfloat16" else 4

    def stack_activations(length: int, width: int, depth: int, heads: int, mlp_width: int) -> int:
        block = length * (8 * width + 2 * mlp_width) + 2 * heads * length * length
        return block + depth * length * width if pretrain.remat else depth * block

    def encoded(length: int) -> int:
        return stack_activations(length, encoder.width, encoder.depth, encoder.heads, encoder.mlp_width)

    decoded = stack_activations(n, decoder.width, decoder.depth, decoder.heads, decoder.mlp_width) + 3 * n * encoder.patch**3
    trained, means = encoder_parameters(encoder), 0
    match objective:
        case Mae(mask_ratio=ratio) | Hybrid(reconstruction=Mae(mask_ratio=ratio)):
            trained += decoder_parameters(encoder, decoder)
            activations = encoded(visible_tokens(n, ratio)) + decoded
        case CrossSequence(reconstruction=Mae(mask_ratio=ratio)):
            trained += decoder_parameters(encoder, decoder) + encoder.width * (encoder.width + 1)
            activations = encoded(visible_tokens(n, ratio)) + 2 * decoded
        case Contrastive() | Momentum():
            activations = encoded(n) + n * encoder.patch**3
    match objective:
        case Hybrid(contrast=head) | (Contrastive() as head):
            trained += head_parameters(encoder.width, head.hidden, head.projection)
        case Momentum(hidden=hidden, projection=out):
            means = trained + head_parameters(encoder.width, hidden, out)
            trained = means + head_parameters(out, hidden, out)
    return (16 * trained + 4 * means + size * activations * pretrain.batch) // devices


def transfer_flops(task: Task, transfer: Transfer, encoder: Encoder, n: int) -> int:
    """FLOPs of trying one checkpoint on one task: every finetune (those that choose the rate too), and the probe's features.

    The number of test cases is unknown before the data is read: 100 stands for it.
    """
    forward = len(task.sequences) * encoder_flops(encoder, n)
    total = 0
    if transfer.finetune:
        rates = len(transfer.finetune.learning_rates)
        fits = task.draws * (1 if rates == 1 else rates + 1)
        training = 3 * forward * transfer.finetune.steps * transfer.finetune.batch
        total += len(task.shots) * (fits * training + task.draws * 100 * forward)
    if transfer.probe:
        total += forward * (100 + max(task.shots))
    return total


def hours(flops: float, accelerator: str) -> float:
    """Hours of `flops` on one accelerator at its realistic utilisation."""
    device = ACCELERATORS[accelerator]
    return flops / (device.peak * device.utilisation) / 3600

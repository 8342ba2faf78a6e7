"""Memory of a pretraining step on one device in closed form, nothing compiled: what XLA's own account says, within 15 % (`tests/study/
test_memory.py`: every objective and backbone, on CPU; of what a GPU is given, compiled there, up to a third more; ViTs for a TPU).

At its peak a step holds the state and the batch; what the forward pass kept for the backward pass; the largest piece of work; and the
gradients, twice once the optimiser turns them into updates. Bytes; E is a stack's width, F that of its MLP, n its tokens, h its heads.
"""

from scaling.costs import cnn
from scaling.costs.flops import (
    decoder_parameters,
    encoder_parameters,
    head_parameters,
    visible_tokens,
)
from scaling.study.config import Mesh, Pretrain, Remat
from scaling.study.ladder import (
    CnnDecoderShape,
    Decoder,
    Encoder,
    VitDecoderShape,
    VitShape,
    tokens,
)
from scaling.study.objectives import CrossSequence, Hybrid, Mae, Momentum, ObjectiveConfig

Stack = VitShape | VitDecoderShape


def flash(pretrain: Pretrain, accelerator: str) -> bool:
    """Whether attention never keeps its n x n weights (`scaling.models.attention`)."""
    return accelerator == "cpu-2" or (
        pretrain.dtype == "bfloat16" and accelerator in ("a100", "h100", "h200")
    )


def block_kept(
    n: int, stack: Stack, remat: Remat, half: bool, weights: bool, scanned: bool, tensor: int = 1
) -> float:
    """Bytes that the backward pass finds of one transformer block, whose heads and MLP `tensor` devices share.

    "none" keeps all that automatic differentiation asks for, norms in float32: 12 E (of which queries, keys, values and what attention
    makes of them are shared), 6 F (five for the gelu, three where no scan has to hand them over) and the attention weights, before and
    after the dropped type.
    """
    width, mlp, squares = stack.width, stack.mlp_width / tensor, stack.heads * n * weights / tensor
    match remat:
        case "none" if half:
            return n * ((24 + 12 / tensor) * width + 12 * mlp + 6 * squares)
        case "none":
            return n * ((32 + 16 / tensor) * width + (24 if scanned else 16) * mlp + 8 * squares)
        case "blocks":
            return n * width * (2 if half else 4)
        case "dots":
            return n * ((2 + 3 / tensor) * width + mlp) * (2 if half else 4)


def block_work(
    n: int, stack: Stack, remat: Remat, half: bool, weights: bool, tensor: int = 1
) -> float:
    """Bytes that the backward pass of one block takes beyond what was kept; attention weights are normalised in float32."""
    width, mlp, squares = stack.width, stack.mlp_width / tensor, stack.heads * n * weights / tensor
    numbers = {
        "none": (2 + 2 / tensor) * width + 3 * mlp + 3 * squares,
        "blocks": (8 + 4 / tensor) * width + 4 * mlp + 2 * squares,
        "dots": (8 + 4 / tensor) * width + 3 * mlp + 2 * squares,
    }
    return n * numbers[remat] * (3 if half and not weights else 4)


def step_memory(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    mesh: Mesh = (1, 1, 1),
    accelerator: str = "cpu-2",
    accumulate: int = 1,
) -> int:
    """Bytes that a step takes on each device of a mesh (replica, fsdp, tensor), its batch in `accumulate` parts."""
    replica, fsdp, tensor = mesh
    trained, means = (
        number / fsdp for number in trained_parameters(objective, encoder, decoder, tensor)
    )
    voxels = pretrain.crop[0] * pretrain.crop[1] * pretrain.crop[2]
    share = pretrain.batch / (replica * fsdp)
    gradients = 4 * trained
    state = 12 * trained + 4 * means + 2 * voxels * share
    kept, work = sample_memory(objective, encoder, decoder, pretrain, accelerator, tensor)
    held = (kept + work) * share / accumulate + gradients
    if accumulate > 1:
        held += gradients + 4 * voxels * share  # their sum so far, and all that is still to come
    if fsdp > 1 and accelerator == "cpu-2" and pretrain.remat == "none":
        # No scan and nothing computed again: weights stay gathered for the backward pass, and gradients whole to its end.
        weights = 4 * (block_weights(encoder) + block_weights(decoder)) / tensor
        held = weights + max(held, fsdp * gradients)
    elif fsdp > 1:
        held += (
            2 * largest_layer(encoder, decoder) / tensor
        )  # one layer's weights, gathered, and gradients, not yet scattered
    return round(state + max(held, 2 * gradients))


def trained_parameters(
    objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, tensor: int
) -> tuple[float, float]:
    """Parameters that have gradients and moments, and those that follow them as running means, on each of `tensor` devices."""
    elsewhere = 1 - 1 / tensor
    own = encoder_parameters(encoder) - elsewhere * block_weights(encoder)
    decoding = decoder_parameters(encoder, decoder) - elsewhere * block_weights(decoder)
    match objective:
        case Mae():
            return own + decoding, 0
        case CrossSequence():
            return own + decoding + encoder.width * (encoder.width + 1), 0
        case Hybrid(contrast=contrast):
            return own + decoding + head_parameters(
                encoder.width, contrast.hidden, contrast.projection
            ), 0
        case Momentum(hidden=hidden, projection=out):
            followed = own + head_parameters(encoder.width, hidden, out)
            return followed + head_parameters(out, hidden, out), followed
        case _:
            return own + head_parameters(encoder.width, objective.hidden, objective.projection), 0


def block_weights(shape: Encoder | Decoder) -> int:
    """Weights of a transformer's blocks, which a tensor axis shares out."""
    return (
        shape.depth * shape.width * (4 * shape.width + 2 * shape.mlp_width)
        if isinstance(shape, Stack)
        else 0
    )


def largest_layer(encoder: Encoder, decoder: Decoder) -> int:
    """Bytes of the weights that are whole at one time: those of a block, or of the largest convolution."""
    if not isinstance(encoder, VitShape):
        return 4 * max(layer.parameters for layer in cnn.encoder_layers(encoder, (1, 1, 1)))
    assert isinstance(decoder, VitDecoderShape)
    return 4 * max(block_weights(stack) // stack.depth for stack in (encoder, decoder))


def sample_memory(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    accelerator: str = "cpu-2",
    tensor: int = 1,
) -> tuple[float, float]:
    """Bytes of one sample that are kept for the backward pass, and of the largest piece of work beyond them."""
    voxels = pretrain.crop[0] * pretrain.crop[1] * pretrain.crop[2]
    match objective:
        case Mae(mask_ratio=ratio) | Hybrid(reconstruction=Mae(mask_ratio=ratio)):
            decoded = 1
        case CrossSequence(reconstruction=Mae(mask_ratio=ratio)):
            decoded = 2
        case _:
            ratio, decoded = 0.0, 0
    on_cpu = accelerator == "cpu-2"
    if not isinstance(encoder, VitShape):
        assert isinstance(decoder, CnnDecoderShape)
        kept_by_layers, largest = cnn.memory(
            encoder, decoder, pretrain, decoded, isinstance(objective, Momentum), on_cpu
        )
        return kept_by_layers + 4 * 3 * voxels * decoded, largest
    assert isinstance(decoder, VitDecoderShape)
    # On CPU XLA computes in float32 what is asked for in bfloat16.
    half, weights = pretrain.dtype == "bfloat16" and not on_cpu, not flash(pretrain, accelerator)
    n = tokens(pretrain.crop, encoder.patch)
    m = visible_tokens(n, ratio)
    setting = (pretrain.remat, half, weights)
    # The patches that the embedding saw.
    kept = (
        encoder.depth * block_kept(m, encoder, *setting, not on_cpu, tensor)
        + 4 * m * encoder.patch**3
    )
    work = block_work(m, encoder, *setting, tensor)
    if accelerator.startswith("tpu"):
        # Volumes on their way to patches: the last of their axes, a patch's, is padded to 128 numbers.
        work = max(work, 4 * 128 // encoder.patch * voxels)
    if decoded:
        # Where the visible tokens go, and the tokens that they are put into.
        kept += decoded * (
            decoder.depth * block_kept(n, decoder, *setting, not on_cpu, tensor)
            + 3 * 4 * n * decoder.width
        )
        # Patches, targets and predictions; they are gone when the blocks' backward pass begins.
        work = max(work, block_work(n, decoder, *setting, tensor), 3 * 4 * voxels)
    return kept, work

"""Memory of a pretraining step on one device in closed form, nothing compiled: what XLA's own account says, within 15 % (`tests/study/
test_memory.py`: every objective and backbone, on CPU; of what a GPU is given, compiled there, up to a third more; ViTs for a TPU).

At its peak a step holds the state and the batch; what the forward pass kept for the backward pass; the largest piece of work; and the
gradients, twice once the optimiser turns them into updates. Bytes; E is a stack's width, F that of its MLP, n its tokens, h its heads.
"""

from scaling.study import cnn_cost
from scaling.study.config import Pretrain, Remat
from scaling.study.cost import decoder_parameters, encoder_parameters, head_parameters, visible_tokens
from scaling.study.ladder import CnnDecoderShape, Decoder, Encoder, VitDecoderShape, VitShape, tokens
from scaling.study.objectives import CrossSequence, Hybrid, Mae, Momentum, ObjectiveConfig

Stack = VitShape | VitDecoderShape


def flash(pretrain: Pretrain, accelerator: str) -> bool:
    """Whether attention never keeps its n x n weights (`scaling.models.attention`)."""
    return accelerator == "cpu-2" or (pretrain.dtype == "bfloat16" and accelerator in ("a100", "h100", "h200"))


def block_kept(n: int, stack: Stack, remat: Remat, half: bool, weights: bool, scanned: bool) -> int:
    """Bytes that the backward pass finds of one transformer block.

    "none" keeps all that automatic differentiation asks for, norms in float32: 12 E, 6 F (five for the gelu, three where no scan has to
    hand them over) and the attention weights, before and after the dropped type.
    """
    width, mlp, squares = stack.width, stack.mlp_width, stack.heads * n * weights
    match remat:
        case "none":
            return n * ((36 * width + 12 * mlp + 6 * squares) if half else (48 * width + (24 if scanned else 16) * mlp + 8 * squares))
        case "blocks":
            return n * width * (2 if half else 4)
        case "dots":
            return n * (5 * width + mlp) * (2 if half else 4)


def block_work(n: int, stack: Stack, remat: Remat, half: bool, weights: bool) -> int:
    """Bytes that the backward pass of one block takes beyond what was kept; attention weights are normalised in float32."""
    width, mlp, squares = stack.width, stack.mlp_width, stack.heads * n * weights
    numbers = {
        "none": 4 * width + 3 * mlp + 3 * squares,
        "blocks": 12 * width + 4 * mlp + 2 * squares,
        "dots": 12 * width + 3 * mlp + 2 * squares,
    }
    return n * numbers[remat] * (3 if half and not weights else 4)


def step_memory(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    mesh: tuple[int, int] = (1, 1),
    accelerator: str = "cpu-2",
    accumulate: int = 1,
) -> int:
    """Bytes that a step takes on each device of a mesh of (replica, fsdp) devices, its batch in `accumulate` parts."""
    devices, fsdp = mesh[0] * mesh[1], mesh[1]
    trained, means = trained_parameters(objective, encoder, decoder)
    voxels = pretrain.crop[0] * pretrain.crop[1] * pretrain.crop[2]
    share = pretrain.batch / devices
    gradients = 4 * trained / fsdp
    state = (12 * trained + 4 * means) / fsdp + 2 * voxels * share
    kept, work = sample_memory(objective, encoder, decoder, pretrain, accelerator)
    held = (kept + work) * share / accumulate + gradients
    if fsdp > 1:
        held += largest_layer(encoder, decoder)  # the weights of one layer, gathered
    if accumulate > 1:
        held += gradients + 4 * voxels * share  # their sum so far, and all that is still to come
    return round(state + max(held, 2 * gradients))


def trained_parameters(objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder) -> tuple[int, int]:
    """Parameters that have gradients and moments, and those that follow them as running means."""
    own, decoding = encoder_parameters(encoder), decoder_parameters(encoder, decoder)
    match objective:
        case Mae():
            return own + decoding, 0
        case CrossSequence():
            return own + decoding + encoder.width * (encoder.width + 1), 0
        case Hybrid(contrast=contrast):
            return own + decoding + head_parameters(encoder.width, contrast.hidden, contrast.projection), 0
        case Momentum(hidden=hidden, projection=out):
            followed = own + head_parameters(encoder.width, hidden, out)
            return followed + head_parameters(out, hidden, out), followed
        case _:
            return own + head_parameters(encoder.width, objective.hidden, objective.projection), 0


def largest_layer(encoder: Encoder, decoder: Decoder) -> int:
    """Bytes of the weights that are whole at one time: those of a block, or of the largest convolution."""
    if not isinstance(encoder, VitShape):
        return 4 * max(layer.parameters for layer in cnn_cost.encoder_layers(encoder, (1, 1, 1)))
    assert isinstance(decoder, VitDecoderShape)
    return 4 * max(stack.width * (4 * stack.width + 2 * stack.mlp_width) for stack in (encoder, decoder))


def sample_memory(
    objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, accelerator: str = "cpu-2"
) -> tuple[int, int]:
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
        kept, work = cnn_cost.memory(encoder, decoder, pretrain, decoded, isinstance(objective, Momentum), on_cpu)
        return kept + 4 * 3 * voxels * decoded, work
    assert isinstance(decoder, VitDecoderShape)
    # On CPU XLA computes in float32 what is asked for in bfloat16.
    half, weights = pretrain.dtype == "bfloat16" and not on_cpu, not flash(pretrain, accelerator)
    n = tokens(pretrain.crop, encoder.patch)
    m = visible_tokens(n, ratio)
    setting = (pretrain.remat, half, weights)
    # The patches that the embedding saw.
    kept = encoder.depth * block_kept(m, encoder, *setting, not on_cpu) + 4 * m * encoder.patch**3
    work = block_work(m, encoder, *setting)
    if accelerator.startswith("tpu"):
        # Volumes on their way to patches: the last of their axes, a patch's, is padded to 128 numbers.
        work = max(work, 4 * 128 // encoder.patch * voxels)
    if decoded:
        # Where the visible tokens go, and the tokens that they are put into.
        kept += decoded * (decoder.depth * block_kept(n, decoder, *setting, not on_cpu) + 3 * 4 * n * decoder.width)
        # Patches, targets and predictions; they are gone when the blocks' backward pass begins.
        work = max(work, block_work(n, decoder, *setting), 3 * 4 * voxels)
    return kept, work

"""Shapes and costs of vision transformers.

FLOPs count matrix products (Kaplan et al. 2020, appendix B). Memory is what XLA's own account says
of a compiled step. E is a stack's width, F that of its MLP, n its tokens, h its heads.
"""

from dataclasses import replace
from typing import Literal, Self

from pydantic.dataclasses import dataclass

from scaling.study.objectives import Work
from scaling.study.pretraining import Remat
from scaling.study.protocols import Shape3
from scaling.study.shapes import (
    DecoderShape,
    EncoderShape,
    Memory,
    Setting,
    tokens,
    visible_tokens,
)
from scaling.study.strict import STRICT

LANES = 128  # numbers to which a TPU pads the last axis of an array


@dataclass(frozen=True, config=STRICT)
class VitShape(EncoderShape):
    """A resolved ViT encoder, and the width and depth from which it takes its hyperparameters."""

    kind: Literal["vit"]
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    base_width: int
    base_depth: int

    @property
    def stride(self) -> int:
        return self.patch

    @property
    def widening(self) -> float:
        return self.width / self.base_width

    @property
    def deepening(self) -> float:
        return self.depth / self.base_depth

    def widened(self) -> Self:
        width, heads, mlp_width = 2 * self.width, 2 * self.heads, 2 * self.mlp_width
        return replace(self, width=width, heads=heads, mlp_width=mlp_width)

    def deepened(self) -> Self:
        return replace(self, depth=self.depth + 1)

    def as_base(self) -> Self:
        return replace(self, base_width=self.width, base_depth=self.depth)

    @property
    def heads_in_common(self) -> int:
        return self.heads

    @property
    def block_weights(self) -> int:
        return stack_weights(self)

    @property
    def largest_layer(self) -> int:
        return stack_weights(self) // self.depth

    @property
    def parameters(self) -> int:
        """Patch embedding, blocks, final norm; positions are fixed."""
        embedding = self.patch**3 * self.width + self.width
        blocks = self.depth * block_parameters(self.width, self.mlp_width)
        return embedding + blocks + 2 * self.width

    def flops(self, volume: Shape3) -> int:
        n = tokens(volume, self.patch)
        return 2 * n * self.patch**3 * self.width + stack_flops(n, self)

    def training_flops(self, volume: Shape3, mask_ratio: float, remat: Remat) -> int:
        m = visible_tokens(tokens(volume, self.patch), mask_ratio)
        # The embedding needs no gradient of its input: two passes.
        embedding = 2 * m * self.patch**3 * self.width
        return 2 * embedding + 3 * stack_flops(m, self) + stack_again(m, self, remat)

    def memory(self, decoder: DecoderShape, setting: Setting, work: Work) -> Memory:
        n = tokens(setting.volume, self.patch)
        m = visible_tokens(n, work.mask_ratio)
        # The patches that the embedding saw.
        kept = self.depth * block_kept(m, self, setting) + 4 * m * self.patch**3
        largest = block_work(m, self, setting)
        if setting.platform == "tpu":
            # Volumes on their way to patches: the last of their axes, a patch's, is padded.
            largest = max(largest, 4 * LANES // self.patch * setting.voxels)
        if work.decoded:
            assert isinstance(decoder, VitDecoderShape)
            decoding = decoder.depth * block_kept(n, decoder, setting)
            # Where the visible tokens go, and the tokens that they are put into.
            kept += work.decoded * (decoding + 3 * 4 * n * decoder.width)
            largest = max(largest, block_work(n, decoder, setting), compared(setting))
        return Memory(kept, largest)

    def forward_memory(self, setting: Setting) -> float:
        n = tokens(setting.volume, self.patch)
        number = 2 if setting.half else 4
        squares = 0 if setting.flash else 2 * self.heads * n
        # Patches in and out of order; a block's input, queries, keys, values, and the MLP's layer.
        patches = 2 * 4 * setting.voxels
        return max(patches, n * (number * (6 * self.width + 2 * self.mlp_width) + 4 * squares))


@dataclass(frozen=True, config=STRICT)
class VitDecoderShape(DecoderShape):
    """A resolved MAE decoder: a narrower transformer over all patches."""

    kind: Literal["vit"]
    width: int
    depth: int
    heads: int
    mlp_width: int

    @property
    def block_weights(self) -> int:
        return stack_weights(self)

    @property
    def largest_layer(self) -> int:
        return stack_weights(self) // self.depth

    @property
    def heads_in_common(self) -> int:
        return self.heads

    def parameters(self, encoder: EncoderShape) -> int:
        """Input projection, mask token, blocks, norm, output projection."""
        projection = encoder.width * self.width + self.width
        output = self.width * encoder.patch**3 + encoder.patch**3
        blocks = self.depth * block_parameters(self.width, self.mlp_width)
        return projection + self.width + blocks + 2 * self.width + output

    def training_flops(
        self, encoder: EncoderShape, volume: Shape3, mask_ratio: float, remat: Remat
    ) -> int:
        n = tokens(volume, encoder.patch)
        projection = 2 * visible_tokens(n, mask_ratio) * encoder.width * self.width
        output = 2 * n * self.width * encoder.patch**3
        return 3 * (projection + output + stack_flops(n, self)) + stack_again(n, self, remat)


Stack = VitShape | VitDecoderShape


def block_parameters(width: int, mlp_width: int) -> int:
    """Parameters of one pre-norm block: two norms, attention (qkv and output), two MLP layers, all
    with biases.
    """
    attention = 4 * width * width + 4 * width
    mlp = 2 * width * mlp_width + mlp_width + width
    return 4 * width + attention + mlp


def stack_weights(stack: Stack) -> int:
    """Weights of a stack's blocks, biases and norms left out."""
    return stack.depth * stack.width * (4 * stack.width + 2 * stack.mlp_width)


def stack_flops(n: int, stack: Stack) -> int:
    """Forward FLOPs of a stack over n tokens: projections, MLP, and the two attention products."""
    width = stack.width
    products = 2 * n * (4 * width * width + 2 * width * stack.mlp_width)
    return stack.depth * (products + 4 * n * n * width)


def stack_again(n: int, stack: Stack, remat: Remat) -> int:
    """FLOPs of what `remat` computes once more of a stack: attention alone, or all but the last
    product, on which no gradient depends.
    """
    match remat:
        case "none":
            return 0
        case "dots":
            return 4 * n * n * stack.width * stack.depth
        case "blocks":
            last = 2 * n * stack.depth * stack.mlp_width * stack.width
            return stack_flops(n, stack) - last


def block_kept(n: int, stack: Stack, setting: Setting) -> float:
    """Bytes that one block keeps for the backward pass; `tensor` devices share heads and MLP.

    "none" keeps all that automatic differentiation asks for, norms in float32: 12 E (of which
    queries, keys, values and what attention makes of them are shared), 6 F (five for the gelu,
    three where no scan hands them over) and the attention weights, before and after the dropped
    type. Unrolled on a GPU in bfloat16, norms and the gelu are computed again: 9 E and 2.25 F, as
    measured on compiled programs for an H100 (ViT l and 2xl at 96^3: 4 and -2 % off).
    """
    tensor, half = setting.tensor, setting.half
    scanned = setting.platform == "tpu"  # where nothing is computed again, see models.transformer
    width, mlp = stack.width, stack.mlp_width / tensor
    squares = 0.0 if setting.flash else stack.heads * n / tensor
    match setting.remat:
        case "none" if half and not scanned:
            return n * ((12 + 6 / tensor) * width + 4.5 * mlp + 6 * squares)
        case "none" if half:
            return n * ((24 + 12 / tensor) * width + 12 * mlp + 6 * squares)
        case "none":
            return n * ((32 + 16 / tensor) * width + (24 if scanned else 16) * mlp + 8 * squares)
        case "blocks":
            return n * width * (2 if half else 4)
        case "dots":
            return n * ((2 + 3 / tensor) * width + mlp) * (2 if half else 4)


def compared(setting: Setting) -> float:
    """Bytes of patches, predictions and what is made of both: they are gone when the blocks'
    backward pass begins.

    On a GPU targets are computed again, and predictions and their gradients have the type of the
    activations, as in programs compiled for an H100.
    """
    if setting.half and setting.platform == "gpu":
        return (4 + 2 + 2) * setting.voxels
    return 3 * 4 * setting.voxels


def block_work(n: int, stack: Stack, setting: Setting) -> float:
    """Bytes that one block's backward pass takes beyond what was kept.

    Attention weights, where they are written down, are normalised in float32. On a GPU in bfloat16
    a block that is computed again takes a quarter more than what it would have kept, as in programs
    compiled for an H100 (pretraining and fine-tuning of ViT l).
    """
    if setting.remat == "blocks" and setting.half and setting.platform == "gpu":
        return 1.25 * block_kept(n, stack, replace(setting, remat="none"))
    tensor = setting.tensor
    width, mlp = stack.width, stack.mlp_width / tensor
    squares = 0.0 if setting.flash else stack.heads * n / tensor
    numbers = {
        "none": (2 + 2 / tensor) * width + 3 * mlp + 3 * squares,
        "blocks": (8 + 4 / tensor) * width + 4 * mlp + 2 * squares,
        "dots": (8 + 4 / tensor) * width + 3 * mlp + 2 * squares,
    }
    return n * numbers[setting.remat] * (3 if setting.half and setting.flash else 4)

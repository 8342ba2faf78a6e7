"""Shapes and costs of the convolutional encoders and decoders.

FLOPs of a convolution count the taps that meet voxels, not those on the border of zeros, as XLA
does: at 6 voxels a side that is 30 % of them.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from math import prod
from typing import Literal, NamedTuple, Self

from pydantic.dataclasses import dataclass

from scaling.study.objectives import Work
from scaling.study.pretraining import Remat
from scaling.study.protocols import Shape3
from scaling.study.shapes import DecoderShape, EncoderShape, Memory, Setting
from scaling.study.strict import STRICT

POINT: Shape3 = (1, 1, 1)  # any volume does where parameters alone are asked for
TAPS = 27  # of a convolution of 3 x 3 x 3 voxels


class Layer(NamedTuple):
    """A linear map over space and what follows it."""

    channels: int
    """Channels in."""
    features: int
    """Channels out."""
    taps: int
    """Voxels of the kernel: 27, or 1."""
    shape: Shape3
    """Lengths of the output."""
    stride: int = 1
    """Voxels of the input between two of the output."""
    norm: bool = True
    """Whether an instance norm and an activation follow."""
    bias: bool = False
    """Whether the map has a bias."""

    @property
    def parameters(self) -> int:
        """Weights, bias, and scale and shift of the norm."""
        weights = self.taps * self.channels * self.features
        return weights + (2 * self.norm + self.bias) * self.features

    @property
    def flops(self) -> int:
        """Forward FLOPs. A row of n outputs meets 3n - 2 voxels, at stride two 3n - 1."""
        products = prod(self.shape)
        if self.taps == TAPS:
            beyond = 2 if self.stride == 1 else 1
            products = prod(3 * length - beyond for length in self.shape)
        return 2 * self.channels * self.features * products

    @property
    def input_numbers(self) -> int:
        """Numbers that a convolution sees; 0 for a map of single voxels."""
        return self.channels * prod(self.shape) if self.taps == TAPS else 0

    def kept(self, number: int) -> int:
        """Bytes kept for the backward pass, numbers taking `number`: the input, the output and,
        in float32, the centred output.
        """
        seen = number * self.channels * self.stride**3
        normed = (number + 4) * self.features * self.norm
        return (seen + normed) * prod(self.shape)


@dataclass(frozen=True, config=STRICT)
class CnnShape(EncoderShape):
    """A resolved convolutional encoder: channels and blocks of every level, and the first level's
    channels of the base.
    """

    kind: Literal["unet", "resenc"]
    patch: int
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    base_width: int

    @property
    def width(self) -> int:
        """Channels of a token: those of the lowest level."""
        return self.features[-1]

    @property
    def stride(self) -> int:
        return 2 ** (len(self.features) - 1)

    @property
    def widening(self) -> float:
        return self.features[0] / self.base_width

    def widened(self) -> Self:
        return replace(self, features=tuple(2 * channels for channels in self.features))

    def as_base(self) -> Self:
        return replace(self, base_width=self.features[0])

    @property
    def vmapped(self) -> bool:
        """No: convolutions with weights for each network are grouped ones, slow everywhere."""
        return False

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in encoder_layers(self, POINT))

    @property
    def largest_layer(self) -> int:
        return max(layer.parameters for layer in encoder_layers(self, POINT))

    def flops(self, volume: Shape3) -> int:
        return sum(layer.flops for layer in encoder_layers(self, volume))

    def training_flops(self, volume: Shape3, mask_ratio: float, remat: Remat) -> int:
        """Hidden patches are zeros and cost as much; "blocks" is one more forward pass."""
        flops = [layer.flops for layer in encoder_layers(self, volume)]
        passes = 4 if remat == "blocks" else 3
        # The first layer needs no gradient of its input.
        return passes * sum(flops) - flops[0]

    def segmentation_flops(self, volume: Shape3, sequences: int) -> int:
        """The head is a decoder with skips, the pyramids of all sequences side by side."""
        layers = decoder_layers(self.features, True, volume, beside=sequences)
        return sum(layer.flops for layer in layers)

    def memory(self, decoder: DecoderShape, setting: Setting, work: Work) -> Memory:
        """On CPU rematerialisation is undone (`scaling.models.remat`)."""
        encoding = list(encoder_layers(self, setting.volume))
        decoding: list[Layer] = []
        if work.decoded:
            assert isinstance(decoder, CnnDecoderShape)
            layers = list(decoder_layers(self.features, decoder.skips, setting.volume))
            decoding = work.decoded * layers
        if setting.platform == "cpu" or setting.remat == "none":
            memory = all_kept(self, encoding, decoding, setting, work)
        else:
            memory = levels_kept(self, encoding + decoding, setting, work)
        share = fused(setting)
        # Targets, predictions and their difference.
        compared = 4 * 3 * setting.voxels * work.decoded
        return Memory(share * memory.kept + compared, share * memory.work)

    def segmentation_memory(self, sequences: int, setting: Setting) -> float:
        """A decoder with skips, the pyramids of all sequences side by side."""
        number = 2 if setting.half else 4
        layers = list(decoder_layers(self.features, True, setting.volume, beside=sequences))
        kept = sum(layer.kept(number) for layer in layers)
        widest = number * max(layer.input_numbers for layer in layers)
        return fused(setting) * (kept + 4 * widest)

    def forward_memory(self, setting: Setting) -> float:
        number = 2 if setting.half else 4
        layers = list(encoder_layers(self, setting.volume))
        # A convolution's input and output, and the output's norm in float32.
        largest = max(
            number * layer.input_numbers + (number + 4) * layer.features * prod(layer.shape)
            for layer in layers
        )
        return number * pyramid_numbers(self, setting.volume) + largest


@dataclass(frozen=True, config=STRICT)
class CnnDecoderShape(DecoderShape):
    """A resolved convolutional decoder: the encoder's channels on the way up, one convolution a
    level, with or without the encoder's features beside it.
    """

    kind: Literal["cnn"]
    skips: bool

    def parameters(self, encoder: EncoderShape) -> int:
        """Number of parameters, the biases of its transposed convolutions included."""
        assert isinstance(encoder, CnnShape)
        layers = decoder_layers(encoder.features, self.skips, POINT)
        return sum(layer.parameters for layer in layers) + sum(encoder.features[:-1])

    def training_flops(
        self, encoder: EncoderShape, volume: Shape3, mask_ratio: float, remat: Remat
    ) -> int:
        """Of one volume, forward and backward: three times the forward pass, and with remat
        "blocks" all layers but the last, which gives the voxels, once more.
        """
        assert isinstance(encoder, CnnShape)
        flops = [layer.flops for layer in decoder_layers(encoder.features, self.skips, volume)]
        again = sum(flops[:-1]) if remat == "blocks" else 0
        return 3 * sum(flops) + again


def fused(setting: Setting) -> float:
    """Share of the memory that is left where the compiler computes norms and activations again
    rather than keep them: in bfloat16 on a GPU, as measured on compiled programs for an H100
    (U-Net b, ResEnc b and l at 96^3: -5 to 14 % off).
    """
    return 0.42 if setting.half and setting.platform == "gpu" else 1.0


def shape_at(volume: Shape3, level: int) -> Shape3:
    """Lengths of a level's features."""
    depth, height, width = (length // 2**level for length in volume)
    return depth, height, width


def encoder_layers(encoder: CnnShape, volume: Shape3) -> Iterator[Layer]:
    """Every layer with parameters, in order; the first sees the volume."""
    for level, (features, blocks) in enumerate(zip(encoder.features, encoder.blocks, strict=True)):
        shape = shape_at(volume, level)
        channels = encoder.features[level - 1] if level else 1
        match encoder.kind:
            case "unet":
                yield Layer(channels, features, TAPS, shape)
                yield Layer(features, features, TAPS, shape)
            case "resenc":
                yield from residual_level(channels, features, blocks, shape, first=level == 0)


def residual_level(
    channels: int, features: int, blocks: int, shape: Shape3, first: bool
) -> Iterator[Layer]:
    """The layers of one level of a residual encoder."""
    if first:
        yield Layer(channels, features, TAPS, shape)
        channels = features
    yield Layer(channels, features, TAPS, shape, stride=1 if first else 2)
    if channels != features:
        # What passes a block is projected to its channels.
        yield Layer(channels, features, 1, shape)
    for _ in range(2 * blocks - 1):
        yield Layer(features, features, TAPS, shape)


def decoder_layers(
    features: tuple[int, ...], skips: bool, volume: Shape3, beside: int = 1
) -> Iterator[Layer]:
    """Every layer of the decoder, from the lowest level up; `beside` pyramids are read at once."""
    below = beside * features[-1]
    for level in reversed(range(len(features) - 1)):
        channels = features[level]
        # A transposed convolution with stride 2 is eight maps, one for each place of the cube.
        yield Layer(below, 8 * channels, 1, shape_at(volume, level + 1), norm=False)
        yield Layer(channels * (1 + beside * skips), channels, TAPS, shape_at(volume, level))
        below = channels
    yield Layer(below, 1, 1, volume, norm=False, bias=True)


def pyramid_numbers(encoder: CnnShape, volume: Shape3) -> int:
    """Numbers of all levels' outputs."""
    levels = enumerate(encoder.features)
    return sum(channels * prod(shape_at(volume, level)) for level, channels in levels)


def passed_numbers(encoder: CnnShape, volume: Shape3) -> int:
    """Numbers kept beside the layers: a residual block's output; of a plain level its output, and
    where the maximum of each cube was.
    """
    if encoder.kind == "unet":
        return 2 * pyramid_numbers(encoder, volume)
    total = 0
    for level, (channels, blocks) in enumerate(zip(encoder.features, encoder.blocks, strict=True)):
        total += channels * blocks * prod(shape_at(volume, level))
    return total


def all_kept(
    encoder: CnnShape, encoding: list[Layer], decoding: list[Layer], setting: Setting, work: Work
) -> Memory:
    """Memory where nothing is computed again, the peak being at one layer of the backward pass.

    When the backward pass is at a layer, what the layers after it kept is gone. A layer's work is
    a number of volumes as large as what its convolution sees.
    """
    number = 2 if setting.half else 4
    backward, target = 4, 2
    if encoder.kind == "resenc" and setting.platform == "cpu":
        backward, target = 6, 7  # a residual block's input stays
    widest = max(layer.input_numbers for layer in encoding + decoding)
    kept: list[float] = []
    working: list[float] = []
    for layer in encoding:
        kept.append(layer.kept(number))
        working.append(number * backward * layer.input_numbers)
    # Between encoder and decoder: what passes beside them, and a target's forward pass.
    kept.append(number * passed_numbers(encoder, setting.volume))
    working.append(target * number * widest * work.target)
    for layer in decoding:
        kept.append(layer.kept(number))
        working.append(number * 4 * layer.input_numbers)
    peaks = [before + here for before, here in zip(accumulate(kept), working, strict=True)]
    return Memory(sum(kept), max(peaks) - sum(kept))


def levels_kept(encoder: CnnShape, layers: list[Layer], setting: Setting, work: Work) -> Memory:
    """Memory where "blocks" keeps the levels' outputs and "dots" those of the convolutions too; the
    work is a level's share of the rest.
    """
    number = 2 if setting.half else 4
    outputs = (1 + work.decoded) * pyramid_numbers(encoder, setting.volume)
    if setting.remat == "dots":
        outputs += sum(layer.features * prod(layer.shape) for layer in layers)
    levels: list[int] = []
    for level in range(len(encoder.features)):
        shape = shape_at(setting.volume, level)
        levels.append(sum(layer.kept(number) for layer in layers if layer.shape == shape))
    widest = number * max(layer.input_numbers for layer in layers)
    return Memory(number * outputs, max(levels) + 4 * widest)

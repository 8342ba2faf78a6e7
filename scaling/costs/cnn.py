"""Closed-form costs of the convolutional encoders and decoders: parameters, FLOPs, memory. See `scaling.costs.flops`.

FLOPs of a convolution count the taps that meet voxels, not those on the border of zeros, as XLA does: at 6 voxels a side that is
30 % of them.
"""

from collections.abc import Iterator
from itertools import accumulate
from math import prod
from typing import NamedTuple

from scaling.study.config import Pretrain, Remat, Shape3
from scaling.study.ladder import CnnDecoderShape, CnnShape


class Layer(NamedTuple):
    """A linear map over space: channels in and out, kernel volume (27, or 1), the lengths of its output, and its stride.

    `norm` says whether an instance norm and an activation follow, `bias` whether it has one.
    """

    channels: int
    features: int
    kernel: int
    shape: Shape3
    stride: int = 1
    norm: bool = True
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights, bias, and scale and shift of the norm."""
        return (
            self.kernel * self.channels * self.features
            + (2 * self.norm + self.bias) * self.features
        )

    @property
    def flops(self) -> int:
        """Forward FLOPs. A row of n outputs meets 3n - 2 voxels, at stride two 3n - 1."""
        places = (
            prod(3 * n - (2 if self.stride == 1 else 1) for n in self.shape)
            if self.kernel == 27
            else prod(self.shape)
        )
        return 2 * self.channels * self.features * places

    @property
    def wide(self) -> int:
        """Numbers that a convolution sees."""
        return self.channels * prod(self.shape) if self.kernel == 27 else 0

    def kept(self, number: int) -> int:
        """Bytes kept for the backward pass, numbers taking `number`: what it saw, its output, and that centred, in float32."""
        return (
            number * self.channels * self.stride**3 + (number + 4) * self.features * self.norm
        ) * prod(self.shape)


def shape_at(volume: Shape3, level: int) -> Shape3:
    """Lengths of a level's features."""
    d, h, w = (length // 2**level for length in volume)
    return d, h, w


def encoder_layers(encoder: CnnShape, volume: Shape3) -> Iterator[Layer]:
    """Every layer with parameters, in order; the first sees the volume."""
    for level, (features, blocks) in enumerate(zip(encoder.features, encoder.blocks, strict=True)):
        shape, channels = shape_at(volume, level), encoder.features[level - 1] if level else 1
        if encoder.kind == "unet":
            yield Layer(channels, features, 27, shape)
            yield Layer(features, features, 27, shape)
            continue
        if level == 0:
            yield Layer(1, features, 27, shape)
            channels = features
        yield Layer(channels, features, 27, shape, stride=2 if level else 1)
        if channels != features:
            yield Layer(channels, features, 1, shape)
        for _ in range(2 * blocks - 1):
            yield Layer(features, features, 27, shape)


def decoder_layers(
    features: tuple[int, ...], skips: bool, volume: Shape3, beside: int = 1
) -> Iterator[Layer]:
    """Every layer of the decoder, from the lowest level up; `beside` pyramids are read at once."""
    below = beside * features[-1]
    for level in reversed(range(len(features) - 1)):
        channels = features[level]
        # A transposed convolution with stride 2 is eight maps, one for each place of the cube.
        yield Layer(below, 8 * channels, 1, shape_at(volume, level + 1), norm=False)
        yield Layer(channels * (1 + beside * skips), channels, 27, shape_at(volume, level))
        below = channels
    yield Layer(below, 1, 1, volume, norm=False, bias=True)


def encoder_parameters(encoder: CnnShape) -> int:
    """Parameters of the encoder."""
    return sum(layer.parameters for layer in encoder_layers(encoder, (1, 1, 1)))


def decoder_parameters(encoder: CnnShape, decoder: CnnDecoderShape) -> int:
    """Parameters of the reconstruction decoder, the biases of its transposed convolutions included."""
    layers = decoder_layers(encoder.features, decoder.skips, (1, 1, 1))
    return sum(layer.parameters for layer in layers) + sum(encoder.features[:-1])


def encoder_training_flops(encoder: CnnShape, volume: Shape3, remat: Remat) -> int:
    """FLOPs of a forward and a backward pass; the first layer needs no gradient of its input; "blocks" is one more forward pass."""
    layers = [layer.flops for layer in encoder_layers(encoder, volume)]
    return (4 if remat == "blocks" else 3) * sum(layers) - layers[0]


def decoder_training_flops(
    encoder: CnnShape, decoder: CnnDecoderShape, volume: Shape3, remat: Remat
) -> int:
    """FLOPs of a forward and a backward pass of the reconstruction decoder; "blocks" does all levels but the voxels once more."""
    layers = [layer.flops for layer in decoder_layers(encoder.features, decoder.skips, volume)]
    return 3 * sum(layers) + (sum(layers[:-1]) if remat == "blocks" else 0)


def memory(
    encoder: CnnShape,
    decoder: CnnDecoderShape,
    pretrain: Pretrain,
    decoded: int,
    target: bool,
    on_cpu: bool,
) -> tuple[int, int]:
    """Bytes of one sample, decoded so many times, kept for the backward pass, and of the largest piece of work beyond them: a layer's
    of the backward pass, or of the forward pass of a `target` encoder beside it.

    On CPU rematerialisation is undone (`scaling.models.remat`). Elsewhere "blocks" keeps the levels' outputs, "dots" those of the
    convolutions, and the work is a level's share of the rest.
    """
    number = 2 if pretrain.dtype == "bfloat16" and not on_cpu else 4
    encoding = list(encoder_layers(encoder, pretrain.crop))
    decoding = decoded * list(decoder_layers(encoder.features, decoder.skips, pretrain.crop))
    layers = encoding + decoding
    outputs = sum(
        f * prod(shape_at(pretrain.crop, level)) for level, f in enumerate(encoder.features)
    )
    # A residual block's output; a plain level's, and where the maximum of each cube was.
    passed = 2 * outputs
    if encoder.kind == "resenc":
        levels = enumerate(zip(encoder.features, encoder.blocks, strict=True))
        passed = sum(
            f * blocks * prod(shape_at(pretrain.crop, level)) for level, (f, blocks) in levels
        )
    widest = number * max(layer.wide for layer in layers)
    if on_cpu or pretrain.remat == "none":
        # Volumes as large as what a convolution sees: in its backward pass, and of a target's forward pass. A residual block's input stays.
        backward, forward = (6, 7) if encoder.kind == "resenc" and on_cpu else (4, 2)
        parts = ((encoding, backward), (decoding, 4))
        pieces = [
            [(layer.kept(number), number * times * layer.wide) for layer in part]
            for part, times in parts
        ]
        kept, work = zip(
            *pieces[0], (number * passed, forward * widest * target), *pieces[1], strict=True
        )
        # When the backward pass is at a layer, what those after it kept is gone.
        return sum(kept), max(map(sum, zip(accumulate(kept), work, strict=True))) - sum(kept)
    largest = max(
        sum(layer.kept(number) for layer in layers if layer.shape == shape_at(pretrain.crop, level))
        for level in range(len(encoder.features))
    )
    maps = (
        sum(layer.features * prod(layer.shape) for layer in layers)
        if pretrain.remat == "dots"
        else 0
    )
    return number * ((1 + decoded) * outputs + maps), largest + 4 * widest

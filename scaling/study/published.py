"""Names that published U-Nets give to the tensors of the architectures that ours share.

Residual encoders as in PyPI's `dynamic-network-architectures` (nnU-Net, nnssl), whose names are
written, and `gardening-tools` (FOMO25's and FOMO26's organisers), whose names are read as well;
plain ones as its `PlainConvEncoder(pool="max")`. Read off the modules' state dicts.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from scaling.study.cnn_shape import CnnShape

# Ours -> what the organisers' modules call the same.
SYNONYMS = (("stem.conv1.", "stem.convs.0."), ("norm_op.", "norm."))
# A module is also listed under its place in a sequence: the convolution, (dropout,) the norm.
FIRST_OF_SEQUENCE, LATER_OF_SEQUENCE = r"all_modules\.0\.", r"all_modules\.\d+\."


class Layer(NamedTuple):
    """A convolution with its norm: the name of the published module, and where our parameters are,
    in a tree of dicts. `place` is its number in a stack of equal blocks, None outside of one.
    """

    name: str
    kernel: tuple[str, ...]
    norm: tuple[str, ...]
    channels: int
    features: int
    taps: int = 3
    place: int | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the published tensors, but for the bias of the convolution, which the
        norm makes void.
        """
        kernel = (self.features, self.channels, *(self.taps,) * 3)
        return {
            f"{self.name}.conv.weight": kernel,
            f"{self.name}.norm.weight": (self.features,),
            f"{self.name}.norm.bias": (self.features,),
        }

    @property
    def void(self) -> str:
        """Name of the convolution's bias, where there is one."""
        return f"{self.name}.conv.bias"


def canonical_name(name: str) -> str:
    """A published tensor's name within the encoder, as nnU-Net says it: without what the encoder
    is part of.
    """
    name = name.rpartition("encoder.")[2]
    for theirs, ours in SYNONYMS:
        name = name.replace(theirs, ours)
    name = re.sub(FIRST_OF_SEQUENCE, "conv.", name)
    return re.sub(LATER_OF_SEQUENCE, "norm.", name)


def encoder_layers(shape: CnnShape) -> Iterator[Layer]:
    """Every layer of an encoder."""
    for level, (features, blocks) in enumerate(zip(shape.features, shape.blocks, strict=True)):
        channels = shape.features[level - 1] if level else 1
        match shape.kind:
            case "unet":
                yield from plain_level(level, channels, features)
            case "resenc":
                yield from residual_level(level, channels, features, blocks)


def plain_level(level: int, channels: int, features: int) -> Iterator[Layer]:
    """Two convolutions, behind a maximum but for the first level."""
    within = 1 if level else 0
    for number, part in enumerate(("conv_in", "conv_out")):
        at = ("levels", f"level{level}", part)
        name = f"stages.{level}.{within}.convs.{number}"
        yield Layer(name, (*at, "kernel"), (*at, "norm"), channels, features)
        channels = features


def residual_level(level: int, channels: int, features: int, blocks: int) -> Iterator[Layer]:
    """A stem on the first level, a block that changes the shape, and equal blocks."""
    at = ("levels", f"level{level}")
    if level == 0:
        stem = (*at, "stem")
        yield Layer("stem.convs.0", (*stem, "kernel"), (*stem, "norm"), channels, features)
        channels = features
    for block in range(blocks):
        name = f"stages.{level}.blocks.{block}"
        inside = (*at, "rest", "blocks") if block else (*at, "block")
        place = block - 1 if block else None
        for number, part in enumerate(("conv_in", "conv_out"), start=1):
            kernel, norm = (*inside, part, "kernel"), (*inside, part, "norm")
            taken = channels if (block, number) == (0, 1) else features
            yield Layer(f"{name}.conv{number}", kernel, norm, taken, features, 3, place)
        if block == 0 and channels != features:
            kernel, norm = (*inside, "project", "kernel"), (*inside, "project_norm")
            yield Layer(f"{name}.skip.1", kernel, norm, channels, features, 1)

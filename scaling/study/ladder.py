"""A rung of a family's ladder resolved to shapes, whichever the family."""

from scaling.study.cnn_shape import CnnDecoderShape, CnnShape
from scaling.study.families import (
    RESENC_BLOCKS,
    RESENC_FEATURES,
    UNET_WIDTHS,
    VIT_WIDTHS,
    Family,
    Parametrisation,
    depth_for,
    heads_for,
)
from scaling.study.shapes import DecoderShape as Decoder
from scaling.study.shapes import EncoderShape as Encoder
from scaling.study.shapes import tokens, visible_tokens
from scaling.study.vit_shape import VitDecoderShape, VitShape

__all__ = [
    "RESENC_BLOCKS",
    "RESENC_FEATURES",
    "UNET_WIDTHS",
    "VIT_WIDTHS",
    "CnnDecoderShape",
    "CnnShape",
    "Decoder",
    "Encoder",
    "VitDecoderShape",
    "VitShape",
    "depth_for",
    "heads_for",
    "resolve_decoder",
    "resolve_encoder",
    "rungs",
    "tokens",
    "visible_tokens",
]


def rungs(family: Family) -> tuple[str, ...]:
    """Names of a family's sizes, from small to large."""
    return family.rungs()


def resolve_encoder(family: Family, size: str, parametrisation: Parametrisation = "mup") -> Encoder:
    """The encoder of rung `size`. Under the standard parametrisation every width is its own base.

    Raises ValueError for a size that is not on the ladder.
    """
    if size not in family.rungs():
        raise ValueError(
            f"size {size!r} is not on the {family.kind} ladder; "
            f"expected one of {', '.join(family.rungs())}"
        )
    return family.encoder(size, parametrisation)


def resolve_decoder(family: Family) -> Decoder:
    """The reconstruction decoder of a family. It is not scaled by itself."""
    return family.decoder()

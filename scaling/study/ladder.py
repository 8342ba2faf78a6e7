"""The ladder of sizes: a rung's name resolved, once, to explicit numbers. Nothing downstream knows the rule.

Rule: depth is width / 40 (at least 2), so that the aspect ratio stays put; heads are 64 wide from the first width that
allows it (32 below); the MLP is four times the width. Widths double about every two rungs: 0.1 M to 320 M encoder parameters.
"""

from pydantic.dataclasses import dataclass

from scaling.study.config import STRICT, Shape3, ViT

VIT_WIDTHS = {
    "xxs": 64,
    "xs": 96,
    "s": 128,
    "m": 192,
    "l": 256,
    "xl": 384,
    "2xl": 512,
    "3xl": 768,
    "4xl": 1024,
}


@dataclass(frozen=True, config=STRICT)
class Encoder:
    """A resolved ViT encoder: everything that fixes its parameters."""

    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int


@dataclass(frozen=True, config=STRICT)
class Decoder:
    """A resolved MAE decoder: a narrower transformer over all patches."""

    width: int
    depth: int
    heads: int
    mlp_width: int


def heads_for(width: int) -> int:
    """Number of attention heads: 64 wide where the width allows it, else 32."""
    return width // 64 if width % 64 == 0 else width // 32


def resolve_encoder(family: ViT, size: str) -> Encoder:
    """The encoder of rung `size`. Raises ValueError for a size that is not on the ladder."""
    if size not in VIT_WIDTHS:
        raise ValueError(f"size {size!r} is not on the {family.kind} ladder; expected one of {', '.join(VIT_WIDTHS)}")
    width = VIT_WIDTHS[size]
    return Encoder(family.patch, width, max(2, round(width / 40)), heads_for(width), 4 * width)


def resolve_decoder(family: ViT) -> Decoder:
    """The reconstruction decoder, the same for every size: only the encoder is scaled."""
    width = family.decoder_width
    return Decoder(width, family.decoder_depth, heads_for(width), 4 * width)


def tokens(shape: Shape3, patch: int) -> int:
    """Number of patches N of a volume of `shape` voxels."""
    return (shape[0] // patch) * (shape[1] // patch) * (shape[2] // patch)

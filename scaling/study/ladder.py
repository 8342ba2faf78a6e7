"""The ladders of sizes: a rung's name resolved, once, to explicit numbers. Nothing downstream knows the rules.

ViT:    depth is width / 40 (at least 2), so that the aspect ratio stays put; heads are 64 wide from the first width that allows it (32
        below); the MLP is four times the width. Widths double about every two rungs: 0.1 M to 320 M encoder parameters.
UNet:   channels double with each level; two convolutions a level. "b" and "xl" are the baselines of FOMO25, of 14.1 M and 56.5 M.
ResEnc: channels double with each level up to ten times the first; residual blocks per level as written. "l" is nnU-Net's ResEnc-L, of
        90.3 M, "b" the same with two blocks a level, "xl" the 345 M encoder of the FOMO25 codebase with its odd cap.
"""

from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.study.config import Shape3
from scaling.study.families import Family, ResEnc, UNet, ViT
from scaling.study.strict import STRICT

Parametrisation = Literal["mup", "standard"]

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
UNET_WIDTHS = {
    "xxs": 4,
    "xs": 8,
    "s": 12,
    "m": 16,
    "b": 32,
    "l": 48,
    "xl": 64,
    "2xl": 96,
    "3xl": 128,
}
RESENC_FEATURES = {
    "xxs": (4, 8, 16, 32, 40, 40),
    "xs": (8, 16, 32, 64, 80, 80),
    "s": (8, 16, 32, 64, 80, 80),
    "m": (16, 32, 64, 128, 160, 160),
    "b": (32, 64, 128, 256, 320, 320),
    "l": (32, 64, 128, 256, 320, 320),
    "xl": (64, 128, 256, 512, 620, 620),
}
RESENC_BLOCKS = {
    **dict.fromkeys(("xxs", "xs"), (1, 1, 1, 1, 1, 1)),
    **dict.fromkeys(("s", "m", "b"), (2, 2, 2, 2, 2, 2)),
    **dict.fromkeys(("l", "xl"), (1, 3, 4, 6, 6, 6)),
}


@dataclass(frozen=True, config=STRICT)
class VitShape:
    """A resolved ViT encoder: everything that fixes its parameters, and the width and depth it takes its hyperparameters from."""

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
        """Voxels of a token, per axis."""
        return self.patch

    @property
    def widening(self) -> float:
        """How many times as wide as the base it is."""
        return self.width / self.base_width

    @property
    def deepening(self) -> float:
        """How many times as many blocks as the base it has."""
        return self.depth / self.base_depth


@dataclass(frozen=True, config=STRICT)
class CnnShape:
    """A resolved convolutional encoder: channels and blocks of every level, and the first level's channels of the base."""

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
        """Voxels of a token, per axis."""
        return 2 ** (len(self.features) - 1)

    @property
    def widening(self) -> float:
        """How many times as wide as the base it is."""
        return self.features[0] / self.base_width

    @property
    def deepening(self) -> float:
        """No rule for depth: one."""
        return 1.0


@dataclass(frozen=True, config=STRICT)
class VitDecoderShape:
    """A resolved MAE decoder: a narrower transformer over all patches."""

    kind: Literal["vit"]
    width: int
    depth: int
    heads: int
    mlp_width: int


@dataclass(frozen=True, config=STRICT)
class CnnDecoderShape:
    """A resolved convolutional decoder: the encoder's channels on the way up, one convolution a level, with or without its features."""

    kind: Literal["cnn"]
    skips: bool


Encoder = VitShape | CnnShape
Decoder = VitDecoderShape | CnnDecoderShape


def heads_for(width: int) -> int:
    """Number of attention heads: 64 wide where the width allows it, else 32."""
    return width // 64 if width % 64 == 0 else width // 32


def depth_for(width: int) -> int:
    """Number of transformer blocks."""
    return max(2, round(width / 40))


def rungs(family: Family) -> tuple[str, ...]:
    """Names of a family's sizes, from small to large."""
    match family:
        case ViT():
            return tuple(VIT_WIDTHS)
        case UNet():
            return tuple(UNET_WIDTHS)
        case ResEnc():
            return tuple(RESENC_FEATURES)


def resolve_encoder(family: Family, size: str, parametrisation: Parametrisation = "mup") -> Encoder:
    """The encoder of rung `size`. Under the standard parametrisation every width is its own base.

    Raises ValueError for a size that is not on the ladder.
    """
    if size not in rungs(family):
        raise ValueError(
            f"size {size!r} is not on the {family.kind} ladder; expected one of {', '.join(rungs(family))}"
        )
    own = parametrisation == "standard"
    match family:
        case ViT():
            width = VIT_WIDTHS[size]
            base = width if own else family.base_width
            return VitShape(
                "vit",
                family.patch,
                width,
                depth_for(width),
                heads_for(width),
                4 * width,
                base,
                depth_for(base),
            )
        case UNet():
            features, blocks = (
                tuple(UNET_WIDTHS[size] * 2**level for level in range(family.levels)),
                (1,) * family.levels,
            )
        case ResEnc():
            features, blocks = (
                RESENC_FEATURES[size][: family.levels],
                RESENC_BLOCKS[size][: family.levels],
            )
    return CnnShape(
        family.kind, family.patch, features, blocks, features[0] if own else family.base_width
    )


def resolve_decoder(family: Family) -> Decoder:
    """The reconstruction decoder. A transformer's is the same for every size: only the encoder is scaled. A U-Net's mirrors its encoder."""
    if family.kind == "vit":
        width = family.decoder_width
        return VitDecoderShape("vit", width, family.decoder_depth, heads_for(width), 4 * width)
    return CnnDecoderShape("cnn", family.skips)


def tokens(shape: Shape3, patch: int) -> int:
    """Number of cubes of `patch` voxels in a volume of `shape` voxels."""
    return (shape[0] // patch) * (shape[1] // patch) * (shape[2] // patch)

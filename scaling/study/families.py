"""Families of backbones, and their ladders of sizes.

A rung's name is resolved, once, to explicit numbers: nothing downstream knows the rules.

ViT     depth is width / 40 (at least 2), so that the aspect ratio stays put; heads are 64 wide from
        the first width that allows it (32 below); the MLP is four times the width. Widths double
        about every two rungs: 0.1 M to 320 M encoder parameters.
UNet    channels double with each level; two convolutions a level. "b" and "xl" are the baselines of
        FOMO25, of 14.1 M and 56.5 M.
ResEnc  channels double with each level up to ten times the first; residual blocks per level as
        written. "l" is nnU-Net's ResEnc-L, of 90.3 M, "b" the same with two blocks a level, "xl"
        the 345 M encoder of the FOMO25 codebase with its odd cap.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from scaling.study.cnn_shape import CnnDecoderShape, CnnShape
from scaling.study.registry import Registry
from scaling.study.shapes import DecoderShape, EncoderShape
from scaling.study.strict import STRICT
from scaling.study.vit_shape import VitDecoderShape, VitShape

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
class Family:
    """What all families have in common. A subclass sets `kind` and resolves its rungs."""

    name: str = ""
    """What the family is called in runs, tables and figures; its kind if empty."""
    sizes: tuple[str, ...] = ()
    """Rungs of this family, where they are not the study's `sizes`."""
    kind: str = ""
    """Which family this is: each class has its own."""

    if TYPE_CHECKING:  # a subclass has them as fields

        @property
        def patch(self) -> int:
            """Voxels per axis of the cubes that masking hides."""

    @property
    def label(self) -> str:
        """`name`, or the kind. It tells two families of one kind apart."""
        return self.name or self.kind

    @property
    def stride(self) -> int:
        """Voxels of a token, per axis."""
        raise NotImplementedError(f"{type(self).__name__}.stride is not defined")

    @property
    def hint(self) -> str:
        """What to add where volumes do not fit the strides."""
        return ""

    def rungs(self) -> tuple[str, ...]:
        """Names of the sizes, from small to large."""
        raise NotImplementedError(f"{type(self).__name__}.rungs is not defined")

    def encoder(self, size: str, parametrisation: Parametrisation) -> EncoderShape:
        """The encoder of a rung. Under "standard" every width is its own base."""
        raise NotImplementedError(f"{type(self).__name__}.encoder is not defined")

    def decoder(self) -> DecoderShape:
        """The decoder of masked reconstruction, the same for every size."""
        raise NotImplementedError(f"{type(self).__name__}.decoder is not defined")


@dataclass(frozen=True, config=STRICT)
class ViT(Family):
    """Vision transformers, and the light decoder that reconstruction uses."""

    kind: Literal["vit"] = "vit"
    """Which family this is."""
    patch: int = 8
    """Voxels per axis of the cubes that become tokens and that masking hides."""
    decoder_width: int = 64
    """Width of the reconstruction decoder: only the encoder is scaled."""
    decoder_depth: int = 2
    """Blocks of the reconstruction decoder."""
    base_width: int = 96
    """Width whose best learning rate, initialisation and weight decay the others take over
    (`Pretrain.parametrisation`)."""

    @property
    def stride(self) -> int:
        return self.patch

    def rungs(self) -> tuple[str, ...]:
        return tuple(VIT_WIDTHS)

    def encoder(self, size: str, parametrisation: Parametrisation) -> VitShape:
        width = VIT_WIDTHS[size]
        base = self.base_width if parametrisation == "mup" else width
        return VitShape(
            kind="vit",
            patch=self.patch,
            width=width,
            depth=depth_for(width),
            heads=heads_for(width),
            mlp_width=4 * width,
            base_width=base,
            base_depth=depth_for(base),
        )

    def decoder(self) -> VitDecoderShape:
        width = self.decoder_width
        return VitDecoderShape("vit", width, self.decoder_depth, heads_for(width), 4 * width)


@dataclass(frozen=True, config=STRICT)
class Pyramid(Family):
    """What convolutional families share: levels, each at half the resolution of the one above."""

    levels: Annotated[int, Field(ge=2)] = 5
    """Number of levels."""
    skips: bool = True
    """Whether the reconstruction decoder sees the encoder's levels, or the lowest alone."""
    patch: int = 8
    """Voxels per axis of the cubes that masking hides."""
    base_width: int = 8
    """First level's channels whose best learning rate, initialisation and weight decay the others
    take over (`Pretrain.parametrisation`)."""

    @property
    def stride(self) -> int:
        return 2 ** (self.levels - 1)

    @property
    def hint(self) -> str:
        return f"; each of its levels={self.levels} but the first halves the volume"

    def decoder(self) -> CnnDecoderShape:
        """The decoder mirrors its encoder."""
        return CnnDecoderShape("cnn", self.skips)


@dataclass(frozen=True, config=STRICT)
class UNet(Pyramid):
    """Plain 3D U-Nets (Ronneberger et al. 2015; the baselines of FOMO25)."""

    kind: Literal["unet"] = "unet"
    """Which family this is."""

    def rungs(self) -> tuple[str, ...]:
        return tuple(UNET_WIDTHS)

    def encoder(self, size: str, parametrisation: Parametrisation) -> CnnShape:
        first = UNET_WIDTHS[size]
        features = tuple(first * 2**level for level in range(self.levels))
        base = self.base_width if parametrisation == "mup" else first
        return CnnShape("unet", self.patch, features, (1,) * self.levels, base)


@dataclass(frozen=True, config=STRICT)
class ResEnc(Pyramid):
    """U-Nets with residual encoders (nnU-Net ResEnc, Isensee et al. 2024)."""

    kind: Literal["resenc"] = "resenc"
    """Which family this is."""
    levels: Annotated[int, Field(ge=2, le=6)] = 6
    """Number of levels."""

    def rungs(self) -> tuple[str, ...]:
        return tuple(RESENC_FEATURES)

    def encoder(self, size: str, parametrisation: Parametrisation) -> CnnShape:
        features = RESENC_FEATURES[size][: self.levels]
        blocks = RESENC_BLOCKS[size][: self.levels]
        base = self.base_width if parametrisation == "mup" else features[0]
        return CnnShape("resenc", self.patch, features, blocks, base)


def heads_for(width: int) -> int:
    """Number of attention heads: 64 wide where the width allows it, else 32."""
    return width // 64 if width % 64 == 0 else width // 32


def depth_for(width: int) -> int:
    """Number of transformer blocks."""
    return max(2, round(width / 40))


FAMILIES: Registry[Family] = Registry(
    "families", Family, Annotated[ViT | UNet | ResEnc, Field(discriminator="kind")]
)


def validate_family(value: Any) -> Family:
    """A family's config out of itself or of plain values."""
    return FAMILIES.validate(value)


AnyFamily = Annotated[Family, PlainValidator(validate_family)]

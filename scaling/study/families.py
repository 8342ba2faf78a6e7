"""Families of backbones: what a rung of the ladder (`scaling.study.ladder`) is a rung of."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from scaling.study.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class Ladder:
    """What a family is called in runs, tables and figures (`name`, or its kind), and its rungs where they are not the study's `sizes`."""

    name: str = ""
    sizes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.name or str(self.kind)  # type: ignore[attr-defined]


@dataclass(frozen=True, config=STRICT)
class ViT(Ladder):
    """Vision transformers: cubic patches of `patch` voxels, and the light decoder that reconstruction uses.

    `base_width` is the width whose best learning rate, initialisation and weight decay the others take over (`Pretrain.parametrisation`).
    """

    kind: Literal["vit"] = "vit"
    patch: int = 8
    decoder_width: int = 64
    decoder_depth: int = 2
    base_width: int = 96

    @property
    def stride(self) -> int:
        """Voxels of a token, per axis."""
        return self.patch


@dataclass(frozen=True, config=STRICT)
class Pyramid(Ladder):
    """What convolutional families share: `levels` levels, each at half the resolution of the one above.

    Masking hides cubes of `patch` voxels. Without `skips` the reconstruction decoder sees the bottleneck alone. `base_width` as in
    `ViT`, in channels of the first level.
    """

    levels: Annotated[int, Field(ge=2)] = 5
    skips: bool = True
    patch: int = 8
    base_width: int = 8

    @property
    def stride(self) -> int:
        """Voxels of a token, per axis."""
        return 2 ** (self.levels - 1)


@dataclass(frozen=True, config=STRICT)
class UNet(Pyramid):
    """Plain 3D U-Nets (Ronneberger et al. 2015; the baselines of FOMO25)."""

    kind: Literal["unet"] = "unet"


@dataclass(frozen=True, config=STRICT)
class ResEnc(Pyramid):
    """U-Nets with residual encoders (nnU-Net ResEnc, Isensee et al. 2024)."""

    kind: Literal["resenc"] = "resenc"
    levels: Annotated[int, Field(ge=2, le=6)] = 6


Family = Annotated[ViT | UNet | ResEnc, Field(discriminator="kind")]

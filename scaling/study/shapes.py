"""What a resolved encoder and its decoder tell of themselves: the one interface of all backbones.

A shape is every number that fixes a network's parameters. It also knows what the network costs,
so that nothing else has to tell one family from another.
"""

from dataclasses import dataclass as plain
from typing import TYPE_CHECKING, Literal, Self

from pydantic.dataclasses import dataclass

from scaling.study.objectives import Work
from scaling.study.pretraining import Remat
from scaling.study.protocols import Shape3
from scaling.study.strict import STRICT

Platform = Literal["cpu", "gpu", "tpu"]
FLOAT32 = 4  # bytes


@plain(frozen=True)
class Setting:
    """How a network is computed, as far as its FLOPs and its memory depend on it."""

    volume: Shape3
    """Voxels of a volume."""
    dtype: str = "float32"
    """Type of the activations."""
    remat: Remat = "none"
    """What the backward pass computes again."""
    platform: Platform = "cpu"
    """Kind of device."""
    tensor: int = 1
    """Devices that share out the heads and MLPs of transformer blocks."""

    @property
    def half(self) -> bool:
        """Whether activations take two bytes: XLA for CPU computes bfloat16 in float32."""
        return self.dtype == "bfloat16" and self.platform != "cpu"

    @property
    def flash(self) -> bool:
        """Whether attention never keeps its N x N weights (`scaling.models.attention`)."""
        return self.platform == "cpu" or (self.dtype == "bfloat16" and self.platform == "gpu")

    @property
    def voxels(self) -> int:
        """Number of voxels of a volume."""
        depth, height, width = self.volume
        return depth * height * width


@plain(frozen=True)
class Memory:
    """Bytes of one sample."""

    kept: float
    """What the forward pass keeps for the backward pass."""
    work: float
    """The largest piece of work beyond that."""


@dataclass(frozen=True, config=STRICT)
class EncoderShape:
    """A resolved encoder: volumes to tokens of `width` channels, one for each `stride`^3 voxels.

    FLOPs count a multiply-add as two, and matrix products and convolutions only.
    """

    kind: str
    """Name of the family."""
    patch: int
    """Voxels per axis of the cubes that masking hides."""

    if TYPE_CHECKING:  # a subclass has it as a field or as a property

        @property
        def width(self) -> int:
            """Channels of a token."""

    @property
    def stride(self) -> int:
        """Voxels of a token, per axis."""
        raise NotImplementedError(missing(self, "stride"))

    @property
    def widening(self) -> float:
        """How many times as wide as the base it is, from which it takes its hyperparameters."""
        return 1.0

    @property
    def deepening(self) -> float:
        """How many times as many equal blocks as the base it has."""
        return 1.0

    def widened(self) -> Self:
        """The encoder at twice the width: what grows with the width, grows here."""
        return self

    def deepened(self) -> Self:
        """The encoder with one more equal block, where depth follows a rule."""
        return self

    def as_base(self) -> Self:
        """An encoder of the same shape that is its own base."""
        return self

    @property
    def vmapped(self) -> bool:
        """Whether several networks are best computed as one, by `jax.vmap`, and not in turn."""
        return True

    @property
    def heads_in_common(self) -> int:
        """Number that a tensor axis must divide; 1 where there is nothing to share out."""
        return 1

    @property
    def block_weights(self) -> int:
        """Weights that a tensor axis shares out."""
        return 0

    @property
    def largest_layer(self) -> int:
        """Weights of the largest layer, which are whole at one time under FSDP."""
        return self.parameters

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        raise NotImplementedError(missing(self, "parameters"))

    def flops(self, volume: Shape3) -> int:
        """Forward FLOPs of a whole volume."""
        raise NotImplementedError(missing(self, "flops"))

    def training_flops(self, volume: Shape3, mask_ratio: float, remat: Remat) -> int:
        """FLOPs of a forward and a backward pass, a share of the patches being hidden."""
        return 3 * self.flops(volume)

    def segmentation_flops(self, volume: Shape3, sequences: int) -> int:
        """Forward FLOPs of a segmentation head that reads `sequences` volumes; 0 where it is small
        beside the encoder.
        """
        return 0

    def memory(self, decoder: "DecoderShape", setting: Setting, work: Work) -> Memory:
        """Memory of training on one sample, decoded `work.decoded` times."""
        raise NotImplementedError(missing(self, "memory"))

    def segmentation_memory(self, sequences: int, setting: Setting) -> float:
        """Bytes of training a segmentation head on one case of `sequences` volumes."""
        n = tokens(setting.volume, self.patch)
        # A hidden layer, its activation and their gradients; logits, masks and their gradients.
        return FLOAT32 * (4 * n * 2 * self.width + 4 * setting.voxels)

    def forward_memory(self, setting: Setting) -> float:
        """Bytes of a forward pass over one volume of which nothing but the features stays."""
        raise NotImplementedError(missing(self, "forward_memory"))


@dataclass(frozen=True, config=STRICT)
class DecoderShape:
    """A resolved decoder of masked reconstruction: an encoder's features to all voxels."""

    kind: str
    """Name of the family."""

    @property
    def block_weights(self) -> int:
        """Weights that a tensor axis shares out."""
        return 0

    @property
    def largest_layer(self) -> int:
        """Weights of the largest layer, which are whole at one time under FSDP."""
        return 0

    @property
    def heads_in_common(self) -> int:
        """Number that a tensor axis must divide; 0 where any will do."""
        return 0

    def parameters(self, encoder: EncoderShape) -> int:
        """Number of trained parameters beside an encoder."""
        raise NotImplementedError(missing(self, "parameters"))

    def training_flops(
        self, encoder: EncoderShape, volume: Shape3, mask_ratio: float, remat: Remat
    ) -> int:
        """FLOPs of a forward and a backward pass, a share of the patches being hidden."""
        raise NotImplementedError(missing(self, "training_flops"))


def missing(shape: object, name: str) -> str:
    """What to say of a shape that leaves out what a plan needs."""
    return f"{type(shape).__name__}.{name} is not defined; see docs/extending.md for a backbone's"


def tokens(shape: Shape3, patch: int) -> int:
    """Number of cubes of `patch` voxels in a volume of `shape` voxels."""
    return (shape[0] // patch) * (shape[1] // patch) * (shape[2] // patch)


def visible_tokens(n: int, mask_ratio: float) -> int:
    """Number of visible tokens M out of n."""
    return max(1, round(n * (1 - mask_ratio)))

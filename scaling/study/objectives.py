"""The objectives of pretraining: what is learned, every number of it, and what it costs.

`scaling.objectives` holds one file for each kind. Objectives on pairs see two crops of one scan or
two sequences of one session; every view counts as a sample, so that a batch of 16 samples is 8
pairs and equal durations have seen equally many crops.
"""

from dataclasses import dataclass as plain
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from scaling.study.protocols import Shape3
from scaling.study.registry import Registry
from scaling.study.strict import STRICT

Pairs = Literal["crops", "sequences"]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@plain(frozen=True)
class Work:
    """What one sample of an objective costs beside one pass of the encoder over its crop.

    This is all that `scaling.costs` asks an objective. FLOPs count a multiply-add as two.
    """

    mask_ratio: float = 0.0
    """Share of the patches that is hidden from the encoder."""
    decoded: int = 0
    """How many times the reconstruction decoder runs."""
    parameters: int = 0
    """Parameters of further trained layers, such as projection heads."""
    flops: int = 0
    """Forward FLOPs of those layers."""
    compared: int = 0
    """FLOPs, forward and backward, of comparing the sample with others of the batch."""
    target: bool = False
    """Whether a running mean of the encoder, without gradients, encodes the sample as well."""
    target_parameters: int = 0
    """Parameters of the target's own copies of heads."""
    target_flops: int = 0
    """Forward FLOPs of those copies."""
    local_crops: tuple[Shape3, ...] = ()
    """Shapes of smaller crops that the objective cuts from the sample and encodes, whole."""


def head_parameters(width: int, hidden: int, out: int) -> int:
    """Parameters of a contrastive head: two layers and a norm between them."""
    return (width + 1) * hidden + 2 * hidden + (hidden + 1) * out


def head_flops(width: int, hidden: int, out: int) -> int:
    """Forward FLOPs of a contrastive head, one embedding."""
    return 2 * hidden * (width + out)


@dataclass(frozen=True, config=STRICT)
class ObjectiveConfig:
    """What all objectives have in common. A subclass sets `kind` and tells its cost (`work`)."""

    name: str = ""
    """What the objective is called in runs, tables and figures; its kind if empty."""
    kind: str = ""
    """Which objective this is: each class has its own."""

    @property
    def label(self) -> str:
        """`name`, or the kind. It tells two objectives of one kind apart."""
        return self.name or self.kind

    @property
    def pairs(self) -> Pairs | None:
        """What the views of one case are; None: single crops."""
        return None

    @property
    def views(self) -> int:
        """Volumes of one case: batches are [B / views, views, D, H, W] where there are pairs."""
        return 2 if self.pairs else 1

    def batch_shape(self, batch: int, crop: Shape3) -> tuple[int, ...]:
        """Shape of the volumes of one step, `batch` samples of `crop` voxels."""
        if self.pairs is None:
            return (batch, *crop)
        return (batch // self.views, self.views, *crop)

    @property
    def separable(self) -> bool:
        """Whether the loss of a batch is the mean over its cases.

        Its gradients may then be accumulated over parts of the batch.
        """
        return False

    def work(self, width: int, batch: int) -> Work:
        """What a sample costs with an encoder of `width` channels in a batch of `batch` samples."""
        raise NotImplementedError(
            f"{type(self).__name__}.work is not defined; return a Work with what a sample costs"
        )


@dataclass(frozen=True, config=STRICT)
class Mae(ObjectiveConfig):
    """Masked autoencoder (He et al. 2022): predict the voxels of the hidden patches."""

    kind: Literal["mae"] = "mae"
    """Which objective this is."""
    mask_ratio: Share = 0.75
    """Share of the patches that is hidden."""
    block: Count = 1
    """Patches are hidden in cubes of so many per axis, cut where their number asks for it."""
    loss_on: Literal["hidden", "all"] = "hidden"
    """Patches in the loss: the hidden ones or, as in the baseline of FOMO25, all."""
    normalise_targets: bool = True
    """Whether each patch is normalised to mean 0 and variance 1 before it is predicted."""

    @property
    def separable(self) -> bool:
        return True

    def work(self, width: int, batch: int) -> Work:
        return Work(self.mask_ratio, decoded=1)


@dataclass(frozen=True, config=STRICT)
class Views(ObjectiveConfig):
    """What objectives on two views share: what makes a pair, and a projection head."""

    positives: Pairs = "crops"
    """Views of a pair: two crops of one scan, or one crop of two sequences of a session."""
    hidden: Count = 256
    """Width of the head's hidden layer; it reads mean-pooled tokens."""
    projection: Count = 128
    """Numbers that the head puts out."""

    @property
    def pairs(self) -> Pairs:
        return self.positives


@dataclass(frozen=True, config=STRICT)
class Contrastive(Views):
    """NT-Xent (Chen et al. 2020): the other view of a pair among all views of the global batch."""

    kind: Literal["contrastive"] = "contrastive"
    """Which objective this is."""
    temperature: Positive = 0.1
    """Divides similarities; where a learned temperature starts."""
    learned_temperature: bool = False
    """Whether the temperature is trained."""

    def work(self, width: int, batch: int) -> Work:
        head = (width, self.hidden, self.projection)
        return Work(
            parameters=head_parameters(*head),
            flops=head_flops(*head),
            # A product with every view of the batch, and two more in the backward pass.
            compared=3 * 2 * self.projection * batch,
        )


@dataclass(frozen=True, config=STRICT)
class Momentum(Views):
    """MoCo v3 (Chen et al. 2021), for small batches: predict, from one view, the other view's
    projection by a target encoder, the running mean of the encoder.
    """

    kind: Literal["momentum"] = "momentum"
    """Which objective this is."""
    temperature: Positive = 0.2
    """Divides similarities."""
    momentum: Share = 0.99
    """Share of the target that each step keeps; constant, since durations share a trunk."""

    def work(self, width: int, batch: int) -> Work:
        projector = (width, self.hidden, self.projection)
        predictor = (self.projection, self.hidden, self.projection)
        return Work(
            parameters=head_parameters(*projector) + head_parameters(*predictor),
            flops=head_flops(*projector) + head_flops(*predictor),
            # With one view of every pair; the backward pass leads to the queries alone.
            compared=2 * 2 * self.projection * (batch // 2),
            target=True,
            target_parameters=head_parameters(*projector),
            target_flops=head_flops(*projector),
        )


@dataclass(frozen=True, config=STRICT)
class Hybrid(ObjectiveConfig):
    """Masked reconstruction and contrast from one masked pass of one encoder: the weighted sum of
    the two losses.
    """

    kind: Literal["hybrid"] = "hybrid"
    """Which objective this is."""
    reconstruction: Mae = Mae()
    """How patches are masked and reconstructed."""
    contrast: Contrastive = Contrastive()
    """How views are compared."""
    reconstruction_weight: Positive = 1.0
    """Weight of the reconstruction loss."""
    contrast_weight: Positive = 0.1
    """Weight of the contrastive loss."""

    @property
    def pairs(self) -> Pairs:
        return self.contrast.positives

    def work(self, width: int, batch: int) -> Work:
        contrast = self.contrast.work(width, batch)
        return replace(contrast, mask_ratio=self.reconstruction.mask_ratio, decoded=1)


@dataclass(frozen=True, config=STRICT)
class CrossSequence(ObjectiveConfig):
    """Two sequences of a session at one place, each masked: reconstruct each from its own visible
    patches and, weighted, from the other's and one code of its contrast.

    In the spirit of the winner of FOMO25's method track.
    """

    kind: Literal["cross-sequence"] = "cross-sequence"
    """Which objective this is."""
    reconstruction: Mae = Mae()
    """How patches are masked and reconstructed."""
    self_weight: Positive = 1.0
    """Weight of reconstructing a sequence from itself."""
    cross_weight: Positive = 1.0
    """Weight of reconstructing a sequence from the other one."""

    @property
    def pairs(self) -> Pairs:
        return "sequences"

    def work(self, width: int, batch: int) -> Work:
        # The linear map of the code has a bias and is applied to one vector of each sample.
        mask_ratio = self.reconstruction.mask_ratio
        return Work(mask_ratio, decoded=2, parameters=width * (width + 1), flops=2 * width**2)


OBJECTIVES: Registry[ObjectiveConfig] = Registry(
    "objectives",
    ObjectiveConfig,
    Annotated[Mae | Contrastive | Momentum | Hybrid | CrossSequence, Field(discriminator="kind")],
)


def validate_objective(value: Any) -> ObjectiveConfig:
    """An objective's config out of itself or of plain values."""
    return OBJECTIVES.validate(value)


AnyObjective = Annotated[ObjectiveConfig, PlainValidator(validate_objective)]

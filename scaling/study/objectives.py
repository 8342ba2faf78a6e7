"""The objectives of pretraining: what is learned, every number of it. `scaling.objectives` holds one file for each kind.

Objectives on pairs see two crops of one scan or two sequences of one session; both count as samples, so that a batch of 16 samples is 8
pairs and equal durations have seen equally many crops.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from scaling.study.strict import STRICT

Pairs = Literal["crops", "sequences"]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class Named:
    """What an objective is called in runs, tables and figures: `name`, or its kind. It tells two of one kind apart."""

    name: str = ""

    @property
    def separable(self) -> bool:
        """Whether the loss of a batch is the mean over its cases: its gradients may then be accumulated over parts of it."""
        return False

    @property
    def label(self) -> str:
        return self.name or str(self.kind)  # type: ignore[attr-defined]


@dataclass(frozen=True, config=STRICT)
class Mae(Named):
    """Masked autoencoder (He et al. 2022): predict the (normalised) voxels of the hidden patches.

    Patches are hidden in cubes of `block` patches per axis (cut where the number of hidden patches asks for it); the loss is on the
    hidden patches or, as in FOMO25's baseline, on all.
    """

    kind: Literal["mae"] = "mae"
    mask_ratio: Share = 0.75
    block: Count = 1
    loss_on: Literal["hidden", "all"] = "hidden"
    normalise_targets: bool = True

    @property
    def pairs(self) -> None:
        """No pairs: single crops."""

    @property
    def separable(self) -> bool:
        return True


@dataclass(frozen=True, config=STRICT)
class Views(Named):
    """What objectives on two views share: what makes a pair, and a head `hidden` wide from mean-pooled tokens to `projection` numbers."""

    positives: Pairs = "crops"
    hidden: Count = 256
    projection: Count = 128

    @property
    def pairs(self) -> Pairs:
        return self.positives


@dataclass(frozen=True, config=STRICT)
class Contrastive(Views):
    """NT-Xent (Chen et al. 2020): the other view of a pair among all views of the global batch. A learned temperature starts at
    `temperature`.
    """

    kind: Literal["contrastive"] = "contrastive"
    temperature: Positive = 0.1
    learned_temperature: bool = False


@dataclass(frozen=True, config=STRICT)
class Momentum(Views):
    """MoCo v3 (Chen et al. 2021): predict, from one view, the other view's projection by a target encoder, which is the mean of the
    encoder over its past, `momentum` of it kept each step (constant, since durations share a trunk). For small batches.
    """

    kind: Literal["momentum"] = "momentum"
    temperature: Positive = 0.2
    momentum: Share = 0.99


@dataclass(frozen=True, config=STRICT)
class Hybrid(Named):
    """Masked reconstruction and contrast from one masked pass of one encoder: the weighted sum of the two losses."""

    kind: Literal["hybrid"] = "hybrid"
    reconstruction: Mae = Mae()
    contrast: Contrastive = Contrastive()
    reconstruction_weight: Positive = 1.0
    contrast_weight: Positive = 0.1

    @property
    def pairs(self) -> Pairs:
        return self.contrast.positives


@dataclass(frozen=True, config=STRICT)
class CrossSequence(Named):
    """Two sequences of a session at one place, each masked: reconstruct the hidden patches of each from its own visible ones and, weighted,
    from the other's and one code of its contrast (in the spirit of FOMO25's winner on the method track).
    """

    kind: Literal["cross-sequence"] = "cross-sequence"
    reconstruction: Mae = Mae()
    self_weight: Positive = 1.0
    cross_weight: Positive = 1.0

    @property
    def pairs(self) -> Pairs:
        return "sequences"


ObjectiveConfig = Annotated[
    Mae | Contrastive | Momentum | Hybrid | CrossSequence, Field(discriminator="kind")
]

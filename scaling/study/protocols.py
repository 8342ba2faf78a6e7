"""How checkpoints and controls are tried on the tasks: every number of every protocol."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from scaling.study.strict import STRICT

Shape3 = tuple[int, int, int]
# See scaling.augmentation.presets.
Augmentation = Literal["none", "flips", "spatial", "intensity", "all"]


@dataclass(frozen=True, config=STRICT)
class Finetune:
    """Fine-tuning of encoder and head: the same recipe for every arm."""

    steps: int = 100
    """Optimiser steps."""
    batch: int = 8
    """Cases in a step, drawn with replacement."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    """Candidate rates; each arm takes the one with the lowest loss on its own held-out shots, and
    is then trained on all of them."""
    tuning: tuple[int, ...] = ()
    """Smaller budgets to try as well: n lets only the first n rates compete, 0 takes the first."""
    validation_share: float = 0.25
    """Share of the shots held out to choose the rate, for that choice only."""
    weight_decay: float = 0.05
    """Decoupled weight decay of AdamW."""
    warmup_share: float = 0.1
    """Share of the steps over which the rate rises from zero."""
    clip_norm: float = 1.0
    """Largest global norm of a gradient."""
    augment: Augmentation = "flips"
    """Random changes of training cases."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations; parameters are always float32."""
    window: Shape3 | None = None
    """Segmentation trains on crops of this many voxels and predicts by windows that overlap by
    half; None: on whole volumes."""

    def __post_init__(self) -> None:
        if not self.learning_rates or not 0 < self.validation_share <= 0.5:
            raise ValueError(
                f"a finetune has learning_rates={self.learning_rates} and "
                f"validation_share={self.validation_share}; expected one rate or more, and a share "
                "above 0 and up to 0.5"
            )
        rates = len(self.learning_rates)
        wrong = [budget for budget in self.tuning if budget == 1 or not 0 <= budget < rates]
        if wrong or len(set(self.tuning)) < len(self.tuning):
            raise ValueError(
                f"tuning is {self.tuning}; expected budgets below the {rates} learning_rates, each "
                "0 or at least 2, none twice"
            )


@dataclass(frozen=True, config=STRICT)
class Probe:
    """Readouts of frozen features: ridge regression, and the nearest neighbours.

    The ridge reads the means of tokens in cells, those of whitened tokens, or the extremes of
    whitened tokens, whichever has the lowest leave-one-out error within the shots. Segmentation
    has a linear readout of every token.
    """

    grid: Annotated[int, Field(ge=1)] = 2
    """Cells along each axis over which tokens are averaged."""
    shrinkage: Annotated[float, Field(gt=0)] = 0.01
    """Share of the mean variance by which whitening raises every variance."""
    penalties: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    """Candidate penalties of the ridge."""
    mask_penalty: float = 100.0
    """Penalty of the segmentation's readout."""
    neighbours: Annotated[int, Field(ge=0)] = 5
    """Neighbours among the shots, which learn nothing at all; 0 leaves them out."""


@dataclass(frozen=True, config=STRICT)
class SgdProbe:
    """FOMO26's linear probe of frozen embeddings, the mean of all tokens as it is: one layer per
    learning rate by stochastic gradient descent; the best one on validation cases counts.
    """

    learning_rates: tuple[float, ...] = (
        *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3),
        *(2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
    )
    """Rates of the layers that compete."""
    epochs: Annotated[int, Field(ge=1)] = 20
    """Passes over the training cases; the rate falls to zero by a cosine."""
    batch: Annotated[int, Field(ge=1)] = 64
    """Cases in a step."""
    momentum: float = 0.9
    """Momentum of the gradient descent."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the shots that the layers are compared on, by macro AUROC."""
    weight_scale: float = 0.01
    """Standard deviation of the initial weights."""


@dataclass(frozen=True, config=STRICT)
class Classical:
    """The simplest controls, without a network: ridge regression on smoothed voxels, for
    regressions also on a histogram of intensities; segmentation reads each voxel's intensities at
    several scales.
    """

    smoothing_mm: float = 12.0
    """Full width at half maximum of the Gaussian, and the distance of the samples."""
    penalties: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    """Candidate penalties of the ridge."""
    mask_penalty: float = 1.0
    """Penalty of the segmentation's readout."""
    bins: Annotated[int, Field(ge=2)] = 8
    """Bins of the histogram of each sequence's intensities inside the head."""


@dataclass(frozen=True, config=STRICT)
class Transfer:
    """How checkpoints and controls are tried on the tasks; None leaves a protocol out."""

    finetune: Finetune | None = Finetune()
    """Few-shot fine-tuning."""
    probe: Probe | None = Probe()
    """Readouts of frozen features."""
    sgd_probe: SgdProbe | None = None
    """FOMO26's linear probe, for classifications."""
    classical: Classical | None = Classical()
    """The control without a network."""
    supervised: Finetune | None = None
    """Recipe by which untrained encoders learn from every labelled case, out of domain and
    (`Task.inside`) in domain."""
    nsd_tolerance_mm: float = 4.0
    """Surfaces closer than this count as equal in the normalised surface distance."""

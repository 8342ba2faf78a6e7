"""How checkpoints and controls are tried on the tasks: every number of finetuning, probes, the classical and the supervised controls."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")

Shape3 = tuple[int, int, int]
Augmentation = Literal[
    "none", "flips", "spatial", "intensity", "all"
]  # see scaling.augmentation.presets


@dataclass(frozen=True, config=STRICT)
class Finetune:
    """Full finetuning, the same recipe for every arm. With several `learning_rates` each arm takes the one with the lowest
    loss on `validation_share` of its own shots, held out for that choice only, and is then trained on all of them. `tuning` are
    smaller budgets to try as well: n means that only the first n rates compete, 0 that the first is taken untried. Segmentation trains
    on crops of `window` voxels and predicts by windows that overlap by half; without one, on whole volumes.
    """

    steps: int = 100
    batch: int = 8
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    tuning: tuple[int, ...] = ()
    validation_share: float = 0.25
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    clip_norm: float = 1.0
    augment: Augmentation = "flips"
    window: Shape3 | None = None

    def __post_init__(self) -> None:
        if not self.learning_rates or not 0 < self.validation_share <= 0.5:
            raise ValueError(
                f"a finetune has learning_rates={self.learning_rates} and validation_share={self.validation_share}; expected one rate or "
                "more, and a share above 0 and up to 0.5"
            )
        if any(
            not 0 <= budget < len(self.learning_rates) or budget == 1 for budget in self.tuning
        ) or len(set(self.tuning)) < len(self.tuning):
            raise ValueError(
                f"tuning is {self.tuning}; expected budgets below the {len(self.learning_rates)} learning_rates, each 0 or at least "
                "2, none twice"
            )


@dataclass(frozen=True, config=STRICT)
class Probe:
    """Readouts of frozen features: ridge regression on the means of tokens in `grid` cells per axis, on those of whitened tokens, or on
    the extremes of whitened tokens, with that penalty, whichever has the lowest leave-one-out error within the shots; for segmentation
    a linear readout of every token. And the nearest `neighbours` among the shots (0: none), which learn nothing at all. Whitening raises
    variances by `shrinkage` of their mean.
    """

    grid: Annotated[int, Field(ge=1)] = 2
    shrinkage: Annotated[float, Field(gt=0)] = 0.01
    penalties: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    mask_penalty: float = 100.0
    neighbours: Annotated[int, Field(ge=0)] = 5


@dataclass(frozen=True, config=STRICT)
class Classical:
    """The simplest classical control, no network at all: ridge regression on smoothed voxels; for segmentation on each voxel's
    intensities at several scales.
    """

    smoothing_mm: float = 12.0
    penalties: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    mask_penalty: float = 1.0


@dataclass(frozen=True, config=STRICT)
class Transfer:
    """How checkpoints and controls are tried on the tasks; `None` leaves a protocol out. `supervised` is the recipe by which untrained
    encoders learn from every labelled case, out of domain and (`Task.inside`) in domain. Surfaces closer than `nsd_tolerance_mm` count
    as equal in the normalised surface distance.
    """

    finetune: Finetune | None = Finetune()
    probe: Probe | None = Probe()
    classical: Classical | None = Classical()
    supervised: Finetune | None = None
    nsd_tolerance_mm: float = 4.0

"""What a study asks, stated before anything runs."""

from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.study.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class SmallestEffects:
    """The smallest improvement of each metric that is worth having."""

    auroc: float = 0.02
    """Of the area under the ROC curve."""
    dice: float = 0.01
    """Of the Dice coefficient."""
    nsd: float = 0.01
    """Of the normalised surface distance."""
    mae: float = 0.05
    """Of the mean absolute error, as a share of the baseline's error."""
    pearson: float = 0.02
    """Of Pearson's correlation."""


@dataclass(frozen=True, config=STRICT)
class Estimand:
    """What the verdict of a task is about: its main metric at the largest number of shots."""

    protocol: Literal["finetune", "probe"] = "finetune"
    """Protocol under which models are compared."""
    domain: Literal["in", "out"] = "out"
    """Test sites inside or outside of the fine-tuning domain."""

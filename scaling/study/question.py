"""What a study asks, stated before anything runs."""

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.metrics import METRICS, metric_of
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
    pearson: float = 0.05
    """Of Pearson's correlation: what an error smaller by 5 % is at r = 0.6."""
    others: dict[str, float] = field(default_factory=dict)
    """Of any other metric, by its name; without an entry, what `scaling.metrics` says of it."""

    def of(self, metric: str) -> float:
        """The smallest effect of a metric. Raises ValueError where nobody has stated one."""
        stated = {name: value for name, value in vars(self).items() if name in METRICS}
        effect = {**stated, **self.others}.get(metric, metric_of(metric).smallest_effect)
        if effect is None:
            raise ValueError(
                f"the smallest effect of {metric!r} is not stated; expected it in "
                f"smallest_effects.others, such as {{{metric!r}: 0.02}}"
            )
        return effect


@dataclass(frozen=True, config=STRICT)
class Estimand:
    """What the verdict of a task is about: its main metric under one protocol."""

    protocol: Literal["finetune", "probe", "sgd_probe"] = "finetune"
    """Protocol under which models are compared."""
    domain: Literal["in", "out"] = "out"
    """Test sites inside or outside of the fine-tuning domain."""
    shots: int | None = None
    """Number of shots that models are compared at; None: the most of each task."""

"""How an encoder is pretrained: optimiser, schedule and crops."""

from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.study.protocols import Augmentation, Shape3
from scaling.study.strict import STRICT

Remat = Literal["none", "blocks", "dots"]  # see scaling.models.remat


@dataclass(frozen=True, config=STRICT)
class Pretrain:
    """AdamW with a warm-up, stable, decay schedule. Lengths are in samples, never in steps."""

    crop: Shape3 = (40, 48, 40)
    """Voxels of a crop along each axis."""
    batch: int = 16
    """Crops in a step, over all devices."""
    learning_rate: float = 1.5e-3
    """Peak learning rate; under "mup" that of a family's `base_width`, others take their share."""
    weight_decay: float = 0.05
    """Decoupled weight decay of AdamW."""
    beta2: float = 0.95
    """Decay of AdamW's second moment."""
    clip_norm: float = 1.0
    """Largest global norm of a gradient."""
    warmup: int = 1600
    """Samples over which the rate rises from zero."""
    decay_share: float = 0.2
    """Last share of a duration over which the rate falls to zero."""
    augment: Augmentation = "flips"
    """Random changes of crops."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations; parameters are always float32."""
    remat: Remat = "none"
    """What the backward pass computes again: nothing, all of a block (a third more FLOPs), or all
    but its linear maps (hardly more FLOPs, a quarter of the memory of "none")."""
    parametrisation: Literal["mup", "standard"] = "mup"
    """How initialisation and rates scale with width: see `scaling.models.parametrisation`."""

    def __post_init__(self) -> None:
        if not 0 < self.decay_share < 1:
            raise ValueError(f"decay_share is {self.decay_share}; expected a share between 0 and 1")

"""From an objective's config to its functions."""

from collections.abc import Callable
from typing import TypeVar

from scaling.models.compute import Compute
from scaling.objectives.contrastive import build_contrastive
from scaling.objectives.cross_sequence import build_cross_sequence
from scaling.objectives.hybrid import build_hybrid
from scaling.objectives.interface import Objective
from scaling.objectives.mae import build_mae
from scaling.objectives.momentum import build_momentum
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import (
    OBJECTIVES,
    Contrastive,
    CrossSequence,
    Hybrid,
    Mae,
    Momentum,
    ObjectiveConfig,
)

Config = TypeVar("Config", bound=ObjectiveConfig)
Build = Callable[[Config, Encoder, Decoder, Pretrain, Compute], Objective]

REGISTERED: dict[type[ObjectiveConfig], Build] = {}


def register_objective(config: type[Config], build: Build[Config]) -> None:
    """Make a user's objective known: studies may then name it among their `objectives`.

    Raises ValueError where its kind is taken.
    """
    OBJECTIVES.register(config)
    REGISTERED[config] = build


def build_objective(
    config: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    compute: Compute | None = None,
) -> Objective:
    """The objective that `config` describes, by default for the devices at hand.

    A new objective of the library is a new file and a new case here. Raises TypeError for a config
    that nothing builds.
    """
    compute = compute or Compute(pretrain.dtype, pretrain.remat)
    if type(config) in REGISTERED:
        return REGISTERED[type(config)](config, encoder, decoder, pretrain, compute)
    match config:
        case Mae():
            return build_mae(config, encoder, decoder, pretrain, compute)
        case Contrastive():
            return build_contrastive(config, encoder, decoder, pretrain, compute)
        case Momentum():
            return build_momentum(config, encoder, decoder, pretrain, compute)
        case Hybrid():
            return build_hybrid(config, encoder, decoder, pretrain, compute)
        case CrossSequence():
            return build_cross_sequence(config, encoder, decoder, pretrain, compute)
        case _:
            raise TypeError(
                f"nothing builds objective {config.label!r} of class {type(config).__name__}; "
                "expected a class given to scaling.objectives.build.register_objective"
            )

"""From an objective's config to its functions."""

from scaling.models.transformer import Constrain, unconstrained
from scaling.objectives.contrastive import build_contrastive
from scaling.objectives.cross_sequence import build_cross_sequence
from scaling.objectives.hybrid import build_hybrid
from scaling.objectives.interface import Objective
from scaling.objectives.mae import build_mae
from scaling.objectives.momentum import build_momentum
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import (
    Contrastive,
    CrossSequence,
    Hybrid,
    Mae,
    Momentum,
    ObjectiveConfig,
)


def build_objective(
    config: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    constrain: Constrain = unconstrained,
) -> Objective:
    """The objective that `config` describes. A new objective is a new file and a new case here."""
    match config:
        case Mae():
            return build_mae(config, encoder, decoder, pretrain, constrain)
        case Contrastive():
            return build_contrastive(config, encoder, decoder, pretrain, constrain)
        case Momentum():
            return build_momentum(config, encoder, decoder, pretrain, constrain)
        case Hybrid():
            return build_hybrid(config, encoder, decoder, pretrain, constrain)
        case CrossSequence():
            return build_cross_sequence(config, encoder, decoder, pretrain, constrain)

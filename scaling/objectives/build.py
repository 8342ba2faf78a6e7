"""From an objective's config to its functions."""

from scaling.models.transformer import Constrain
from scaling.models.vit import unconstrained
from scaling.objectives.mae import build_mae
from scaling.objectives.objective import Objective
from scaling.study.config import Mae, Pretrain
from scaling.study.ladder import Decoder, Encoder


def build_objective(config: Mae, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, constrain: Constrain = unconstrained) -> Objective:
    """The objective that `config` describes. A new objective is a new file and a new case here."""
    match config:
        case Mae():
            return build_mae(config, encoder, decoder, pretrain, constrain)

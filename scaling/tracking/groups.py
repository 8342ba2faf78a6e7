"""What runs are grouped by in Weights & Biases."""

from scaling.runs.plan import trunk_name
from scaling.runs.steps import PretrainStep, Step, TransferStep


def group_of(step: Step) -> str:
    """The W&B group of a step.

    The trunk and the cooldowns of one model are one group, so that a panel grouped by it shows the
    model's loss as one curve over samples. Transfers are grouped by what they start from: an
    objective and a size, or a control and its size.
    """
    match step.config:
        case PretrainStep() as config:
            name = trunk_name(config.objective.label, config.size, config.fraction, config.seed)
            return f"pretrain-{name}"
        case TransferStep() as config if config.arm == "pretrained":
            return f"transfer-{config.objective}-{config.size}"
        case TransferStep() as config:
            return "-".join(word for word in ("control", config.arm, config.size) if word)
        case _:
            return step.kind

"""What a study is: frozen, validated dataclasses. Every number a figure depends on is a field.

Construction validates: an unknown field, a wrong type or an impossible value raises
`pydantic.ValidationError` (a `ValueError`) that names the field; mistakes between fields come all
in one message. Units: mm, years, samples. A *sample* is one crop of one scan.
"""

from pydantic.dataclasses import dataclass

from scaling.study.consistency import inconsistencies
from scaling.study.data import BACKGROUND, Data, Source, Split, Volumes
from scaling.study.execution import Execution, Mesh
from scaling.study.families import AnyFamily, Family, ResEnc, UNet, ViT
from scaling.study.objectives import AnyObjective, Mae, ObjectiveConfig
from scaling.study.pretraining import Pretrain, Remat
from scaling.study.protocols import (
    Augmentation,
    Classical,
    Finetune,
    Probe,
    SgdProbe,
    Shape3,
    Transfer,
)
from scaling.study.question import Estimand, SmallestEffects
from scaling.study.references import (
    AnyReference,
    Features,
    Function,
    Predictions,
    Reference,
    Weights,
)
from scaling.study.strict import STRICT
from scaling.study.subclasses import unregistered
from scaling.study.tasks import Task

__all__ = [
    "BACKGROUND",
    "STRICT",
    "Augmentation",
    "Classical",
    "Data",
    "Estimand",
    "Execution",
    "Family",
    "Features",
    "Finetune",
    "Function",
    "Mae",
    "Mesh",
    "ObjectiveConfig",
    "Predictions",
    "Pretrain",
    "Probe",
    "Reference",
    "Remat",
    "ResEnc",
    "SgdProbe",
    "Shape3",
    "SmallestEffects",
    "Source",
    "Split",
    "Study",
    "Task",
    "Transfer",
    "UNet",
    "ViT",
    "Volumes",
    "Weights",
]


@dataclass(frozen=True, config=STRICT)
class Study:
    """A designed experiment: objectives x families x sizes x fractions x durations x seeds, each
    tried on all tasks under one protocol.
    """

    name: str
    """Name of the study and of its folder."""
    data: Data
    """Where the scans are."""
    sizes: tuple[str, ...]
    """Rungs of every family's ladder: see `scaling.study.ladder`."""
    durations: tuple[int, ...]
    """Samples seen in pretraining."""
    tasks: tuple[Task, ...]
    """Downstream tasks."""
    families: tuple[AnyFamily, ...] = (ViT(),)
    """Kinds of encoder."""
    objectives: tuple[AnyObjective, ...] = (Mae(),)
    """What is learned in pretraining."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of initialisation and of the order of samples."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the pretraining subjects; of one seed the smaller ones are parts of the larger."""
    pretrain: Pretrain = Pretrain()
    """Optimisation of pretraining."""
    transfer: Transfer = Transfer()
    """How checkpoints and controls are tried on the tasks."""
    references: tuple[AnyReference, ...] = ()
    """Competitors, tried on the same tasks, draws and cases."""
    estimand: Estimand = Estimand()
    """What the verdict is about."""
    smallest_effects: SmallestEffects = SmallestEffects()
    """Smallest improvements worth having."""
    execution: Execution = Execution()
    """Where and how the study runs: changes no result."""

    def __post_init__(self) -> None:
        if mistakes := [*unregistered(self), *inconsistencies(self)]:
            raise ValueError("; ".join(mistakes))

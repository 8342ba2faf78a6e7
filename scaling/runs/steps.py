"""The kinds of steps that a plan is made of, each with all that its results depend on."""

from dataclasses import dataclass
from typing import Literal

from pydantic.dataclasses import dataclass as config

from scaling.study.config import (
    Data,
    Estimand,
    Mesh,
    Pretrain,
    SmallestEffects,
    Task,
    Transfer,
)
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import AnyObjective
from scaling.study.phantom import Phantom
from scaling.study.references import AnyReference
from scaling.study.strict import STRICT

Kind = Literal["phantom", "prepare", "trunk", "cooldown", "transfer", "collect", "report"]
Arm = Literal["pretrained", "scratch", "classical", "reference"]


@config(frozen=True, config=STRICT)
class PhantomStep:
    """Write the synthetic cohort into `root`."""

    root: str
    phantom: Phantom


@config(frozen=True, config=STRICT)
class PrepareStep:
    """Bring every scan of the study to one grid, in one cache."""

    data: Data
    tasks: tuple[Task, ...]


@config(frozen=True, config=STRICT)
class PretrainStep:
    """Train up to `end` samples on a `fraction` of the subjects; from `decay_from` samples on the
    rate decays (None: a trunk, which never decays).
    """

    objective: AnyObjective
    backbone: str
    size: str
    encoder: Encoder
    decoder: Decoder
    pretrain: Pretrain
    data: Data
    seed: int
    fraction: float
    end: int
    decay_from: int | None


@config(frozen=True, config=STRICT)
class TransferStep:
    """Try one checkpoint, or one control, on one task."""

    arm: Arm
    objective: str
    backbone: str
    size: str
    encoder: Encoder | None
    fraction: float
    duration: int
    seed: int
    task: Task
    data: Data
    transfer: Transfer


@config(frozen=True, config=STRICT)
class ReferenceStep(TransferStep):
    """Try one competitor on one task."""

    reference: AnyReference


@config(frozen=True, config=STRICT)
class CollectStep:
    """Gather every transfer's results into one tidy table, with the groups of cases."""

    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name and `Task.groups` of every task that has any."""


@config(frozen=True, config=STRICT)
class ReportStep:
    """Fit curves, reach verdicts at the pre-stated smallest effects, write the page."""

    estimand: Estimand
    smallest_effects: SmallestEffects


StepConfig = PhantomStep | PrepareStep | PretrainStep | TransferStep | CollectStep | ReportStep


@dataclass(frozen=True)
class Step:
    """A node of the plan. `name` is its folder; `flops` and `memory` (bytes a device) are
    estimates, 0 where no network runs; `mesh` is (replica, fsdp, tensor).
    """

    name: str
    kind: Kind
    config: StepConfig
    needs: tuple[str, ...]
    parameters: int = 0
    samples: int = 0
    steps: int = 0
    flops: float = 0.0
    memory: int = 0
    mesh: Mesh = (1, 1, 1)

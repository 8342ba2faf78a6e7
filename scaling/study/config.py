"""What a study is: frozen, validated dataclasses. Every number a figure could depend on is a field here.

Construction validates: an unknown field, a wrong type or an impossible value raises `pydantic.ValidationError`
(a `ValueError`) that names the field. Units: mm, years, samples. A *sample* is one crop of one scan.
"""

import math
import re
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from scaling.study.families import Family
from scaling.study.families import ResEnc as ResEnc
from scaling.study.families import UNet as UNet
from scaling.study.families import ViT as ViT
from scaling.study.objectives import Count, ObjectiveConfig
from scaling.study.objectives import Mae as Mae
from scaling.study.phantom import Phantom
from scaling.study.protocols import Augmentation as Augmentation
from scaling.study.protocols import Classical as Classical
from scaling.study.protocols import Finetune as Finetune
from scaling.study.protocols import Probe as Probe
from scaling.study.protocols import Shape3 as Shape3
from scaling.study.protocols import Transfer as Transfer

Mesh = tuple[Count, Count, Count]  # replica, fsdp, tensor: see Execution

STRICT = ConfigDict(extra="forbid")

Remat = Literal["none", "blocks", "dots"]  # see scaling.models.remat

# Prepared voxels outside of the head, in standard deviations of those inside: as dark as the darkest tissue of most contrasts.
BACKGROUND = -2.5


@dataclass(frozen=True, config=STRICT)
class Source:
    """A folder of scans in the FOMO60K or FOMO25 layout, relative to `Data.root`, or a part of its subjects."""

    path: str
    part: Literal["all", "train", "test"] = "all"


@dataclass(frozen=True, config=STRICT)
class Split:
    """How `Source.part` divides the subjects of a folder: a seeded draw of `test_subjects` is held out."""

    test_subjects: int = 0
    seed: int = 0


@dataclass(frozen=True, config=STRICT)
class Volumes:
    """The grid all scans are brought to: RAS, `spacing_mm` isotropic, the head's box centred in `shape` voxels. Without a
    `spacing_mm` every session keeps the voxels of its first scan.
    """

    spacing_mm: float | None = 4.0
    shape: Shape3 = (40, 48, 40)


@dataclass(frozen=True, config=STRICT)
class Data:
    """Where the scans are. With `phantom` set, `root` is written by the generator first.

    `track` is the challenge's: a "method" study pretrains on FOMO60K alone, and is refused when a scan of it is not in
    `fomo60k`, a manifest of that collection (what `scaling data check` wrote of it, or its own mapping.tsv), in `root`.
    `compressed` keeps the prepared volumes in less space, and reads them more slowly; no result changes.
    """

    root: str
    pretraining: tuple[Source, ...]
    volumes: Volumes = Volumes()
    split: Split = Split()
    phantom: Phantom | None = None
    track: Literal["method", "open"] = "open"
    fomo60k: str = ""
    compressed: bool = False

    def __post_init__(self) -> None:
        if self.track == "method" and not self.fomo60k:
            raise ValueError(
                "data.track is 'method', which pretrains on FOMO60K alone, and data.fomo60k is empty; expected a manifest of FOMO60K to "
                "prove it by: what `scaling data check` wrote of it, or its mapping.tsv"
            )


@dataclass(frozen=True, config=STRICT)
class Task:
    """A downstream task: labelled scans of one finetuning site, and test scans of that and of other sites.

    `sequences` are encoded one by one and fused; "t2s|swi" takes the first that a session has. `label` names the column of
    `participants.tsv` that holds the label when there is no `labels` folder. One few-shot experiment is `draws` random
    subsets of `shots` labelled subjects. `inside` are labelled cases of the sites tested out of domain, none of them a test case, that
    the supervised control in domain learns from.
    """

    name: str
    kind: Literal["classification", "segmentation", "regression"]
    sequences: tuple[str, ...]
    train: Source
    test: tuple[Source, ...]
    shots: tuple[int, ...]
    draws: int = 3
    label: str = ""
    inside: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if not self.sequences or not self.test or not self.shots:
            raise ValueError(
                f"task {self.name!r} needs at least one sequence, one test source and one number of shots"
            )
        if self.draws < 1 or min(self.shots) < 2:
            raise ValueError(
                f"task {self.name!r} has draws={self.draws}, shots={self.shots}; expected draws >= 1, shots >= 2"
            )


@dataclass(frozen=True, config=STRICT)
class Pretrain:
    """Optimisation of pretraining: AdamW with a warm-up, stable, decay schedule. Lengths in samples, never in steps.

    The decay takes the last `decay_share` of a duration. The backward pass computes again nothing ("none"), all of a block ("blocks": a
    third more FLOPs), or all but its linear maps ("dots": hardly more, for a quarter of the memory of "none"), by `remat`. Under "mup"
    (`scaling.models.parametrisation`) the learning rate is that of a family's `base_width` and every other width takes its share.
    """

    crop: Shape3 = (40, 48, 40)
    batch: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    beta2: float = 0.95
    clip_norm: float = 1.0
    warmup: int = 1600
    decay_share: float = 0.2
    augment: Augmentation = "flips"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    parametrisation: Literal["mup", "standard"] = "mup"

    def __post_init__(self) -> None:
        if not 0 < self.decay_share < 1:
            raise ValueError(f"decay_share is {self.decay_share}; expected a share between 0 and 1")


@dataclass(frozen=True, config=STRICT)
class SmallestEffects:
    """The smallest improvement worth having, stated before anything runs. `mae` is a share of the baseline's error."""

    auroc: float = 0.02
    dice: float = 0.01
    nsd: float = 0.01
    mae: float = 0.05
    pearson: float = 0.02


@dataclass(frozen=True, config=STRICT)
class Estimand:
    """What the verdict of a task is about, stated before anything runs: its main metric (AUROC, Dice, mean absolute error) under one
    protocol, at the largest number of shots, on the test sites inside or outside the finetuning domain.
    """

    protocol: Literal["finetune", "probe"] = "finetune"
    domain: Literal["in", "out"] = "out"


@dataclass(frozen=True, config=STRICT)
class Execution:
    """Where and how a study runs. Nothing here may change a result beyond rounding, so nothing here is part of its identity.

    `mesh` is (replica, fsdp) or (replica, fsdp, tensor): copies of the parameters, devices that share a copy, and devices that share a
    sample's attention heads and MLPs; or a number of devices, which the plan divides by the batch and the memory of
    `accelerator`, for which it estimates. `accumulate` parts of a batch are computed one after the other. Training volumes that take no
    more than `resident_gib` are kept on every device, which cuts its crops itself; of more, the host reads the crops.
    `checkpoint_every` and `log_every` count steps.
    """

    mesh: tuple[Count, Count] | Mesh | Count = (1, 1)
    accumulate: Count = 1
    resident_gib: float = 1.0
    workers: int = 2
    checkpoint_every: int = 500
    log_every: int = 20
    accelerator: Literal["cpu-2", "a100", "h100", "h200", "tpu-v5e"] = "cpu-2"
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    wandb_entity: str = ""


@dataclass(frozen=True, config=STRICT)
class Study:
    """One designed experiment: objectives x families x sizes x fractions x durations x seeds, transferred to tasks under one protocol.

    `sizes` are rungs of every family's ladder (`scaling.study.ladder`), `durations` are samples seen in pretraining, `fractions`
    shares of the pretraining subjects; of one seed the smaller shares are parts of the larger.
    """

    name: str
    data: Data
    sizes: tuple[str, ...]
    durations: tuple[int, ...]
    tasks: tuple[Task, ...]
    families: tuple[Family, ...] = (ViT(),)
    objectives: tuple[ObjectiveConfig, ...] = (Mae(),)
    seeds: tuple[int, ...] = (0,)
    fractions: tuple[float, ...] = (1.0,)
    pretrain: Pretrain = Pretrain()
    transfer: Transfer = Transfer()
    estimand: Estimand = Estimand()
    smallest_effects: SmallestEffects = SmallestEffects()
    execution: Execution = Execution()

    def __post_init__(self) -> None:
        for field, values in (
            ("sizes", self.sizes),
            ("durations", self.durations),
            ("seeds", self.seeds),
            ("fractions", self.fractions),
            ("objectives", tuple(o.label for o in self.objectives)),
            ("families", tuple(family.label for family in self.families)),
            ("tasks", tuple(t.name for t in self.tasks)),
        ):
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{field} is {values}; expected at least one entry and no entry twice"
                )
        if not 0 < min(self.fractions) <= max(self.fractions) <= 1:
            raise ValueError(
                f"fractions is {self.fractions}; expected shares of the pretraining subjects, above 0 and up to 1"
            )
        named = [("objectives", one.label) for one in self.objectives] + [
            ("families", one.label) for one in self.families
        ]
        for field, name in (("name", self.name), *named):
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    f"{field} is named {name!r}; expected letters, digits, '.', '_' and '-' (it names a folder)"
                )
        segmented = [task.name for task in self.tasks if task.kind == "segmentation"]
        if self.data.volumes.spacing_mm is None and (segmented or self.transfer.classical):
            raise ValueError(
                f"data.volumes.spacing_mm is null, but {segmented or 'transfer.classical'} is measured in mm; expected one spacing for all"
            )
        for duration in self.durations:
            decay = self.pretrain.decay_share * duration
            if duration % self.pretrain.batch or decay % self.pretrain.batch:
                raise ValueError(
                    f"duration {duration} and its decay of {decay:g} samples must be multiples of pretrain.batch={self.pretrain.batch}"
                )
            if self.pretrain.warmup > duration - decay:
                raise ValueError(
                    f"pretrain.warmup={self.pretrain.warmup} samples does not fit before the decay of duration {duration}; "
                    f"expected at most {duration - decay:g}"
                )
        for family in self.families:
            self._check_volumes(family)
        if getattr(self.transfer, self.estimand.protocol) is None:
            raise ValueError(
                f"estimand.protocol is {self.estimand.protocol!r}, but transfer.{self.estimand.protocol} is left out"
            )
        parts = self.execution.accumulate
        for objective in self.objectives:
            if parts > 1 and not objective.separable:
                raise ValueError(
                    f"execution.accumulate is {parts}, but objective {objective.label!r} needs the whole batch at once; expected 1: "
                    "use pretrain.remat or more devices where memory is short"
                )
        self._check_pairs()

    def _check_volumes(self, family: Family) -> None:
        if all(crop <= family.stride for crop in self.pretrain.crop):
            raise ValueError(
                f"pretrain.crop={self.pretrain.crop} is one token of {family.stride} voxels of {family.label}; use fewer levels"
            )
        cube = math.lcm(family.patch, family.stride)
        for field, recipe in (
            ("finetune", self.transfer.finetune),
            ("supervised", self.transfer.supervised),
        ):
            window = recipe.window if recipe else None
            if window and any(
                side > shape or side % cube
                for side, shape in zip(window, self.data.volumes.shape, strict=True)
            ):
                raise ValueError(
                    f"transfer.{field}.window is {window}; expected multiples of {cube} voxels for {family.label}, each at most that of "
                    f"data.volumes.shape={self.data.volumes.shape}"
                )
        for axis, (crop, shape) in enumerate(
            zip(self.pretrain.crop, self.data.volumes.shape, strict=True)
        ):
            if crop > shape or crop % cube or shape % cube:
                hint = (
                    ""
                    if family.kind == "vit"
                    else f"; each of its levels={family.levels} but the first halves the volume"
                )
                raise ValueError(
                    f"axis {axis}: pretrain.crop={crop} and data.volumes.shape={shape} must be multiples of {cube} for {family.label} with "
                    f"patch={family.patch}, and the crop must fit into the volume{hint}"
                )

    def _check_pairs(self) -> None:
        paired = [objective for objective in self.objectives if objective.pairs]
        if paired and (self.pretrain.batch % 2 or self.pretrain.batch < 4):
            raise ValueError(
                f"objective {paired[0].label!r} learns from pairs: pretrain.batch={self.pretrain.batch} must be even and at least 4"
            )
        if self.pretrain.augment == "none" and self.pretrain.crop == self.data.volumes.shape:
            for objective in paired:
                if objective.pairs == "crops":
                    raise ValueError(
                        f"objective {objective.label!r} would see two equal views: pretrain.crop is the whole volume and "
                        "pretrain.augment 'none'; choose a smaller crop, an augmentation, or positives=\"sequences\""
                    )

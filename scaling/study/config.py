"""What a study is: frozen, validated dataclasses. Every number a figure could depend on is a field here.

Construction validates: an unknown field, a wrong type or an impossible value raises `pydantic.ValidationError`
(a `ValueError`) that names the field. Units: mm, years, samples. A *sample* is one crop of one scan.
"""

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from scaling.study.phantom import Phantom

STRICT = ConfigDict(extra="forbid")

Shape3 = tuple[int, int, int]


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
    """The grid all scans are brought to: RAS, `spacing_mm` isotropic, the head's box centred in `shape` voxels."""

    spacing_mm: float = 4.0
    shape: Shape3 = (40, 48, 40)


@dataclass(frozen=True, config=STRICT)
class Data:
    """Where the scans are. With `phantom` set, `root` is written by the generator first."""

    root: str
    pretraining: tuple[Source, ...]
    volumes: Volumes = Volumes()
    split: Split = Split()
    phantom: Phantom | None = None


@dataclass(frozen=True, config=STRICT)
class Task:
    """A downstream task: labelled scans of one finetuning site, and test scans of that and of other sites.

    `sequences` are encoded one by one and fused; "t2s|swi" takes the first that a session has. `label` names the column of
    `participants.tsv` that holds the label when there is no `labels` folder. One few-shot experiment is `draws` random
    subsets of `shots` labelled subjects.
    """

    name: str
    kind: Literal["classification", "segmentation", "regression"]
    sequences: tuple[str, ...]
    train: Source
    test: tuple[Source, ...]
    shots: tuple[int, ...]
    draws: int = 3
    label: str = ""

    def __post_init__(self) -> None:
        if not self.sequences or not self.test or not self.shots:
            raise ValueError(f"task {self.name!r} needs at least one sequence, one test source and one number of shots")
        if self.draws < 1 or min(self.shots) < 2:
            raise ValueError(f"task {self.name!r} has draws={self.draws}, shots={self.shots}; expected draws >= 1, shots >= 2")
